//! What-if and entry-show: the log read back for admins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use audit_log::{AuditLog, ReadError};
use policy::Policy;
use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::Entry;
use ticket_format::ids::{DatasetId, NodeId};
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::side::SideRecord;
use ticket_format::statement::{EntryShow, EntryView, WhatIf, WhatIfPage};
use ticket_format::ticket::Attributes;
use ticket_format::time::Timestamp;

use super::service::Broker;
use crate::Refused;
use crate::administer::Opened;
use crate::administer::what_if::{DECISIONS, Decided, ENTRIES, Tally};
use crate::question::Resource;
use crate::state::{DatasetEntry, NodeRecord, keys};

/// What a part of the log tells: decisions with their place, and where the next part begins.
struct Found {
    decided: Vec<(u64, Decided)>,
    next: Option<u64>,
}

/// Reads one page of decisions. Blocking.
fn decisions(
    log: &AuditLog,
    from: u64,
    since: Timestamp,
    dataset: Option<DatasetId>,
) -> Result<Found, String> {
    let end = log.head().entries;
    // What the retention removed decides nothing any more.
    let from = from.max(log.first_kept());
    let to = end.min(from.saturating_add(ENTRIES as u64));
    let mut found = Found {
        decided: Vec::new(),
        next: Some(to).filter(|to| *to < end),
    };
    for record in log.read(from) {
        let record = record.map_err(|error| error.to_string())?;
        if record.index >= to {
            break;
        }
        if found.decided.len() == DECISIONS {
            found.next = Some(record.index);
            break;
        }
        let entry =
            Entry::from_cbor(&record.entry, limits::ENTRY).map_err(|error| error.to_string())?;
        if entry.time < since {
            continue;
        }
        let decided = Decided::from_entry(entry)
            .filter(|decided| dataset.is_none_or(|dataset| dataset == decided.dataset));
        found
            .decided
            .extend(decided.map(|decided| (record.index, decided)));
    }
    Ok(found)
}

/// Runs what blocks: reading files, and deciding thousands of times.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done
        .map_err(|error| error.to_string())
        .and_then(|done| done);
    done.map_err(|why| Refused::stranger(Refusal::AuditUnavailable, why))
}

impl Broker {
    /// Decides recorded requests anew by a draft (ISS-7). A request whose node, dataset or pairs are not
    /// known any more is left out.
    pub(super) async fn what_if(&self, opened: &Opened) -> Result<WhatIfPage, Refused> {
        // rule: ISS-7
        let body = opened.body::<WhatIf>()?;
        let draft =
            Policy::parse(&body.draft).map_err(|error| opened.refuse(Refusal::Invalid, error))?;
        let dataset = match &body.dataset {
            None => None,
            Some(name) => Some(
                self.dataset(name)
                    .ok_or_else(|| {
                        opened.refuse(Refusal::NotFound, format!("there is no dataset {name:?}"))
                    })?
                    .record
                    .dataset,
            ),
        };
        // One at a time: it costs a core for a while, and tickets come first.
        let Ok(_turn) = self.trying.try_acquire() else {
            let why = "another draft is being tried: ask again in a moment";
            return Err(opened.refuse(Refusal::Busy, why));
        };
        let log = self.audit.log().clone();
        let found = blocking(move || decisions(&log, body.from, body.since, dataset)).await?;
        let mut nodes = HashMap::new();
        for (_, decided) in &found.decided {
            if !nodes.contains_key(&decided.node) {
                let key = keys::node(&decided.node);
                let record = self.directory.get::<NodeRecord>(&key).await?;
                let attributes = record.map(|record| record.attributes);
                nodes.insert(decided.node.clone(), attributes);
            }
        }
        let datasets = self.datasets_by_id();
        let (side, tally) = (
            self.audit.side().clone(),
            Tally::new(draft, dataset.is_none()),
        );
        blocking(move || {
            let hashes: Vec<_> = found
                .decided
                .iter()
                .map(|(_, decided)| decided.pairs.0)
                .collect();
            let records = side.get_all(&hashes).map_err(|error| error.to_string())?;
            let pairs = records.into_iter().filter_map(|(hash, bytes)| {
                let record = SideRecord::from_cbor(&bytes, audit_log::MAX_SIDE_RECORD).ok()?;
                Some((hash, record.pairs.pairs().clone()))
            });
            Ok(weigh(tally, found, &nodes, &datasets, &pairs.collect()))
        })
        .await
    }

    /// The datasets by id.
    fn datasets_by_id(&self) -> Datasets {
        let (all, _) = self.datasets("", usize::MAX);
        let with_aliases = |entry: Arc<DatasetEntry>| {
            let id = entry.record.dataset;
            (id, (entry, self.aliases_of(Some(id))))
        };
        all.into_iter().map(with_aliases).collect()
    }

    /// One entry of the log, with its receipt under the newest checkpoint.
    pub(super) async fn entry_show(&self, opened: &Opened) -> Result<EntryView, Refused> {
        let index = opened.body::<EntryShow>()?.index;
        // One at a time: an old one is read from disk, and proven. The semaphore is never closed.
        let _turn = self.reading.acquire().await;
        let log = self.audit.log().clone();
        let found = blocking(move || match log.receipt(index) {
            Ok((entry, proof)) => Ok(Ok(Receipt { entry, proof })),
            Err(error @ (ReadError::NotThere { .. } | ReadError::Pruned { .. })) => Ok(Err(error)),
            Err(error) => Err(error.to_string()),
        });
        match found.await? {
            Ok(receipt) => Ok(EntryView { receipt }),
            Err(error) => Err(opened.refuse(Refusal::NotFound, error)),
        }
    }
}

/// The datasets by id, with their aliases.
type Datasets = HashMap<DatasetId, (Arc<DatasetEntry>, BTreeSet<String>)>;

fn weigh(
    mut tally: Tally,
    found: Found,
    nodes: &HashMap<NodeId, Option<Attributes>>,
    datasets: &Datasets,
    pairs: &HashMap<[u8; 32], BTreeMap<String, String>>,
) -> WhatIfPage {
    for (index, decided) in found.decided {
        if tally.full() {
            return tally.page(Some(index));
        }
        let known = (
            nodes.get(&decided.node).and_then(Option::as_ref),
            datasets.get(&decided.dataset),
            pairs.get(&decided.pairs.0),
        );
        if let (Some(node), Some((dataset, aliases)), Some(pairs)) = known {
            let record = &dataset.record;
            let resource = Resource { record, aliases };
            tally.weigh(&decided, node, resource, pairs);
        }
    }
    tally.page(found.next)
}
