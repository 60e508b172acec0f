//! How a log stands to what its witnesses have seen of it (TLOG-10): a state machine over what they tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::statement::logs::{LogState, WitnessRow, WitnessState};
use ticket_format::tlog::{Checkpoint, Hash, ShardName, SignedCheckpoint};

use super::recovery::NotRecovered;
use crate::witness::{Compared, State};

/// Somebody has seen more of a log than it holds, or something else.
///
/// In a store: `[by: tstr, ours: checkpoint, size: uint, seen: checkpoint / null]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Who says so: a witness, by its configured name, or a caller.
    pub by: String,
    /// The log as it stood.
    pub ours: Checkpoint,
    /// The size that was seen, as it is told.
    pub size: u64,
    /// What was seen, signed by this log's own keys; none where there is nothing but the witness's word.
    pub seen: Option<Checkpoint>,
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            by,
            ours,
            size,
            seen,
        } = self;
        let (shard, has) = (&ours.shard, ours.size);
        match seen {
            Some(seen) => write!(
                f,
                "{by} has seen {} at size {}, signed by this log; it held {shard} at size {has}",
                seen.shard, seen.size
            ),
            None => write!(
                f,
                "{by} says that it cosigned size {size}; the log held {shard} at size {has}"
            ),
        }
    }
}

impl Encode for Contradiction {
    fn encode(&self, writer: &mut Writer) {
        writer.array(4).text(&self.by);
        self.ours.encode(writer);
        writer.uint(self.size);
        match &self.seen {
            Some(seen) => seen.encode(writer),
            None => {
                writer.null();
            }
        }
    }
}

impl Decode for Contradiction {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(4..=4)?;
        Ok(Self {
            by: reader.text(1..=256)?.to_owned(),
            ours: Checkpoint::decode(reader)?,
            size: reader.uint()?,
            seen: reader.optional(Checkpoint::decode)?,
        })
    }
}

/// What a witness tells of the log.
#[derive(Clone, Debug)]
pub enum Told {
    /// It cosigns.
    Fits,
    /// It has not cosigned for a while, though there is something to cosign.
    Silent,
    /// It has seen more, or something else.
    Contradicts {
        /// The size that it names.
        size: u64,
        /// A checkpoint of this log that it shows, signed by the log's own keys.
        proof: Option<SignedCheckpoint>,
    },
    /// Nothing that says how the log is.
    Nothing,
}

impl From<&Compared> for Told {
    fn from(compared: &Compared) -> Self {
        match compared {
            Compared::Fits => Self::Fits,
            Compared::Ahead { size, proof } => Self::Contradicts {
                size: *size,
                proof: proof.clone(),
            },
            Compared::OtherRoot { proof } => Self::other_root(proof.as_ref()),
            // It is compared again when it answers.
            Compared::Refuses { .. } | Compared::Unreachable { .. } => Self::Nothing,
        }
    }
}

impl From<&State> for Told {
    fn from(state: &State) -> Self {
        match state {
            State::Follows => Self::Fits,
            State::Silent { .. } => Self::Silent,
            State::Behind { size, proof } => Self::Contradicts {
                size: *size,
                proof: proof.clone(),
            },
            State::Forked { proof } => Self::other_root(proof.as_ref()),
            State::Starting | State::Refuses { .. } => Self::Nothing,
        }
    }
}

impl Told {
    fn other_root(proof: Option<&SignedCheckpoint>) -> Self {
        Self::Contradicts {
            size: proof.map_or(0, |proof| proof.checkpoint().size),
            proof: proof.cloned(),
        }
    }
}

/// What a server has to do about what was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Alarm log-rollback; to be persisted, so that a restart does not forget it.
    RolledBack(Contradiction),
    /// Alarm log-rollback; it stands while the witness says so.
    Claimed(Contradiction),
    /// Alarm witness-silent, about the witness of this name.
    Silent(String),
}

/// The log is not as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is not what was seen of it: an admin has to say where it goes on")]
pub struct NotGood;

/// What is known of one witness.
#[derive(Clone, Debug)]
struct Witness {
    name: String,
    told: Told,
    /// Shard and size, and when (monotonic).
    cosigned: Option<(ShardName, u64, Duration)>,
}

#[derive(Debug, Default)]
struct Inner {
    rolled_back: Option<Contradiction>,
    /// Claims without proof, by who makes them.
    claims: BTreeMap<String, Contradiction>,
    silent: BTreeSet<String>,
    witnesses: Vec<Witness>,
    /// The highest number of a shard that anybody showed.
    shard: u64,
    /// The shard that the last recovery began: what was seen of those before is accounted for.
    recovered: u64,
    /// Witnesses that have not cosigned since: without proof, what they say is about what was recovered.
    forgiven: BTreeSet<String>,
}

/// How a log stands. Asking is one atomic load.
#[derive(Debug)]
pub struct Standing {
    good: AtomicBool,
    inner: Mutex<Inner>,
}

