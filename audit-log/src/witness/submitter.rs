//! Submits a log's checkpoints to its witnesses, in rounds.
//!
//! A round is one checkpoint that goes to every witness, so that their cosignatures come together on
//! one note. While somebody waits a round begins every 150 ms, else within a second of a new checkpoint. The
//! next one waits until the witnesses that are well have answered, or nobody waits for this one any
//! more; a witness that is slow or down is not waited for and takes up the newest round when it can.

use std::sync::Arc;
use std::time::Duration;

use ticket_format::tlog::{ShardName, SignedCheckpoint};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::endpoint::{Caller, Endpoint, EndpointError, TIMEOUT};
use super::hub::Hub;
use super::source;
use super::submit::{Correspondent, Outcome};
use crate::AuditLog;

/// Between two rounds while somebody waits.
const BUSY: Duration = Duration::from_millis(150);
/// Between two rounds while nobody does.
const CALM: Duration = Duration::from_millis(1_000);
/// A witness that has been silent for this long, with something to cosign, is reported.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Between two attempts at a witness that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at a witness that contradicts the log: nothing will change soon.
const CONTRADICTED: Duration = Duration::from_secs(5);

/// How a witness stands to this log.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing was submitted yet.
    Starting,
    /// It cosigned what it was last given, or there is reason to expect it.
    Follows,
    /// It has not cosigned for [`SILENCE`], though there is something to cosign.
    Silent {
        /// What came last in place of a cosignature.
        why: String,
    },
    /// It says that it cosigned a larger tree than this log has: the log was rolled back.
    Behind {
        /// What it names, in leaves.
        size: u64,
        /// A checkpoint beyond this log's, signed by this log's own keys. Without it there is only the
        /// witness's word.
        proof: Option<SignedCheckpoint>,
    },
    /// It cosigned a tree that is not this log's: the log was rolled back and went on, or its key signs
    /// elsewhere.
    Forked {
        /// A checkpoint signed by this log's own keys that its tree contradicts.
        proof: Option<SignedCheckpoint>,
    },
    /// It answers, but not as a witness that follows this log.
    Refuses {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        why: String,
    },
}

impl State {
    /// Whether the witness contradicts this log.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        matches!(self, Self::Behind { .. } | Self::Forked { .. })
    }
}

/// A witness as its log sees it.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its submission prefix.
    pub url: String,
    /// How it stands.
    pub state: State,
    /// What it cosigned last in this process: shard and size.
    pub cosigned: Option<(ShardName, u64)>,
}

/// What every witness is given at the same time: the end of a closed shard if there was one, and the
/// newest checkpoint.
#[derive(Clone)]
struct Round {
    number: u64,
    checkpoints: Arc<[SignedCheckpoint]>,
}

/// What a witness's task reports: the round, and whether all of it was cosigned.
struct Done {
    witness: usize,
    round: u64,
    cosigned: bool,
}

struct Shared {
    log: AuditLog,
    hub: Arc<Hub>,
    statuses: watch::Sender<Vec<Status>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.hub.submitter_ends();
    }
}

impl Shared {
    fn set(&self, witness: usize, change: impl FnOnce(&mut Status) -> bool) {
        self.statuses
            .send_if_modified(|statuses| statuses.get_mut(witness).is_some_and(change));
    }
}

/// A log's submitter. Dropping it ends it.
#[derive(Debug)]
pub struct Submitter {
    statuses: watch::Receiver<Vec<Status>>,
    /// Aborts the tasks when dropped.
    _tasks: JoinSet<()>,
}

