//! Nodes that arrive together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ticket_format::bootstrap::Bootstrap;
use ticket_format::report::{Report, exit};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use transport::ClientEndpoint;

use crate::cpu;
use crate::drive::Times;
use crate::floor::{self, Floor};
use crate::realm::{Newcomer, Realm};
use crate::rows::Row;
use crate::suites::main::{address, login};

/// Nodes of one address block of [`address`].
const BLOCK: usize = 250;
/// The first round number whose addresses these nodes have.
const ADDRESSES: u32 = 1_000;
/// Address blocks that there are; then they are used anew.
const BLOCKS: u32 = 20_000;
/// Nodes that arrive where CPU time is counted.
const COUNTED: usize = 64;
/// Longer than a server works on what was asked before.
const SETTLING: Duration = Duration::from_millis(60);

/// Fleets that log in.
pub(super) struct Bench {
    realm: Arc<Realm>,
    launches: Vec<Bootstrap>,
    floor: Arc<Floor>,
    block: u32,
}

/// What those who arrive do.
enum Deed {
    Login(Vec<Newcomer>),
    Floor(Arc<Floor>),
    Handshake,
}

/// Arrivals of one measurement.
#[derive(Default)]
struct Arrived {
    count: u64,
    took: Duration,
    times: Times,
}

impl Arrived {
    #[allow(clippy::cast_precision_loss)] // counts far below 2^52
    fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

impl Bench {
    /// Registers the launches.
    pub(super) async fn new(realm: &Arc<Realm>) -> Result<Self, Report> {
        let mut launches = Vec::new();
        for _ in 0..4 {
            launches.push(realm.launch().await?);
        }
        Ok(Self {
            realm: Arc::clone(realm),
            launches,
            floor: login::floor(realm, "floor-arrival")?,
            block: 0,
        })
    }

    /// One round of one size: the floor, then the logins.
    pub(super) async fn measure(
        &mut self,
        count: usize,
        span: Duration,
        [rate, p50, p99]: [&mut Row; 3],
    ) -> Result<(), Report> {
        let floor = Arc::clone(&self.floor);
        let floors = self.floors(count, span, &floor).await?;
        let logins = self.logins(count, span).await?;
        rate.add(logins.rate(), floors.rate());
        p50.add(logins.times.quantile(50), floors.times.quantile(50));
        p99.add(logins.times.p99(), floors.times.p99());
        Ok(())
    }

    /// One round of what a login costs: bare handshakes, then logins.
    pub(super) async fn measure_cpu(
        &mut self,
        span: Duration,
        broker: &mut Row,
        node: &mut Row,
    ) -> Result<(), Report> {
        let bare = self.costs(span, false).await?;
        let login = self.costs(span, true).await?;
        broker.add(login[0], bare[0]);
        node.add(login[1], bare[1]);
        Ok(())
    }

    /// Microseconds of the broker's process and of this one, for each who arrives.
    async fn costs(&mut self, span: Duration, logins: bool) -> Result<[f64; 2], Report> {
        let [pid, _] = self.realm.servers.pids();
        let (mut spent, mut count, begun) = ([Duration::ZERO; 2], 0, Instant::now());
        while begun.elapsed() < span {
            let deeds = if logins {
                Deed::Login(self.boot(COUNTED).await?)
            } else {
                Deed::Handshake
            };
            let sockets = self.sockets(COUNTED)?;
            let before = [cpu::usage(pid)?.cpu, cpu::own()?.cpu];
            count += arrive(&self.realm, deeds, sockets, &Times::default())
                .await?
                .0;
            // Connections are closed, and the log's last pages written, after the last answer.
            tokio::time::sleep(SETTLING).await;
            let after = [cpu::usage(pid)?.cpu, cpu::own()?.cpu];
            for (spent, (after, before)) in spent.iter_mut().zip(after.into_iter().zip(before)) {
                *spent += after.saturating_sub(before);
            }
        }
        Ok(spent.map(|spent| cpu::per(spent, count)))
    }

    async fn logins(&mut self, count: usize, span: Duration) -> Result<Arrived, Report> {
        let mut arrived = Arrived::default();
        while arrived.took < span {
            let (newcomers, sockets) = (self.boot(count).await?, self.sockets(count)?);
            let deed = Deed::Login(newcomers);
            let (done, took) = arrive(&self.realm, deed, sockets, &arrived.times).await?;
            arrived.count += done;
            arrived.took += took;
        }
        Ok(arrived)
    }

