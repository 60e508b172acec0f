use ticket_format::cbor::Encode as _;
use ticket_format::denial::{CHAIN_START, Members, Selector, chain_next};
use ticket_format::ids::TicketId;
use ticket_format::keys::{FeedSecret, ServerSecret, TicketSecret, TlsSecret};
use ticket_format::labels;
use ticket_format::messages::feed::FeedBody;
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{Acknowledgement, Subscriber};
use ticket_format::tlog::LogSecret;

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

/// When the statement was signed: by the broker's clock a little later.
fn signed() -> Timestamp {
    Timestamp::from_seconds(1_050)
}

fn denied(statement: StatementDigest) -> Denied {
    linked(&denial(statement))
}

fn denial(statement: StatementDigest) -> Denial {
    Denial::new(
        body().selector,
        "test".to_owned(),
        statement,
        Timestamp::from_seconds(1_000),
        "ops".to_owned(),
    )
}

fn linked(denial: &Denial) -> Denied {
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
    assert!(Mark::of(&denied(own), &body(), own, signed()).is_ok());
    let refused = |denied: &Denied, body: &DenyBody| {
        Mark::of(denied, body, own, signed()).is_err_and(|report| report.exit == exit::INTEGRITY)
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
    // rule: DEN-7
    let mut forgotten = denial(own);
    forgotten.forget = Timestamp::from_seconds(0);
    assert!(refused(&linked(&forgotten), &body()), "forgotten at once");
    let mut old = Denial::new(
        body().selector,
        "test".to_owned(),
        own,
        Timestamp::from_seconds(0),
        "ops".to_owned(),
    );
    assert!(
        refused(&linked(&old), &body()),
        "made long before it was signed"
    );
    old.made = Timestamp::from_seconds(1_000);
    assert!(
        refused(&linked(&old), &body()),
        "kept for less than it must be"
    );
}

#[test]
fn the_links_must_lead_from_the_own_denial_to_the_head() {
    // rule: DEN-10
    let own = StatementDigest([1; 32]);
    let mark = Mark::of(&denied(own), &body(), own, signed()).unwrap();
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

fn broker() -> BrokerKeys {
    let origin = "example/broker/00".parse().unwrap();
    let log = LogSecret::from_seeds(origin, &[5; 32], &[6; 32]).unwrap();
    BrokerKeys {
        realm: "example".to_owned(),
        addresses: vec!["broker:1".to_owned()],
        tls_key: TlsSecret::from_seed(&[1; 32]).public(),
        ticket_key: TicketSecret::from_seed(&[2; 32]).public(),
        feed_key: FeedSecret::from_seed(&[3; 32]).public(),
        log_key: log.key().clone(),
    }
}

/// What a broker shows of a subscriber that acknowledged this epoch, by this key's signature.
fn shown(signer: u8, epoch: u64, chain: ChainDigest) -> FeedView {
    let key = ServerSecret::from_seed(&[4; 32]).public();
    let exporter = Exporter([6; 32]);
    let body = FeedBody {
        subscriber: key,
        nonce: [0; 32],
        epoch,
        chain,
        hold_ms: 0,
        reports: Vec::new(),
    }
    .to_cbor();
    let channel = Channel {
        realm: "example".to_owned(),
        server: broker().tls_key,
        exporter,
    };
    let secret = ServerSecret::from_seed(&[signer; 32]);
    let proof = channel.sign_with(&secret, labels::FEED_REQUEST, None, &body);
    FeedView {
        epoch: 5,
        chain: ChainDigest([7; 32]),
        subscribers: vec![Subscriber {
            key,
            datasets: Vec::new(),
            lease: 5,
            last: Some(Acknowledgement {
                body,
                exporter,
                proof,
            }),
            silent_ms: Some(1),
            lease_ms: Some(1),
            applied_ms: Some(1),
        }],
        links: Vec::new(),
    }
}

#[test]
fn only_the_subscribers_own_signature_over_this_chain_proves_that_it_applied() {
    // rule: DEN-10
    let own = StatementDigest([1; 32]);
    let mark = Mark::of(&denied(own), &body(), own, signed()).unwrap();
    let chain = Chain {
        from: mark.epoch,
        digests: vec![mark.chain],
    };
    let expected = Expected {
        key: ServerSecret::from_seed(&[4; 32]).public(),
        name: "key-server:1".to_owned(),
        datasets: vec!["faces".to_owned()],
        lease: 5,
    };
    let said = |view: &FeedView| proof(view, &expected, "example", &broker(), &chain);
    assert!(matches!(said(&shown(4, 5, mark.chain)), Ok(Proof::Applied)));
    assert!(
        matches!(said(&shown(4, 4, CHAIN_START)), Ok(Proof::Not(_))),
        "an epoch before it"
    );
    assert!(said(&shown(8, 5, mark.chain)).is_err(), "signed by another");
    assert!(
        said(&shown(4, 5, ChainDigest([9; 32]))).is_err(),
        "another chain"
    );
    let mut unheard = shown(4, 5, mark.chain);
    unheard.subscribers[0].last = None;
    assert!(matches!(said(&unheard), Ok(Proof::Not(_))));
    unheard.subscribers.clear();
    assert!(matches!(said(&unheard), Ok(Proof::Not(_))));
}
