//! Datasets: made at a key server, made known to brokers by a record.

use std::collections::BTreeMap;

use crate::bootstrap::ADDRESS;
use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{DatasetId, DekId, KekId, PolicyDigest, ProducerId, RecordDigest};
use crate::keys::{AdminKey, ProducerKey, ServerKey, TlsKey};
use crate::limits;
use crate::messages::shape::{
    Ascending, Bool, Bytes, Item, List, OrNull, Text, TextMap, UINT, Uint, XWING_KEY, closed_map,
    item, numbered, usual,
};
use crate::recovery::{RECIPIENTS, Recipient};
use crate::seal::{Kem, SealingKey};

use super::acts::{ROWS, act, listing};
use super::keks::Rotation;
use super::policies::PolicyTextSet;
use super::witnessing::Witnessing;
use crate::tlog::LogKey;

/// Most producers of one dataset.
pub const PRODUCERS: usize = 64;
/// Longest lease, in seconds (DEN-6).
pub const LONGEST_LEASE: u64 = 300;
const OWNERS: Ascending<Item<AdminKey>> = Ascending(1..=limits::ADMINS, item());
const LEASE: Uint = Uint(1..=LONGEST_LEASE);
const TAGS: TextMap = TextMap(limits::PAIRS, limits::PAIR_KEY, 256);

numbered! {
    /// What a redemption leads to, of a dataset or of one DEK (EXP-2).
    pub enum Canary("canary") {
        /// To nothing else.
        No = 0, "no";
        /// To an alarm.
        Alarm = 1, "alarm";
        /// To an alarm and the node's denial: nothing is released.
        Deny = 2, "deny";
    }
}

numbered! {
    /// How much harm its loss would do, for policies (`spec/policy.md`).
    pub enum DatasetClass("dataset class") {
        /// None.
        Public = 1, "public";
        /// Little.
        Internal = 2, "internal";
        /// Much.
        Confidential = 3, "confidential";
        /// The worst.
        Restricted = 4, "restricted";
    }
}

impl Default for DatasetClass {
    /// What nobody has said is taken for what most of it is.
    fn default() -> Self {
        Self::Confidential
    }
}

closed_map! {
    /// Makes a dataset and its first KEK, at a key server.
    ///
    /// ```cddl
    /// dataset-create = { 1: name, 2: tags, 3: tstr .size (1..65536), 4: [*64 ed-key], 5: [1*2 kem],
    ///                    6: uint, 7: uint, 8: [1*16 ed-key], 9: 1..300, 10: bool, 11: canary, 12: witnessing,
    ///                    13: rotation, ? 14: 1..4, 15: bool }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetCreate {
        /// Its name.
        1 name: String = Text(1..=limits::NAME);
        /// Tags for the policy.
        2 tags: BTreeMap<String, String> = TAGS;
        /// The key server's own policy: Cedar text (PRE-3).
        3 policy: String = Text(1..=limits::POLICY);
        /// Producers whose signatures count.
        4 producers: Vec<ProducerKey> = List(0..=PRODUCERS, item());
        /// KEMs that tickets may use (SEAL-5).
        5 kems: Vec<Kem> = Ascending(1..=2, item());
        /// Most DEKs for each ticket.
        6 max_budget: u64 = UINT;
        /// Longest ticket life, in seconds.
        7 max_life: u64 = UINT;
        /// Its owners: whose signatures count for an act on it (SET-5). Ascending.
        8 owners: Vec<AdminKey> = OWNERS;
        /// Its lease, in seconds (DEN-6).
        9 lease: u64 = LEASE;
        /// Whether evidence is wanted beside its tickets (EVD-1).
        10 evidence: bool = Bool;
        /// Whether it is a canary (EXP-2).
        11 canary: Canary = item();
        /// What it wants of witnesses (TLOG-8).
        12 witnessing: Witnessing = item();
        /// When its KEK is rotated by itself (KEK-3).
        13 rotation: Rotation = item();
        /// How sensitive it is.
        14 class: DatasetClass = usual();
        /// Whether its KEK versions can be exported; it never changes (IMP-4).
        15 exportable: bool = Bool;
    }
}
act!(DatasetCreate, DatasetCreate, DatasetCreated);

