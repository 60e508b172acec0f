//! The ticket-signing key, replaced (KEY-1).

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::statement::{Audience, Nothing, TicketKeySet};
use ticket_format::ticket::{RETIRED, TicketKeyRefusal};
use ticket_format::time::Timestamp;

use super::{Done, Opened};
use crate::Refused;
use crate::state::{Changes, FeedHead, StoredEpoch, keys};
use crate::tickets::{Bounds, TicketRing};

/// Takes the record of the next key: it stands in the store and in the feed with one commit.
///
/// # Errors
/// Refusals 74, 76, 77 and 79.
#[allow(clippy::too_many_arguments)] // one call, from the one place that has them all
pub fn set(
    opened: &Opened,
    body: &TicketKeySet,
    ring: &TicketRing,
    bounds: &Bounds,
    head: FeedHead,
    entry: &Entry,
    mut changes: Changes,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<Done, Refused> {
    // rule: KEY-1 — key servers and nodes verify the statement themselves.
    if opened.statement().audience() != Audience::Everyone {
        let why = "a ticket key's record is for everyone: key servers and nodes verify it too";
        return Err(opened.refuse(Refusal::StatementAudience, why));
    }
    let statement = opened.bytes();
    if statement.len() > limits::RECORD {
        let why = "the record does not fit in the feed";
        return Err(opened.refuse(Refusal::Invalid, why));
    }
    ring.keys().succeeds(body).map_err(|error| {
        let refusal = match error {
            TicketKeyRefusal::Follows(_) => Refusal::Stale,
            _ => Refusal::Invalid,
        };
        opened.refuse(refusal, error)
    })?;
    // rule: KEY-1 — a chain has so many keys: one that still counts would go.
    let keys = ring.keys();
    let full = keys.retired().len() >= RETIRED;
    if full
        && keys
            .retired()
            .first()
            .is_some_and(|oldest| now < oldest.until)
    {
        let why =
            format!("{RETIRED} keys before the newest still count: wait until the oldest is over");
        return Err(opened.refuse(Refusal::Busy, why));
    }
    if !ring.holds(&body.key) {
        let why = "this broker has made no such key: have it make one first";
        return Err(opened.refuse(Refusal::NotFound, why));
    }
    let held = bounds.check(body, now);
    held.map_err(|why| opened.refuse(Refusal::Invalid, why))?;
    let epoch = StoredEpoch::ticket_key(head, statement.to_vec());
    let mut record = Entry::new(ActId::random(rng), Kind::Denial, entry.time)
        .epoch(epoch.number)
        .follows(entry.act);
    record.proof = entry.proof;
    changes.record(record);
    changes
        .puts
        .push((keys::ticket_key(body.number), statement.to_vec()));
    epoch.make(&mut changes);
    Ok(Done::new::<TicketKeySet>(changes, &Nothing {}))
}
