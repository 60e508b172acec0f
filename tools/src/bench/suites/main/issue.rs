//! `issue_per_s`.

use std::sync::Arc;
use std::time::Duration;

use client::logs::LoggedLink;
use client::wallet::DatasetSession;
use ticket_format::report::Report;
use transport::Connection;

use super::{CONNECTIONS, TASKS, address, login};
use crate::drive::{Tally, rate, tally};
use crate::floor::{self, Act, Floor, Signature, make_sealing_key};
use crate::realm::{Node, Realm};
use crate::rows::Row;

/// The round number whose addresses these connections have.
const ADDRESSES: u32 = 60_000;

/// Jobs that ask for dataset tickets.
pub(crate) struct Bench {
    nodes: Arc<Vec<Node>>,
    links: Arc<Vec<LoggedLink>>,
    floor: Arc<Floor>,
    floor_connections: Arc<Vec<Connection>>,
}

impl Bench {
    /// Logs the nodes in and connects them.
    pub(crate) async fn new(realm: &Arc<Realm>, login: &login::Bench) -> Result<Self, Report> {
        let one = Arc::new(Signature::new());
        let other = Arc::clone(&one);
        let act = Act {
            request: 4_100,
            answer: 4_900,
            record: 620,
            server: Box::new(move || {
                one.verify(4);
                one.sign(1);
            }),
            caller: Box::new(move || {
                Signature::make_key();
                make_sealing_key();
                other.sign(3);
                other.verify(2);
            }),
        };
        let floor = Floor::start(realm.servers.dir(), "floor-issue", act)?;
        let nodes = login.nodes(TASKS).await?;
        let (mut shared, mut floor_connections) = (Vec::new(), Vec::new());
        for task in 0..CONNECTIONS {
            let socket = floor::socket(address(ADDRESSES, task))?;
            shared.push(realm.broker(&socket).await?);
            floor_connections.push(floor.connect(&socket).await?);
        }
        // Each node holds the broker to what it itself remembers of the log.
        let mut links = Vec::new();
        for (task, node) in nodes.iter().enumerate() {
            let link = node.to_broker(&shared[task % CONNECTIONS]);
            // A server closes a connection on which nothing is asked soon.
            node.issue(&link, 1).await?;
            links.push(link);
        }
        Ok(Self {
            nodes: Arc::new(nodes),
            links: Arc::new(links),
            floor,
            floor_connections: Arc::new(floor_connections),
        })
    }

    /// A dataset ticket with this budget, and the node that it was issued to.
    pub(crate) async fn ticket(
        &self,
        number: usize,
        budget: u64,
    ) -> Result<(&Node, DatasetSession), Report> {
        let node = &self.nodes[number % TASKS];
        let session = node.issue(&self.links[number % TASKS], budget).await?;
        Ok((node, session))
    }

    /// One round: the floor, then the tickets.
    pub(crate) async fn measure(&self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let (floor, connections) = (Arc::clone(&self.floor), Arc::clone(&self.floor_connections));
        let operation = move |task: usize| {
            let (floor, connections) = (Arc::clone(&floor), Arc::clone(&connections));
            async move {
                floor.act(&connections[task % CONNECTIONS]).await?;
                Ok(Some(1))
            }
        };
        let floor = rate(TASKS, span, operation).await?;
        row.add(self.tickets(span).await?.per_s(), floor);
        Ok(())
    }

    /// The tickets of one round alone.
    pub(crate) async fn tickets(&self, span: Duration) -> Result<Tally, Report> {
        let (nodes, links) = (Arc::clone(&self.nodes), Arc::clone(&self.links));
        let operation = move |task: usize| {
            let (nodes, links) = (Arc::clone(&nodes), Arc::clone(&links));
            async move {
                nodes[task].issue(&links[task], 1).await?;
                Ok(Some(1))
            }
        };
        tally(TASKS, span, operation).await
    }
}