impl Submitter {
    /// Starts to submit the log's checkpoints to the witnesses, in the runtime that this is called in.
    /// Appends never wait for it.
    ///
    /// # Errors
    /// [`EndpointError`]: the witnesses cannot be told apart, or no HTTP client can be made.
    // rule: TLOG-8
    pub fn start(log: &AuditLog, witnesses: Vec<Endpoint>) -> Result<Self, EndpointError> {
        Endpoint::check(&witnesses)?;
        let first = witnesses.iter().map(|witness| Status {
            name: witness.name().to_owned(),
            url: witness.url().to_owned(),
            state: State::Starting,
            cosigned: None,
        });
        let (statuses, told) = watch::channel(first.collect());
        let mut callers = Vec::new();
        for witness in witnesses {
            callers.push(Caller::new(witness)?);
        }
        let mut tasks = JoinSet::new();
        if !callers.is_empty() {
            let hub = Arc::clone(source::hub(log));
            hub.submitter_starts();
            let shared = Arc::new(Shared {
                log: log.clone(),
                hub,
                statuses,
            });
            let (rounds, _) = watch::channel(None);
            let (report, reports) = mpsc::channel(64);
            let well = vec![true; callers.len()];
            for (number, caller) in callers.into_iter().enumerate() {
                let task = Task {
                    shared: Arc::clone(&shared),
                    number,
                    rounds: rounds.subscribe(),
                    report: report.clone(),
                };
                tasks.spawn(task.run(Correspondent::new(caller)));
            }
            tasks.spawn(conduct(shared, rounds, reports, well));
        }
        Ok(Self {
            statuses: told,
            _tasks: tasks,
        })
    }

    /// How the witnesses stand, in the order in which they were given.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.clone()
    }
}

/// Begins the rounds.
async fn conduct(
    shared: Arc<Shared>,
    rounds: watch::Sender<Option<Round>>,
    mut reports: mpsc::Receiver<Done>,
    mut well: Vec<bool>,
) {
    let mut newest = source::newest(&shared.log);
    let mut round: Option<Round> = None;
    let mut began = Instant::now();
    let mut open = vec![false; well.len()];
    loop {
        let head = newest.borrow_and_update().clone();
        let last = round.as_ref().and_then(|round| round.checkpoints.last());
        let is_new = last.is_none_or(|last| last.checkpoint() != head.checkpoint());
        // An empty log has nothing to show.
        let due = (is_new && head.checkpoint().size > 0).then(|| match &round {
            None => began,
            Some(round) => {
                let pace = if shared.hub.anybody_waits() {
                    BUSY
                } else {
                    CALM
                };
                // Cosignatures that somebody waits for must come together on one checkpoint.
                let awaited = shared.hub.anybody_waits_for(&round.checkpoints)
                    && open.iter().zip(&well).any(|(open, well)| *open && *well);
                began + if awaited { pace.max(TIMEOUT) } else { pace }
            }
        });
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            let number = round.as_ref().map_or(1, |round| round.number + 1);
            let before = last.map(|last| last.checkpoint().shard.number);
            let next = Round {
                number,
                checkpoints: source::with_ends(&shared.log, before, head),
            };
            began = now;
            open.fill(true);
            rounds.send_replace(Some(next.clone()));
            round = Some(next);
            continue;
        }
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = shared.hub.rung() => {}
            () = timer => {}
            done = reports.recv() => {
                let Some(done) = done else { return };
                if let Some(well) = well.get_mut(done.witness) {
                    *well = done.cosigned;
                }
                let current = round.as_ref().map(|round| round.number);
                if let Some(open) = open.get_mut(done.witness)
                    && current == Some(done.round)
                {
                    *open = false;
                }
            }
        }
    }
}

/// A witness's own task.
struct Task {
    shared: Arc<Shared>,
    number: usize,
    rounds: watch::Receiver<Option<Round>>,
    report: mpsc::Sender<Done>,
}

impl Task {
    async fn run(mut self, mut witness: Correspondent) {
        // Since when there is something that this witness has not cosigned.
        let mut owing: Option<Instant> = None;
        loop {
            if owing.is_none() && self.rounds.changed().await.is_err() {
                return;
            }
            let Some(round) = self.rounds.borrow_and_update().clone() else {
                continue;
            };
            let since = *owing.get_or_insert_with(Instant::now);
            let silent_at = since + SILENCE;
            let submitted = self.submit(&mut witness, &round);
            tokio::pin!(submitted);
            // A witness that answers slowly, but does, is told of while it is still silent.
            let failed = tokio::select! {
                failed = &mut submitted => failed,
                () = sleep_until(silent_at), if Instant::now() < silent_at => {
                    self.silent("it has not answered yet");
                    submitted.await
                }
            };
            let done = Done {
                witness: self.number,
                round: round.number,
                cosigned: failed.is_none(),
            };
            if self.report.send(done).await.is_err() {
                return;
            }
            let Some(failed) = failed else {
                owing = None;
                continue;
            };
            if let Failed::Silent(why) = &failed
                && Instant::now() >= silent_at
            {
                self.silent(why);
            }
            let pause = match failed {
                Failed::Told(_) => CONTRADICTED,
                Failed::Silent(_) => AGAIN,
            };
            // Never sooner, however many rounds begin meanwhile.
            let mut until = Instant::now() + pause;
            if matches!(failed, Failed::Silent(_)) && since < silent_at && silent_at < until {
                until = silent_at.max(Instant::now());
            }
            sleep_until(until).await;
        }
    }

