//! What the store holds: keys and records, each record one deterministic CBOR item.
//!
//! Pure: the records are read and written by the service; the core sees them as values.

mod admins;
mod changes;
mod denial;
mod launch;
mod node;
mod records;

pub use admins::{AdminSetHead, PROPOSALS, Proposals, Proposed};
pub use changes::Changes;
pub use denial::{FeedHead, Happened, StoredEpoch};
pub use launch::LaunchRecord;
pub use node::{Claim, Frozen, NodeRecord};
pub use records::{AliasEntry, DatasetEntry, KeyRole, KeyUse, PolicyHead, UsedStatement};

use ticket_format::ids::{ActId, DatasetId, LaunchId, NodeId, StatementId, Thumbprint};

/// The keys under which records stand.
pub mod keys {
    use super::{ActId, DatasetId, LaunchId, NodeId, StatementId, Thumbprint};

    /// Prefix of launches.
    pub const LAUNCHES: &str = "launch/";
    /// Prefix of nodes.
    pub const NODES: &str = "node/";
    /// Prefix of registered keys.
    pub const KEYS: &str = "key/";
    /// Prefix of epochs: denials, liftings, and what is left of denials that were forgotten.
    pub const EPOCHS: &str = "epoch/";
    /// Prefix of subscribers' reports that were taken (DEN-11).
    pub const REPORTS: &str = "report/";
    /// The newest epoch and its chain digest.
    pub const FEED_HEAD: &str = "feed/head";
    /// Prefix of dataset records.
    pub const DATASETS: &str = "dataset/";
    /// Prefix of dataset names.
    pub const DATASET_NAMES: &str = "dataset-name/";
    /// Prefix of aliases.
    pub const ALIASES: &str = "alias/";
    /// Which admin set is in force.
    pub const ADMIN_SET_HEAD: &str = "admin-set-head";
    /// Prefix of admin sets, the statements themselves (SET-3).
    pub const ADMIN_SETS: &str = "admin-set/";
    /// What waits in the inbox; the statements stand beside it, in parts.
    pub const PROPOSALS: &str = "proposals";
    /// What is known of the policy in force; its text and its statement, in parts, stand beside it.
    pub const POLICY: &str = "policy/current";
    /// The text of the policy in force.
    pub const POLICY_TEXT: &str = "policy/text";
    /// Prefix of statement ids that were used.
    pub const STATEMENTS: &str = "statement/";
    /// Prefix of audit entries that wait for the log (AUD-2).
    pub const OUTBOX: &str = "outbox/";
    /// The records of ticket keys, by number.
    pub const TICKET_KEYS: &str = "ticket-key/";
    /// The number of the ticket key that signs, as it was recorded last.
    pub const TICKET_KEY_SIGNS: &str = "ticket-keys/signs";
    /// The number of the ticket key that was erased last.
    pub const TICKET_KEY_ERASED: &str = "ticket-keys/erased";
    /// The latest time seen (TIM-1).
    pub const TIME: &str = "time/latest";
    /// What is known against the log, until a quorum says where it goes on (TLOG-10).
    pub const ROLLED_BACK: &str = "log/rolled-back";
    /// A recovery of the log that is decided and not done yet.
    pub const RECOVERY: &str = "log/recovery";

    /// A launch.
    #[must_use]
    pub fn launch(id: LaunchId) -> String {
        format!("{LAUNCHES}{id}")
    }

    /// One node's use of a launch.
    #[must_use]
    pub fn launch_use(id: LaunchId, node: &NodeId) -> String {
        format!("{}{node}", launch_uses(id))
    }

    /// Prefix of a launch's uses.
    #[must_use]
    pub fn launch_uses(id: LaunchId) -> String {
        format!("launch-use/{id}/")
    }

    /// A node: `node/<account>/<region>/<instance>`.
    #[must_use]
    pub fn node(node: &NodeId) -> String {
        format!(
            "{NODES}{}/{}/{}",
            node.account(),
            node.region(),
            node.instance()
        )
    }

    /// A registered key.
    #[must_use]
    pub fn key(thumbprint: Thumbprint) -> String {
        format!("{KEYS}{thumbprint}")
    }

    /// An epoch; they sort as numbers.
    #[must_use]
    pub fn epoch(number: u64) -> String {
        format!("{EPOCHS}{number:020}")
    }

    /// A subscriber's report, by the act that it tells of.
    #[must_use]
    pub fn report(act: ActId) -> String {
        format!("{REPORTS}{act}")
    }

    /// A dataset.
    #[must_use]
    pub fn dataset(id: DatasetId) -> String {
        format!("{DATASETS}{id}")
    }

    /// A dataset's name. In hexadecimal: a name may hold any character.
    #[must_use]
    pub fn dataset_name(name: &str) -> String {
        format!("{DATASET_NAMES}{}", hex(name))
    }

    fn hex(name: &str) -> String {
        name.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    /// An alias; in hexadecimal, as a dataset's name.
    #[must_use]
    pub fn alias(name: &str) -> String {
        format!("{ALIASES}{}", hex(name))
    }

    /// An admin set; versions sort as numbers.
    #[must_use]
    pub fn admin_set(version: u64) -> String {
        format!("{ADMIN_SETS}{version:020}")
    }

    /// The record of a ticket key; numbers sort.
    #[must_use]
    pub fn ticket_key(number: u64) -> String {
        format!("{TICKET_KEYS}{number:020}")
    }

    /// One part of a proposed statement.
    #[must_use]
    pub fn proposal_part(id: StatementId, part: usize) -> String {
        format!("proposal/{id}/{part}")
    }

    /// One part of the policy's statement.
    #[must_use]
    pub fn policy_part(part: usize) -> String {
        format!("policy/statement/{part}")
    }

    /// A used statement id.
    #[must_use]
    pub fn statement(id: StatementId) -> String {
        format!("{STATEMENTS}{id}")
    }

    /// A waiting audit entry.
    #[must_use]
    pub fn outbox(act: ActId) -> String {
        format!("{OUTBOX}{act}")
    }
}
