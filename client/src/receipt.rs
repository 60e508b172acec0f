//! Receipts: what the client checks before it believes that its act stands in the log (RED-5).

use ticket_format::Refusal;
use ticket_format::cbor::Decode;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ItemDigest, RequestHash, TicketHash};
use ticket_format::limits;
use ticket_format::messages::Receipt;

use crate::error::Error;

/// Reads the receipt's entry and compares what identifies the act.
pub(crate) fn check(
    server: &'static str,
    receipt: &Receipt,
    kind: Kind,
    ticket: TicketHash,
) -> Result<Entry, Error> {
    let entry =
        Entry::from_cbor(&receipt.entry, limits::ENTRY).map_err(Error::malformed(server))?;
    // rule: RED-5
    if entry.kind != kind || entry.ticket_hash != Some(ticket) || entry.outcome.is_err() {
        return Err(Error::answer(server, "its receipt is of another act"));
    }
    Ok(entry)
}

/// As [`check`], for a batch: the entry must also hold this request, and each item with its verdict.
pub(crate) fn check_batch(
    server: &'static str,
    receipt: &Receipt,
    kind: Kind,
    ticket: TicketHash,
    request: RequestHash,
    items: &[(ItemDigest, Option<Refusal>)],
) -> Result<(), Error> {
    let entry = check(server, receipt, kind, ticket)?;
    let recorded = entry.items.unwrap_or_default();
    let same = recorded.len() == items.len()
        && recorded
            .iter()
            .zip(items)
            .all(|((digest, outcome), (expected, refusal))| {
                // What was released must be recorded as released; a refusal is recorded as itself.
                digest == expected && outcome.err() == *refusal
            });
    if entry.request != Some(request) || !same {
        return Err(Error::answer(server, "its receipt is of another request"));
    }
    Ok(())
}
