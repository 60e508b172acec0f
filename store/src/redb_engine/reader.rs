//! Reads from one snapshot.

use redb::ReadTransaction;

use super::schema::{self, CHANGES, COMPACTED, COUNTERS, ENTRIES, REVISION};
use crate::types::{Entry, KeyRange, MAX_PAGE_BYTES, Page, Revision};
use crate::watch::{Change, WatchEvent};

/// Changes read from the history in one go; a commit is never split.
const HISTORY_STEP: usize = 1024;

pub(super) fn revision(txn: &ReadTransaction) -> Result<Revision, redb::Error> {
    Ok(Revision(schema::counter(
        &txn.open_table(COUNTERS)?,
        REVISION,
    )?))
}

pub(super) fn get(txn: &ReadTransaction, key: &[u8]) -> Result<Option<Entry>, redb::Error> {
    let found = txn.open_table(ENTRIES)?.get(key)?;
    Ok(found.map(|found| entry(found.value())))
}

fn entry((revision, value): (u64, &[u8])) -> Entry {
    Entry {
        value: value.to_vec(),
        revision: Revision(revision),
    }
}

pub(super) fn range(
    txn: &ReadTransaction,
    range: &KeyRange,
    limit: usize,
) -> Result<Page, redb::Error> {
    let mut page = Page {
        revision: revision(txn)?,
        entries: Vec::new(),
        more: false,
    };
    if range.is_empty() {
        return Ok(page);
    }
    let table = txn.open_table(ENTRIES)?;
    let mut bytes = 0;
    let found = match range.end() {
        Some(end) => table.range(range.start()..end)?,
        None => table.range(range.start()..)?,
    };
    for item in found {
        if page.entries.len() >= limit || bytes > MAX_PAGE_BYTES {
            page.more = true;
            break;
        }
        let (key, value) = item?;
        let (key, entry) = (key.value().to_vec(), entry(value.value()));
        bytes += key.len() + entry.value.len();
        page.entries.push((key, entry));
    }
    Ok(page)
}

/// A piece of the history.
pub(super) struct Piece {
    /// In order; ends with the only [`WatchEvent::Compacted`] if there is one.
    pub(super) events: Vec<WatchEvent>,
    /// Everything up to here is in `events` or is not watched.
    pub(super) until: Revision,
}

/// Reads the changes of keys in `range` after `after`: a bounded number, whole commits.
pub(super) fn history(
    txn: &ReadTransaction,
    range: &KeyRange,
    after: Revision,
) -> Result<Piece, redb::Error> {
    let counters = txn.open_table(COUNTERS)?;
    let current = Revision(schema::counter(&counters, REVISION)?);
    let compacted = Revision(schema::counter(&counters, COMPACTED)?);
    if after < compacted {
        return Ok(Piece {
            events: vec![WatchEvent::Compacted { oldest: compacted }],
            until: after,
        });
    }
    let mut events: Vec<WatchEvent> = Vec::new();
    let mut until = after;
    let mut last = after;
    for (read, item) in txn
        .open_table(CHANGES)?
        .range((after.next().0, 0)..)?
        .enumerate()
    {
        let (at, change) = item?;
        let at = Revision(at.value().0);
        if at != last {
            until = last;
            last = at;
            if read >= HISTORY_STEP {
                return Ok(Piece { events, until });
            }
        }
        let (key, value) = change.value();
        if !range.contains(key) {
            continue;
        }
        let change = match value {
            Some(value) => Change::Put {
                key: key.to_vec(),
                value: value.to_vec(),
            },
            None => Change::Delete { key: key.to_vec() },
        };
        match events.last_mut() {
            Some(WatchEvent::Committed { revision, changes }) if *revision == at => {
                changes.push(change)
            }
            _ => events.push(WatchEvent::Committed {
                revision: at,
                changes: vec![change],
            }),
        }
    }
    until = until.max(current);
    Ok(Piece { events, until })
}
