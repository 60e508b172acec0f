//! Feed: one exchange always open for each subscriber; and what its requests prove, for the admins.

use std::future::Future;
use std::time::Duration;

use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::{Denial, Selector};
use ticket_format::entry::{Alarm, Entry, Kind};
use ticket_format::ids::{ActId, StatementDigest};
use ticket_format::limits;
use ticket_format::messages::feed::{Numbered, Report};
use ticket_format::messages::{Answer, RequestView};
use ticket_format::statement::{DenialPage, FeedShow, FeedView};
use ticket_format::time::Timestamp;

use super::service::{Broker, Failed, Proven, Tell};
use crate::Refused;
use crate::feed::{self, Chain, Subscription};
use crate::realm::Caller;
use crate::state::{Changes, NodeRecord, StoredEpoch, keys};

/// How long a report's act is remembered, in seconds: 30 days. A subscriber tells of it again and again
/// until it is taken.
const REPORT_KEPT: u64 = 30 * 86_400;

/// A feed-view holds to a message, and its rows to this part of it.
const ROWS: usize = limits::MESSAGE - 64 * 1024;

impl Broker {
    pub(super) async fn feed(
        &self,
        request: &RequestView<'_>,
        caller: &Caller,
        gone: impl Future<Output = ()> + Send,
        tell: Tell<'_>,
    ) -> Result<Answer, Failed> {
        let names = |key: &_| self.subscribers.names(key);
        let subscription = feed::open(request, &self.realm, caller, names)?;
        let mut news = self.denials.news();
        let mut stopping = self.stopping();
        self.believe(&subscription).await?;
        // rule: TR-8
        tell(Proven::Subscriber);
        let reported = self.take_reports(&subscription, caller).await?;
        // rule: DEN-3
        let known = subscription.epoch();
        if self.denials.head().epoch == known && !reported {
            let hold = Duration::from_millis(subscription.hold_ms());
            tokio::select! {
                _ = news.wait_for(|epoch| *epoch != known) => {}
                () = tokio::time::sleep(hold) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = gone => {}
            }
        }
        let epochs = self
            .denials
            .after(known, limits::EPOCHS, &self.directory)
            .await?;
        let now = self.time.now()?;
        let admin_set = self.realm.admins.current().version();
        Ok(feed::answer(
            &subscription,
            &epochs,
            admin_set,
            &self.realm,
            caller,
            now,
        ))
    }

    /// Remembers what a subscriber has applied: its signature over the request says so (DEN-3). One that
    /// has applied what is not on our chain is refused, and alarmed.
    async fn believe(&self, subscription: &Subscription) -> Result<(), Failed> {
        let (epoch, subscriber) = (subscription.epoch(), subscription.subscriber());
        let ours = self.denials.chain_at(epoch, &self.directory).await?;
        let head = self.denials.head();
        if let Err(refused) = feed::continues(subscription, ours, head) {
            if !self
                .subscribers
                .off_chain(&subscriber, self.time.monotonic())
            {
                return Err(refused.into());
            }
            // rule: DEN-4
            tracing::error!(%subscriber, epoch, ours = head.epoch, "a subscriber has applied what this broker does not know of: find out who restored what");
            let act = ActId::random(&mut self.rng());
            let alarm = Entry::alarm(act, Alarm::StoreRollback, self.time.latest())
                .refused(Refusal::Rollback)
                .subject(subscriber)
                .epoch(epoch);
            self.audit.append(&alarm).await.map_err(Failed::Recorded)?;
            return Err(Failed::Recorded(refused));
        }
        let took = self.subscribers.heard(
            &subscriber,
            epoch,
            subscription.acknowledgement(),
            self.time.monotonic(),
        );
        took.into_iter()
            .for_each(|took| self.metrics.propagated(took));
        self.metrics.acknowledged(subscriber.to_string(), epoch);
        Ok(())
    }

