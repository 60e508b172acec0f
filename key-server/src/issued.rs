//! The receipt of a ticket's issue (PRE-5): who stole the broker's signing key, but not its log, opens
//! nothing.

use std::sync::{Mutex, PoisonError};

use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::PolicyDigest;
use ticket_format::messages::Receipt;
use ticket_format::statement::datasets::policy_digest;
use ticket_format::ticket::{DatasetClaims, Live};
use ticket_format::tlog::{SignedCheckpoint, Unwitnessed, WitnessPolicy};

use crate::broker_log::{Fork, Seen};
use crate::dataset::Dataset;
use crate::refused::Refused;
use crate::state::State;

/// Who must have cosigned before a dataset's keys leave.
#[derive(Debug)]
pub struct Witnesses {
    policy: WitnessPolicy,
    digest: PolicyDigest,
    /// The last checkpoint that satisfied the policy: receipts of one commit share it.
    satisfied: Mutex<Option<SignedCheckpoint>>,
}

impl Witnesses {
    /// By a policy.
    #[must_use]
    pub fn new(policy: WitnessPolicy) -> Self {
        Self {
            digest: policy_digest(policy.as_str()),
            policy,
            satisfied: Mutex::default(),
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &WitnessPolicy {
        &self.policy
    }

    /// Whether the checkpoint, whose own signatures are good, carries the cosignatures.
    ///
    /// # Errors
    /// [`Unwitnessed`].
    pub fn check(&self, checkpoint: &SignedCheckpoint) -> Result<(), Unwitnessed> {
        // rule: PRE-5, TLOG-8
        let known = || {
            self.satisfied
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if known().as_ref().is_some_and(|known| known == checkpoint) {
            return Ok(());
        }
        self.policy.check(checkpoint)?;
        *known() = Some(checkpoint.clone());
        Ok(())
    }
}

/// That a ticket's issue stands in the broker's log, and by which witness policy that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    witnessed: Option<PolicyDigest>,
}

impl Issued {
    /// Whether it was checked by the witnesses that the dataset requires now.
    #[must_use]
    pub fn satisfies(self, dataset: &Dataset) -> bool {
        // rule: TLOG-8
        let required = dataset.witnesses.as_ref();
        required.is_none_or(|required| self.witnessed == Some(required.digest))
    }
}

/// Why a ticket's issue is not shown to stand in the log.
#[derive(Debug)]
pub enum NotIssued {
    /// The request is refused.
    Refused(Refused),
    /// The receipt is good, and shows that the broker's log is not one log.
    Forked(Box<Fork>),
}

impl From<Refused> for NotIssued {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Checks the receipt of a ticket's issue.
///
/// # Errors
/// [`NotIssued`].
pub fn check(
    state: &State,
    ticket: &Live<DatasetClaims>,
    receipt: Option<&Receipt>,
) -> Result<Issued, NotIssued> {
    // rule: TLOG-7
    if state.broker_log.is_forked() {
        return Err(Refused::Forked.into());
    }
    // rule: PRE-5
    let receipt = receipt.ok_or(Refused::NoReceipt)?;
    let logged = state.broker_log.verify(receipt);
    let logged = logged.map_err(|error| Refused::Receipt(Box::new(error)))?;
    if !is_of(&logged.entry, ticket) {
        return Err(Refused::OtherReceipt.into());
    }
    let dataset = state.datasets.get(ticket.claims().dataset);
    let required = dataset
        .as_ref()
        .and_then(|dataset| dataset.witnesses.as_ref());
    if let Some(required) = required {
        let witnessed = required.check(&logged.checkpoint);
        witnessed.map_err(|error| Refused::Receipt(Box::new(error.into())))?;
    }
    match state.broker_log.saw(&logged.checkpoint) {
        Seen::Taken => Ok(Issued {
            witnessed: required.map(|required| required.digest),
        }),
        Seen::Full => Err(Refused::Busy("the broker's log is being compared").into()),
        Seen::Lost => Err(Refused::LostReceipt.into()),
        Seen::Forked(fork) => Err(NotIssued::Forked(fork)),
    }
}

/// Whether an entry is of the issue of this ticket.
fn is_of(entry: &Entry, ticket: &Live<DatasetClaims>) -> bool {
    // rule: PRE-5
    let claims = ticket.claims();
    entry.kind == Kind::Issue
        && entry.outcome.is_ok()
        && entry.ticket == Some(claims.common.id)
        && entry.ticket_hash == Some(ticket.hash())
        && entry.dataset == Some(claims.dataset)
}
