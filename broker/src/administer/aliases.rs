//! Aliases: other names of datasets, by the word of their owners (ALI-1).

use ticket_format::Refusal;
use ticket_format::ids::DatasetId;
use ticket_format::statement::{Act, AliasRow, AliasSet, Audience, Nothing, ReceivedStatement};

use super::{Done, Opened};
use crate::Refused;
use crate::state::{AliasEntry, Changes, DatasetEntry, keys};

/// What an alias is set on.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The alias as it stands.
    pub existing: Option<&'a AliasEntry>,
    /// The dataset that bears the alias as its name.
    pub named: Option<&'a DatasetId>,
    /// The dataset that it is to name.
    pub target: Option<&'a DatasetEntry>,
    /// The dataset that it named before.
    pub before: Option<&'a DatasetEntry>,
}

/// Sets an alias: the owners of the dataset that it is to name agree, and those of the one that it named.
///
/// # Errors
/// Refusals 41, 75, 76, 77, 78 and 79.
pub fn set(
    opened: &Opened,
    body: AliasSet,
    known: &Known<'_>,
    mut changes: Changes,
) -> Result<Done, Refused> {
    // rule: ALI-1
    if opened.statement().audience() != Audience::Everyone {
        let why = "an alias is a record for everyone: who asks for it verifies it again";
        return Err(opened.refuse(Refusal::Invalid, why));
    }
    if known.named.is_some() {
        let why = format!("the name {:?} is a dataset's", body.alias);
        return Err(opened.refuse(Refusal::Exists, why));
    }
    // rule: ADM-5
    let stands = known
        .existing
        .map_or(AliasSet::FIRST, |entry| entry.body.digest());
    if body.follows != stands {
        let why = "another record of this alias stands than the one that this record follows";
        return Err(opened.refuse(Refusal::Stale, why));
    }
    // rule: ALI-2 — nodes tell the later record by its time.
    let standing = known
        .existing
        .and_then(|entry| ReceivedStatement::parse(&entry.statement).ok());
    let later = opened.statement().not_before();
    if standing.is_some_and(|standing| later < standing.payload().not_before) {
        let why = "this record was made before the one that it replaces";
        return Err(opened.refuse(Refusal::Stale, why));
    }
    let before = known
        .existing
        .and_then(|entry| entry.body.target.as_ref())
        .map(|target| target.dataset);
    if before.is_none() && body.target.is_none() {
        let why = format!("there is no alias {:?}", body.alias);
        return Err(opened.refuse(Refusal::NotFound, why));
    }
    let target = match &body.target {
        None => None,
        Some(wanted) => {
            let target = known.target.map(|entry| &entry.record);
            let fits = target.filter(|record| record.name == wanted.name);
            let why = || {
                format!(
                    "there is no dataset {:?} of id {}",
                    wanted.name, wanted.dataset
                )
            };
            let record = fits.ok_or_else(|| opened.refuse(Refusal::DatasetUnknown, why()))?;
            Some(record)
        }
    };
    let need = opened.set().quorum(Act::AliasSet).unwrap_or(u64::MAX);
    for record in [target, known.before.map(|entry| &entry.record)]
        .into_iter()
        .flatten()
    {
        let agreed = opened.statement().by_owners(&record.owners, need);
        agreed.map_err(|too_few| {
            let why = format!("the owners of dataset {:?}: {too_few}", record.name);
            opened.refuse(Refusal::Quorum, why)
        })?;
    }
    let key = keys::alias(&body.alias);
    let entry = AliasEntry {
        statement: opened.bytes().to_vec(),
        body,
    };
    changes.put(key, &entry);
    Ok(Done::new::<AliasSet>(changes, &Nothing {}))
}

/// An alias in a list.
#[must_use]
pub fn row(entry: &AliasEntry) -> AliasRow {
    AliasRow {
        alias: entry.body.alias.clone(),
        target: entry.body.target.clone(),
        record: entry.body.digest(),
    }
}
