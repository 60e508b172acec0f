//! A subscriber without a store: it follows the feed as a key server does (DEN-3, DEN-4), with the same
//! functions, and keeps epoch and chain in memory only.

use std::time::Duration;

use client::link::Server;
use key_server::feed::{self, Asked};
use rand_core::Rng as _;
use ticket_format::denial::CHAIN_START;
use ticket_format::keys::{FeedKey, ServerSecret};
use ticket_format::report::{Report, exit};
use ticket_format::sign::{Channel, Exporter};
use tools::admin::{now, rng};
use transport::{Connection, ExporterUse};

/// A third of the default lease, as a key server asks for.
const HOLD: Duration = Duration::from_millis(5_000 / 3);
/// Time that an answer may take beyond the hold.
const SLACK: Duration = Duration::from_secs(20);

/// One subscriber.
pub(super) struct Subscriber {
    signing: ServerSecret,
    channel: Channel,
    feed_key: FeedKey,
    connection: Connection,
}

impl Subscriber {
    /// One of this signing key, over a connection to the broker.
    pub(super) fn new(
        signing: ServerSecret,
        broker: &Server,
        feed_key: FeedKey,
        connection: Connection,
    ) -> Result<Self, Report> {
        let exporter = connection.exporter(ExporterUse::Authenticator);
        let exporter = exporter.map_err(|error| {
            Report::new(exit::LOCAL, "a connection has no exporter value").why(error)
        })?;
        let channel = Channel {
            realm: broker.realm.clone(),
            server: broker.tls_key,
            exporter: Exporter(exporter),
        };
        Ok(Self {
            signing,
            channel,
            feed_key,
            connection,
        })
    }

    /// Follows until something fails; says what.
    pub(super) async fn follow(self) -> Report {
        let (mut epoch, mut chain) = (0, CHAIN_START);
        let mut hold = Duration::ZERO;
        loop {
            let mut nonce = [0; 32];
            rng().fill_bytes(&mut nonce);
            let asked = Asked {
                nonce,
                epoch,
                chain,
                reports: Vec::new(),
            };
            let hold_ms = u64::try_from(hold.as_millis()).unwrap_or_default();
            let request = feed::request(&self.channel, &self.signing, &asked, hold_ms);
            let answer = self
                .connection
                .exchange_within(&request, hold + SLACK)
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    return Report::new(exit::RETRY, "a subscriber lost the broker").why(error);
                }
            };
            match feed::accept(&self.channel, &self.feed_key, &asked, &answer, now()) {
                Ok(news) => (epoch, chain) = (news.epoch, news.chain),
                Err(fault) => {
                    return Report::new(exit::INTEGRITY, "a feed answer does not hold").why(fault);
                }
            }
            hold = HOLD;
        }
    }
}
