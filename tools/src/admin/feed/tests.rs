use ticket_format::cbor::Encode as _;
use ticket_format::denial::{CHAIN_START, Members, Selector, chain_next};
use ticket_format::ids::TicketId;
use ticket_format::time::Timestamp;

use super::*;

fn body() -> DenyBody {
    let members = Members {
        ticket: Some(TicketId([7; 16])),
        ..Members::default()
    };
    DenyBody {
        selector: Selector::new(members).unwrap(),
        reason: "test".to_owned(),
    }
}

fn denied(statement: StatementDigest) -> Denied {
    let made = Timestamp::from_seconds(1_000);
    let denial = Denial::new(
        body().selector,
        "test".to_owned(),
        statement,
        made,
        "ops".to_owned(),
    );
    let record = denial.to_cbor();
    Denied {
        epoch: 5,
        chain: chain_next(CHAIN_START, denial.forget, &record),
        before: CHAIN_START,
        record,
    }
}

#[test]
fn only_the_very_denial_that_was_signed_is_believed_to_stand() {
    // rule: DEN-10
    let own = StatementDigest([1; 32]);
    assert!(Mark::of(&denied(own), &body(), own).is_ok());
    let refused = |denied: &Denied, body: &DenyBody| {
        Mark::of(denied, body, own).is_err_and(|report| report.exit == exit::INTEGRITY)
    };
    assert!(
        refused(&denied(StatementDigest([2; 32])), &body()),
        "another statement"
    );
    let mut other = body();
    other.selector = Selector::new(Members {
        ticket: Some(TicketId([8; 16])),
        ..Members::default()
    })
    .unwrap();
    assert!(refused(&denied(own), &other), "another selector");
    let mut unlinked = denied(own);
    unlinked.before = ChainDigest([9; 32]);
    assert!(refused(&unlinked, &body()), "not the link at its epoch");
    unlinked.record.clear();
    assert!(refused(&unlinked, &body()), "no denial at all");
}

#[test]
fn the_links_must_lead_from_the_own_denial_to_the_head() {
    // rule: DEN-10
    let own = StatementDigest([1; 32]);
    let mark = Mark::of(&denied(own), &body(), own).unwrap();
    let link = Link {
        forget: Timestamp::LAST,
        record: DenialDigest([3; 32]),
    };
    let view = |epoch, chain, links| FeedView {
        epoch,
        chain,
        subscribers: Vec::new(),
        links,
    };
    let head = link.after(mark.chain);
    let chain = Chain::walk(&mark, &view(6, head, vec![link])).unwrap();
    assert_eq!(
        (chain.at(4), chain.at(5), chain.at(6), chain.at(7)),
        (None, Some(mark.chain), Some(head), None)
    );
    assert!(Chain::walk(&mark, &view(5, mark.chain, Vec::new())).is_ok());
    assert!(
        Chain::walk(&mark, &view(7, head, vec![link])).is_err(),
        "a gap"
    );
    assert!(
        Chain::walk(&mark, &view(6, mark.chain, vec![link])).is_err(),
        "another head"
    );
    assert!(
        Chain::walk(&mark, &view(5, ChainDigest([4; 32]), Vec::new())).is_err(),
        "another chain"
    );
}
