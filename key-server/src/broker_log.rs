//! The broker's log, as receipts show it (TLOG-7): a state machine that is told which checkpoints were
//! seen, says what is to be asked of the broker, and takes its answers. It ends in *forked* when what was
//! seen is not of one log.
//!
//! An answer proves that the log goes on from a checkpoint to the newest one of that moment. Checkpoints
//! are of one log when their answers end at the same one: the *head*. What ends elsewhere, since the log
//! grew between two questions, is replaced by where it ended and asked again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ticket_format::Refusal;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::messages::consistency::ConsistencyAnswer;
use ticket_format::tlog::{
    Checkpoint, Continued, LogKey, Logged, ReceiptError, SignedCheckpoint, Verifier,
    verify_continuation,
};
use tokio::sync::Notify;

/// Checkpoints that wait to be proven of one log. A broker that shows more of them in a second has its
/// tickets refused for a moment: one that is left out could be the one of the other log.
const WAITING: usize = 4_096;
/// Checkpoints that are asked about at one time.
const ASKED: usize = 64;
/// The same where some were asked about before: fewer questions are answered closer together.
const ASKED_AGAIN: usize = 8;
/// How often the broker may answer about a checkpoint, and it is still not tied to the head. It is, unless
/// the log grows between two questions. Of a busy broker two answers may differ often, so it takes a minute
/// of them before that is no chance.
const TRIES: u32 = 512;

/// A checkpoint and its note, without cosignatures.
///
/// In a store: `[checkpoint, note: tstr]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Shard, size, root.
    pub checkpoint: Checkpoint,
    /// What the broker is shown.
    pub note: Arc<str>,
}

impl Known {
    fn of(signed: &SignedCheckpoint) -> Self {
        Self {
            checkpoint: signed.checkpoint().clone(),
            note: bare(signed).into(),
        }
    }

    /// One that admins vouch for. A log looks at signatures only of what it does not hold, so a line that is
    /// none does.
    fn vouched(checkpoint: Checkpoint) -> Self {
        let note = format!(
            "{}\n\u{2014} {} AAAAAAA=\n",
            checkpoint.text(),
            checkpoint.shard
        );
        Self {
            checkpoint,
            note: note.into(),
        }
    }

    fn place(&self) -> Place {
        (self.checkpoint.shard.number, self.checkpoint.size)
    }
}

impl Encode for Known {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2);
        self.checkpoint.encode(writer);
        writer.text(&self.note);
    }
}

impl Decode for Known {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            checkpoint: Checkpoint::decode(reader)?,
            note: reader.text(1..=limits::NOTE)?.into(),
        })
    }
}

/// A note with the log's own signatures alone: cosignatures prove nothing here, and take room.
fn bare(signed: &SignedCheckpoint) -> String {
    let own = format!("\u{2014} {} ", signed.checkpoint().shard);
    let mut note = signed.checkpoint().text();
    note.push('\n');
    let lines = signed.note().split_inclusive('\n');
    lines
        .filter(|line| line.starts_with(&own))
        .for_each(|line| note.push_str(line));
    note
}

/// Shard and size.
type Place = (u64, u64);

/// What is kept over a restart: the largest checkpoint that is proven, and the largest seen.
///
/// In a store: `[known / null, known / null, cut: checkpoint / null]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// All that was proven is of one log with it.
    pub head: Option<Known>,
    /// Not proven yet.
    pub seen: Option<Known>,
    /// Where admins said that the log goes on: what the same shard showed beyond it was lost.
    pub cut: Option<Checkpoint>,
}

impl Encode for Remembered {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3);
        for known in [&self.head, &self.seen] {
            match known {
                Some(known) => known.encode(writer),
                None => {
                    writer.null();
                }
            }
        }
        match &self.cut {
            Some(cut) => cut.encode(writer),
            None => {
                writer.null();
            }
        }
    }
}

impl Decode for Remembered {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            head: reader.optional(Known::decode)?,
            seen: reader.optional(Known::decode)?,
            cut: reader.optional(Checkpoint::decode)?,
        })
    }
}

/// Two checkpoints of the broker's log that are not of one log, or one that the broker does not prove.
///
/// In a store: `[ours: checkpoint, theirs: checkpoint / null, why: tstr]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// What was seen.
    pub ours: Checkpoint,
    /// What contradicts it, where there is such.
    pub theirs: Option<Checkpoint>,
    /// In words.
    pub why: String,
}

