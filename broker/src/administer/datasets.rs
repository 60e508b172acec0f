//! Datasets: records that admins sign, and that nodes and producers verify again.

use ticket_format::Refusal;
use ticket_format::cbor::Writer;
use ticket_format::ids::{DatasetId, Thumbprint};
use ticket_format::keys::AdminKey;
use ticket_format::limits;
use ticket_format::statement::datasets::DatasetRow;
use ticket_format::statement::{Act, Audience, DatasetRecord, DatasetView, Nothing, Role};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogKey, Origin, Vkey, VkeyKind};

use super::{Done, Opened};
use crate::Refused;
use crate::realm::{Realm, distinct};
use crate::state::{AliasEntry, Changes, DatasetEntry, KeyRole, KeyUse, keys};

/// Under which thumbprint a vkey's key is registered: an Ed25519 key as any other (RFC 9679), ML-DSA-44 by
/// the SHA-256 of its bytes.
#[must_use]
pub fn registered(vkey: &Vkey) -> Thumbprint {
    if vkey.kind() == VkeyKind::CosignatureMlDsa44 {
        return Thumbprint::of(vkey.key());
    }
    // cose-key = { 1: 1, -1: 6, -2: ed-key }
    let mut key = Writer::new();
    key.map(3).int(1).int(1).int(-1).int(6).int(-2);
    key.bytes(vkey.key());
    Thumbprint::of(&key.into_bytes())
}

/// The keys of a log, as they are registered.
#[must_use]
pub fn log_thumbprints(key: &LogKey) -> [Thumbprint; 2] {
    key.vkeys().each_ref().map(registered)
}

/// The keys that a record brings, each with its role.
#[must_use]
pub fn keys_of(record: &DatasetRecord) -> Vec<(Thumbprint, KeyRole)> {
    let mut all = vec![
        (record.tls_key.thumbprint(), KeyRole::ServerTls),
        (record.server_key.thumbprint(), KeyRole::ServerSigning),
    ];
    let log = log_thumbprints(&record.log_key);
    all.extend(log.map(|thumbprint| (thumbprint, KeyRole::ServerLog)));
    all.extend(
        record
            .producers
            .iter()
            .map(|key| (key.thumbprint(), KeyRole::Producer)),
    );
    all
}

/// Whether the owners agree (SET-5). A new dataset is recorded by the quorum of the owners that it names; a
/// newer record is signed by the quorum of the standing owners. One that names other owners may instead
/// be signed by the quorum of those and by as many of security as `dataset-owners-set` takes: the
/// standing owners may all have left.
fn owned(
    opened: &Opened,
    body: &DatasetRecord,
    existing: Option<&DatasetEntry>,
) -> Result<(), Refused> {
    // rule: SET-5
    let (set, statement) = (opened.set(), opened.statement());
    let need = set.quorum(Act::DatasetRecord).unwrap_or(u64::MAX);
    let standing = existing.map(|entry| entry.record.owners.as_slice());
    if standing != Some(body.owners.as_slice()) {
        let holds = |key: &AdminKey| {
            set.admin(key)
                .is_some_and(|admin| admin.may(Act::DatasetRecord))
        };
        if let Some(other) = body.owners.iter().find(|owner| !holds(owner)) {
            let why = format!("{other} is no admin who may own a dataset");
            return Err(opened.refuse(Refusal::Invalid, why));
        }
        if (body.owners.len() as u64) < need {
            let why = format!("{need} owners must sign each record, so there must be as many");
            return Err(opened.refuse(Refusal::Invalid, why));
        }
    }
    let by_standing = statement.by_owners(standing.unwrap_or(&body.owners), need);
    let Err(too_few) = by_standing else {
        return Ok(());
    };
    let security = set.counting(Act::DatasetOwnersSet, statement.signers());
    let enough = set
        .quorum(Act::DatasetOwnersSet)
        .is_some_and(|need| security >= need);
    let handed_over = standing.is_some_and(|standing| standing != body.owners)
        && enough
        && statement.by_owners(&body.owners, need).is_ok();
    if handed_over {
        Ok(())
    } else {
        let why = format!("the dataset's owners: {too_few}");
        Err(opened.refuse(Refusal::Quorum, why))
    }
}

/// Whether the log is the key server's own, and whether it can be witnessed as the record wants.
fn log_holds(opened: &Opened, body: &DatasetRecord, realm: &Realm) -> Result<(), Refused> {
    // rule: TLOG-8
    if let Err(error) = body.witnessing.read() {
        return Err(opened.refuse(Refusal::Invalid, error));
    }
    if body.log_key.origin != Origin::new(&realm.name, Role::KeyServer, &body.tls_key) {
        let why = "the log that this record names is another server's than its TLS key";
        return Err(opened.refuse(Refusal::Invalid, why));
    }
    Ok(())
}

