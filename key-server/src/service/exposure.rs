//! Exposure: what a node, ticket or launch could have read, from the records (EXP-1); and entries as
//! they stand.

use std::collections::{HashMap, HashSet};

use audit_log::{AuditLog, ReadError, SideFile};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Members, Selector};
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::side::SideRecord;
use ticket_format::statement::exposures::EXPOSED;
use ticket_format::statement::{EntryShow, EntryView, Exposed, ExposurePage, ExposureShow};
use ticket_format::time::Timestamp;

use super::Service;
use super::administer::Plan;
use crate::dataset::Datasets;
use crate::refused::Refused;

/// Entries that one page looks at.
const ENTRIES: usize = 20_000;
/// Bytes of entries that one page looks at.
const ENTRY_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of rows in a page, so that it fits an answer.
const PAGE_BYTES: usize = 1024 * 1024;
/// A place in the records is an entry's index, times this, and an item's place in the entry.
const PLACES: u64 = 1_024;

/// Whose exposure is asked for, and since when.
struct Wanted {
    members: Members,
    since: Timestamp,
}

impl Wanted {
    /// What can be asked: by ticket, node and launch, since that is what records of releases name.
    fn new(selector: &Selector, since: Timestamp) -> Result<Self, Refused> {
        let members = selector.members().clone();
        let asked = Members {
            ticket: members.ticket,
            node: members.node.clone(),
            launch: members.launch,
            ..Members::default()
        };
        if asked != members {
            return Err(Refused::Invalid(
                "exposure is asked of a ticket, a node or a launch, and of nothing else".to_owned(),
            ));
        }
        Ok(Self { members, since })
    }

    fn is(&self, entry: &Entry) -> bool {
        fn same<T: PartialEq>(wanted: &Option<T>, found: Option<T>) -> bool {
            wanted.is_none() || *wanted == found
        }
        let node = || entry.subject.as_deref().and_then(|name| name.parse().ok());
        entry.time >= self.since
            && same(&self.members.ticket, entry.ticket)
            && same(&self.members.launch, entry.launch)
            && (self.members.node.is_none() || same(&self.members.node, node()))
    }
}

impl Service {
    pub(super) async fn exposure(&self, body: ExposureShow) -> Result<Plan, Refused> {
        let wanted = Wanted::new(&body.selector, body.since)?;
        // Reading back may take a second: one at a time, and on a thread of its own.
        let _turn = self.reading.acquire().await;
        let (log, side) = (self.log.clone(), self.side.clone());
        let task = tokio::task::spawn_blocking(move || page(&log, &side, &wanted, &body));
        let mut page = task
            .await
            .unwrap_or(Err(Refused::Internal("the records could not be read")))?;
        for row in &mut page.rows {
            row.name = name_of(&self.state.datasets, row);
        }
        Ok(Plan::reading(&page))
    }

    pub(super) async fn show_entry(&self, body: EntryShow) -> Result<Plan, Refused> {
        let log = self.log.clone();
        let task = tokio::task::spawn_blocking(move || log.receipt(body.index));
        let found = task
            .await
            .map_err(|_| Refused::Internal("the records could not be read"))?;
        // rule: TLOG-5
        let (entry, proof) = found.map_err(|error| match error {
            ReadError::NotThere { .. } | ReadError::Pruned { .. } => Refused::NoEntry,
            other => unreadable(other),
        })?;
        let receipt = Receipt { entry, proof };
        Ok(Plan::reading(&EntryView { receipt }))
    }
}

fn name_of(datasets: &Datasets, row: &Exposed) -> String {
    match datasets.get(row.dataset) {
        Some(dataset) => dataset.state.name.clone(),
        None => row.dataset.to_string(),
    }
}

fn unreadable(error: ReadError) -> Refused {
    tracing::error!(%error, "the audit log cannot be read back");
    Refused::Internal("the audit log cannot be read back: the server's log says why")
}

