//! Who wants nothing but his DEKs: a node that issues, presents and redeems on new connections all the
//! time, and says what came of it.

use std::time::{Duration, Instant};

use client::link::Server;
use client::wallet::DatasetSession;
use tests::house::{DATASET, House};
use tests::node::Node;
use tests::wire::{Presented, Reply, Wire};
use ticket_format::{Context, Refusal};
use transport::{ConnectError, Outcome};

/// A node at work.
pub(crate) struct Honest {
    broker: Server,
    key_server: Server,
    pub(crate) node: Node,
    session: DatasetSession,
    /// A connection that it keeps, with its ticket presented.
    pub(crate) kept: (Wire, Presented),
    context: Context,
    wrap: Vec<u8>,
    dek: [u8; 32],
}

/// Why a round did not get through.
#[derive(Debug)]
enum Trouble {
    /// Told to come again, and nothing was done. On a machine that has no time left at all that is also the
    /// answer of a key server that did not hear the broker.
    Shed,
    /// Anything else.
    Wrong(String),
}

impl From<ConnectError> for Trouble {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Busy { .. } => Self::Shed,
            // A first packet that loopback lost in the crowd is sent again, and may be once too often.
            ConnectError::Unreachable { .. } => Self::Shed,
            other => Self::Wrong(other.to_string()),
        }
    }
}

impl From<Reply> for Trouble {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Refused {
                refusal: Refusal::Busy | Refusal::Lease,
                ..
            } => Self::Shed,
            Reply::Transport(error)
                if error.safe_to_retry() || error.outcome() == Outcome::NotProcessed =>
            {
                Self::Shed
            }
            other => Self::Wrong(format!("{other:?}")),
        }
    }
}

impl Honest {
    /// Logs in, gets a ticket and has a DEK made.
    pub(crate) async fn new(house: &House, document: usize) -> Self {
        let node = house.node(document).await;
        let session = node.issue(&house.to_broker().await, DATASET).await;
        let session = session.expect("a ticket");
        let wire = house.to_key_server().await;
        let presented = wire.present_when_leased(&session).await;
        let context = Context::named("s3://bucket/flooded").expect("a context");
        let (wrap, dek) = wire.generate(&presented, &context).await.expect("a DEK");
        Self {
            broker: house.broker_server(),
            key_server: house.key_server_server(),
            node,
            session,
            kept: (wire, presented),
            context,
            wrap,
            dek,
        }
    }

    /// Rounds for so long: how many got through, and how many were told to come again. Everything else is
    /// a failure.
    pub(crate) async fn rounds(&mut self, span: Duration) -> (u32, u32) {
        let (begun, mut done, mut shed) = (Instant::now(), 0, 0);
        // However slow the machine is, one gets its time.
        while begun.elapsed() < span || (done == 0 && begun.elapsed() < super::LONGEST / 2) {
            match self.round().await {
                Ok(()) => done += 1,
                Err(Trouble::Shed) => shed += 1,
                Err(Trouble::Wrong(why)) => panic!("{why}"),
            }
        }
        (done, shed)
    }

    async fn round(&self) -> Result<(), Trouble> {
        let wire = Wire::try_connect(&self.broker).await?;
        self.node.issue(&wire, DATASET).await?;
        wire.connection.close();
        let wire = Wire::try_connect(&self.key_server).await?;
        let presented = wire.present(&self.session).await?;
        let got = wire
            .redeem(&presented, &[(&self.wrap, &self.context)])
            .await?;
        assert_eq!(got, [Ok((Some(self.dek), None))]);
        wire.connection.close();
        let (wire, presented) = &self.kept;
        // Who has proven who he is keeps his place.
        let got = wire
            .redeem(presented, &[(&self.wrap, &self.context)])
            .await?;
        assert_eq!(got, [Ok((Some(self.dek), None))]);
        Ok(())
    }

    /// Whether its DEK is refused on the connection that it keeps, because it was denied.
    pub(crate) async fn is_denied(&self) -> bool {
        let (wire, presented) = &self.kept;
        match wire.redeem(presented, &[(&self.wrap, &self.context)]).await {
            Ok(got) => {
                assert_eq!(got, [Ok((Some(self.dek), None))]);
                false
            }
            Err(reply) => reply.refusal() == Some(Refusal::Denied),
        }
    }
}
