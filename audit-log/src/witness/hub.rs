//! Checkpoints with the cosignatures that came for them, and who waits for more.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ticket_format::tlog::{SignedCheckpoint, WitnessPolicy};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Checkpoints that are kept with their cosignatures. Rounds follow each other every 150 ms at the
/// soonest, so this is longer than any answer waits.
const KEPT: usize = 32;
/// Policies whose verdicts are remembered with a checkpoint.
const VERDICTS: usize = 32;

/// Verified cosignature lines, each by the key that made it.
pub(crate) type Lines = Vec<(String, String)>;

/// Why an entry has no cosigned receipt.
#[derive(Debug, thiserror::Error)]
pub enum Unwitnessed {
    /// The log submits to nobody.
    #[error("no witness is configured for this log")]
    NoWitness,
    /// Not enough cosignatures came in time.
    #[error("the witnesses that the policy asks for did not cosign within {} ms", waited.as_millis())]
    TooLate {
        /// How long they had.
        waited: Duration,
    },
    /// The entry is not in the log, or no longer.
    #[error("entry {index} cannot be proven: {reason}")]
    Unproven {
        /// Its index in the log.
        index: u64,
        /// Why.
        reason: String,
    },
}

/// An entry's place: the shard's number, the index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: u64,
    pub(crate) index: u64,
}

impl Place {
    pub(crate) fn under(self, checkpoint: &SignedCheckpoint) -> bool {
        let checkpoint = checkpoint.checkpoint();
        checkpoint.shard.number == self.shard && checkpoint.size > self.index
    }
}

struct Kept {
    base: SignedCheckpoint,
    lines: BTreeMap<String, String>,
    /// Of policies, for the lines as they are.
    verdicts: Vec<Verdict>,
}

struct Verdict {
    policy: String,
    note: Option<SignedCheckpoint>,
}

impl Kept {
    fn satisfying(&self, policy: &WitnessPolicy) -> Option<SignedCheckpoint> {
        let keys: Vec<String> = policy.witnesses().iter().map(ToString::to_string).collect();
        let lines = keys.iter().filter_map(|key| self.lines.get(key));
        let note = self.base.with_cosignatures(lines.map(String::as_str));
        // rule: TLOG-8
        policy.check(&note).is_ok().then_some(note)
    }
}

#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    waiting: HashMap<u64, Place>,
    next: u64,
    /// Submitters that run.
    submitters: usize,
}

/// Where a log's submitter and those who wait for it meet.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Counts the cosignatures that came.
    came: watch::Sender<u64>,
    /// Rung when somebody begins or ceases to wait.
    bell: Notify,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            came: watch::Sender::new(0),
            bell: Notify::new(),
        }
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps verified lines for a checkpoint; gives it back with all the lines it has.
    pub(crate) fn add(&self, checkpoint: &SignedCheckpoint, lines: Lines) -> SignedCheckpoint {
        let note = {
            let mut state = self.state();
            let same = |kept: &Kept| kept.base.checkpoint() == checkpoint.checkpoint();
            if !state.kept.iter().any(same) {
                if state.kept.len() == KEPT {
                    state.kept.pop_front();
                }
                state.kept.push_back(Kept {
                    base: checkpoint.clone(),
                    lines: BTreeMap::new(),
                    verdicts: Vec::new(),
                });
            }
            let Some(kept) = state.kept.iter_mut().find(|kept| same(kept)) else {
                return checkpoint.clone();
            };
            // One line for each key: a later one says the same of a later time.
            kept.lines.extend(lines);
            // What did not satisfy may now.
            kept.verdicts.clear();
            let lines = kept.lines.values().map(String::as_str);
            kept.base.with_cosignatures(lines)
        };
        self.came.send_modify(|came| *came = came.wrapping_add(1));
        note
    }

    /// The newest kept checkpoint that covers the place and satisfies the policy, with the lines of the
    /// policy's own witnesses: a receipt has no room for everybody's.
    fn find(&self, place: Place, policy: &WitnessPolicy) -> Option<SignedCheckpoint> {
        let mut state = self.state();
        let covering = state
            .kept
            .iter_mut()
            .rev()
            .filter(|kept| place.under(&kept.base));
        for kept in covering {
            let known = |verdict: &&Verdict| verdict.policy == policy.as_str();
            let note = match kept.verdicts.iter().find(known) {
                Some(verdict) => verdict.note.clone(),
                None => {
                    // Under the lock, so that a hundred who wait by one policy verify once.
                    let note = kept.satisfying(policy);
                    if kept.verdicts.len() < VERDICTS {
                        kept.verdicts.push(Verdict {
                            policy: policy.as_str().to_owned(),
                            note: note.clone(),
                        });
                    }
                    note
                }
            };
            if note.is_some() {
                return note;
            }
        }
        None
    }

    /// Waits for a checkpoint that covers the place and satisfies the policy.
    pub(crate) async fn satisfied(
        self: &Arc<Self>,
        place: Place,
        policy: &WitnessPolicy,
        timeout: Duration,
    ) -> Result<SignedCheckpoint, Unwitnessed> {
        let deadline = Instant::now() + timeout;
        let mut came = self.came.subscribe();
        let mut waiting = None;
        loop {
            // Marked before the look, so that what comes after it wakes.
            came.mark_unchanged();
            if let Some(found) = self.find(place, policy) {
                return Ok(found);
            }
            if self.state().submitters == 0 {
                return Err(Unwitnessed::NoWitness);
            }
            waiting.get_or_insert_with(|| Waiting::new(Arc::clone(self), place));
            // The sender is ours, so that only the deadline ends this otherwise.
            if tokio::time::timeout_at(deadline, came.changed())
                .await
                .is_err()
            {
                return Err(Unwitnessed::TooLate { waited: timeout });
            }
        }
    }

    /// Whether anybody waits.
    pub(crate) fn anybody_waits(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Whether anybody waits whom cosignatures of one of these checkpoints could serve.
    pub(crate) fn anybody_waits_for(&self, checkpoints: &[SignedCheckpoint]) -> bool {
        let state = self.state();
        let mut places = state.waiting.values();
        places.any(|place| checkpoints.iter().any(|checkpoint| place.under(checkpoint)))
    }

    /// Completes when somebody began or ceased to wait since the last time.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(crate) fn submitter_starts(&self) {
        self.state().submitters += 1;
    }

    pub(crate) fn submitter_ends(&self) {
        self.state().submitters -= 1;
        // Those who wait learn that nobody submits for them.
        self.came.send_modify(|came| *came = came.wrapping_add(1));
    }
}

/// Somebody who waits; dropped when no longer.
struct Waiting {
    hub: Arc<Hub>,
    number: u64,
}

impl Waiting {
    fn new(hub: Arc<Hub>, place: Place) -> Self {
        let number = {
            let mut state = hub.state();
            let number = state.next;
            state.next += 1;
            state.waiting.insert(number, place);
            number
        };
        hub.bell.notify_one();
        Self { hub, number }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.hub.state().waiting.remove(&self.number);
        self.hub.bell.notify_one();
    }
}
