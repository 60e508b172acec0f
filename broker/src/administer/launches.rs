//! Launches: create, close, show.

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::denial::{Denial, Selector};
use ticket_format::entry::Entry;
use ticket_format::ids::NodeId;
use ticket_format::statement::{Denied, LaunchClose, LaunchCreate, LaunchView};
use ticket_format::time::Timestamp;

use super::{Done, Opened, denials};
use crate::Refused;
use crate::state::{Changes, FeedHead, KeyRole, KeyUse, LaunchRecord, keys};

/// Registers a launch. Its record is the statement (ADM-3).
///
/// # Errors
/// Refusals 20, 75 and 77.
pub fn create(
    opened: &Opened,
    terms: LaunchCreate,
    existing: Option<&LaunchRecord>,
    key: Option<&KeyUse>,
    now: Timestamp,
    mut changes: Changes,
) -> Result<Done, Refused> {
    if existing.is_some() {
        return Err(opened.refuse(
            Refusal::Exists,
            format!("launch {} exists already", terms.launch),
        ));
    }
    // rule: LOG-9
    terms
        .check()
        .map_err(|why| opened.refuse(Refusal::Invalid, why))?;
    if terms.until <= now {
        return Err(opened.refuse(
            Refusal::Invalid,
            format!("the launch's window ended at {}", terms.until),
        ));
    }
    // rule: SIG-4
    if key.is_some() {
        return Err(opened.refuse(
            Refusal::KeyReused,
            "the launch key is registered already: draw a fresh secret",
        ));
    }
    let record = LaunchRecord {
        statement: opened.bytes().to_vec(),
        digest: opened.statement().digest(),
        terms,
        created: now,
        closed: None,
        used: 0,
    };
    let id = record.terms.launch;
    changes.put(keys::launch(id), &record);
    let thumbprint = keys::key(record.terms.key.thumbprint());
    changes.put(
        thumbprint,
        &KeyUse {
            role: KeyRole::Launch,
            owner: id.to_string(),
        },
    );
    Ok(Done::new::<LaunchCreate>(
        changes,
        &view(&record, Vec::new()),
    ))
}

/// Closes a launch; with a denial its nodes are out too.
///
/// # Errors
/// Refusal 76.
pub fn close(
    opened: &Opened,
    body: LaunchClose,
    launch: Option<&LaunchRecord>,
    head: FeedHead,
    entry: &Entry,
    mut changes: Changes,
    rng: &mut impl CryptoRng,
) -> Result<Done, Refused> {
    let now = entry.time;
    let Some(found) = launch else {
        return Err(opened.refuse(
            Refusal::NotFound,
            format!("there is no launch {}", body.launch),
        ));
    };
    let mut record = found.clone();
    record.closed = record.closed.or(Some(now));
    changes.put(keys::launch(body.launch), &record);
    let result = if body.deny {
        let denial = Denial::new(
            Selector::launch(body.launch),
            body.reason,
            opened.statement().digest(),
            now,
            opened.admin(),
        );
        denials::make(denial, head, entry, &mut changes, rng)
    } else {
        Denied {
            epoch: head.epoch,
            chain: head.chain,
            before: head.chain,
            record: Vec::new(),
        }
    };
    Ok(Done::new::<LaunchClose>(changes, &result))
}

/// A launch for people.
#[must_use]
pub fn view(record: &LaunchRecord, nodes: Vec<NodeId>) -> LaunchView {
    LaunchView {
        launch: record.terms.clone(),
        digest: record.digest,
        used: record.used,
        nodes,
        closed: record.closed.is_some(),
    }
}
