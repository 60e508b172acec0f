//! One log, as this process knows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::limits;
use ticket_format::messages::Verb;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::tlog::{Checkpoint, LogKey, SignedCheckpoint, Verifier, verify_continuations};

use super::failure::LogFailure;
use super::store::{Failed, Kept, Store};
use super::tips::{Known, MOST, Tips, TwoRoots};
use crate::error::Error;
use crate::link::Link;

/// So many that are not proven of one log yet are proven at once.
const MANY: usize = 32;
/// Checkpoints that are asked about at one time.
const ASKED: usize = 16;
/// How often they are asked about in a row. Answers that are a commit apart tie nothing; those to
/// questions that were put together seldom are.
const ROUNDS: u64 = 8;
/// After so many rounds in a row that never came to one checkpoint there is no one log.
pub(super) const TRIES: u64 = 256;
/// Most answers to one question, each leading over 16 shards.
const LEGS: usize = 256;

/// A log, by its pinned keys, with what was seen of it.
#[derive(Debug)]
pub struct Log {
    server: &'static str,
    key: LogKey,
    /// For receipts that wait for no witness, and for what the server proves.
    verifier: Verifier,
    store: Store,
    pace: Duration,
    inner: Mutex<Inner>,
    /// Held while the server is asked.
    asking: tokio::sync::Mutex<()>,
    /// Held while the file is written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    tips: Tips,
    /// What the file held when it was last read or written.
    filed: Tips,
    rounds: u64,
    written: Option<Instant>,
    proven: Option<Instant>,
    failed: Option<LogFailure>,
    /// Whether the file says so too: then a person can end it there.
    failure_filed: bool,
}

