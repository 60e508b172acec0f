//! Acts that only read, and what they show.

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::entry::Entry;
use ticket_format::ids::{NodeId, TicketId};
use ticket_format::limits as numbers;
use ticket_format::statement::denials::DENIAL_ROWS;
use ticket_format::statement::logs::LogShow;
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::{
    Act, AdminSetShow, AliasList, AliasPage, DatasetList, DatasetPage, DatasetShow, DenyList,
    LaunchList, LaunchPage, LaunchShow, LaunchView, NodeList, NodePage, NodeShow, NodeView, Role,
    Status, TicketKeyList, TicketShow, TicketView,
};
use ticket_format::time::Timestamp;

use super::service::Broker;
use crate::Refused;
use crate::administer::{Opened, admin_sets, aliases, datasets, launches, nodes, policies};
use crate::feed::Chain;
use crate::state::{LaunchRecord, NodeRecord, keys};

impl Broker {
    /// Acts that only read (ADM-4).
    pub(super) async fn show(&self, opened: &Opened, now: Timestamp) -> Result<Vec<u8>, Refused> {
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
            Act::AliasList => {
                let page = opened.body::<AliasList>()?;
                let most = usize::try_from(page.rows).unwrap_or(usize::MAX);
                let (rows, more) = self.aliases(&page.after, most);
                let rows = rows.iter().map(|alias| aliases::row(alias)).collect();
                AliasPage { rows, more }.to_cbor()
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
            Act::AdminSetShow => {
                let after = opened.body::<AdminSetShow>()?.after;
                admin_sets::page(&self.realm.admins, after).to_cbor()
            }
            Act::TicketKeyList => {
                let TicketKeyList {} = opened.body()?;
                self.ticket_key_rows(now).to_cbor()
            }
            Act::ProposalList => self.proposal_list(opened, now).await?,
            Act::ProposalShow => self.proposal_show(opened, now).await?,
            Act::WhatIf => self.what_if(opened).await?.to_cbor(),
            Act::EntryShow => self.entry_show(opened).await?.to_cbor(),
            Act::Status => {
                opened.body::<StatusShow>()?;
                self.status(now).await?.to_cbor()
            }
            Act::LogShow => {
                opened.body::<LogShow>()?;
                self.log_show().to_cbor()
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

    pub(super) fn denied(&self, record: &NodeRecord, now: Timestamp) -> Option<String> {
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
            entries: self.audit.log().head().entries,
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
