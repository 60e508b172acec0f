//! Datasets as this server has them, and its own copy of their policies (PRE-3).

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::{Policy, PolicyError};
use store::Revision;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{DatasetId, DekId, PolicyDigest, StatementId};
use ticket_format::keys::{AdminKey, ProducerKey};
use ticket_format::limits;
use ticket_format::seal::Kem;
use ticket_format::statement::datasets::{Canary, DatasetRow, PRODUCERS};
use ticket_format::statement::witnessing::{Witnessing, WitnessingError};
use ticket_format::statement::{DatasetClass, DatasetCreate, DatasetSet, Rotation};

use crate::issued::Witnesses;

/// Most DEKs of one dataset that are marked as canaries.
pub const CANARY_DEKS: usize = 1_000;

/// DEKs that are marked as canaries.
pub type CanaryDeks = HashMap<DekId, Canary>;

/// What stands in the store under `dataset/<id>`; the policy's text has a place of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetState {
    /// Its name.
    pub name: String,
    /// Tags for the policy.
    pub tags: BTreeMap<String, String>,
    /// Producers whose signatures count.
    pub producers: Vec<ProducerKey>,
    /// KEMs that tickets may use.
    pub kems: Vec<Kem>,
    /// Most DEKs for each ticket, whatever the ticket says.
    pub max_budget: u64,
    /// Longest ticket life in seconds, whatever the ticket says.
    pub max_life: u64,
    /// The statement that made it.
    pub created_by: StatementId,
    /// Admins whose signatures count for an act on it, ascending (SET-5).
    pub owners: Vec<AdminKey>,
    /// For how many seconds the broker's silence is survived (DEN-6).
    pub lease: u64,
    /// Whether evidence is wanted beside its tickets (EVD-1).
    pub evidence: bool,
    /// What any redemption leads to (EXP-2).
    pub canary: Canary,
    /// What it wants of the witnesses of both logs (TLOG-8).
    pub witnessing: Witnessing,
    /// When its KEK is rotated by itself (KEK-3).
    pub rotation: Rotation,
    /// Whether its KEK versions can be exported; it never changes (IMP-4).
    pub exportable: bool,
    /// How sensitive it is.
    pub class: DatasetClass,
}

