//! `login_per_s`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ticket_format::bootstrap::Bootstrap;
use ticket_format::report::Report;
use transport::ClientEndpoint;

use super::{TASKS, address};
use crate::drive::{Tally, rate, tally};
use crate::floor::{self, Act, Floor, Rsa, Signature, make_sealing_key};
use crate::realm::{Newcomer, Node, Realm};
use crate::rows::Row;

/// The round number whose addresses the nodes of other rows log in from.
const ADDRESSES: u32 = 62_000;
/// Launches that the nodes of a round are spread over.
const LAUNCHES: usize = 4;
/// More nodes than log in within one second; what is left over of a round is thrown away.
const NODES_PER_SECOND: f64 = 1_200.0;

/// Fleets that log in.
pub(crate) struct Bench {
    realm: Arc<Realm>,
    launches: Vec<Bootstrap>,
    floor: Arc<Floor>,
}

impl Bench {
    /// Registers the launches.
    pub(crate) async fn new(realm: &Arc<Realm>) -> Result<Self, Report> {
        let mut launches = Vec::new();
        for _ in 0..LAUNCHES {
            launches.push(realm.launch().await?);
        }
        Ok(Self {
            realm: Arc::clone(realm),
            launches,
            floor: floor(realm, "floor-login")?,
        })
    }

    /// So many nodes, booted but not logged in.
    async fn boot(&self, count: usize) -> Result<Vec<Newcomer>, Report> {
        let mut newcomers = Vec::with_capacity(count);
        for launch in &self.launches {
            newcomers.extend(self.realm.boot(launch, count.div_ceil(LAUNCHES)).await?);
        }
        // Nodes of all launches come together.
        let mut mixed: Vec<(usize, Newcomer)> = newcomers.into_iter().enumerate().collect();
        mixed.sort_by_key(|(index, _)| index % count.div_ceil(LAUNCHES));
        Ok(mixed.into_iter().map(|(_, newcomer)| newcomer).collect())
    }

    /// So many nodes, logged in.
    pub(crate) async fn nodes(&self, count: usize) -> Result<Vec<Node>, Report> {
        let socket = floor::socket(address(ADDRESSES, 0))?;
        let mut nodes = Vec::with_capacity(count);
        for newcomer in self.boot(count).await? {
            let link = self.realm.broker(&socket).await?;
            nodes.push(newcomer.login(&link).await?);
        }
        Ok(nodes)
    }

    /// One round: the floor, then the logins.
    pub(crate) async fn measure(
        &self,
        round: u32,
        span: Duration,
        row: &mut Row,
    ) -> Result<(), Report> {
        let floor = self.measure_floor(round, span).await?;
        row.add(self.logins(round, span).await?.per_s(), floor);
        Ok(())
    }

    /// The logins of one round alone.
    pub(crate) async fn logins(&self, round: u32, span: Duration) -> Result<Tally, Report> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some thousands
        let count = (span.as_secs_f64() * NODES_PER_SECOND) as usize;
        let newcomers = Arc::new(Mutex::new(self.boot(count).await?));
        let (realm, sockets) = (Arc::clone(&self.realm), sockets(round)?);
        let operation = move |task: usize| {
            let newcomer = newcomers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let (realm, socket) = (Arc::clone(&realm), sockets[task].clone());
            async move {
                let Some(newcomer) = newcomer else {
                    return Ok(None);
                };
                let link = realm.broker(&socket).await?;
                newcomer.login(&link).await?;
                Ok(Some(1))
            }
        };
        tally(TASKS, span, operation).await
    }

    async fn measure_floor(&self, round: u32, span: Duration) -> Result<f64, Report> {
        let (floor, sockets) = (Arc::clone(&self.floor), sockets(round)?);
        let operation = move |task: usize| {
            let (floor, socket) = (Arc::clone(&floor), sockets[task].clone());
            async move {
                let connection = floor.connect(&socket).await?;
                floor.act(&connection).await?;
                Ok(Some(1))
            }
        };
        rate(TASKS, span, operation).await
    }
}

/// The floor of a login.
pub(crate) fn floor(realm: &Realm, name: &str) -> Result<Arc<Floor>, Report> {
    let (rsa, one) = (Rsa::new()?, Arc::new(Signature::new()));
    let other = Arc::clone(&one);
    let act = Act {
        request: 3_700,
        answer: 2_900,
        record: 420,
        server: Box::new(move || {
            rsa.verify();
            one.verify(4);
            one.sign(1);
        }),
        caller: Box::new(move || {
            Signature::make_key();
            make_sealing_key();
            other.sign(4);
            other.verify(1);
        }),
    };
    Floor::start(realm.servers.dir(), name, act)
}

fn sockets(round: u32) -> Result<Vec<ClientEndpoint>, Report> {
    (0..TASKS)
        .map(|task| floor::socket(address(round, task)))
        .collect()
}
