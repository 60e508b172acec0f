//! What one broker is: its realm, its keys, its admins; and what it knows of a caller.

use std::net::IpAddr;

use ticket_format::Refusal;
use ticket_format::ids::Thumbprint;
use ticket_format::iid::RegionKeys;
use ticket_format::keys::{FeedSecret, LaunchKey, LaunchSecret, TlsKey};
use ticket_format::secret::PairsKey;
use ticket_format::sign::{Channel, Exporter};
use ticket_format::ticket::Audience;

use crate::Refused;
use crate::admins::Admins;
use crate::tickets::TicketRing;

/// The broker's own facts, which change with its configuration only.
#[derive(Debug)]
pub struct Realm {
    /// The realm's name.
    pub name: String,
    /// The broker's TLS key: its identity (TR-2).
    pub tls: TlsKey,
    /// Sign tickets.
    pub tickets: TicketRing,
    /// Signs feed answers.
    pub feed: FeedSecret,
    /// Keys the digests of required pairs in the log's entries (AUD-5).
    pub pairs: PairsKey,
    /// What the broker's own other keys are registered under: its log's, and those by which it witnesses
    /// others. Nobody else may use them (SIG-5).
    pub others: Vec<Thumbprint>,
    /// Whose statements count, and who was an admin before.
    pub admins: Admins,
    /// Whose identity documents count.
    pub regions: RegionKeys,
    /// Stands in for the key of a launch that there is not, so that both refusals cost the same (LOG-2).
    pub nobody: LaunchKey,
}

impl Realm {
    /// A launch key that nobody holds the secret of.
    #[must_use]
    pub fn nobody(rng: &mut impl rand_core::CryptoRng) -> LaunchKey {
        LaunchSecret::generate(rng).public()
    }

    /// What proofs on a caller's connection are bound to.
    #[must_use]
    pub fn channel(&self, caller: &Caller) -> Channel {
        Channel {
            realm: self.name.clone(),
            server: self.tls,
            exporter: caller.exporter,
        }
    }

    /// The audience of node tickets.
    #[must_use]
    pub fn audience(&self) -> Audience {
        Audience::Broker(self.tls)
    }
}

/// What is known of a caller before it proves anything.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Where it calls from.
    pub address: IpAddr,
    /// The connection's exporter value for authenticators (TR-4).
    pub exporter: Exporter,
}

/// Says whether keys of several roles in one message are all different (SIG-4).
///
/// # Errors
/// Refusal 20.
pub fn distinct(keys: &[[u8; 32]]) -> Result<(), Refused> {
    // rule: SIG-4
    let doubled = keys
        .iter()
        .enumerate()
        .any(|(at, key)| keys[..at].contains(key));
    if doubled {
        Err(Refused::proven(
            Refusal::KeyReused,
            "one key stands in two roles of this message",
        ))
    } else {
        Ok(())
    }
}
