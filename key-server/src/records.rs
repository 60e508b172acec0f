//! Where things stand in the store, and how they are written.

use store::{Entry, Error, KeyRange, MAX_PAGE_ENTRIES, Store, Transaction};
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{ActId, ChainDigest, DatasetId, DekId, NodeId, StatementId};
use ticket_format::time::Timestamp;

/// The latest time seen.
pub const TIME: &str = "time/latest";
/// Epoch and chain digest applied.
pub const FEED_HEAD: &str = "feed/head";
/// Datasets.
pub const DATASETS: &str = "dataset/";
/// KEK versions; their key material stands in files (KEK-5).
pub const KEKS: &str = "kek/";
/// When a denial was applied that may be a reason to rotate (KEK-3).
pub const DENIED: &str = "denied-at/";
/// Denials.
pub const DENIALS: &str = "denial/";
/// The ticket-signing keys as far as they were followed (KEY-2).
pub const TICKET_KEYS: &str = "ticket-keys";
/// Liftings and ticket-key records that did not verify yet.
pub const LIFTINGS: &str = "lifting/";
/// Nodes that this server denies by itself, until the broker does.
pub const HERE: &str = "denied-here/";
/// Reports that the broker has not taken yet.
pub const REPORTS: &str = "report/";
/// That this server's log was rolled back.
pub const LOG_ROLLED_BACK: &str = "log/rolled-back";
/// A recovery of this server's log that is committed and may not be done.
pub const LOG_RECOVERY: &str = "log/recovery";
/// What was seen of the broker's log.
pub const BROKER_LOG: &str = "broker-log/seen";
/// That the broker's log has forked.
pub const BROKER_FORK: &str = "broker-log/fork";
/// The root key that the last rekey made (ROOT-7): put in force as soon as this is committed.
pub const REKEYED: &str = "root/rekeyed";
/// When all of it was put back from a backup (BAK-4).
pub const RESTORED: &str = "restored";
/// Entries on their way to the audit log.
pub const OUTBOX: &str = "outbox/";
/// Statements.
pub const STATEMENTS: &str = "statement/";

/// Admin sets, each the statement that brought it.
pub const ADMIN_SETS: &str = "admin-set/";
/// DEKs that are canaries.
pub const CANARY_DEKS: &str = "canary-dek/";

/// Bytes of a statement in one value; a statement may take two.
const CHUNK: usize = 60 * 1024;

/// The format that a record of KEKs or datasets says it is of, where it says one: the first member of its
/// array. Of the first format of KEK records, which were sealed values, the first byte.
#[must_use]
pub fn format_of(record: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(record);
    if record.first() != Some(&1) {
        reader.array(1..=64).ok()?;
    }
    reader.uint().ok()
}

/// A dataset's record.
#[must_use]
pub fn dataset(id: DatasetId) -> String {
    format!("{DATASETS}{id}")
}

/// A dataset's policy text.
#[must_use]
pub fn policy(id: DatasetId) -> String {
    format!("policy/{id}")
}

/// An admin set.
#[must_use]
pub fn admin_set(version: u64) -> String {
    format!("{ADMIN_SETS}{version:016x}")
}

/// The version of an admin set's key.
#[must_use]
pub fn version_of(key: &[u8]) -> Option<u64> {
    let hex = std::str::from_utf8(key).ok()?.strip_prefix(ADMIN_SETS)?;
    u64::from_str_radix(hex, 16).ok()
}

/// A DEK that is a canary.
#[must_use]
pub fn canary_dek(dataset: DatasetId, dek: DekId) -> String {
    format!("{CANARY_DEKS}{dataset}/{dek}")
}

/// The dataset and DEK of a canary's key.
#[must_use]
pub fn canary_of(key: &[u8]) -> Option<(DatasetId, DekId)> {
    let named = std::str::from_utf8(key).ok()?.strip_prefix(CANARY_DEKS)?;
    let (dataset, dek) = named.split_once('/')?;
    Some((dataset.parse().ok()?, dek.parse().ok()?))
}

/// Which dataset has a name.
#[must_use]
pub fn dataset_name(name: &str) -> String {
    format!("dataset-name/{name}")
}

/// Which KEK version of a dataset has a number: so that no number is given twice.
#[must_use]
pub fn kek_number(dataset: DatasetId, version: u64) -> String {
    format!("kek-number/{dataset}/{version:016x}")
}

/// When a denial was last applied that can hit a ticket for the dataset; without one, for any.
#[must_use]
pub fn denied_at(dataset: Option<DatasetId>) -> String {
    match dataset {
        Some(dataset) => format!("{DENIED}{dataset}"),
        None => format!("{DENIED}any"),
    }
}

/// A denial.
#[must_use]
pub fn denial(epoch: u64) -> String {
    format!("{DENIALS}{epoch:016x}")
}

/// The epoch of a denial's key.
#[must_use]
pub fn epoch_of(key: &[u8]) -> Option<u64> {
    let hex = std::str::from_utf8(key).ok()?.strip_prefix(DENIALS)?;
    u64::from_str_radix(hex, 16).ok()
}

