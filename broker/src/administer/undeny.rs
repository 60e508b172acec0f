//! Liftings: the only way in which a denial ends before its time (DEN-9).

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, DenialDigest};
use ticket_format::limits;
use ticket_format::statement::{Audience, Denied, Undeny};

use super::{Done, Opened};
use crate::Refused;
use crate::state::{Changes, FeedHead, Happened, StoredEpoch, keys};

/// Lifts denials, each named by its epoch and digest. `named` are the epochs as they stand, in the body's
/// order.
///
/// # Errors
/// Refusals 74, 76 and 77.
pub fn undeny(
    opened: &Opened,
    body: &Undeny,
    named: Vec<Option<StoredEpoch>>,
    head: FeedHead,
    entry: &Entry,
    mut changes: Changes,
    rng: &mut impl CryptoRng,
) -> Result<Done, Refused> {
    // rule: DEN-9 — every key server verifies the statement itself, so it must be for all of them.
    if opened.statement().audience() != Audience::Everyone {
        let why = "a lifting is for everyone: key servers verify it too";
        return Err(opened.refuse(Refusal::StatementAudience, why));
    }
    let statement = opened.bytes();
    if statement.len() > limits::RECORD {
        let why = "the lifting does not fit in the feed: lift fewer denials at a time";
        return Err(opened.refuse(Refusal::Invalid, why));
    }
    let epochs: Vec<u64> = body.denials.iter().map(|(epoch, _)| *epoch).collect();
    let lifting = StoredEpoch::lifting(head, epochs, statement.to_vec());
    let mut seen = std::collections::BTreeSet::new();
    for ((epoch, digest), stored) in body.denials.iter().zip(named) {
        if !seen.insert(*epoch) {
            let why = format!("epoch {epoch} is named twice");
            return Err(opened.refuse(Refusal::Invalid, why));
        }
        let lifted = lift(opened, *epoch, digest, stored, lifting.number)?;
        changes.put(keys::epoch(*epoch), &lifted);
    }
    let mut record = Entry::new(ActId::random(rng), Kind::Denial, entry.time)
        .epoch(lifting.number)
        .follows(entry.act);
    record.proof = entry.proof;
    changes.record(record);
    let result = Denied {
        epoch: lifting.number,
        chain: lifting.chain,
        before: head.chain,
        record: statement.to_vec(),
    };
    lifting.make(&mut changes);
    Ok(Done::new::<Undeny>(changes, &result))
}

/// The record of a denial that `by` lifts.
fn lift(
    opened: &Opened,
    epoch: u64,
    digest: &DenialDigest,
    stored: Option<StoredEpoch>,
    by: u64,
) -> Result<StoredEpoch, Refused> {
    let refuse = |refusal, why: &str| Err(opened.refuse(refusal, format!("epoch {epoch} {why}")));
    // rule: DEN-9
    let Some(mut stored) = stored else {
        return refuse(Refusal::NotFound, "does not exist");
    };
    match &mut stored.happened {
        Happened::Denied {
            bytes,
            lifted: lifted @ None,
            ..
        } => {
            if DenialDigest::of(bytes) != *digest {
                return refuse(Refusal::Invalid, "is another denial than the one named");
            }
            *lifted = Some(by);
            Ok(stored)
        }
        Happened::Denied { .. } => refuse(Refusal::Invalid, "is lifted already"),
        Happened::Lifted { .. } => refuse(Refusal::Invalid, "is a lifting, not a denial"),
        Happened::TicketKey(_) => refuse(Refusal::Invalid, "is a ticket key, not a denial"),
        Happened::Gone(_) => refuse(
            Refusal::NotFound,
            "is forgotten: it hits no ticket any more",
        ),
    }
}
