//! Administer: every act through one path.

use std::future::Future;

use std::sync::Arc;

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::entry::Entry;
use ticket_format::ids::{ActId, DatasetId, PolicyDigest};
use ticket_format::messages::administer::AdministerAnswer;
use ticket_format::messages::{Answer, RequestView, Verb};
use ticket_format::statement::{
    Act, AliasSet, DatasetRecord, DenyBody, FeedShow, LaunchClose, LaunchCreate, NodeUnfreeze,
    PolicySet, TicketKeyMake, TicketKeySet, Undeny,
};
use ticket_format::time::Timestamp;

use super::directory::Reads;
use super::service::{Broker, Failed};
use crate::Refused;
use crate::administer::{
    self, Done, Opened, admin_sets, aliases, datasets, denials, launches, nodes, policies,
    ticket_keys, undeny,
};
use crate::realm::Caller;
use crate::state::{
    AliasEntry, Changes, DatasetEntry, NodeRecord, PolicyHead, StoredEpoch, UsedStatement, keys,
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
        let (logged, (mut result, opened)) = self
            .settle(|| async {
                let (mut reads, set) = self.reads_by_admins().await?;
                let opened = match administer::open(request, &self.realm, Arc::clone(&set), now) {
                    Ok(opened) => opened,
                    Err(refused) if refused.proven => {
                        let act = ActId::random(&mut self.rng());
                        let entry = administer::unopened(request, &refused, &set, act, caller, now);
                        return Err(self.refuse(entry, refused).await);
                    }
                    Err(refused) => return Err(refused.into()),
                };
                if !administer::may_rolled_back(opened.act()) {
                    let good = self.good();
                    let refuse = |bad: Refused| opened.refuse(bad.refusal, bad.why);
                    good.map_err(refuse).map_err(Failed::Recorded)?;
                }
                match self.act(&opened, caller, &mut reads, now).await {
                    Ok(done) => Ok((reads.seen(), done.changes, (done.result, opened))),
                    Err(refused) => Err(self.refuse_act(&opened, refused, caller, now).await),
                }
            })
            .await?;
        self.follow_up(&opened, now).await?;
        if opened.act() == Act::FeedShow {
            // Recorded first: it may be held for long.
            let shown = self.feed_show(&opened.body()?, gone).await;
            result = shown.map_err(Failed::Recorded)?.to_cbor();
        }
        tracing::info!(exchange = "administer", what = opened.act().name(), admin = %opened.admin(), entry = logged.index(), "done");
        let receipt = logged.receipt();
        Ok(Answer::done(
            Verb::Administer,
            &AdministerAnswer { result, receipt },
        ))
    }

    /// Decides on a statement: uses its id up, with what it does.
    async fn act(
        &self,
        opened: &Opened,
        caller: &Caller,
        reads: &mut Reads<'_>,
        now: Timestamp,
    ) -> Result<Done, Refused> {
        let used = reads
            .get::<UsedStatement>(&keys::statement(opened.statement().id()))
            .await?;
        let mut changes = opened.begin(used.as_ref())?;
        Self::forget_proposal(opened, reads, &mut changes).await?;
        let entry = opened.entry(ActId::random(&mut self.rng()), caller, now);
        let (mut done, entry) = self.perform(opened, entry, changes, reads, now).await?;
        done.changes.entries.insert(0, entry);
        Ok(done)
    }

    /// Lists the refusal of an admin who is known; of a replay it raises an alarm (ADM-2).
    async fn refuse_act(
        &self,
        opened: &Opened,
        refused: Refused,
        caller: &Caller,
        now: Timestamp,
    ) -> Failed {
        if refused.proven {
            let entry = opened.entry(ActId::random(&mut self.rng()), caller, now);
            return self.refuse(entry, refused).await;
        }
        // rule: ADM-2
        let replayed = refused.refusal == Refusal::StatementReplayed;
        let replayed = replayed && self.oversight.is_good();
        if replayed && self.replays.first(opened.statement().id()) {
            let alarm = opened.replayed(caller, now, &mut self.rng());
            if let Err(error) = self.audit.append(&alarm).await {
                return Failed::Recorded(error);
            }
        }
        refused.into()
    }

    /// Takes into memory what an act changed, and tells who is to be told.
    async fn follow_up(&self, opened: &Opened, now: Timestamp) -> Result<(), Refused> {
        match opened.act() {
            Act::PolicySet => self.load_policy().await?,
            Act::DatasetRecord => {
                let record = opened.body::<DatasetRecord>()?;
                let stored = self
                    .directory
                    .get::<DatasetEntry>(&keys::dataset(record.dataset))
                    .await?;
                if let Some(stored) = stored {
                    self.load_dataset(&stored).await?;
                }
            }
            Act::AliasSet => self.load_alias(&opened.body::<AliasSet>()?.alias).await?,
            Act::AdminSet => {
                self.load_admin_sets().await?;
                self.tidy_proposals(now).await?;
            }
            Act::Propose => self.tell_proposal(opened).await?,
            Act::TicketKeySet => self.load_ticket_keys().await?,
            _ => {}
        }
        if opened.statement().signers().len() > 1 || opened.act().is_inbox() {
            self.show_proposals().await?;
        }
        Ok(())
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
                (done, entry.policy(PolicyDigest(policy.digest())))
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
                let alias = reads.get::<AliasEntry>(&keys::alias(&body.name)).await?;
                let mut uses = Vec::new();
                for (thumbprint, _) in datasets::keys_of(&body) {
                    uses.push(reads.key(thumbprint).await?);
                }
                (
                    datasets::record(
                        opened,
                        body,
                        &datasets::Known {
                            existing: existing.as_ref(),
                            named: named.as_ref(),
                            alias: alias.as_ref(),
                            uses: &uses,
                        },
                        &self.realm,
                        now,
                        changes,
                    )?,
                    entry,
                )
            }
            Act::AliasSet => {
                let body = opened.body::<AliasSet>()?;
                let existing = reads.get::<AliasEntry>(&keys::alias(&body.alias)).await?;
                let named = reads
                    .get::<DatasetId>(&keys::dataset_name(&body.alias))
                    .await?;
                let before = existing
                    .as_ref()
                    .and_then(|entry| entry.body.target.clone());
                let mut datasets = [None, None];
                for (place, one) in [&body.target, &before].into_iter().enumerate() {
                    if let Some(one) = one {
                        datasets[place] = reads
                            .get::<DatasetEntry>(&keys::dataset(one.dataset))
                            .await?;
                    }
                }
                let entry = match body.target.as_ref().or(before.as_ref()) {
                    Some(target) => entry.dataset(target.dataset),
                    None => entry,
                };
                let [target, before] = &datasets;
                let known = aliases::Known {
                    existing: existing.as_ref(),
                    named: named.as_ref(),
                    target: target.as_ref(),
                    before: before.as_ref(),
                };
                (aliases::set(opened, body, &known, changes)?, entry)
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
            Act::AdminSet => {
                let next = admin_sets::successor(opened, &self.realm, now)?;
                let uses = Self::admin_keys(reads, &next).await?;
                (
                    admin_sets::take(opened, &next, &uses, &entry, changes, rng)?,
                    entry.count(next.version()),
                )
            }
            Act::TicketKeyMake => {
                let TicketKeyMake {} = opened.body()?;
                let made = self.make_ticket_key(opened).await?;
                (Done::new::<TicketKeyMake>(changes, &made), entry)
            }
            Act::TicketKeySet => {
                let body = opened.body::<TicketKeySet>()?;
                let head = self.head(reads).await?;
                reads.raw(&keys::ticket_key(body.number)).await?;
                (
                    ticket_keys::set(
                        opened,
                        &body,
                        &self.realm.tickets,
                        &self.ticket_bounds(),
                        head,
                        &entry,
                        changes,
                        now,
                        rng,
                    )?,
                    entry.count(body.number),
                )
            }
            Act::LogRecover => (self.log_recover(opened, reads, now, changes).await?, entry),
            Act::Propose => (self.propose(opened, reads, now, changes).await?, entry),
            Act::ProposalWithdraw => (self.withdraw(opened, reads, changes).await?, entry),
            _ => (
                Done {
                    changes,
                    result: self.show(opened, now).await?,
                },
                entry,
            ),
        })
    }
}
