//! Receipts: what the client checks before it believes that its act stands in the log (RED-5).

use ticket_format::Refusal;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ItemDigest, KekId, RequestHash, TicketHash};
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

/// What the entry of a batch must say.
pub(crate) struct Expected {
    pub(crate) kind: Kind,
    pub(crate) ticket: TicketHash,
    pub(crate) request: RequestHash,
    /// Each item, and what it was refused with.
    pub(crate) items: Vec<(ItemDigest, Option<Refusal>)>,
    /// Under which KEK version each wrap is that was brought; empty where none was (INV-1).
    pub(crate) under: Vec<Option<KekId>>,
    /// The new wraps of a rewrap, and how those that were made are named (REW-1).
    pub(crate) moved: Vec<ItemDigest>,
    /// The KEK versions that new wraps are under.
    pub(crate) current: Vec<KekId>,
    /// What was confirmed (REW-2).
    pub(crate) confirmed: Vec<ItemDigest>,
}

/// As [`check`], for a batch: the entry must also hold this request, and each item with its verdict, KEK
/// version and new wrap.
pub(crate) async fn check_batch(
    link: &LoggedLink,
    receipt: &Receipt,
    policy: Option<&Verifier>,
    expected: &Expected,
) -> Result<(), Error> {
    let entry = check(link, receipt, policy, expected.kind, expected.ticket).await?;
    if says(&entry.entry, expected) {
        return Ok(());
    }
    let server = link.link().word();
    Err(Error::answer(server, "its receipt is of another request"))
}

fn says(entry: &Entry, expected: &Expected) -> bool {
    let recorded = entry.items.as_deref().unwrap_or_default();
    let items = recorded.len() == expected.items.len()
        && recorded
            .iter()
            .zip(&expected.items)
            .all(|((digest, outcome), (expected, refusal))| {
                // What was released must be recorded as released; a refusal is recorded as itself.
                digest == expected && outcome.err() == *refusal
            });
    // rule: INV-1
    let under = |place: usize| {
        let at = *entry.kek_of.as_ref()?.get(place)?;
        entry.keks.as_ref()?.get(usize::from(at)).copied()
    };
    let versions = expected.under.iter().enumerate().all(|(place, kek)| {
        let done = expected
            .items
            .get(place)
            .is_some_and(|(_, refusal)| refusal.is_none());
        !done || under(place) == *kek
    });
    let current = expected.current.iter().all(|kek| entry.kek == Some(*kek));
    // rule: REW-1, REW-2
    let moved = entry.moved.as_deref().unwrap_or_default() == expected.moved;
    let confirmed = entry.confirmed.as_deref().unwrap_or_default() == expected.confirmed;
    entry.request == Some(expected.request) && items && versions && current && moved && confirmed
}
