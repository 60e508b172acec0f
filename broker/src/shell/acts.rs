//! Administer: every act through one path.

use std::future::Future;

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Entry;
use ticket_format::ids::{ActId, DatasetId, NodeId, TicketId};
use ticket_format::limits as numbers;
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::statement::denials::DENIAL_ROWS;
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{
    Act, DatasetList, DatasetPage, DatasetRecord, DatasetShow, DenyBody, DenyList, FeedShow,
    LaunchClose, LaunchCreate, LaunchList, LaunchPage, LaunchShow, LaunchView, NodeList, NodePage,
    NodeShow, NodeUnfreeze, NodeView, PolicySet, Role, Status, TicketShow, TicketView, Undeny,
};
use ticket_format::time::Timestamp;

use super::directory::Reads;
use super::service::{Broker, Failed};
use crate::Refused;
use crate::administer::policies;
use crate::administer::{self, Done, Opened, datasets, denials, launches, nodes, undeny};
use crate::feed::Chain;
use crate::realm::Caller;
use crate::state::{
    Changes, DatasetEntry, LaunchRecord, NodeRecord, PolicyHead, StoredEpoch, UsedStatement, keys,
};

impl Broker {
    pub(super) async fn administer(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Failed> {
        self.rates.statement(caller.address)?;
        let now = self.time.now()?;
        let opened = administer::open(request, &self.realm, now)?;
        let performed = self
            .settle(|| async {
                let mut reads = self.directory.reads();
                let used = reads
                    .get::<UsedStatement>(&keys::statement(opened.statement().id()))
                    .await?;
                let changes = opened.begin(used.as_ref())?;
                let entry = opened.entry(ActId::random(&mut self.rng()), caller, now);
                let (mut done, entry) = self
                    .perform(&opened, entry, changes, &mut reads, now)
                    .await?;
                done.changes.entries.insert(0, entry);
                Ok((reads.seen(), done.changes, done.result))
            })
            .await;
        let (receipt, mut result) = match performed {
            Ok(performed) => performed,
            Err(Failed::Unrecorded(refused)) if refused.proven => {
                let entry = opened.entry(ActId::random(&mut self.rng()), caller, now);
                return Err(self.refuse(entry, refused).await);
            }
            Err(Failed::Unrecorded(refused)) if refused.refusal == Refusal::StatementReplayed => {
                if self.replays.first(opened.statement().id()) {
                    self.metrics.alarm();
                    let alarm = opened.replayed(caller, now, &mut self.rng());
                    tracing::warn!(act = %alarm.act, admin = %opened.admin(), "alarm: a statement was sent again");
                    self.audit.append(&alarm).await.map_err(Failed::Recorded)?;
                }
                return Err(refused.into());
            }
            Err(failed) => return Err(failed),
        };
        self.follow_up(&opened).await?;
        if opened.act() == Act::FeedShow {
            // Recorded first: it may be held for long.
            result = self.feed_show(&opened.body()?, gone).await?.to_cbor();
        }
        tracing::info!(exchange = "administer", what = opened.act().name(), admin = %opened.admin(), entry = receipt.index, "done");
        Ok(Answer::done(
            Verb::Administer,
            &AdministerAnswer { result, receipt },
        ))
    }

    /// Takes into memory what an act changed.
    async fn follow_up(&self, opened: &Opened) -> Result<(), Refused> {
        match opened.act() {
            Act::PolicySet => self.load_policy().await,
            Act::DatasetRecord => {
                let record = opened.body::<DatasetRecord>()?;
                let stored = self
                    .directory
                    .get::<DatasetEntry>(&keys::dataset(record.dataset))
                    .await?;
                match stored {
                    Some(stored) => self.load_dataset(&stored).await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    async fn perform(
        &self,
        opened: &Opened,
        entry: Entry,
        changes: Changes,
        reads: &mut Reads<'_>,
        now: Timestamp,
    ) -> Result<(Done, Entry), Refused> {
        let rng = &mut self.rng();
        Ok(match opened.act() {
            Act::LaunchCreate => {
                let body = opened.body::<LaunchCreate>()?;
                let entry = entry.launch(body.launch);
                let existing = reads.get(&keys::launch(body.launch)).await?;
                let key = reads.key(body.key.thumbprint()).await?;
                (
                    launches::create(opened, body, existing.as_ref(), key.as_ref(), now, changes)?,
                    entry,
                )
            }
            Act::LaunchClose => {
                let body = opened.body::<LaunchClose>()?;
                let entry = entry.launch(body.launch);
                let head = self.head(reads).await?;
                let launch = reads.get(&keys::launch(body.launch)).await?;
                (
                    launches::close(opened, body, launch.as_ref(), head, &entry, changes, rng)?,
                    entry,
                )
            }
            Act::PolicySet => {
                let body = opened.body::<PolicySet>()?;
                let existing = reads.get::<PolicyHead>(keys::POLICY).await?;
                let (done, policy) = policies::set(opened, &body, existing.as_ref(), now, changes)?;
                (
                    done,
                    entry.policy(ticket_format::ids::PolicyDigest(policy.digest())),
                )
            }
            Act::DatasetRecord => {
                let body = opened.body::<DatasetRecord>()?;
                let entry = entry.dataset(body.dataset);
                if self.subscribers.is_full_for(&body.server_key) {
                    let why = "this realm has as many key servers as its feed can serve";
                    return Err(opened.refuse(Refusal::Invalid, why));
                }
                let existing = reads
                    .get::<DatasetEntry>(&keys::dataset(body.dataset))
                    .await?;
                let named = reads
                    .get::<DatasetId>(&keys::dataset_name(&body.name))
                    .await?;
                let mut uses = Vec::new();
                for (thumbprint, _) in datasets::keys_of(&body) {
                    uses.push(reads.key(thumbprint).await?);
                }
                (
                    datasets::record(
                        opened,
                        body,
                        existing.as_ref(),
                        named.as_ref(),
                        &uses,
                        now,
                        changes,
                    )?,
                    entry,
                )
            }
            Act::NodeUnfreeze => {
                let body = opened.body::<NodeUnfreeze>()?;
                let node = reads.get::<NodeRecord>(&keys::node(&body.node)).await?;
                let key = reads.key(body.node_key.thumbprint()).await?;
                let denied = node.as_ref().and_then(|node| self.denied(node, now));
                (
                    nodes::unfreeze(
                        opened,
                        &body,
                        node.as_ref(),
                        key.as_ref(),
                        denied.as_deref(),
                        now,
                        changes,
                    )?,
                    entry,
                )
            }
            Act::Deny => {
                let body = opened.body::<DenyBody>()?;
                let head = self.head(reads).await?;
                (
                    denials::deny(opened, body, head, &entry, changes, rng)?,
                    entry,
                )
            }
            Act::Undeny => {
                let body = opened.body::<Undeny>()?;
                let head = self.head(reads).await?;
                let mut named = Vec::new();
                for (epoch, _) in &body.denials {
                    named.push(reads.get::<StoredEpoch>(&keys::epoch(*epoch)).await?);
                }
                (
                    undeny::undeny(opened, &body, named, head, &entry, changes, rng)?,
                    entry,
                )
            }
            Act::FeedShow => {
                opened.body::<FeedShow>()?;
                let result = Vec::new();
                (Done { changes, result }, entry)
            }
            Act::DatasetCreate | Act::DatasetPolicySet | Act::ProducerAdd => {
                let why = format!("{} is an act for a key server", opened.act());
                return Err(Refused::stranger(Refusal::StatementMalformed, why));
            }
            _ => (
                Done {
                    changes,
                    result: self.show(opened, now).await?,
                },
                entry,
            ),
        })
    }

    /// Acts that only read (ADM-4).
    async fn show(&self, opened: &Opened, now: Timestamp) -> Result<Vec<u8>, Refused> {
        Ok(match opened.act() {
            Act::LaunchShow => {
                let id = opened.body::<LaunchShow>()?.launch;
                let launch = self
                    .directory
                    .get::<LaunchRecord>(&keys::launch(id))
                    .await?;
                let launch = launch.ok_or_else(|| {
                    opened.refuse(Refusal::NotFound, format!("there is no launch {id}"))
                })?;
                self.launch_view(&launch).await?.to_cbor()
            }
            Act::LaunchList => {
                let page = opened.body::<LaunchList>()?;
                let (rows, more) = self
                    .rows::<LaunchRecord>(keys::LAUNCHES, &page.after, page.rows)
                    .await?;
                let mut views = Vec::new();
                for launch in &rows {
                    views.push(self.launch_view(launch).await?);
                }
                LaunchPage { rows: views, more }.to_cbor()
            }
            Act::PolicyShow => policies::text(self.policy().as_deref()).to_cbor(),
            Act::DatasetShow => {
                let name = opened.body::<DatasetShow>()?.name;
                let dataset = self.dataset(&name);
                let dataset = dataset.ok_or_else(|| {
                    opened.refuse(Refusal::NotFound, format!("there is no dataset {name:?}"))
                })?;
                datasets::view(&dataset).to_cbor()
            }
            Act::DatasetList => {
                let page = opened.body::<DatasetList>()?;
                let (rows, more) = self.datasets(
                    &page.after,
                    usize::try_from(page.rows).unwrap_or(usize::MAX),
                );
                DatasetPage {
                    rows: rows
                        .iter()
                        .map(|dataset| datasets::row(&dataset.record))
                        .collect(),
                    more,
                }
                .to_cbor()
            }
            Act::NodeShow => {
                let node = opened.body::<NodeShow>()?.node;
                let record = self.directory.get::<NodeRecord>(&keys::node(&node)).await?;
                let record = record.ok_or_else(|| {
                    opened.refuse(Refusal::NotFound, format!("there is no node {node}"))
                })?;
                self.node_view(&record, now).to_cbor()
            }
            Act::NodeList => {
                let page = opened.body::<NodeList>()?;
                let after = page.after.strip_prefix("ec2/").unwrap_or(&page.after);
                let (rows, more) = self
                    .rows::<NodeRecord>(keys::NODES, after, page.rows)
                    .await?;
                NodePage {
                    rows: rows
                        .iter()
                        .map(|record| self.node_view(record, now))
                        .collect(),
                    more,
                }
                .to_cbor()
            }
            Act::DenyList => {
                let page = opened.body::<DenyList>()?;
                let most = usize::try_from(page.rows)
                    .unwrap_or(DENIAL_ROWS)
                    .min(DENIAL_ROWS);
                self.denials_in_force(page.after, most).await?.to_cbor()
            }
            Act::Status => {
                opened.body::<StatusShow>()?;
                self.status(now).await?.to_cbor()
            }
            Act::TicketShow => {
                let id = opened.body::<TicketShow>()?.ticket;
                let view = self.ticket_view(id).await?;
                view.ok_or_else(|| {
                    opened.refuse(Refusal::NotFound, format!("there is no ticket {id}"))
                })?
                .to_cbor()
            }
            act => {
                return Err(Refused::stranger(
                    Refusal::StatementMalformed,
                    format!("{act} is no act for a broker"),
                ));
            }
        })
    }

    async fn rows<T: Decode>(
        &self,
        prefix: &str,
        after: &str,
        most: u64,
    ) -> Result<(Vec<T>, bool), Refused> {
        let after = Some(after).filter(|after| !after.is_empty());
        let (rows, more) = self
            .directory
            .page(prefix, after, usize::try_from(most).unwrap_or(usize::MAX))
            .await?;
        let rows = rows.iter().map(|(key, value)| {
            let damaged = |error| {
                Refused::stranger(
                    Refusal::Internal,
                    format!("the record {key} cannot be read: {error}"),
                )
            };
            T::from_cbor(value, value.len()).map_err(damaged)
        });
        Ok((rows.collect::<Result<_, _>>()?, more))
    }

    async fn launch_view(&self, launch: &LaunchRecord) -> Result<LaunchView, Refused> {
        let prefix = keys::launch_uses(launch.terms.launch);
        let (uses, _) = self.directory.page(&prefix, None, 64).await?;
        let nodes: Vec<NodeId> = uses
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse().ok())
            .collect();
        Ok(launches::view(launch, nodes))
    }

    fn denied(&self, record: &NodeRecord, now: Timestamp) -> Option<String> {
        self.node_denied(&record.attributes, record.claim.launch, Some(record), now)
    }

    fn node_view(&self, record: &NodeRecord, now: Timestamp) -> NodeView {
        nodes::view(record, self.denied(record, now).as_deref(), now)
    }

    async fn status(&self, now: Timestamp) -> Result<Status, Refused> {
        let head = self.denials.head();
        let (mut holders, mut after, mut more) = (0, None::<String>, true);
        while more {
            let (rows, next) = self
                .directory
                .page(keys::NODES, after.as_deref(), store::MAX_PAGE_ENTRIES)
                .await?;
            holders += rows.len() as u64;
            after = rows
                .last()
                .map(|(key, _)| key.trim_start_matches(keys::NODES).to_owned());
            more = next && after.is_some();
        }
        Ok(Status {
            role: Role::Broker,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            now,
            epoch: head.epoch,
            chain: head.chain,
            entries: self.audit.log().head().0,
            lease_ms: None,
            datasets: self.dataset_count() as u64,
            holders,
        })
    }

    /// Looks a ticket up in the log: tickets are kept nowhere else.
    async fn ticket_view(&self, id: TicketId) -> Result<Option<TicketView>, Refused> {
        let (found, mut results) = tokio::sync::mpsc::unbounded_channel();
        let seen = move |entry: Entry| {
            let given = entry.outcome.is_ok() && entry.ticket_hash.is_some();
            if given && entry.ticket == Some(id) {
                // The receiver outlives the reading.
                let _ = found.send(entry);
            }
        };
        self.audit.replay(seen).await?;
        let Some(entry) = results.recv().await else {
            return Ok(None);
        };
        let node = entry
            .subject
            .as_deref()
            .and_then(|subject| subject.parse::<NodeId>().ok());
        let (Some(node), Some(launch), Some(expires)) = (node, entry.launch, entry.expires) else {
            return Ok(None);
        };
        let record = self.directory.get::<NodeRecord>(&keys::node(&node)).await?;
        let image = record
            .map(|record| record.attributes.image)
            .unwrap_or_default();
        let facts = ticket_format::denial::TicketFacts {
            ticket: Some(id),
            parent: None,
            node: &node,
            launch,
            image: &image,
            dataset: entry.dataset,
            issued: entry.time,
        };
        let denied = self.denials.check(&facts).is_some();
        Ok(Some(TicketView {
            ticket: id,
            launch,
            dataset: entry.dataset,
            parent: None,
            issued: entry.time,
            expires,
            budget: entry.count.unwrap_or_default(),
            denied,
            node,
        }))
    }
}

// The largest answer is a page of launches; it stays well within a message.
const _: () = assert!(numbers::MESSAGE > 100 * 12 * 1024);
