//! What is asked: plain data, filled from verified evidence and tickets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One question to a policy.
///
/// Its parts are bounded by whoever decoded them (the ticket and message limits); a decision
/// costs time linear in their size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks (`principal`).
    pub node: Node,
    /// What would be done (`action`).
    pub action: Action,
    /// To what (`resource`).
    pub dataset: Dataset,
    /// Now, in seconds since the Unix epoch (`context.time`).
    pub time_unix: u64,
    /// The address that the node was seen at (`context.source`), where it is known.
    /// An IPv4 address mapped into IPv6 is decided on as the IPv4 address that it is.
    pub source: Option<IpAddr>,
    /// The caller's encryption context (`context.pairs`).
    pub pairs: BTreeMap<String, String>,
}

/// The node that asks: attributes from its verified identity document and its launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// AWS account, 12 digits.
    pub account: String,
    /// AWS region, such as `eu-west-1`.
    pub region: String,
    /// Availability zone, such as `eu-west-1a`.
    pub availability_zone: String,
    /// Image id, such as `ami-0abc...`.
    pub image: String,
    /// Instance type, such as `m7i.large`.
    pub instance_type: String,
    /// Instance id, such as `i-0abc...`.
    pub instance: String,
    /// The id of the launch by which the node came in, in 32 lower-case hexadecimal digits.
    pub launch: String,
    /// When AWS launched the instance (`pendingTime`), in seconds since the Unix epoch.
    pub launched_at_unix: u64,
}

/// The dataset that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The random id that is never reused, in 32 lower-case hexadecimal digits (POL-6).
    pub id: String,
    /// The name by which people call it.
    pub name: String,
    /// What its admins have tagged it with.
    pub tags: BTreeMap<String, String>,
    /// How sensitive it is: 1 public, 2 internal, 3 confidential, 4 restricted.
    pub class: u64,
    /// Its other names; none where they are not known: at a key server.
    pub aliases: Option<BTreeSet<String>>,
}

/// What a ticket may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Redeem wrapped DEKs.
    Decrypt,
    /// Generate DEKs.
    Encrypt,
    /// Move wrapped DEKs to the current KEK version.
    Rewrap,
}

impl Action {
    /// All of them, in the order of the schema.
    pub const ALL: [Self; 3] = [Self::Decrypt, Self::Encrypt, Self::Rewrap];

    /// The word that a policy uses: `Postern::Action::"decrypt"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt",
            Self::Encrypt => "encrypt",
            Self::Rewrap => "rewrap",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is none of the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of decrypt, encrypt, rewrap")]
pub struct UnknownAction;

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(word: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == word)
            .ok_or(UnknownAction)
    }
}