/// One page: what was released, without what was withheld as far as this page tells.
fn page(
    log: &AuditLog,
    side: &SideFile,
    wanted: &Wanted,
    body: &ExposureShow,
) -> Result<ExposurePage, Refused> {
    let most = usize::try_from(body.rows).unwrap_or(EXPOSED).min(EXPOSED);
    let (mut first, mut skip) = (body.from / PLACES, body.from % PLACES);
    // What the retention removed is not known any more.
    let kept = log.first_kept();
    if first < kept {
        (first, skip) = (kept, 0);
    }
    let (mut rows, mut withheld, mut next) = (Vec::new(), Vec::new(), None);
    let (mut looked, mut bytes) = (0, 0);
    'entries: for record in log.read(first) {
        let record = record.map_err(unreadable)?;
        let begins = record.index.saturating_mul(PLACES);
        if looked >= ENTRIES || bytes >= ENTRY_BYTES || withheld.len() >= EXPOSED {
            next = Some(begins);
            break;
        }
        looked += 1;
        bytes += record.entry.len();
        let entry = Entry::from_cbor(&record.entry, limits::ENTRY)
            .map_err(|_| Refused::Internal("an entry is of a shape that is not known"))?;
        if !wanted.is(&entry) {
            continue;
        }
        if entry.kind == Kind::Withheld {
            // rule: EXP-1
            withheld.extend(entry.follows);
            continue;
        }
        for (place, row) in released(record.index, &entry) {
            if record.index == first && place < skip {
                continue;
            }
            if rows.len() >= most {
                next = Some(begins + place);
                break 'entries;
            }
            rows.push((begins + place, row));
        }
    }
    // rule: EXP-1
    let left_out: HashSet<ActId> = withheld.iter().copied().collect();
    rows.retain(|(_, row)| !left_out.contains(&row.act));
    let (rows, cut) = described(rows, side);
    Ok(ExposurePage {
        rows,
        withheld,
        next: cut.or(next),
    })
}

/// What an entry says was released, each with its place.
fn released(index: u64, entry: &Entry) -> Vec<(u64, Exposed)> {
    // rule: EXP-1
    let of_a_batch = matches!(entry.kind, Kind::Redeem | Kind::Generate | Kind::Rewrap);
    let node = entry.subject.as_deref().and_then(|name| name.parse().ok());
    let (Some(node), Some(ticket), Some(dataset), true) = (
        node,
        entry.ticket,
        entry.dataset,
        of_a_batch && entry.outcome.is_ok(),
    ) else {
        return Vec::new();
    };
    // What a DEK was wrapped under before and after: an object may be found by either.
    let items = entry.items.iter().flatten();
    let items = items.map(|(item, outcome)| (item, outcome.is_ok()));
    let moved = entry.moved.iter().flatten().map(|item| (item, true));
    items
        .chain(moved)
        .zip(0_u64..)
        .filter(|((_, done), _)| *done)
        .map(|((item, _), place)| {
            let row = Exposed {
                entry: index,
                act: entry.act,
                time: entry.time,
                kind: entry.kind,
                node: ticket_format::ids::NodeId::clone(&node),
                ticket,
                launch: entry.launch,
                dataset,
                name: dataset.to_string(),
                item: *item,
                dek: None,
                context: None,
            };
            (place, row)
        })
        .collect()
}

/// Fills in DEK ids and contexts, as far as they fit an answer; and says where it stopped, if it did.
fn described(rows: Vec<(u64, Exposed)>, side: &SideFile) -> (Vec<Exposed>, Option<u64>) {
    let items: Vec<_> = rows.iter().map(|(_, row)| row.item.0).collect();
    // rule: AUD-5 — what is not known any more is said to be so.
    let known = side.get_all(&items).unwrap_or_else(|error| {
        tracing::error!(%error, "the side file cannot be read: contexts are not known");
        HashMap::new()
    });
    let (mut fitting, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for (place, mut row) in rows {
        let record = known.get(&row.item.0);
        let record = record
            .and_then(|record| SideRecord::from_cbor(record, audit_log::MAX_SIDE_RECORD).ok());
        if let Some(SideRecord { dek, pairs, .. }) = record {
            (row.dek, row.context) = (dek, Some(pairs));
        }
        bytes += row.to_cbor().len();
        // A row is far smaller than a page, so the first one always fits.
        if bytes > PAGE_BYTES {
            return (fitting, Some(place));
        }
        fitting.push(row);
    }
    (fitting, None)
}