impl std::fmt::Display for Fork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Checkpoint { shard, size, .. } = &self.ours;
        write!(
            f,
            "the broker's log has forked at {shard}, size {size}: {}",
            self.why
        )
    }
}

impl Encode for Fork {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3);
        self.ours.encode(writer);
        match &self.theirs {
            Some(theirs) => theirs.encode(writer),
            None => {
                writer.null();
            }
        }
        writer.text(&self.why);
    }
}

impl Decode for Fork {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            ours: Checkpoint::decode(reader)?,
            theirs: reader.optional(Checkpoint::decode)?,
            why: reader.text(..=512)?.to_owned(),
        })
    }
}

/// What became of a checkpoint that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is known, or will be asked about.
    Taken,
    /// Too many wait to be proven.
    Full,
    /// It stood in a part of the log that was lost, as admins have said.
    Lost,
    /// It contradicts one that was seen before.
    Forked(Box<Fork>),
}

/// What the broker says to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An answer, not verified.
    Answer(Box<ConsistencyAnswer>),
    /// A refusal.
    Refused(Refusal),
    /// Something that is no answer.
    Malformed(DecodeError),
}

/// What a round of questions came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Round {
    /// All that was asked about is of one log.
    Proven,
    /// Something is to be asked again.
    Again,
    /// It is not one log.
    Forked(Box<Fork>),
}

#[derive(Debug, Default)]
struct Inner {
    head: Option<Known>,
    /// Each with how often it was asked about.
    waiting: BTreeMap<Place, (Known, u32)>,
    fork: Option<Fork>,
    /// Whether the fork is persisted.
    fork_kept: bool,
    cut: Option<Checkpoint>,
    /// What was persisted last.
    kept: Remembered,
}

/// The broker's log.
#[derive(Debug)]
pub struct BrokerLog {
    receipts: Verifier,
    /// Its own, since a verifier remembers one note.
    proofs: Verifier,
    forked: AtomicBool,
    inner: Mutex<Inner>,
    news: Notify,
}

impl BrokerLog {
    /// Goes on from what was persisted.
    #[must_use]
    pub fn new(key: LogKey, remembered: Remembered, fork: Option<Fork>) -> Self {
        let seen = remembered.seen.clone();
        let seen = seen.map(|seen| (seen.place(), (seen, 0)));
        let inner = Inner {
            head: remembered.head.clone(),
            waiting: seen.into_iter().collect(),
            fork_kept: fork.is_some(),
            fork,
            cut: remembered.cut.clone(),
            kept: remembered,
        };
        Self {
            receipts: Verifier::new(key.clone(), None),
            proofs: Verifier::new(key, None),
            forked: AtomicBool::new(inner.fork.is_some()),
            inner: Mutex::new(inner),
            news: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log's keys.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        self.receipts.key()
    }

    /// Verifies a receipt of this log.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(&self, receipt: &Receipt) -> Result<Logged, ReceiptError> {
        // rule: PRE-5, TLOG-5
        self.receipts.verify(receipt)
    }