impl Standing {
    /// Begins with the witnesses' names in their order, and with what was persisted.
    #[must_use]
    pub fn new(
        witnesses: impl IntoIterator<Item = String>,
        rolled_back: Option<Contradiction>,
    ) -> Self {
        let witnesses = witnesses.into_iter().map(|name| Witness {
            name,
            told: Told::Nothing,
            cosigned: None,
        });
        let shard = rolled_back.iter().filter_map(|found| found.seen.as_ref());
        let inner = Inner {
            shard: shard.map(|seen| seen.shard.number).max().unwrap_or(0),
            witnesses: witnesses.collect(),
            rolled_back,
            ..Inner::default()
        };
        Self {
            good: AtomicBool::new(inner.rolled_back.is_none()),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything may be served.
    ///
    /// # Errors
    /// [`NotGood`].
    pub fn check(&self) -> Result<(), NotGood> {
        // rule: TLOG-10
        if self.good.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(NotGood)
        }
    }

    /// Takes what a witness tells, by its place; `ours` is the newest checkpoint.
    pub fn told(&self, witness: usize, told: Told, ours: &Checkpoint) -> Option<Event> {
        let mut inner = self.lock();
        let name = inner.witnesses.get(witness)?.name.clone();
        inner.witnesses[witness].told = told.clone();
        let event = match told {
            Told::Nothing => return None,
            Told::Fits => {
                inner.claims.remove(&name);
                inner.forgiven.remove(&name);
                inner.silent.remove(&name);
                None
            }
            Told::Silent => {
                // rule: TLOG-8
                let first = inner.silent.insert(name.clone());
                first.then_some(Event::Silent(name))
            }
            Told::Contradicts { size, proof } => inner.contradicted(name, size, proof, ours),
        };
        let good = inner.rolled_back.is_none() && inner.claims.is_empty();
        self.good.store(good, Ordering::Release);
        event
    }

    /// A witness has cosigned this, at this monotonic time.
    pub fn cosigned(&self, witness: usize, shard: &ShardName, size: u64, now: Duration) {
        let mut inner = self.lock();
        if let Some(witness) = inner.witnesses.get_mut(witness) {
            let known = witness.cosigned.as_ref();
            if known.is_none_or(|(known, of, _)| (known, *of) != (shard, size)) {
                witness.cosigned = Some((shard.clone(), size, now));
            }
        }
    }

    /// What is known against the log, for a person; empty when nothing is.
    #[must_use]
    pub fn wrong(&self) -> String {
        let inner = self.lock();
        let found = inner.rolled_back.iter().chain(inner.claims.values()).next();
        found.map(ToString::to_string).unwrap_or_default()
    }

    /// How the log is, as `log-show` says it.
    #[must_use]
    pub fn state(&self) -> LogState {
        match self.check() {
            Ok(()) => LogState::Good,
            Err(NotGood) => LogState::RolledBack,
        }
    }

    /// The witnesses, as `log-show` says it; `ours` is the newest checkpoint.
    #[must_use]
    pub fn witnesses(&self, ours: &Checkpoint, now: Duration) -> Vec<WitnessRow> {
        let inner = self.lock();
        let row = |witness: &Witness| {
            let open = witness
                .cosigned
                .as_ref()
                .filter(|(shard, ..)| *shard == ours.shard);
            let ago = open.map(|(_, _, at)| now.saturating_sub(*at).as_millis());
            WitnessRow {
                name: witness.name.clone(),
                size: open.map(|(_, size, _)| *size),
                ago_ms: ago.map(|ago| u64::try_from(ago).unwrap_or(u64::MAX)),
                state: match &witness.told {
                    Told::Fits => WitnessState::Good,
                    Told::Silent => WitnessState::Silent,
                    Told::Contradicts { .. } => WitnessState::Ahead,
                    Told::Nothing => WitnessState::Behind,
                },
            }
        };
        inner.witnesses.iter().map(row).collect()
    }

    /// Whether a recovery may say that the log goes on from `named`: the open shard as it stands, or as it
    /// stood since the contradiction was found. Every act is recorded, so that nobody could ever name the
    /// size that the log has when the statement comes. `root_of` gives the open shard's root at a size.
    /// Returns what was seen, and the least number of the next shard.
    ///
    /// # Errors
    /// [`NotRecovered`].
    pub fn may_recover(
        &self,
        named: &Checkpoint,
        ours: &Checkpoint,
        root_of: impl FnOnce(u64) -> Option<Hash>,
    ) -> Result<(Option<Checkpoint>, u64), NotRecovered> {
        // rule: TLOG-10
        let inner = self.lock();
        let mut found = inner.rolled_back.iter().chain(inner.claims.values());
        let found = found.next().ok_or(NotRecovered::Good)?;
        let since = if found.ours.shard == ours.shard {
            found.ours.size
        } else {
            0
        };
        if named.shard != ours.shard || named.size < since || named.size > ours.size {
            return Err(NotRecovered::Elsewhere);
        }
        if root_of(named.size) != Some(named.root) {
            return Err(NotRecovered::Elsewhere);
        }
        Ok((
            found.seen.clone(),
            inner.shard.max(ours.shard.number).saturating_add(1),
        ))
    }

    /// The log goes on in a new shard.
    pub fn recovered(&self, shard: u64) {
        let mut inner = self.lock();
        inner.rolled_back = None;
        inner.claims.clear();
        inner.recovered = shard;
        inner.forgiven = inner
            .witnesses
            .iter()
            .map(|witness| witness.name.clone())
            .collect();
        self.good.store(true, Ordering::Release);
    }
}

impl Inner {
    fn contradicted(
        &mut self,
        by: String,
        size: u64,
        proof: Option<SignedCheckpoint>,
        ours: &Checkpoint,
    ) -> Option<Event> {
        let seen = proof.map(|proof| proof.checkpoint().clone());
        if let Some(seen) = &seen {
            // What was lost then is accounted for.
            if seen.shard.number < self.recovered {
                return None;
            }
            self.shard = self.shard.max(seen.shard.number);
        }
        let found = Contradiction {
            by: by.clone(),
            ours: ours.clone(),
            size,
            seen,
        };
        if self.rolled_back.is_some() {
            return None;
        }
        if found.seen.is_some() {
            self.rolled_back = Some(found.clone());
            return Some(Event::RolledBack(found));
        }
        if self.forgiven.contains(&by) {
            return None;
        }
        let first = !self.claims.contains_key(&by);
        self.claims.entry(by).or_insert_with(|| found.clone());
        first.then_some(Event::Claimed(found))
    }
}

#[cfg(test)]
mod tests;