impl Log {
    pub(super) fn new(server: &'static str, key: LogKey, store: Store, pace: Duration) -> Self {
        Self {
            server,
            verifier: Verifier::new(key.clone(), None),
            key,
            store,
            pace,
            inner: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Its keys.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// The largest checkpoint that this process has seen.
    #[must_use]
    pub fn newest(&self) -> Option<Checkpoint> {
        let inner = self.lock();
        inner.tips.newest().map(|known| known.checkpoint.clone())
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, remembered: Option<&Known>, why: String) -> LogFailure {
        LogFailure {
            server: self.server,
            origin: self.key.origin.clone(),
            remembered: remembered.map(|known| known.checkpoint.clone()),
            shown: None,
            note: None,
            why,
        }
    }

    fn two_roots(&self, two: &TwoRoots) -> LogFailure {
        let TwoRoots { known, shown } = two;
        let why = "it has signed two trees of one size".to_owned();
        LogFailure {
            shown: Some(shown.checkpoint.clone()),
            note: Some(shown.note.to_string()),
            ..self.failure(Some(known), why)
        }
    }

    /// Uses nothing of the server any more, in no process, until a person says so.
    async fn fail(self: &Arc<Self>, failure: LogFailure) -> Error {
        // rule: TLOG-6
        tracing::error!(%failure, "a log is not what was seen of it");
        self.lock().failed = Some(failure.clone());
        let (log, failed) = (Arc::clone(self), Failed::of(&failure));
        let written = blocking(move || {
            let note = |kept: &mut Kept| {
                kept.failed.get_or_insert(failed);
            };
            log.store.change(&log.key.origin, note)
        });
        match written.await {
            Ok(()) => self.lock().failure_filed = true,
            Err(error) => tracing::error!(%error, "the failure is not written down"),
        }
        failure.into()
    }

    /// A receipt showed this checkpoint, whose signatures were verified.
    pub(super) async fn take(self: &Arc<Self>, signed: &SignedCheckpoint) -> Result<(), Error> {
        // rule: TLOG-5
        let taken = {
            let mut inner = self.lock();
            if let Some(failure) = &inner.failed {
                return Err(failure.clone().into());
            }
            match inner.tips.newest() {
                Some(newest) if newest.checkpoint == *signed.checkpoint() => Ok(false),
                _ => inner.tips.add(Known::of(signed)),
            }
        };
        match taken {
            Ok(_) => Ok(()),
            Err(two) => Err(self.fail(self.two_roots(&two)).await),
        }
    }

    /// Takes over what the file holds, whoever wrote it. `since` is what we held when it was read.
    fn adopt(&self, kept: Kept, since: Option<&Tips>) -> Result<(), Adopt> {
        let mut inner = self.lock();
        if let Some(Failed { why, shown }) = kept.failed {
            let mut failure = self.failure(kept.tips.newest(), why);
            failure.shown = shown
                .as_deref()
                .and_then(|note| Checkpoint::of_note_unverified(note).ok());
            failure.note = shown;
            inner.failed = Some(failure.clone());
            inner.failure_filed = true;
            return Err(Adopt::Known(Box::new(failure)));
        }
        if inner.failure_filed {
            (inner.failed, inner.failure_filed) = (None, false);
        }
        if let Some(failure) = &inner.failed {
            return Err(Adopt::Known(Box::new(failure.clone())));
        }
        let ours: Vec<_> = inner.tips.iter().chain(inner.filed.iter()).collect();
        for known in kept.tips.iter().filter(|known| !ours.contains(known)) {
            if let Err(error) = self.key.verify(&known.note) {
                let why = format!("what is remembered is not signed by its pinned keys: {error}");
                return Err(Adopt::Known(Box::new(self.failure(Some(known), why))));
            }
        }
        let beginning = since.unwrap_or(&inner.filed);
        let joined = inner.tips.join(&kept.tips, beginning);
        inner.tips = joined.map_err(Adopt::TwoRoots)?;
        inner.filed = kept.tips;
        inner.rounds = inner.rounds.max(kept.rounds);
        Ok(())
    }

    async fn adopted(self: &Arc<Self>, adopted: Result<(), Adopt>) -> Result<(), Error> {
        match adopted {
            Ok(()) => Ok(()),
            Err(Adopt::Known(failure)) => Err(Error::Log(failure)),
            Err(Adopt::TwoRoots(two)) => Err(self.fail(self.two_roots(&two)).await),
        }
    }

    /// Reads what is remembered, before a connection is used.
    async fn look(self: &Arc<Self>) -> Result<(), Error> {
        let log = Arc::clone(self);
        let kept = blocking(move || log.store.read(&log.key.origin)).await?;
        let adopted = self.adopt(kept, None);
        self.adopted(adopted).await
    }

    /// Whether enough time has gone by since the last write.
    pub(super) fn write_is_due(&self) -> bool {
        let inner = self.lock();
        inner.tips != inner.filed && inner.written.is_none_or(|at| at.elapsed() >= self.pace)
    }

    /// Writes down what was seen, durably. Nothing is written where the file has it already.
    pub(super) async fn keep(self: &Arc<Self>) -> Result<(), Error> {
        // rule: TLOG-5
        let _writing = self.writing.lock().await;
        let (tips, filed, rounds) = {
            let inner = self.lock();
            if let Some(failure) = &inner.failed {
                return Err(failure.clone().into());
            }
            if inner.tips == inner.filed {
                return Ok(());
            }
            (inner.tips.clone(), inner.filed.clone(), inner.rounds)
        };
        let (log, ours) = (Arc::clone(self), tips.clone());
        let kept = blocking(move || {
            log.store.change(&log.key.origin, |kept| {
                kept.tips = ours.join(&kept.tips, &filed)?;
                kept.rounds = rounds;
                Ok(kept.clone())
            })
        });
        let adopted = match kept.await? {
            Ok(kept) => self.adopt(kept, Some(&tips)),
            Err(two) => Err(Adopt::TwoRoots(two)),
        };
        self.lock().written = Some(Instant::now());
        self.adopted(adopted).await
    }

    /// Has the server prove that its log goes on from all that is remembered: on a new connection, before
    /// anything of it is used.
    pub(super) async fn begin(self: &Arc<Self>, link: &Link) -> Result<(), Error> {
        // rule: TLOG-6
        self.look().await?;
        let _asking = self.asking.lock().await;
        self.tie(link, 1).await
    }

    /// How many checkpoints are not proven of one log with the newest.
    pub(super) fn untied(&self) -> usize {
        self.lock().tips.len().saturating_sub(1)
    }

    /// As receipts come in: has the server prove about once a second, or when there are many, that they
    /// are of one log. While one caller waits for that, others go on.
    pub(super) async fn go_on(self: &Arc<Self>, link: &Link) -> Result<(), Error> {
        // rule: TLOG-5
        let (untied, due) = {
            let inner = self.lock();
            let due = inner.proven.is_none_or(|at| at.elapsed() >= self.pace);
            (inner.tips.len().saturating_sub(1), due)
        };
        if untied == 0 || (untied < MANY && !due) {
            return Ok(());
        }
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            Err(_) if untied < MOST / 2 => return Ok(()),
            Err(_) => self.asking.lock().await,
        };
        match self.tie(link, 2).await {
            // The answer at hand is proven to be logged; this waits, while there is room for it.
            Err(error) if error.worth_retrying() && untied < MOST / 2 => {
                tracing::debug!(%error, "the log is not asked about now");
                self.lock().proven = Some(Instant::now());
                Ok(())
            }
            other => other,
        }
    }

    /// Has the server prove that what was seen on a connection is of one log, before it ends.
    pub(super) async fn end(self: &Arc<Self>, link: &Link) -> Result<(), Error> {
        let _asking = self.asking.lock().await;
        self.tie(link, 2).await
    }

    /// Asks until the checkpoints that are there now have become one, or often enough. `least` so many must
    /// there be for a first question. What is seen meanwhile waits for the next time, or a busy job would
    /// never come to an end. Called with `asking` held.
    async fn tie(self: &Arc<Self>, link: &Link, least: usize) -> Result<(), Error> {
        let mut tips = self.lock().tips.clone();
        let mut rounds = 0;
        while rounds < ROUNDS && tips.len() >= if rounds == 0 { least } else { 2 } {
            tips = self.round(link, tips).await?;
            rounds += 1;
        }
        let untied = {
            let mut inner = self.lock();
            inner.proven = Some(Instant::now());
            if tips.len() <= 1 {
                inner.rounds = 0;
            } else {
                // The next time, or the next process, goes on from where the answers ended.
                inner.rounds += rounds;
            }
            inner.rounds >= TRIES
        };
        if !untied {
            return Ok(());
        }
        let why = format!("in {TRIES} answers what it shows has never become one log");
        Err(self.fail(self.failure(tips.newest(), why)).await)
    }

    /// Asks about each of them once; where the answers end.
    async fn round(self: &Arc<Self>, link: &Link, tips: Tips) -> Result<Tips, Error> {
        // Put together: answers of one moment end at one checkpoint.
        let ends: Vec<Vec<(Known, Known)>> = stream::iter(together(&tips))
            .map(|tips| self.ask_together(link, tips))
            .buffer_unordered(ASKED)
            .try_collect()
            .await?;
        let mut reached = Tips::default();
        for (from, to) in ends.into_iter().flatten() {
            let led = reached.add(to.clone());
            let led = led.and_then(|_| self.lock().tips.lead(&from, to));
            if let Err(two) = led {
                return Err(self.fail(self.two_roots(&two)).await);
            }
        }
        Ok(reached)
    }

    /// Asks about checkpoints of one shard in one request; of each, where the answer ends.
    async fn ask_together(
        self: &Arc<Self>,
        link: &Link,
        tips: Vec<Known>,
    ) -> Result<Vec<(Known, Known)>, Error> {
        let Some((last, others)) = tips.split_last() else {
            return Ok(Vec::new());
        };
        let mut ends = Vec::with_capacity(tips.len());
        let (end, led) = self.ask(link, last, others).await?;
        for other in others {
            let end = match led {
                true => end.clone(),
                // That shard is not written any more, or one of them is of another log: asked about alone, it
                // is named, and shown to the server.
                false => self.ask(link, other, &[]).await?.0,
            };
            ends.push((other.clone(), end));
        }
        ends.push((last.clone(), end));
        Ok(ends)
    }

    /// Asks where the log goes on from one checkpoint, over as many shards as there are, and whether others of
    /// its shard go on to the same.
    async fn ask(
        self: &Arc<Self>,
        link: &Link,
        from: &Known,
        others: &[Known],
    ) -> Result<(Known, bool), Error> {
        let (mut at, mut led, mut asked) = (from.clone(), true, others);
        for _ in 0..LEGS {
            let sizes: Vec<u64> = asked.iter().map(|other| other.checkpoint.size).collect();
            let body = ConsistencyBody {
                checkpoint: at.note.to_string(),
                others: (!sizes.is_empty()).then_some(sizes),
            };
            let answer = match link.call(Verb::Consistency, &body.to_cbor(), &[]).await {
                Ok((answer, _)) => answer,
                Err(Error::Refused { notice, .. }) if !notice.refusal.retry_is_safe() => {
                    // Nothing was signed, so nothing is held against it once it can prove it.
                    let why = format!("its server proves nothing, but refuses: {notice}");
                    return Err(self.failure(Some(&at), why).into());
                }
                Err(error) => return Err(error),
            };
            let answer = ConsistencyAnswer::from_cbor(&answer, limits::MESSAGE)
                .map_err(Error::malformed(self.server))?;
            let beside: Vec<&Checkpoint> = asked.iter().map(|other| &other.checkpoint).collect();
            let continued = verify_continuations(&self.verifier, &at.checkpoint, &beside, &answer);
            let continued = match continued {
                Ok(continued) => continued,
                Err(error) => {
                    let note = answer.checkpoint;
                    let failure = LogFailure {
                        shown: Checkpoint::of_note_unverified(&note).ok(),
                        note: Some(note),
                        ..self.failure(Some(&at), error.to_string())
                    };
                    return Err(self.fail(failure).await);
                }
            };
            led &= continued.others;
            // They lead where it leads, from now on.
            asked = &[];
            at = Known::of(&continued.checkpoint);
            if !continued.more {
                return Ok((at, led));
            }
        }
        let why = "its shards have no end".to_owned();
        Err(self.failure(Some(from), why).into())
    }
}

/// As they are asked about: those of the newest shard as many together as one request takes, the others, of
/// which there are few, one by one.
fn together(tips: &Tips) -> Vec<Vec<Known>> {
    let written = tips.newest().map(|newest| newest.place().0);
    let (newest, older): (Vec<_>, Vec<_>) = tips
        .iter()
        .cloned()
        .partition(|known| Some(known.place().0) == written);
    let one_by_one = older.into_iter().map(|known| vec![known]);
    let together = newest.chunks(limits::OTHERS + 1).map(<[Known]>::to_vec);
    one_by_one.chain(together).collect()
}

/// Why what the file holds is not taken over.
enum Adopt {
    Known(Box<LogFailure>),
    TwoRoots(Box<TwoRoots>),
}

/// Files are synced, and their locks may be another process's for a moment.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
