//! Receipts: what the client checks before it believes that its act stands in the log (RED-5).

use ticket_format::Refusal;
use ticket_format::entry::Kind;
use ticket_format::ids::{ItemDigest, RequestHash, TicketHash};
use ticket_format::messages::Receipt;
use ticket_format::tlog::{Logged, Verifier};

use crate::error::Error;
use crate::logs::LoggedLink;

/// Believes a receipt of a server's log, and compares what identifies the act.
pub(crate) async fn check(
    link: &LoggedLink,
    receipt: &Receipt,
    policy: Option<&Verifier>,
    kind: Kind,
    ticket: TicketHash,
) -> Result<Logged, Error> {
    // rule: TLOG-5
    let logged = link.believe(receipt, policy).await?;
    let entry = &logged.entry;
    // rule: RED-5
    if entry.kind != kind || entry.ticket_hash != Some(ticket) || entry.outcome.is_err() {
        let server = link.link().word();
        return Err(Error::answer(server, "its receipt is of another act"));
    }
    Ok(logged)
}

/// As [`check`], for a batch: the entry must also hold this request, and each item with its verdict.
pub(crate) async fn check_batch(
    link: &LoggedLink,
    receipt: &Receipt,
    policy: Option<&Verifier>,
    (kind, ticket, request): (Kind, TicketHash, RequestHash),
    items: &[(ItemDigest, Option<Refusal>)],
) -> Result<(), Error> {
    let entry = check(link, receipt, policy, kind, ticket).await?.entry;
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
        let server = link.link().word();
        return Err(Error::answer(server, "its receipt is of another request"));
    }
    Ok(())
}