    /// Whether it is known not to be one log.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        // rule: TLOG-7
        self.forked.load(Ordering::Acquire)
    }

    /// How it forked.
    #[must_use]
    pub fn fork(&self) -> Option<Fork> {
        self.lock().fork.clone()
    }

    /// A fork that is not persisted yet.
    #[must_use]
    pub fn unkept_fork(&self) -> Option<Fork> {
        let inner = self.lock();
        inner.fork.clone().filter(|_| !inner.fork_kept)
    }

    /// The fork was persisted.
    pub fn fork_kept(&self, fork: &Fork) {
        let mut inner = self.lock();
        inner.fork_kept |= inner.fork.as_ref() == Some(fork);
    }

    /// How many checkpoints wait to be proven.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The largest checkpoint that is proven.
    #[must_use]
    pub fn head(&self) -> Option<Checkpoint> {
        self.lock()
            .head
            .as_ref()
            .map(|head| head.checkpoint.clone())
    }

    /// A good receipt showed this checkpoint.
    pub fn saw(&self, signed: &SignedCheckpoint) -> Seen {
        // rule: TLOG-7
        let mut inner = self.lock();
        if inner.fork.is_some() {
            return Seen::Taken;
        }
        let checkpoint = signed.checkpoint();
        if inner
            .cut
            .as_ref()
            .is_some_and(|cut| beyond(cut, checkpoint))
        {
            drop(inner);
            // Whether the shard went on after all is shown by the head.
            self.news.notify_one();
            return Seen::Lost;
        }
        let place = (checkpoint.shard.number, checkpoint.size);
        let known = inner
            .head
            .as_ref()
            .filter(|head| head.place() == place)
            .or_else(|| inner.waiting.get(&place).map(|(known, _)| known));
        match known {
            Some(known) if known.checkpoint == *checkpoint => Seen::Taken,
            Some(known) => {
                let fork = two_roots(&known.checkpoint, checkpoint);
                self.forked(&mut inner, &fork);
                Seen::Forked(fork)
            }
            None if inner.waiting.len() >= WAITING => Seen::Full,
            None => {
                inner.waiting.insert(place, (Known::of(signed), 0));
                drop(inner);
                self.news.notify_one();
                Seen::Taken
            }
        }
    }

    fn forked(&self, inner: &mut Inner, fork: &Fork) {
        self.forked.store(true, Ordering::Release);
        inner.waiting.clear();
        inner.fork = Some(fork.clone());
        inner.fork_kept = false;
    }

    /// Completes when there is something to ask about.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What is to be asked now, the head first; nothing of a log that has forked.
    #[must_use]
    pub fn ask(&self) -> Vec<Known> {
        let inner = self.lock();
        if inner.fork.is_some() {
            return Vec::new();
        }
        let mut waiting: Vec<_> = inner.waiting.values().collect();
        waiting.sort_by_key(|(_, tries)| std::cmp::Reverse(*tries));
        let again = waiting.first().is_some_and(|(_, tries)| *tries > 0);
        let most = if again { ASKED_AGAIN } else { ASKED };
        let waiting = waiting.into_iter().map(|(known, _)| known);
        let asked = inner.head.iter().chain(waiting);
        asked.take(most).cloned().collect()
    }

    /// Takes what the broker said to what was asked, in the same order; nothing for what it did not answer,
    /// which is no fork.
    pub fn answered(&self, asked: &[Known], said: Vec<Option<Said>>) -> Round {
        // rule: TLOG-7
        let mut ends = Vec::new();
        for (known, said) in asked.iter().zip(said) {
            let Some(said) = said else { continue };
            match self.judge(known, said) {
                Ok(Some(end)) => ends.push((known, end)),
                Ok(None) => {}
                Err(fork) => {
                    self.forked(&mut self.lock(), &fork);
                    return Round::Forked(fork);
                }
            }
        }
        let mut inner = self.lock();
        if inner.fork.is_some() {
            return Round::Proven;
        }
        match inner.take(&ends) {
            Ok(round) => round,
            Err(fork) => {
                self.forked(&mut inner, &fork);
                Round::Forked(fork)
            }
        }
    }

    /// Where the log leads from one checkpoint, if the broker could say.
    fn judge(&self, asked: &Known, said: Said) -> Result<Option<Known>, Box<Fork>> {
        let ours = asked.checkpoint.clone();
        let fork = |theirs, why: String| {
            Err(Box::new(Fork {
                ours: ours.clone(),
                theirs,
                why: short(why),
            }))
        };
        let answer = match said {
            Said::Answer(answer) => answer,
            // It does not hold what its keys signed.
            Said::Refused(refusal @ (Refusal::Rollback | Refusal::NotFound)) => {
                return fork(None, format!("the broker does not know it: {refusal}"));
            }
            Said::Refused(_) => return Ok(None),
            Said::Malformed(error) => {
                return fork(None, format!("its answer is malformed: {error}"));
            }
        };
        match verify_continuation(&self.proofs, &ours, &answer) {
            Ok(Continued { checkpoint, .. }) => Ok(Some(Known::of(&checkpoint))),
            Err(error) => {
                let theirs = self.proofs.checkpoint(&answer.checkpoint).ok();
                let theirs = theirs.map(|theirs| theirs.checkpoint().clone());
                fork(theirs, error.to_string())
            }
        }
    }

    /// What is to be persisted, if it is something else than last time.
    #[must_use]
    pub fn to_keep(&self) -> Option<Remembered> {
        let inner = self.lock();
        // What was kept before shows the fork again, should that itself not be persisted.
        if inner.fork.is_some() {
            return None;
        }
        let remembered = Remembered {
            head: inner.head.clone(),
            seen: inner
                .waiting
                .values()
                .next_back()
                .map(|(known, _)| known.clone()),
            cut: inner.cut.clone(),
        };
        (remembered != inner.kept).then_some(remembered)
    }

    /// It was persisted.
    pub fn kept(&self, remembered: Remembered) {
        self.lock().kept = remembered;
    }

    /// What admins say where a forked log goes on.
    #[must_use]
    pub fn vouched(checkpoint: Checkpoint) -> Remembered {
        Remembered {
            head: Some(Known::vouched(checkpoint.clone())),
            seen: None,
            cut: Some(checkpoint),
        }
    }

    /// The log goes on from there, as admins say; the broker has to prove it like anything else.
    pub fn recovered(&self, remembered: Remembered) {
        let mut inner = self.lock();
        *inner = Inner {
            head: remembered.head.clone(),
            cut: remembered.cut.clone(),
            kept: remembered,
            ..Inner::default()
        };
        self.forked.store(false, Ordering::Release);
        drop(inner);
        self.news.notify_one();
    }
}