    /// Takes what a subscriber tells of, each act once, and denies the nodes where it says so (DEN-11).
    /// Whether there was anything.
    async fn take_reports(
        &self,
        subscription: &Subscription,
        caller: &Caller,
    ) -> Result<bool, Failed> {
        if subscription.reports().is_empty() {
            return Ok(false);
        }
        let _turn = self.subscribers.reporting.lock().await;
        let mut fresh: Vec<&Report> = Vec::new();
        for report in subscription.reports() {
            let subscriber = subscription.subscriber();
            // rule: DEN-11
            if !self.subscribers.holds(&subscriber, report.dataset) {
                tracing::warn!(%subscriber, dataset = %report.dataset, "a report about a dataset of another key server is not taken");
                continue;
            }
            let known = self
                .directory
                .get::<Timestamp>(&keys::report(report.act))
                .await?;
            if known.is_none() && fresh.iter().all(|other| other.act != report.act) {
                fresh.push(report);
            }
        }
        if !fresh.is_empty() {
            self.settle(|| self.report(subscription, &fresh, caller))
                .await?;
        }
        Ok(true)
    }

    async fn report(
        &self,
        subscription: &Subscription,
        reports: &[&Report],
        caller: &Caller,
    ) -> Result<(Vec<(String, Option<u64>)>, Changes, ()), Failed> {
        let now = self.time.now()?;
        let rng = &mut self.rng();
        let mut reads = self.directory.reads();
        let mut head = self.head(&mut reads).await?;
        let mut changes = Changes::new();
        let mut denied = Vec::new();
        for report in reports {
            let marker = keys::report(report.act);
            reads.raw(&marker).await?;
            changes.put(marker, &now);
            let alarm = Entry::alarm(ActId::random(rng), report.alarm, now)
                .follows(report.act)
                .subject(&report.node)
                .dataset(report.dataset)
                .source(caller.address);
            let follows = alarm.act;
            changes.record(alarm);
            // A node that never logged in has no ticket that a denial could hit.
            let node = reads
                .get::<NodeRecord>(&keys::node(&report.node))
                .await?
                .filter(|_| report.deny && !denied.contains(&&report.node));
            let Some(node) = node else { continue };
            denied.push(&report.node);
            let reason = format!("{} at dataset {}", report.alarm, report.dataset);
            let author = author(subscription);
            let selector = Selector::node(report.node.clone());
            let denial = Denial::new(selector, reason, StatementDigest([0; 32]), now, author);
            let epoch = StoredEpoch::denial(head, denial);
            head = epoch.head();
            changes.record(
                Entry::new(ActId::random(rng), Kind::Denial, now)
                    .subject(&report.node)
                    .launch(node.claim.launch)
                    .epoch(epoch.number)
                    .follows(follows),
            );
            epoch.make(&mut changes);
        }
        Ok((reads.seen(), changes, ()))
    }

    /// Applies epochs that are durable now.
    pub(super) fn apply_epochs(&self, changes: &Changes) {
        let numbers = changes.epochs.iter().map(|epoch| epoch.number);
        self.subscribers.made(numbers, self.time.monotonic());
        self.denials.apply(&changes.epochs);
    }