/// A lifting that did not verify yet.
#[must_use]
pub fn lifting(epoch: u64) -> String {
    format!("{LIFTINGS}{epoch:016x}")
}

/// The epoch of such a lifting's key.
#[must_use]
pub fn lifting_epoch(key: &[u8]) -> Option<u64> {
    let hex = std::str::from_utf8(key).ok()?.strip_prefix(LIFTINGS)?;
    u64::from_str_radix(hex, 16).ok()
}

/// A node that this server denies by itself.
#[must_use]
pub fn denied_here(node: &NodeId) -> String {
    format!("{HERE}{node}")
}

/// A report that the broker has not taken yet.
#[must_use]
pub fn report(act: ActId) -> String {
    format!("{REPORTS}{act}")
}

/// An entry on its way to the audit log.
#[must_use]
pub fn outbox(act: ActId) -> String {
    format!("{OUTBOX}{act}")
}

/// A statement's use: until when its id must be remembered.
#[must_use]
pub fn statement(id: StatementId) -> String {
    format!("{STATEMENTS}{id}")
}

/// Puts a statement's use, and, for one that is a record, its bytes (ADM-2, ADM-3).
#[must_use]
pub fn put_statement(
    transaction: Transaction,
    id: StatementId,
    expires: Timestamp,
    kept: Option<&[u8]>,
) -> Transaction {
    let key = statement(id);
    let mut transaction = transaction.absent(key.as_str()).put(key, expires.to_cbor());
    for (part, chunk) in kept.unwrap_or_default().chunks(CHUNK).enumerate() {
        transaction = transaction.put(format!("statement-bytes/{id}/{part}"), chunk);
    }
    transaction
}

/// Epoch and chain digest applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedHead {
    /// The epoch.
    pub epoch: u64,
    /// The chain digest at it.
    pub chain: ChainDigest,
}

impl Encode for FeedHead {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2).uint(self.epoch);
        self.chain.encode(writer);
    }
}

impl Decode for FeedHead {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            epoch: reader.uint()?,
            chain: ChainDigest::decode(reader)?,
        })
    }
}

/// All entries under a prefix, page by page.
///
/// # Errors
/// The store's.
pub async fn all(store: &dyn Store, prefix: &str) -> Result<Vec<(Vec<u8>, Entry)>, Error> {
    let (mut range, mut entries) = (KeyRange::prefix(prefix), Vec::new());
    loop {
        let page = store.range(range.clone(), MAX_PAGE_ENTRIES).await?;
        let last = page.entries.last().map(|(key, _)| key.clone());
        entries.extend(page.entries);
        match last {
            Some(last) if page.more => range = range.after(&last),
            _ => return Ok(entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn cve_2025_11621_no_two_things_share_a_key_of_the_store() {
        let mut all: Vec<(String, String)> = Vec::new();
        for place in [
            "111111111111/eu-west-1",
            "111111111112/eu-west-1",
            "111111111111/eu-west-11",
        ] {
            for instance in ["i-01234567", "i-01234567012345670"] {
                let node: NodeId = format!("ec2/{place}/{instance}").parse().unwrap();
                all.push((HERE.into(), denied_here(&node)));
            }
        }
        for id in [[1; 16], [2; 16]] {
            let set = DatasetId(id);
            all.push((DATASETS.into(), dataset(set)));
            all.push(("policy/".into(), policy(set)));
            all.push((DENIED.into(), denied_at(Some(set))));
            all.push((REPORTS.into(), report(ActId(id))));
            all.push((OUTBOX.into(), outbox(ActId(id))));
            all.push((STATEMENTS.into(), statement(StatementId(id))));
            for other in [[1; 16], [2; 16]] {
                all.push((CANARY_DEKS.into(), canary_dek(set, DekId(other))));
            }
            for number in [0, 1, 0x11, u64::MAX] {
                all.push(("kek-number/".into(), kek_number(set, number)));
            }
        }
        all.push((DENIED.into(), denied_at(None)));
        for number in [0, 1, 0x11, u64::MAX] {
            all.push((ADMIN_SETS.into(), admin_set(number)));
            all.push((DENIALS.into(), denial(number)));
            all.push((LIFTINGS.into(), lifting(number)));
        }
        for name in ["a", "A", "a/b", "\u{e9}", "e\u{301}"] {
            all.push(("dataset-name/".into(), dataset_name(name)));
        }
        for one in [
            TIME,
            FEED_HEAD,
            TICKET_KEYS,
            LOG_ROLLED_BACK,
            LOG_RECOVERY,
            BROKER_LOG,
            BROKER_FORK,
            REKEYED,
            RESTORED,
        ] {
            all.push((one.into(), one.into()));
        }
        let mut known = BTreeMap::new();
        for (prefix, key) in &all {
            assert!(known.insert(key, prefix).is_none(), "{key} twice");
        }
        // Who reads all under one prefix reads nothing of another.
        for (prefix, _) in &all {
            for (of, key) in &all {
                assert_eq!(key.starts_with(prefix), of == prefix, "{prefix}: {key}");
            }
        }
    }
}
