//! Denials by admins.

use rand_core::CryptoRng;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::denial::Denial;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::ActId;
use ticket_format::limits;
use ticket_format::statement::{Denied, DenyBody};

use super::{Done, Opened};
use crate::Refused;
use crate::state::{Changes, FeedHead, StoredEpoch};

/// Makes a denial.
///
/// # Errors
/// Refusal 77.
pub fn deny(
    opened: &Opened,
    body: DenyBody,
    head: FeedHead,
    entry: &Entry,
    mut changes: Changes,
    rng: &mut impl CryptoRng,
) -> Result<Done, Refused> {
    let now = entry.time;
    // rule: DEN-7
    if body
        .selector
        .members()
        .issued_before
        .is_some_and(|time| time > now.plus(limits::SKEW))
    {
        let why = "issued-before lies in the future: such a denial would be forgotten before the tickets that it hits expire";
        return Err(opened.refuse(Refusal::Invalid, why));
    }
    let denial = Denial::new(
        body.selector,
        body.reason,
        opened.statement().digest(),
        now,
        opened.admin(),
    );
    let result = make(denial, head, entry, &mut changes, rng);
    Ok(Done::new::<DenyBody>(changes, &result))
}

/// Adds a denial and its entry to what an act changes.
pub(super) fn make(
    denial: Denial,
    head: FeedHead,
    entry: &Entry,
    changes: &mut Changes,
    rng: &mut impl CryptoRng,
) -> Denied {
    let members = denial.selector.members();
    let mut record = Entry::new(ActId::random(rng), Kind::Denial, entry.time).follows(entry.act);
    record.subject = members.node.as_ref().map(ToString::to_string);
    record.launch = members.launch;
    record.dataset = members.dataset;
    record.ticket = members.ticket;
    record.proof = entry.proof;
    let bytes = denial.to_cbor();
    let epoch = StoredEpoch::denial(head, denial);
    changes.record(record.epoch(epoch.number));
    let result = Denied {
        epoch: epoch.number,
        chain: epoch.chain,
        before: head.chain,
        record: bytes,
    };
    epoch.make(changes);
    result
}
