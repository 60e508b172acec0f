//! Denials as they reach this server: persisted, applied, waited out, acknowledged (DEN-5).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store::{Error, KeyRange, Outcome, Transaction};
use ticket_format::Refusal;
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::{Denial, DenialSet, Selector};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{DatasetId, DenialDigest, NodeId};
use ticket_format::limits;
use ticket_format::messages::feed::DENIAL;
use ticket_format::statement::{Act, Audience, ReceivedStatement, StatementRefusal, Undeny};
use ticket_format::ticket::{TicketKeyRefusal, TicketKeys};
use ticket_format::time::Timestamp;

use super::Service;
use crate::feed::{Asked, FeedFault, Happened, News};
use crate::records::{self, FeedHead};
use crate::refused::Refused;

/// Writes in one transaction, and their bytes, with room for the head and the outbox.
const WRITES: (usize, usize) = (110, 900 * 1024);

/// Records that are looked through at a time for what is over: a millisecond's work.
const PAGE: usize = 1_000;

/// Most liftings that did not verify and are looked at again. A broker that invents more has raised its
/// alarms; what it invents is not to fill the store.
const LIFTINGS: usize = 64;

/// Why news could not be applied. What was applied before stays in force, and the lease runs out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// They do not continue what is in force: another answer was faster.
    #[error("the news continue epoch {after}, but {applied} is applied")]
    Elsewhere {
        /// The epoch that they continue.
        after: u64,
        /// What is applied.
        applied: u64,
    },
    /// The store.
    #[error("denials could not be persisted: {0}")]
    Store(#[from] Error),
    /// A lifting was verified by a set that is not in force any more.
    #[error("the admin set changed while a lifting was verified")]
    Admins,
    /// More than can be held.
    #[error(transparent)]
    TooMany(#[from] ticket_format::denial::TooMany),
    /// The record.
    #[error("the denials are in force, but could not be recorded: {0}")]
    Record(Refused),
}

/// Why a lifting lifts nothing here.
#[derive(Debug, thiserror::Error)]
enum NotLifted {
    #[error(transparent)]
    Statement(#[from] StatementRefusal),
    #[error("it is not for everyone")]
    Audience,
    #[error("it names epoch {0}, which is not before it")]
    Later(u64),
    #[error("it names another denial than the one of epoch {0}")]
    Another(u64),
}

/// What an answer changes here.
struct Plan {
    set: DenialSet,
    /// Denials that are new.
    puts: BTreeMap<u64, Vec<u8>>,
    /// Epochs of denials in the store that are lifted.
    lifted: Vec<u64>,
    /// Liftings and ticket-key records that did not verify.
    rejected: Vec<(u64, Vec<u8>)>,
    /// The ticket keys, where a record has changed them.
    keys: Option<TicketKeys>,
    /// Nodes that the broker denies now.
    nodes: Vec<NodeId>,
    /// The datasets for which a ticket can be hit by what is new; none: any.
    datasets: BTreeSet<Option<DatasetId>>,
    /// Where a lifting was verified: what the store must not have, the admin set after the one that it was
    /// verified by.
    next_set: Option<String>,
}

impl Service {
    /// What the next feed request says and acknowledges.
    #[must_use]
    pub fn ask(&self) -> Asked {
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(&mut super::rng(), &mut nonce);
        let permit = self.state.gate.permit();
        Asked {
            nonce,
            epoch: permit.epoch().number(),
            chain: permit.epoch().chain(),
            reports: self.reports.waiting(),
        }
    }

    /// Applies a good answer to the request sent at `sent` (monotonic). Returns when no answer decided
    /// under an older epoch can still leave, so that the next request may acknowledge this one.
    ///
    /// # Errors
    /// [`ApplyError`]: nothing must be acknowledged.
    pub async fn apply(&self, news: News, sent: Duration) -> Result<(), ApplyError> {
        let _turn = self.applying.lock().await;
        let now = self.clock.now();
        let (set, here) = {
            let permit = self.state.gate.permit();
            let epoch = permit.epoch();
            if (epoch.number(), epoch.chain()) != news.after {
                return Err(ApplyError::Elsewhere {
                    after: news.after.0,
                    applied: epoch.number(),
                });
            }
            (epoch.denials().clone(), epoch.here().clone())
        };
        if news.epochs.is_empty() {
            self.state.lease.heard(sent);
            return Ok(());
        }
        let mut plan = self.plan(&news, set, now).await?;
        plan.nodes.retain(|node| here.contains(node));
        // A clock that may be wrong forgets nothing (TIM-1).
        if self.state.latest.see(now).is_ok() {
            plan.set.prune(now);
        }
        let mut entries = vec![
            Entry::new(self.act(), Kind::Denial, now)
                .epoch(news.epoch)
                .count(news.epochs.len() as u64),
        ];
        if let Some((epoch, _)) = plan.rejected.first() {
            // rule: DEN-9
            entries.push(
                Entry::alarm(self.act(), Alarm::FeedRollback, now)
                    .refused(Refusal::StatementSignature)
                    .epoch(*epoch)
                    .count(plan.rejected.len() as u64),
            );
        }
        // rule: DEN-5 — persist, then apply, then wait for what was decided before.
        self.persist(&news, &plan, &entries, now).await?;
        if let Some(keys) = plan.keys {
            self.put_keys(keys);
        }
        self.state
            .gate
            .apply(plan.set, news.epoch, news.chain)
            .await;
        // rule: DEN-11
        self.state.gate.leave_to_broker(&plan.nodes);
        // rule: DEN-6 — a full answer is not all the news: the lease waits for the rest.
        if news.whole {
            self.state.lease.heard(sent);
        }
        tracing::info!(
            exchange = "feed",
            epoch = news.epoch,
            epochs = news.epochs.len(),
            lifted = plan.lifted.len(),
            "denials applied"
        );
        for entry in entries {
            self.settle(&entry).await.map_err(ApplyError::Record)?;
        }
        Ok(())
    }

    /// What the epochs come to, in order.
    async fn plan(&self, news: &News, set: DenialSet, now: Timestamp) -> Result<Plan, ApplyError> {
        let mut plan = Plan {
            set,
            puts: BTreeMap::new(),
            lifted: Vec::new(),
            rejected: Vec::new(),
            keys: None,
            nodes: Vec::new(),
            datasets: BTreeSet::new(),
            next_set: None,
        };
        for received in &news.epochs {
            match &received.happened {
                Happened::Gone => {}
                Happened::Denied { denial, bytes } => {
                    plan.set.insert(denial, received.epoch)?;
                    plan.puts.insert(received.epoch, bytes.clone());
                    plan.datasets.insert(denial.selector.members().dataset);
                    if let Some(node) = &denial.selector.members().node
                        && denial.selector == Selector::node(node.clone())
                    {
                        plan.nodes.push(node.clone());
                    }
                }
                Happened::TicketKey(statement) => {
                    let mut keys = match plan.keys.take() {
                        Some(keys) => keys,
                        None => (*self.state.ticket_keys.get()).clone(),
                    };
                    match self.follow_key(&mut keys, statement, now) {
                        Ok((_, next_set)) => {
                            plan.next_set.get_or_insert(next_set);
                        }
                        Err(why) => {
                            tracing::error!(alarm = Alarm::FeedRollback.name(), epoch = received.epoch, %why, "the broker says that it signs tickets with another key, and nothing proves it: the key is not believed");
                            plan.rejected.push((received.epoch, statement.clone()));
                        }
                    }
                    plan.keys = Some(keys);
                }
                Happened::Lifted(statement) => {
                    match self
                        .lifting(received.epoch, statement, &plan.puts, now)
                        .await?
                    {
                        Ok((epochs, next_set)) => {
                            // Of several the one that came first: none may have been replaced since.
                            plan.next_set.get_or_insert(next_set);
                            plan.set.lift(&epochs);
                            for epoch in epochs {
                                if plan.puts.remove(&epoch).is_none() {
                                    plan.lifted.push(epoch);
                                }
                            }
                        }
                        Err(why) => {
                            tracing::error!(alarm = Alarm::FeedRollback.name(), epoch = received.epoch, %why, "the broker says that denials are lifted, and nothing proves it: they stay in force");
                            plan.rejected.push((received.epoch, statement.clone()));
                        }
                    }
                }
            }
        }
        Ok(plan)
    }

    /// The epochs of the denials here that a statement lifts: signed by as many admins as the set in
    /// force at this server demands, and each denial is the very one that is named. A denial that is
    /// forgotten or lifted already needs no lifting.
    async fn lifting(
        &self,
        epoch: u64,
        statement: &[u8],
        fresh: &BTreeMap<u64, Vec<u8>>,
        now: Timestamp,
    ) -> Result<Result<(Vec<u64>, String), NotLifted>, Error> {
        let (body, next_set) = match self.undeny(statement, now) {
            Ok(verified) => verified,
            Err(why) => return Ok(Err(why)),
        };
        let mut lifted = Vec::new();
        for (named, digest) in body.denials {
            if named >= epoch {
                return Ok(Err(NotLifted::Later(named)));
            }
            let denial = match fresh.get(&named) {
                Some(bytes) => Some(bytes.clone()),
                None => {
                    let key = records::denial(named);
                    let stored = self.store.get(key.as_bytes()).await?;
                    stored.map(|stored| stored.value)
                }
            };
            match denial {
                Some(bytes) if DenialDigest::of(&bytes) == digest => lifted.push(named),
                Some(_) => return Ok(Err(NotLifted::Another(named))),
                None => {}
            }
        }
        Ok(Ok((lifted, next_set)))
    }

    /// Follows a ticket-key record by the admin sets here (KEY-2): whether it tells anything new, and the
    /// record of the admin set that would make the verification void.
    fn follow_key(
        &self,
        keys: &mut TicketKeys,
        statement: &[u8],
        now: Timestamp,
    ) -> Result<(bool, String), TicketKeyRefusal> {
        // rule: KEY-2
        let sets = self.state.admins.all();
        let new = keys.follow(statement, &sets, &self.state.realm, now)?;
        let version = sets.first().map_or(0, |set| set.version());
        Ok((new, records::admin_set(version.saturating_add(1))))
    }

    /// What it says, and the record of the admin set that would make the verification void.
    fn undeny(&self, statement: &[u8], now: Timestamp) -> Result<(Undeny, String), NotLifted> {
        // rule: DEN-9
        let received = ReceivedStatement::parse(statement)?;
        let set = self.state.admins.current();
        // It never expires; one that begins within the skew was in force at the broker already.
        let now = now.plus(limits::SKEW);
        let verified = received.verify(&set, &self.state.realm, None, now)?;
        if verified.audience() != Audience::Everyone {
            return Err(NotLifted::Audience);
        }
        // rule: SET-2
        let next_set = records::admin_set(set.version().saturating_add(1));
        Ok((verified.body::<Undeny>()?, next_set))
    }

    /// In one commit where that is possible; else the head comes with the last one. After a crash between
    /// them more is denied than the head says, or less by what admins have lifted, and the broker sends
    /// it all again.
    async fn persist(
        &self,
        news: &News,
        plan: &Plan,
        entries: &[Entry],
        now: Timestamp,
    ) -> Result<(), ApplyError> {
        let mut batches = Batches::default();
        for (epoch, bytes) in &plan.puts {
            batches.put(records::denial(*epoch), bytes);
        }
        for epoch in &plan.lifted {
            batches.delete(records::denial(*epoch));
        }
        if !plan.rejected.is_empty() {
            let kept = records::all(&*self.store, records::LIFTINGS).await?.len();
            let room = LIFTINGS.saturating_sub(kept);
            for (epoch, statement) in plan.rejected.iter().take(room) {
                batches.put(records::lifting(*epoch), statement);
            }
        }
        for node in &plan.nodes {
            batches.delete(records::denied_here(node));
        }
        // rule: KEK-3
        for dataset in &plan.datasets {
            batches.put(records::denied_at(*dataset), &now.to_cbor());
        }
        let head = FeedHead {
            epoch: news.epoch,
            chain: news.chain,
        };
        if let Some(keys) = &plan.keys {
            batches.put(records::TICKET_KEYS.to_owned(), &keys.to_cbor());
        }
        let mut last = batches
            .last
            .put(records::FEED_HEAD, head.to_cbor())
            .put(records::TIME, self.state.latest.get().to_cbor());
        for entry in entries {
            last = last.put(records::outbox(entry.act), entry.to_cbor());
        }
        for mut transaction in batches.full.into_iter().chain([last]) {
            if let Some(next_set) = &plan.next_set {
                transaction = transaction.absent(next_set.as_str());
            }
            if let Outcome::Conflict { .. } = self.store.commit(transaction).await? {
                return Err(ApplyError::Admins);
            }
        }
        Ok(())
    }

    /// Looks again at liftings that did not verify when they came: an admin set that came later may say
    /// otherwise. To be called when one is put in force.
    ///
    /// # Errors
    /// The store's.
    pub async fn reconsider(&self) -> Result<(), Error> {
        let waiting = records::all(&*self.store, records::LIFTINGS).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let _turn = self.applying.lock().await;
        let now = self.clock.now();
        for (key, entry) in waiting {
            let Some(epoch) = records::lifting_epoch(&key) else {
                continue;
            };
            if is_ticket_key(&entry.value) {
                self.reconsider_key(epoch, &key, &entry.value, now).await?;
                continue;
            }
            let lifting = self
                .lifting(epoch, &entry.value, &BTreeMap::new(), now)
                .await?;
            let Ok((lifted, next_set)) = lifting else {
                continue;
            };
            let (mut set, number, chain) = {
                let permit = self.state.gate.permit();
                let current = permit.epoch();
                (current.denials().clone(), current.number(), current.chain())
            };
            // rule: DEN-9
            set.lift(&lifted);
            let entry = Entry::new(self.act(), Kind::Denial, now).epoch(epoch);
            let transaction = lifted
                .iter()
                .fold(Transaction::new(), |all, epoch| {
                    all.delete(records::denial(*epoch))
                })
                .delete(key.as_slice())
                .put(records::outbox(entry.act), entry.to_cbor())
                .absent(next_set);
            if let Outcome::Conflict { .. } = self.store.commit(transaction).await? {
                continue;
            }
            self.state.gate.apply(set, number, chain).await;
            tracing::info!(act = %entry.act, epoch, lifted = lifted.len(), "denials lifted that an older admin set did not let go");
            if let Err(error) = self.settle(&entry).await {
                tracing::warn!(%error, "a lifting waits in the outbox for its record");
            }
        }
        Ok(())
    }

    /// Looks again at a ticket-key record that did not verify when it came.
    async fn reconsider_key(
        &self,
        epoch: u64,
        key: &[u8],
        statement: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        // rule: KEY-2
        let mut keys = (*self.state.ticket_keys.get()).clone();
        let Ok((new, next_set)) = self.follow_key(&mut keys, statement, now) else {
            return Ok(());
        };
        let entry = Entry::new(self.act(), Kind::Denial, now).epoch(epoch);
        let transaction = Transaction::new()
            .delete(key)
            .put(records::TICKET_KEYS, keys.to_cbor())
            .put(records::outbox(entry.act), entry.to_cbor())
            .absent(next_set);
        if let Outcome::Conflict { .. } = self.store.commit(transaction).await? {
            return Ok(());
        }
        if new {
            self.put_keys(keys);
        }
        if let Err(error) = self.settle(&entry).await {
            tracing::warn!(%error, "a ticket key's record waits in the outbox for its own");
        }
        Ok(())
    }

    fn put_keys(&self, keys: TicketKeys) {
        let (number, key, from) = (keys.number(), *keys.newest(), keys.since());
        tracing::info!(number, %key, %from, "the broker's ticket keys are followed");
        self.state.ticket_keys.put(keys);
    }

    /// Records that the broker offered a state that contradicts what was seen.
    pub async fn alarm(&self, fault: &FeedFault) {
        tracing::error!(alarm = Alarm::FeedRollback.name(), %fault, "somebody should look");
        let entry = Entry::alarm(self.act(), Alarm::FeedRollback, self.clock.now())
            .refused(Refusal::Rollback);
        let entry = entry.epoch(self.state.gate.permit().epoch().number());
        let recorded = match self.state.standing.check() {
            Ok(()) => self.append(&entry).await.map(drop).map_err(Refused::from),
            Err(_) => {
                self.raised(None, &entry);
                self.put_aside(&entry).await
            }
        };
        if let Err(error) = recorded {
            tracing::error!(%error, "an alarm could not be recorded");
        }
    }

    /// Forgets denials that can hit nothing any more, and the ids of statements that would be refused as
    /// expired.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<(), Error> {
        // rule: DEN-7
        let over = |value: &[u8]| {
            Denial::from_cbor(value, DENIAL)
                .is_ok_and(|denial| denial.forget < Timestamp::LAST && denial.forget <= now)
        };
        self.forget_under(records::DENIALS, over).await?;
        let over = |value: &[u8]| {
            Timestamp::from_cbor(value, 16).is_ok_and(|expires| expires.plus(limits::SKEW) <= now)
        };
        self.forget_under(records::STATEMENTS, over).await
    }

    async fn forget_under(&self, prefix: &str, over: impl Fn(&[u8]) -> bool) -> Result<(), Error> {
        let mut range = KeyRange::prefix(prefix);
        loop {
            // A page at a time: there may be a million, and others wait for this thread.
            let page = self.store.range(range.clone(), PAGE).await?;
            let next = match page.entries.last() {
                Some((last, _)) if page.more => Some(range.after(last)),
                _ => None,
            };
            let gone = page
                .entries
                .into_iter()
                .filter(|(_, entry)| over(&entry.value));
            self.delete(gone.map(|(key, _)| key).collect()).await?;
            let Some(next) = next else { return Ok(()) };
            range = next;
        }
    }

    async fn delete(&self, keys: Vec<Vec<u8>>) -> Result<(), Error> {
        for chunk in keys.chunks(WRITES.0) {
            let transaction = chunk.iter().fold(Transaction::new(), |transaction, key| {
                transaction.delete(key.as_slice())
            });
            match self.store.commit(transaction).await? {
                Outcome::Committed(_) | Outcome::Conflict { .. } => {}
            }
        }
        Ok(())
    }
}

fn is_ticket_key(statement: &[u8]) -> bool {
    ReceivedStatement::parse(statement)
        .is_ok_and(|received| received.payload().act == Act::TicketKeySet)
}

/// Writes in as few transactions as hold them.
#[derive(Default)]
struct Batches {
    full: Vec<Transaction>,
    last: Transaction,
    bytes: usize,
}

impl Batches {
    fn room(&mut self, bytes: usize) -> Transaction {
        self.bytes += bytes;
        if self.last.write.len() >= WRITES.0 || self.bytes > WRITES.1 {
            self.full.push(std::mem::take(&mut self.last));
            self.bytes = bytes;
        }
        std::mem::take(&mut self.last)
    }

    fn put(&mut self, key: String, value: &[u8]) {
        let transaction = self.room(key.len() + value.len());
        self.last = transaction.put(key, value);
    }

    fn delete(&mut self, key: String) {
        let transaction = self.room(key.len());
        self.last = transaction.delete(key);
    }
}