    async fn floors(
        &mut self,
        count: usize,
        span: Duration,
        floor: &Arc<Floor>,
    ) -> Result<Arrived, Report> {
        let mut arrived = Arrived::default();
        while arrived.took < span {
            let (deed, sockets) = (Deed::Floor(Arc::clone(floor)), self.sockets(count)?);
            let (done, took) = arrive(&self.realm, deed, sockets, &arrived.times).await?;
            arrived.count += done;
            arrived.took += took;
        }
        Ok(arrived)
    }

    /// So many nodes of all launches.
    async fn boot(&self, count: usize) -> Result<Vec<Newcomer>, Report> {
        let mut booted = Vec::with_capacity(count);
        for (number, launch) in self.launches.iter().enumerate() {
            let launches = self.launches.len();
            let mine = count / launches + usize::from(number < count % launches);
            booted.extend(self.realm.boot(launch, mine).await?);
        }
        Ok(booted)
    }

    /// A socket for each, on an address of its own.
    fn sockets(&mut self, count: usize) -> Result<Vec<ClientEndpoint>, Report> {
        let mut sockets = Vec::with_capacity(count);
        while sockets.len() < count {
            let block = ADDRESSES + self.block % BLOCKS;
            self.block += 1;
            for task in 0..BLOCK.min(count - sockets.len()) {
                sockets.push(floor::socket(address(block, task))?);
            }
        }
        Ok(sockets)
    }
}

/// How long one who is turned away comes again, as a node does.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so long; more arrive at once than a server makes handshakes with.
const COMES_AGAIN: Duration = Duration::from_millis(25);

async fn until_let_in<T, F: Future<Output = Result<T, Report>>>(
    connect: impl Fn() -> F,
) -> Result<T, Report> {
    let begun = Instant::now();
    loop {
        match connect().await {
            Err(_) if begun.elapsed() < PATIENCE => tokio::time::sleep(COMES_AGAIN).await,
            other => return other,
        }
    }
}

/// Everybody begins at one moment; how many they were, and how long it took until the last had ended.
async fn arrive(
    realm: &Arc<Realm>,
    deed: Deed,
    sockets: Vec<ClientEndpoint>,
    times: &Times,
) -> Result<(u64, Duration), Report> {
    let gate = Arc::new(Barrier::new(sockets.len() + 1));
    let mut newcomers = Vec::new();
    let mut bare = None;
    match deed {
        Deed::Login(nodes) => newcomers = nodes,
        Deed::Floor(floor) => bare = Some(floor),
        Deed::Handshake => {}
    }
    let mut arriving = JoinSet::new();
    for socket in sockets {
        let (realm, gate, times) = (Arc::clone(realm), Arc::clone(&gate), times.clone());
        let (newcomer, bare) = (newcomers.pop(), bare.clone());
        arriving.spawn(async move {
            gate.wait().await;
            let begun = Instant::now();
            match (newcomer, bare) {
                (Some(mut newcomer), _) => loop {
                    let link = until_let_in(|| realm.broker(&socket)).await?;
                    match newcomer.try_login(&link).await {
                        Ok(_) => break,
                        // Turned away as its handshake ended, or told that too many are before it.
                        Err(error) if error.worth_retrying() && begun.elapsed() < PATIENCE => {
                            tokio::time::sleep(COMES_AGAIN).await;
                        }
                        Err(error) => return Err(error.report()),
                    }
                },
                (None, Some(floor)) => {
                    let connection = until_let_in(|| floor.connect(&socket)).await?;
                    floor.act(&connection).await?;
                }
                (None, None) => until_let_in(|| realm.broker_connection(&socket))
                    .await?
                    .close(),
            }
            times.add(begun);
            // The socket goes after all were counted: closing it is not what is measured.
            Ok::<ClientEndpoint, Report>(socket)
        });
    }
    gate.wait().await;
    let begun = Instant::now();
    let mut done = Vec::new();
    while let Some(ended) = arriving.join_next().await {
        let ended = ended.map_err(|error| Report::new(exit::LOCAL, "an arrival ended").why(error));
        done.push(ended??);
    }
    Ok((done.len() as u64, begun.elapsed()))
}