closed_map! {
    /// What a dataset record needs from the key server.
    ///
    /// `dataset-created = { 1: id16, 2: id16, 3: uint, 4: xwing-key, 5: ed-key, 6: log-key }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetCreated {
        /// The dataset.
        1 dataset: DatasetId = item();
        /// Its current KEK version, by id.
        2 kek: KekId = item();
        /// The same by number, for people.
        3 kek_version: u64 = UINT;
        /// The dataset's public key, for producers.
        4 public_key: SealingKey = XWING_KEY;
        /// The key server's signing key.
        5 server_key: ServerKey = item();
        /// The key server's log.
        6 log_key: LogKey = item();
    }
}

closed_map! {
    /// A dataset as the broker, nodes and producers know it. What stands here is believed because
    /// an admin signed it, and from nowhere else (ISS-6).
    ///
    /// ```cddl
    /// dataset-record = { 1: id16, 2: name, 3: tags, 4: ed-key, 5: ed-key, 6: [1*8 tstr .size (1..255)],
    ///                    7: id16, 8: uint, 9: xwing-key, 10: [*64 ed-key], 11: [1*2 kem], 12: uint, 13: uint,
    ///                    14: [1*16 ed-key], 15: 1..300, 16: bool, 17: hash, 18: log-key, 19: witnessing, ? 20: 1..4, ? 21: [1*4 recipient] }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetRecord {
        /// The dataset.
        1 dataset: DatasetId = item();
        /// Its name.
        2 name: String = Text(1..=limits::NAME);
        /// Tags for the policy.
        3 tags: BTreeMap<String, String> = TAGS;
        /// The key server's TLS key.
        4 tls_key: TlsKey = item();
        /// The key server's signing key: also its name as a subscriber (DEN-8).
        5 server_key: ServerKey = item();
        /// The key server's addresses, `host:port`.
        6 addresses: Vec<String> = List(1..=8, Text(1..=ADDRESS));
        /// The current KEK version, by id.
        7 kek: KekId = item();
        /// The same by number, for people.
        8 kek_version: u64 = UINT;
        /// The dataset's public key, for producers.
        9 public_key: SealingKey = XWING_KEY;
        /// Producers whose signatures count.
        10 producers: Vec<ProducerKey> = List(0..=PRODUCERS, item());
        /// KEMs that tickets may use.
        11 kems: Vec<Kem> = Ascending(1..=2, item());
        /// Most DEKs for each ticket.
        12 max_budget: u64 = UINT;
        /// Longest ticket life, in seconds.
        13 max_life: u64 = UINT;
        /// Its owners, ascending.
        14 owners: Vec<AdminKey> = OWNERS;
        /// Its lease, in seconds.
        15 lease: u64 = LEASE;
        /// Whether its key server wants evidence beside a ticket: clients bring it then (EVD-3).
        16 evidence: bool = Bool;
        /// SHA-256 of the record that it replaces; [`DatasetRecord::FIRST`] where there is none (ADM-5).
        17 follows: RecordDigest = item();
        /// The key server's log: receipts are believed by it (TLOG-5).
        18 log_key: LogKey = item();
        /// What it wants of the witnesses of both logs (TLOG-8).
        19 witnessing: Witnessing = item();
        /// How sensitive it is.
        20 class: DatasetClass = usual();
        /// Who else opens its DEKs, ascending by dataset (RCP-1).
        21 recipients: Recipients = usual();
    }
}

/// The recovery recipients of a dataset: at most four, ascending by dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients(Vec<Recipient>);