    /// Submits what the round holds; [`None`] when all of it was cosigned.
    async fn submit(&self, witness: &mut Correspondent, round: &Round) -> Option<Failed> {
        let mut told = None;
        let newest = round.checkpoints.len().saturating_sub(1);
        for (at, checkpoint) in round.checkpoints.iter().enumerate() {
            let of = checkpoint.checkpoint();
            let known = witness.cosigned(of.shard.number) == Some(of.size);
            // A closed shard says nothing new, nor does what it contradicted: a recovery leaves such a
            // shard behind and goes on in another.
            if at < newest && (known || witness.contradicted(of.shard.number)) {
                continue;
            }
            let outcome = witness.submit(&self.shared.log, checkpoint, 0).await;
            match self.take(checkpoint, outcome) {
                None => {}
                Some(Failed::Told(state)) => {
                    witness.contradicts(of.shard.number);
                    told = Some(state);
                }
                silent => return silent,
            }
        }
        // Last, so that what was cosigned behind it does not hide it.
        told.map(|state| {
            self.tell(state.clone());
            Failed::Told(state)
        })
    }

    fn tell(&self, state: State) {
        self.shared.set(self.number, |status| {
            status.state = state;
            true
        });
    }

    fn take(&self, checkpoint: &SignedCheckpoint, outcome: Outcome) -> Option<Failed> {
        match outcome {
            Outcome::Cosigned(lines) => {
                let note = self.shared.hub.add(checkpoint, lines);
                source::publish(&self.shared.log, &note);
                let of = checkpoint.checkpoint();
                self.shared.set(self.number, |status| {
                    status.state = State::Follows;
                    status.cosigned = Some((of.shard.clone(), of.size));
                    true
                });
                None
            }
            Outcome::Newer => None,
            Outcome::Behind { size, proof } => {
                tracing::error!(
                    witness = self.name(),
                    size,
                    proven = proof.is_some(),
                    "a witness cosigned more than this log has: was it rolled back?"
                );
                Some(Failed::Told(State::Behind { size, proof }))
            }
            Outcome::Forked { proof } => {
                tracing::error!(
                    witness = self.name(),
                    proven = proof.is_some(),
                    "a witness cosigned a tree that is not this log's"
                );
                Some(Failed::Told(State::Forked { proof }))
            }
            Outcome::Refused { status, why } => {
                tracing::warn!(
                    witness = self.name(),
                    status,
                    why,
                    "a witness does not cosign"
                );
                self.tell(State::Refuses {
                    status,
                    why: why.clone(),
                });
                Some(Failed::Silent(format!("status {status}: {why}")))
            }
            Outcome::Unreachable(why) => {
                tracing::debug!(witness = self.name(), why, "a witness cannot be reached");
                Some(Failed::Silent(why))
            }
            Outcome::NoProof(why) => {
                tracing::warn!(why, "the log cannot prove its own consistency to a witness");
                Some(Failed::Silent(why))
            }
        }
    }

    /// Tells of the witness's silence, unless worse is told of it.
    fn silent(&self, why: &str) {
        self.shared.set(self.number, |status| {
            let tell = !status.state.contradicts() && !matches!(status.state, State::Silent { .. });
            if tell {
                status.state = State::Silent {
                    why: why.to_owned(),
                };
                tracing::warn!(witness = status.name, why, "a witness is silent");
            }
            tell
        });
    }

    fn name(&self) -> String {
        let statuses = self.shared.statuses.borrow();
        statuses
            .get(self.number)
            .map_or_else(String::new, |status| status.name.clone())
    }
}

/// Why a round is not done with.
enum Failed {
    /// The witness contradicts the log.
    Told(State),
    /// No cosignature came.
    Silent(String),
}
