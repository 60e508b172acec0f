//! The broker on the network: QUIC exchanges in, the service's answers out.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ticket_format::Refusal;
use ticket_format::keys::TlsSecret;
use ticket_format::messages::{Answer, RefusalNotice};
use ticket_format::sign::Exporter;
use tokio::time::{MissedTickBehavior, interval};
use transport::{Bytes, ExporterUse, Handler, Peer, ServerIdentity, Standing};

use super::service::{Broker, Proven};
use crate::realm::Caller;

/// How often the outbox is swept, and how often the minute's work is done.
const SWEEP: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(60);

/// The handler of the broker's QUIC server.
pub struct Exchanges(pub Arc<Broker>);

impl Handler for Exchanges {
    type Connection = (Peer, Option<Caller>);

    fn connected(&self, peer: Peer) -> Self::Connection {
        let caller = peer
            .exporter(ExporterUse::Authenticator)
            .ok()
            .map(|exporter| Caller {
                address: peer.address().ip(),
                exporter: Exporter(exporter),
            });
        (peer, caller)
    }

    async fn exchange(&self, (peer, caller): &Self::Connection, message: Bytes) -> Bytes {
        match caller {
            Some(caller) => {
                // rule: TR-8
                let proven = |what| {
                    peer.stands(match what {
                        Proven::Caller => Standing::Known,
                        Proven::Subscriber => Standing::Subscriber,
                    });
                };
                let answer = self
                    .0
                    .answer_and_tell(caller, &message, peer.closed(), &proven);
                answer.await.into()
            }
            None => Answer::Refused(RefusalNotice::bare(Refusal::Internal))
                .to_bytes()
                .into(),
        }
    }
}

/// The TLS identity of a secret key.
///
/// # Errors
/// The certificate cannot be made.
pub fn identity(secret: &TlsSecret) -> Result<ServerIdentity, transport::IdentityError> {
    ServerIdentity::new(&SigningKey::from_bytes(&secret.seed()))
}

/// Does the broker's chores until `shutdown` completes.
pub async fn chores(broker: Arc<Broker>, shutdown: impl Future<Output = ()> + Send) {
    let (mut sweep, mut tick) = (interval(SWEEP), interval(TICK));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = sweep.tick() => broker.sweep().await,
            () = broker.witnesses_told() => broker.look_at_witnesses().await,
            _ = tick.tick() => {
                if let Err(refused) = broker.tick().await {
                    tracing::error!(refusal = refused.refusal.number(), why = %refused.why, "the minute's work failed");
                }
            }
        }
    }
}
