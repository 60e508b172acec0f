//! Before a server serves: does its log hold what its witnesses saw of it? A log that was rolled back with
//! its whole machine cannot know it by itself.

use std::time::Duration;

use ticket_format::tlog::SignedCheckpoint;
use tokio::task::JoinSet;

use super::endpoint::{Caller, Endpoint, EndpointError};
use super::source;
use super::submit::{Correspondent, Outcome};
use crate::AuditLog;

/// What a witness says of a log at its start.
#[derive(Clone, Debug)]
pub enum Compared {
    /// It cosigned the log as it is.
    Fits,
    /// It cosigned a larger tree.
    Ahead {
        /// What it names, in leaves of the open shard.
        size: u64,
        /// A checkpoint beyond this log's, signed by this log's own keys. Without it there is only the
        /// witness's word.
        proof: Option<SignedCheckpoint>,
    },
    /// It cosigned a tree that is not this log's.
    OtherRoot {
        /// A checkpoint signed by this log's own keys that its tree contradicts.
        proof: Option<SignedCheckpoint>,
    },
    /// It answers, but does not follow this log.
    Refuses {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        why: String,
    },
    /// It did not answer in time, or the log could not be read.
    Unreachable {
        /// Why.
        why: String,
    },
}

impl Compared {
    /// Whether the log is not what the witness saw.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::OtherRoot { .. })
    }
}

/// Shows the log's newest checkpoint to every witness at the same time, and says for each, in the order given,
/// whether it fits what the witness cosigned. To be called before the log takes new entries.
///
/// # Errors
/// [`EndpointError`], before any is asked.
// rule: TLOG-10
pub async fn compare_at_start(
    log: &AuditLog,
    witnesses: &[Endpoint],
    timeout: Duration,
) -> Result<Vec<Compared>, EndpointError> {
    Endpoint::check(witnesses)?;
    let mut asked = JoinSet::new();
    for (number, witness) in witnesses.iter().enumerate() {
        let caller = Caller::new(witness.clone())?;
        let log = log.clone();
        asked.spawn(async move {
            let compared = tokio::time::timeout(timeout, ask(&log, caller)).await;
            let late = |_| Compared::Unreachable {
                why: "it did not answer in time".to_owned(),
            };
            (number, compared.unwrap_or_else(late))
        });
    }
    let mut compared: Vec<Compared> = witnesses
        .iter()
        .map(|_| Compared::Unreachable {
            why: "its task ended".to_owned(),
        })
        .collect();
    while let Some(told) = asked.join_next().await {
        if let Ok((number, told)) = told
            && let Some(place) = compared.get_mut(number)
        {
            *place = told;
        }
    }
    Ok(compared)
}

async fn ask(log: &AuditLog, caller: Caller) -> Compared {
    let newest = source::newest(log).borrow().clone();
    // Its own size first: a witness that saw no more than this answers at once.
    let size = newest.checkpoint().size;
    let mut witness = Correspondent::new(caller);
    let outcome = match witness.submit(log, &newest, size).await {
        fits @ (Outcome::Cosigned(_) | Outcome::Newer) => witness.beyond(log).await.unwrap_or(fits),
        other => other,
    };
    match outcome {
        Outcome::Cosigned(lines) => {
            let note = source::hub(log).add(&newest, lines);
            source::publish(log, &note);
            Compared::Fits
        }
        Outcome::Newer => Compared::Fits,
        Outcome::Behind { size, proof } => Compared::Ahead { size, proof },
        Outcome::Forked { proof } => Compared::OtherRoot { proof },
        Outcome::Refused { status, why } => Compared::Refuses { status, why },
        Outcome::Unreachable(why) | Outcome::NoProof(why) => Compared::Unreachable { why },
    }
}
