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
        under(place) == kek.filter(|_| done)
    });
    let versions = versions && (entry.keks.is_none() || !expected.under.is_empty());
    let wraps = entry.kek.is_none() || expected.kind != Kind::Redeem;
    let current = wraps && expected.current.iter().all(|kek| entry.kek == Some(*kek));
    // rule: REW-1, REW-2
    let moved = entry.moved.as_deref().unwrap_or_default() == expected.moved;
    let confirmed = entry.confirmed.as_deref().unwrap_or_default() == expected.confirmed;
    entry.request == Some(expected.request) && items && versions && current && moved && confirmed
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::ids::ActId;
    use ticket_format::time::Timestamp;

    const OLD: KekId = KekId([1; 16]);
    const NEW: KekId = KekId([2; 16]);

    fn digest(n: u8) -> ItemDigest {
        ItemDigest([n; 32])
    }

    fn expected() -> Expected {
        Expected {
            kind: Kind::Rewrap,
            ticket: TicketHash([3; 32]),
            request: RequestHash([4; 32]),
            items: vec![(digest(1), None), (digest(2), Some(Refusal::Context))],
            under: vec![Some(OLD), Some(OLD)],
            moved: vec![digest(11)],
            current: vec![NEW],
            confirmed: vec![digest(21)],
        }
    }

    fn entry() -> Entry {
        let items = vec![(digest(1), Ok(())), (digest(2), Err(Refusal::Context))];
        Entry::new(ActId([0; 16]), Kind::Rewrap, Timestamp::default())
            .request(RequestHash([4; 32]))
            .items(items)
            .kek(NEW)
            .keks(vec![OLD], vec![0, u8::MAX])
            .moved(vec![digest(11)])
            .confirmed(vec![digest(21)])
    }

    type Lie = (&'static str, fn(&mut Entry));

    #[test]
    fn an_entry_that_says_other_than_the_answer_is_refused_whatever_it_is() {
        // rule: RED-5, REW-1, REW-2, INV-1
        assert!(says(&entry(), &expected()));
        let lies: [Lie; 12] = [
            ("another request", |entry| {
                entry.request = Some(RequestHash([5; 32]))
            }),
            ("another item", |entry| {
                entry.items.as_mut().unwrap()[0].0 = digest(9)
            }),
            ("an item fewer", |entry| {
                entry.items.as_mut().unwrap().pop();
            }),
            ("another verdict", |entry| {
                entry.items.as_mut().unwrap()[0].1 = Err(Refusal::Context);
            }),
            ("another old version", |entry| entry.keks = Some(vec![NEW])),
            ("no old version", |entry| {
                entry.kek_of = Some(vec![u8::MAX; 2])
            }),
            ("a version of an item that was refused", |entry| {
                entry.kek_of = Some(vec![0, 0])
            }),
            ("another new version", |entry| entry.kek = Some(OLD)),
            ("another new wrap", |entry| {
                entry.moved = Some(vec![digest(12)])
            }),
            ("no new wrap", |entry| entry.moved = None),
            ("another in place", |entry| {
                entry.confirmed = Some(vec![digest(22)])
            }),
            ("one more in place", |entry| {
                entry.confirmed = Some(vec![digest(21), digest(22)]);
            }),
        ];
        for (what, lie) in lies {
            let mut entry = entry();
            lie(&mut entry);
            assert!(!says(&entry, &expected()), "{what}");
        }
    }

    #[test]
    fn an_entry_that_names_versions_which_nothing_was_under_is_refused() {
        // rule: INV-1, RED-5
        let of = |kind| Expected {
            kind,
            moved: Vec::new(),
            current: Vec::new(),
            confirmed: Vec::new(),
            ..expected()
        };
        let redeem = of(Kind::Redeem);
        let generate = Expected {
            under: Vec::new(),
            current: vec![NEW],
            ..of(Kind::Generate)
        };
        let (mut opened, mut made) = (entry(), entry());
        (opened.kind, made.kind) = (Kind::Redeem, Kind::Generate);
        (opened.moved, opened.confirmed, opened.kek) = (None, None, None);
        (made.moved, made.confirmed) = (None, None);
        (made.keks, made.kek_of) = (None, None);
        assert!(says(&opened, &redeem) && says(&made, &generate));
        opened.kek = Some(NEW);
        assert!(!says(&opened, &redeem), "a redeem made nothing");
        made = made.keks(vec![OLD], vec![0, u8::MAX]);
        assert!(!says(&made, &generate), "a generate opened nothing");
    }
}