    /// Who has applied an epoch, proven by their signatures (DEN-10). Waits for all of them, within the
    /// hold that was asked for.
    pub(super) async fn feed_show(
        &self,
        asked: &FeedShow,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<FeedView, Refused> {
        let mut stopping = self.stopping();
        let Some(waiting) = self.subscribers.wait(asked.epoch) else {
            let why = "too many wait for the feed's subscribers";
            return Err(Refused::stranger(Refusal::Busy, why));
        };
        let hold = Duration::from_millis(asked.hold_ms.min(limits::FEED_HOLD_MS));
        tokio::select! {
            () = waiting.all() => {}
            () = tokio::time::sleep(hold) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
            () = gone => {}
        }
        drop(waiting);
        let now = self.time.monotonic();
        let mut subscribers = self.subscribers.rows(asked.epoch, self.began, now);
        if subscribers.len() > limits::SUBSCRIBERS {
            let why = "there are more subscribers than one view may hold";
            return Err(Refused::stranger(Refusal::TooLarge, why));
        }
        // The epochs after the rows, so that nobody has applied what is not among them.
        let epochs = self
            .denials
            .after(asked.epoch, limits::EPOCHS, &self.directory)
            .await?;
        let head = self.denials.head();
        let head = epochs.last().map_or(head, |last| last.head());
        let weight = |rows: &[_]| -> usize {
            let rows = rows.iter();
            rows.map(|row: &ticket_format::statement::Subscriber| row.to_cbor().len())
                .sum()
        };
        if weight(&subscribers) > ROWS {
            // The names are for people; what is proven is not.
            subscribers.iter_mut().for_each(|row| row.datasets.clear());
        }
        if weight(&subscribers) > ROWS {
            let why = "the subscribers' requests are too large at this moment: ask again";
            return Err(Refused::stranger(Refusal::Busy, why));
        }
        Ok(FeedView {
            epoch: head.epoch,
            chain: head.chain,
            subscribers,
            links: epochs.iter().map(|epoch| epoch.link()).collect(),
        })
    }

    /// The denials in force after an epoch.
    pub(super) async fn denials_in_force(
        &self,
        after: u64,
        most: usize,
    ) -> Result<DenialPage, Refused> {
        let (epochs, more) = self.denials.in_force(after, most);
        let mut rows = Vec::with_capacity(epochs.len());
        for epoch in epochs {
            let stored = self
                .directory
                .get::<StoredEpoch>(&keys::epoch(epoch))
                .await?;
            // One that was lifted since memory was asked is left out.
            if let Some((_, bytes)) = stored.as_ref().and_then(StoredEpoch::in_force) {
                rows.push(Numbered {
                    epoch,
                    denial: bytes.to_vec(),
                });
            }
        }
        Ok(DenialPage { rows, more })
    }

    /// Raises an alarm for each subscriber that fell silent (DEN-12). To be called every second or so.
    pub(super) async fn notice_silence(&self) -> Result<(), Refused> {
        for subscriber in self.subscribers.fell_silent(self.time.monotonic()) {
            // rule: DEN-12
            tracing::warn!(%subscriber, "a subscriber of the feed is silent for longer than its lease");
            let act = ActId::random(&mut self.rng());
            let alarm = Entry::alarm(act, Alarm::SubscriberSilent, self.time.latest())
                .subject(subscriber)
                .epoch(self.denials.head().epoch);
            self.audit.append(&alarm).await?;
        }
        let (all, silent) = self.subscribers.counts();
        self.metrics.subscribers(all, silent);
        Ok(())
    }

    /// Replaces what can hit no ticket any more by what the chain binds of it, in the store first, and
    /// forgets reports that nobody tells of any more.
    pub(super) async fn forget_denials(&self, now: Timestamp) -> Result<(), Refused> {
        /// Epochs in one commit.
        const BATCH: usize = 100;
        loop {
            let over = self.denials.over(now, BATCH);
            if over.is_empty() {
                break;
            }
            let (mut reads, mut changes) = (self.directory.reads(), Changes::new());
            let (wanted, mut gone) = (over.len(), Vec::new());
            for number in over {
                let key = keys::epoch(number);
                let stored = reads.get::<StoredEpoch>(&key).await?;
                // rule: DEN-7
                if let Some(left) = stored.as_ref().and_then(StoredEpoch::forgotten) {
                    changes.put(key, &left);
                    gone.push(left);
                } else {
                    gone.extend(stored);
                }
            }
            if !changes.puts.is_empty() {
                let latest = self.time.latest();
                // One that is being lifted at this moment is looked at again.
                let committed = self.directory.commit(reads.seen(), &changes, latest);
                if let super::directory::Committed::Conflict = committed.await? {
                    break;
                }
            }
            self.denials.forget(&gone, now);
            if gone.len() < wanted {
                break;
            }
        }
        self.forget_reports(now).await
    }

    async fn forget_reports(&self, now: Timestamp) -> Result<(), Refused> {
        let (mut after, mut more) = (None::<String>, true);
        while more {
            let (rows, next) = self
                .directory
                .page(keys::REPORTS, after.as_deref(), 1_000)
                .await?;
            let over = |value: &[u8]| {
                use ticket_format::cbor::Decode;
                Timestamp::from_cbor(value, 16).is_ok_and(|taken| taken.plus(REPORT_KEPT) <= now)
            };
            let gone = rows.iter().filter(|(_, value)| over(value));
            let gone: Vec<String> = gone.map(|(key, _)| key.clone()).collect();
            self.directory.remove(&gone).await?;
            after = rows
                .last()
                .map(|(key, _)| key.trim_start_matches(keys::REPORTS).to_owned());
            more = next && after.is_some();
        }
        Ok(())
    }

    /// What each subscriber has applied: its signing key and the epoch.
    #[must_use]
    pub fn acknowledgements(&self) -> Vec<([u8; 32], u64)> {
        self.subscribers.acknowledged()
    }
}

/// Who made a denial that a report demanded, for people: the first bytes of the key server's key.
fn author(subscription: &Subscription) -> String {
    let key = subscription.subscriber().to_string();
    format!("key-server {}", key.get(..16).unwrap_or(&key))
}