/// Why a dataset cannot be as an admin wants it, or as the store has it.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A limit of 0 lets nobody in.
    #[error("most DEKs per ticket and longest ticket life must be at least 1")]
    Zero,
    /// A name that people cannot tell from another.
    #[error("a dataset name has 1 to 128 letters, digits, '.', '_', '-' or '/'")]
    Name,
    /// One producer twice.
    #[error("a producer is named twice")]
    ProducerTwice,
    /// Too many producers.
    #[error("a dataset has at most {PRODUCERS} producers")]
    Producers,
    /// Too many canaries.
    #[error("at most {CANARY_DEKS} DEKs of a dataset are canaries: take a mark away first")]
    Canaries,
    /// What it wants of witnesses.
    #[error(transparent)]
    Witnessing(#[from] WitnessingError),
    /// The policy's text.
    #[error("the policy is refused: {0}")]
    Policy(#[from] PolicyError),
    /// The record in the store.
    #[error("the record of a dataset is damaged: {0}")]
    Record(#[from] DecodeError),
}

impl DatasetState {
    /// The formats that are read; the newest is written.
    pub const FORMATS: RangeInclusive<u64> = 4..=5;

    /// What an admin's statement asks for.
    ///
    /// # Errors
    /// [`DatasetError`]: what does not hold.
    pub fn new(create: &DatasetCreate, statement: StatementId) -> Result<Self, DatasetError> {
        let state = Self {
            name: create.name.clone(),
            tags: create.tags.clone(),
            producers: create.producers.clone(),
            kems: create.kems.clone(),
            max_budget: create.max_budget,
            max_life: create.max_life,
            created_by: statement,
            owners: create.owners.clone(),
            lease: create.lease,
            evidence: create.evidence,
            canary: create.canary,
            witnessing: create.witnessing.clone(),
            rotation: create.rotation,
            exportable: create.exportable,
            class: create.class,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if state.name.is_empty() || !state.name.chars().all(plain) {
            return Err(DatasetError::Name);
        }
        state.limits_let_somebody_in()?;
        // rule: TLOG-8
        state.witnessing.read()?;
        let twice = |key| state.producers.iter().filter(|other| *other == key).count() > 1;
        if state.producers.iter().any(twice) {
            return Err(DatasetError::ProducerTwice);
        }
        Ok(state)
    }

    fn limits_let_somebody_in(&self) -> Result<(), DatasetError> {
        if self.max_budget == 0 || self.max_life == 0 {
            Err(DatasetError::Zero)
        } else {
            Ok(())
        }
    }

    /// With other options.
    ///
    /// # Errors
    /// [`DatasetError::Zero`] or [`DatasetError::Witnessing`].
    pub fn with_options(mut self, set: &DatasetSet) -> Result<Self, DatasetError> {
        self.max_budget = set.max_budget;
        self.max_life = set.max_life;
        self.kems.clone_from(&set.kems);
        (self.lease, self.evidence, self.canary) = (set.lease, set.evidence, set.canary);
        self.witnessing.clone_from(&set.witnessing);
        self.rotation = set.rotation;
        self.class = set.class;
        // rule: TLOG-8
        self.witnessing.read()?;
        self.limits_let_somebody_in()?;
        Ok(self)
    }

    /// With one producer more.
    ///
    /// # Errors
    /// [`DatasetError::ProducerTwice`] or [`DatasetError::Producers`].
    pub fn with_producer(mut self, producer: ProducerKey) -> Result<Self, DatasetError> {
        if self.producers.contains(&producer) {
            return Err(DatasetError::ProducerTwice);
        }
        if self.producers.len() >= PRODUCERS {
            return Err(DatasetError::Producers);
        }
        self.producers.push(producer);
        Ok(self)
    }
}

impl Encode for DatasetState {
    fn encode(&self, writer: &mut Writer) {
        writer
            .array(16)
            .uint(5)
            .text(&self.name)
            .text_map(&self.tags)
            .array(self.producers.len());
        self.producers.iter().for_each(|key| key.encode(writer));
        writer.array(self.kems.len());
        self.kems.iter().for_each(|kem| kem.encode(writer));
        writer.uint(self.max_budget).uint(self.max_life);
        self.created_by.encode(writer);
        writer.array(self.owners.len());
        self.owners.iter().for_each(|key| key.encode(writer));
        writer.uint(self.lease).bool(self.evidence);
        self.canary.encode(writer);
        self.witnessing.encode(writer);
        self.rotation.encode(writer);
        writer.bool(self.exportable);
        self.class.encode(writer);
    }
}

impl Decode for DatasetState {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let members = reader.array(14..=16)?;
        // What the fourth version did not have yet is as it was then (FMT-1).
        let later = match (reader.uint()?, members) {
            (4, 14) => false,
            (5, 16) => true,
            _ => return Err(DecodeError::OutOfRange("version of a dataset record")),
        };
        Ok(Self {
            name: reader.text(1..=limits::NAME)?.to_owned(),
            tags: reader.text_map(limits::PAIRS, limits::PAIR_KEY, 256)?,
            producers: reader.list(0..=PRODUCERS, ProducerKey::decode)?,
            kems: reader.list(1..=2, Kem::decode)?,
            max_budget: reader.uint()?,
            max_life: reader.uint()?,
            created_by: StatementId::decode(reader)?,
            owners: reader.list(1..=limits::ADMINS, AdminKey::decode)?,
            lease: reader.uint()?,
            evidence: reader.bool()?,
            canary: Canary::decode(reader)?,
            witnessing: Witnessing::decode(reader)?,
            rotation: Rotation::decode(reader)?,
            exportable: later && reader.bool()?,
            class: if later {
                DatasetClass::decode(reader)?
            } else {
                DatasetClass::default()
            },
        })
    }
}

/// One dataset, ready to decide by.
#[derive(Debug)]
pub struct Dataset {
    /// Its id.
    pub id: DatasetId,
    /// What stands in the store.
    pub state: DatasetState,
    /// Its policy, parsed.
    pub policy: Policy,
    /// SHA-256 of the policy's text.
    pub digest: PolicyDigest,
    /// As the policy sees it.
    pub facts: policy::Dataset,
    /// Its DEKs that are canaries.
    pub canary_deks: Arc<CanaryDeks>,
    /// Who must have cosigned before keys leave, and before a ticket is taken.
    pub witnesses: Option<Witnesses>,
    /// The commit that its record is of.
    pub revision: Revision,
}

impl Dataset {
    /// Parses the policy.
    ///
    /// # Errors
    /// [`DatasetError::Policy`], with the place of the fault, or [`DatasetError::Witnessing`].
    pub fn new(
        id: DatasetId,
        state: DatasetState,
        policy: &str,
        revision: Revision,
    ) -> Result<Self, DatasetError> {
        let policy = Policy::parse(policy)?;
        let witnesses = state.witnessing.required()?.map(Witnesses::new);
        let facts = policy::Dataset {
            id: id.to_string(),
            name: state.name.clone(),
            tags: state.tags.clone(),
            class: state.class.number(),
            aliases: None,
        };
        Ok(Self {
            id,
            digest: PolicyDigest(policy.digest()),
            policy,
            facts,
            state,
            canary_deks: Arc::default(),
            witnesses,
            revision,
        })
    }

    /// With these DEKs as canaries.
    #[must_use]
    pub fn with_canary_deks(self, canary_deks: Arc<CanaryDeks>) -> Self {
        Self {
            canary_deks,
            ..self
        }
    }

    /// What the redemption of this DEK leads to: the stricter of the dataset's mark and its own.
    #[must_use]
    pub fn canary(&self, dek: DekId) -> Canary {
        // rule: EXP-2
        let own = self.canary_deks.get(&dek).copied().unwrap_or(Canary::No);
        if own.number() > self.state.canary.number() {
            own
        } else {
            self.state.canary
        }
    }

    /// Whether nothing in it is a canary, so that no DEK need be asked about.
    #[must_use]
    pub fn has_no_canary(&self) -> bool {
        self.state.canary == Canary::No && self.canary_deks.is_empty()
    }

    /// As a row of a list.
    #[must_use]
    pub fn row(&self) -> DatasetRow {
        DatasetRow {
            dataset: self.id,
            name: self.state.name.clone(),
            tags: self.state.tags.clone(),
        }
    }
}

/// All datasets. Reading takes no lock.
#[derive(Debug, Default)]
pub struct Datasets(ArcSwap<HashMap<DatasetId, Arc<Dataset>>>);

impl Datasets {
    /// The dataset of this id.
    #[must_use]
    pub fn get(&self, id: DatasetId) -> Option<Arc<Dataset>> {
        self.0.load().get(&id).cloned()
    }

    /// The dataset of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<Dataset>> {
        self.0
            .load()
            .values()
            .find(|dataset| dataset.state.name == name)
            .cloned()
    }

    /// The shortest lease of them all: for so long at most the broker may be unheard before something is
    /// refused. Five seconds, as is usual, when there is none.
    #[must_use]
    pub fn shortest_lease(&self) -> Duration {
        const USUAL: u64 = 5;
        let all = self.0.load();
        let leases = all.values().map(|dataset| dataset.state.lease);
        Duration::from_secs(leases.min().unwrap_or(USUAL).max(1))
    }

    /// Puts a dataset in, unless a newer record of it is there already.
    pub fn put(&self, dataset: Arc<Dataset>) {
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            let older = all
                .get(&dataset.id)
                .is_none_or(|known| known.revision <= dataset.revision);
            if older {
                all.insert(dataset.id, Arc::clone(&dataset));
            }
            all
        });
    }

    /// Those after a name, by name; and whether there are more than `most`.
    #[must_use]
    pub fn page(&self, after: &str, most: usize) -> (Vec<Arc<Dataset>>, bool) {
        let all = self.0.load();
        let mut rows: Vec<_> = all
            .values()
            .filter(|dataset| dataset.state.name.as_str() > after)
            .cloned()
            .collect();
        rows.sort_by(|a, b| a.state.name.cmp(&b.state.name));
        let more = rows.len() > most;
        rows.truncate(most);
        (rows, more)
    }

    /// The keys of all producers.
    #[must_use]
    pub fn producers(&self) -> Vec<[u8; 32]> {
        let all = self.0.load();
        let producers = all.values().flat_map(|dataset| &dataset.state.producers);
        producers.map(|producer| producer.to_bytes()).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