/// Too many recipients, or one of them twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dataset has at most {RECIPIENTS} recovery recipients, each once")]
pub struct NotRecipients;

impl Recipients {
    /// In their order.
    ///
    /// # Errors
    /// [`NotRecipients`].
    pub fn new(mut all: Vec<Recipient>) -> Result<Self, NotRecipients> {
        all.sort_by_key(|one| one.dataset);
        let once = all.windows(2).all(|two| two[0].dataset < two[1].dataset);
        if all.len() <= RECIPIENTS && once {
            Ok(Self(all))
        } else {
            Err(NotRecipients)
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Recipient] {
        &self.0
    }
}

impl Encode for Recipients {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.0.len());
        self.0.iter().for_each(|one| one.encode(writer));
    }
}

impl Decode for Recipients {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let all = reader.list(1..=RECIPIENTS, Recipient::decode)?;
        if !all.windows(2).all(|two| two[0].dataset < two[1].dataset) {
            return Err(DecodeError::OutOfRange("order of the recipients"));
        }
        Ok(Self(all))
    }
}

impl DatasetRecord {
    /// What a dataset's first record follows.
    pub const FIRST: RecordDigest = RecordDigest([0; 32]);

    /// What the record that replaces this one names.
    #[must_use]
    pub fn digest(&self) -> RecordDigest {
        RecordDigest::of(&self.to_cbor())
    }
}

act!(DatasetRecord, DatasetRecord, super::acts::Nothing);

listing! {
    /// Lists datasets by name.
    DatasetList, DatasetList, DatasetPage
}

closed_map! {
    /// `dataset-page = { 1: [*100 dataset-row], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetPage {
        /// Datasets.
        1 rows: Vec<DatasetRow> = List(0..=ROWS, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}

closed_map! {
    /// `dataset-row = { 1: id16, 2: name, 3: tags }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetRow {
        /// The dataset.
        1 dataset: DatasetId = item();
        /// Its name.
        2 name: String = Text(1..=limits::NAME);
        /// Its tags.
        3 tags: BTreeMap<String, String> = TAGS;
    }
}

closed_map! {
    /// `dataset-show = { 1: name }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetShow {
        /// Which one.
        1 name: String = Text(1..=limits::NAME);
    }
}
act!(DatasetShow, DatasetShow, DatasetView);

closed_map! {
    /// A dataset as this server has it: a key server knows its policy, a broker its record.
    ///
    /// ```cddl
    /// dataset-view = { 1: dataset-row, 2: id16, 3: uint, 4: xwing-key, 5: [*64 ed-key], 6: [1*2 kem],
    ///                  7: uint, 8: uint, 9: tstr .size (1..65536) / null, 10: bstr .size (1..98304) / null,
    ///                  11: [1*16 ed-key], 12: 1..300, 13: bool, 14: canary / null, 15: witnessing, 16: log-key,
    ///                  17: rotation / null, ? 18: 1..4, 19: bool / null }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetView {
        /// Id, name, tags.
        1 row: DatasetRow = item();
        /// The current KEK version, by id.
        2 kek: KekId = item();
        /// The same by number, for people.
        3 kek_version: u64 = UINT;
        /// The dataset's public key.
        4 public_key: SealingKey = XWING_KEY;
        /// Producers whose signatures count.
        5 producers: Vec<ProducerKey> = List(0..=PRODUCERS, item());
        /// KEMs that tickets may use.
        6 kems: Vec<Kem> = Ascending(1..=2, item());
        /// Most DEKs for each ticket.
        7 max_budget: u64 = UINT;
        /// Longest ticket life, in seconds.
        8 max_life: u64 = UINT;
        /// At a key server: its policy.
        9 policy: Option<String> = OrNull(Text(1..=limits::POLICY));
        /// At a broker: the record's statement, from which the key server's keys are believed (DEN-10).
        10 record: Option<Vec<u8>> = OrNull(Bytes(1..=limits::STATEMENT));
        /// Its owners, ascending.
        11 owners: Vec<AdminKey> = OWNERS;
        /// Its lease, in seconds.
        12 lease: u64 = LEASE;
        /// Whether evidence is wanted beside its tickets.
        13 evidence: bool = Bool;
        /// At a key server: whether it is a canary.
        14 canary: Option<Canary> = OrNull(item());
        /// What it wants of witnesses.
        15 witnessing: Witnessing = item();
        /// The key server's log.
        16 log_key: LogKey = item();
        /// At a key server: when its KEK is rotated by itself.
        17 rotation: Option<Rotation> = OrNull(item());
        /// How sensitive it is.
        18 class: DatasetClass = usual();
        /// At a key server: whether its KEK versions can be exported (IMP-4).
        19 exportable: Option<bool> = OrNull(Bool);
    }
}