impl Inner {
    /// Takes where each checkpoint led to.
    fn take(&mut self, ends: &[(&Known, Known)]) -> Result<Round, Box<Fork>> {
        let Some((_, first)) = ends.first() else {
            return Ok(match self.waiting.is_empty() {
                true => Round::Proven,
                false => Round::Again,
            });
        };
        let of_head = ends
            .iter()
            .find(|(asked, _)| self.head.as_ref().is_some_and(|head| head == *asked));
        match of_head {
            Some((_, end)) => self.head = Some(end.clone()),
            // The first that was ever seen: nothing else is known of the log.
            None if self.head.is_none() => self.head = Some(first.clone()),
            None => {}
        }
        let Some(head) = self.head.clone() else {
            return Ok(Round::Again);
        };
        // The broker proved that it goes on in that shard: nothing of it was lost.
        self.cut.take_if(|cut| beyond(cut, &head.checkpoint));
        for (asked, end) in ends {
            let tries = match self.waiting.get(&asked.place()) {
                Some((known, tries)) if known == *asked => {
                    let tries = tries + 1;
                    self.waiting.remove(&asked.place());
                    tries
                }
                // It was tied meanwhile, or is the head.
                _ => 0,
            };
            if end.place() == head.place() {
                if end.checkpoint != head.checkpoint {
                    return Err(two_roots(&head.checkpoint, &end.checkpoint));
                }
                continue;
            }
            if tries >= TRIES {
                return Err(Box::new(Fork {
                    ours: head.checkpoint.clone(),
                    theirs: Some(end.checkpoint.clone()),
                    why: "the broker never shows that they are of one log".to_owned(),
                }));
            }
            let known = self
                .waiting
                .entry(end.place())
                .or_insert_with(|| (end.clone(), 0));
            if known.0.checkpoint != end.checkpoint {
                return Err(two_roots(&known.0.checkpoint, &end.checkpoint));
            }
            known.1 = known.1.max(tries);
        }
        // What was seen meanwhile, and is the head, needs no question.
        if let Some((known, _)) = self.waiting.remove(&head.place())
            && known.checkpoint != head.checkpoint
        {
            return Err(two_roots(&head.checkpoint, &known.checkpoint));
        }
        Ok(match self.waiting.is_empty() {
            true => Round::Proven,
            false => Round::Again,
        })
    }
}

/// Whether a checkpoint is a larger one of the same shard.
fn beyond(cut: &Checkpoint, checkpoint: &Checkpoint) -> bool {
    checkpoint.shard == cut.shard && checkpoint.size > cut.size
}

fn two_roots(ours: &Checkpoint, theirs: &Checkpoint) -> Box<Fork> {
    Box::new(Fork {
        ours: ours.clone(),
        theirs: Some(theirs.clone()),
        why: "two checkpoints of one size have different roots".to_owned(),
    })
}

fn short(mut why: String) -> String {
    let mut end = why.len().min(200);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}

#[cfg(test)]
mod tests;