/// What a record is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The dataset as it stands.
    pub existing: Option<&'a DatasetEntry>,
    /// Whose the record's name is.
    pub named: Option<&'a DatasetId>,
    /// The alias of that name.
    pub alias: Option<&'a AliasEntry>,
    /// Who uses its keys, in the order of [`keys_of`].
    pub uses: &'a [Option<KeyUse>],
}

/// Takes a record: of a new dataset, or a newer one of a known dataset.
///
/// # Errors
/// Refusals 20, 75, 77, 78 and 79.
pub fn record(
    opened: &Opened,
    body: DatasetRecord,
    known: &Known<'_>,
    realm: &Realm,
    now: Timestamp,
    mut changes: Changes,
) -> Result<Done, Refused> {
    let Known {
        existing,
        named,
        alias,
        uses,
    } = *known;
    let invalid = |why: &str| opened.refuse(Refusal::Invalid, why);
    if opened.statement().audience() != Audience::Everyone {
        return Err(invalid(
            "a dataset record is for everyone: nodes and producers verify it again",
        ));
    }
    owned(opened, &body, existing)?;
    if !(1..=limits::LONGEST_TICKET_LIFE).contains(&body.max_life) {
        return Err(invalid(
            "the longest ticket life must be 1 to 86400 seconds",
        ));
    }
    if body.max_budget == 0 {
        return Err(invalid("the most DEKs for each ticket must be at least 1"));
    }
    if named.is_some_and(|named| *named != body.dataset) {
        return Err(opened.refuse(
            Refusal::Exists,
            format!("the name {:?} is another dataset's", body.name),
        ));
    }
    // rule: ALI-1 — not even one that was taken away: its old records are signed still.
    if alias.is_some() {
        let why = format!("the name {:?} is an alias, or was one", body.name);
        return Err(opened.refuse(Refusal::Exists, why));
    }
    if let Some(existing) = existing {
        if existing.record.name != body.name {
            return Err(invalid("a dataset keeps its name"));
        }
        if body.kek_version < existing.record.kek_version {
            return Err(invalid(
                "this record has an older KEK version than the one that stands",
            ));
        }
    }
    // rule: SIG-4, SIG-5
    let mut all = vec![
        body.tls_key.to_bytes(),
        body.server_key.to_bytes(),
        *body.log_key.ed25519(),
    ];
    all.extend(body.producers.iter().map(|key| key.to_bytes()));
    distinct(&all).map_err(|refused| refused.of(opened.admin()))?;
    for ((thumbprint, role), registered) in keys_of(&body).into_iter().zip(uses) {
        match registered {
            Some(registered) if registered.role == role => {}
            Some(_) => {
                return Err(opened.refuse(
                    Refusal::KeyReused,
                    "a key of this record has another role already",
                ));
            }
            None => {
                changes.put(
                    keys::key(thumbprint),
                    &KeyUse {
                        role,
                        owner: body.dataset.to_string(),
                    },
                );
            }
        }
    }
    log_holds(opened, &body, realm)?;
    // rule: ADM-5 — one that owners signed long ago, for another record to be replaced, is not sent late.
    let stands = existing.map_or(DatasetRecord::FIRST, |existing| existing.record.digest());
    if body.follows != stands {
        return Err(opened.refuse(
            Refusal::Stale,
            "another record of this dataset stands than the one that this record follows",
        ));
    }
    let (id, name) = (body.dataset, keys::dataset_name(&body.name));
    let entry = DatasetEntry {
        statement: opened.bytes().to_vec(),
        digest: opened.statement().digest(),
        record: body,
        recorded: now,
    };
    changes.put(keys::dataset(id), &entry).put(name, &id);
    Ok(Done::new::<DatasetRecord>(changes, &Nothing {}))
}

/// A dataset in a list.
#[must_use]
pub fn row(record: &DatasetRecord) -> DatasetRow {
    DatasetRow {
        dataset: record.dataset,
        name: record.name.clone(),
        tags: record.tags.clone(),
    }
}

/// A dataset for people.
#[must_use]
pub fn view(entry: &DatasetEntry) -> DatasetView {
    let record = &entry.record;
    DatasetView {
        rotation: None,
        class: record.class,
        exportable: None,
        row: row(record),
        kek: record.kek,
        kek_version: record.kek_version,
        public_key: record.public_key.clone(),
        producers: record.producers.clone(),
        kems: record.kems.clone(),
        max_budget: record.max_budget,
        max_life: record.max_life,
        policy: None,
        record: Some(entry.statement.clone()),
        owners: record.owners.clone(),
        lease: record.lease,
        evidence: record.evidence,
        canary: None,
        witnessing: record.witnessing.clone(),
        log_key: record.log_key.clone(),
    }
}