closed_map! {
    /// Sets a dataset's policy, at its key server.
    ///
    /// `dataset-policy-set = { 1: name, 2: tstr .size (1..65536), 3: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetPolicySet {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Cedar text.
        2 text: String = Text(1..=limits::POLICY);
        /// Digest of the text that it replaces (ADM-5).
        3 replaces: PolicyDigest = item();
    }
}
act!(DatasetPolicySet, DatasetPolicySet, PolicyTextSet);

closed_map! {
    /// Sets a dataset's options, all of them, at its key server.
    ///
    /// `dataset-set = { 1: name, 2: uint, 3: uint, 4: [1*2 kem], 5: 1..300, 6: bool, 7: canary, 8: witnessing, 9: rotation, ? 10: 1..4 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetSet {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Most DEKs for each ticket.
        2 max_budget: u64 = UINT;
        /// Longest ticket life, in seconds.
        3 max_life: u64 = UINT;
        /// KEMs that tickets may use.
        4 kems: Vec<Kem> = Ascending(1..=2, item());
        /// Its lease, in seconds.
        5 lease: u64 = LEASE;
        /// Whether evidence is wanted beside its tickets.
        6 evidence: bool = Bool;
        /// Whether it is a canary.
        7 canary: Canary = item();
        /// What it wants of witnesses.
        8 witnessing: Witnessing = item();
        /// When its KEK is rotated by itself (KEK-3).
        9 rotation: Rotation = item();
        /// How sensitive it is.
        10 class: DatasetClass = usual();
    }
}
act!(DatasetSet, DatasetSet, DatasetView);

closed_map! {
    /// Sets a dataset's owners, at its key server, by security's quorum (SET-5).
    ///
    /// `dataset-owners-set = { 1: name, 2: [1*16 ed-key] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DatasetOwnersSet {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Its owners from now on, ascending.
        2 owners: Vec<AdminKey> = OWNERS;
    }
}
act!(DatasetOwnersSet, DatasetOwnersSet, DatasetView);

closed_map! {
    /// Marks a DEK as canary, or takes the mark away, at its dataset's key server (EXP-2).
    ///
    /// `canary-set = { 1: name, 2: id16, 3: canary }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CanarySet {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Which DEK, through all its wraps.
        2 dek: DekId = item();
        /// What a redemption of it leads to.
        3 canary: Canary = item();
    }
}
act!(CanarySet, CanarySet, super::acts::Nothing);

closed_map! {
    /// Registers a producer, at the dataset's key server.
    ///
    /// `producer-add = { 1: name, 2: ed-key }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProducerAdd {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// The producer's key.
        2 producer: ProducerKey = item();
    }
}
act!(ProducerAdd, ProducerAdd, ProducerAdded);

closed_map! {
    /// `producer-added = { 1: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProducerAdded {
        /// How wraps and origins name the producer.
        1 producer: ProducerId = item();
    }
}

/// SHA-256 of a policy's text, as records and tickets name it.
#[must_use]
pub fn policy_digest(text: &str) -> PolicyDigest {
    PolicyDigest::of(text.as_bytes())
}
