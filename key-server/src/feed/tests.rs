use super::*;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::denial::{CHAIN_START, Selector};
use ticket_format::ids::{LaunchId, StatementDigest};
use ticket_format::keys::{FeedSecret, TlsSecret};
use ticket_format::messages::Answer;
use ticket_format::messages::feed::Numbered;
use ticket_format::sign::Exporter;

struct Rig {
    channel: Channel,
    feed: FeedSecret,
    asked: Asked,
}

fn rig(epoch: u64, chain: ChainDigest) -> Rig {
    let rng = &mut UnwrapErr(SysRng);
    let server = TlsSecret::generate(rng).public();
    let channel = Channel {
        realm: "test".into(),
        server,
        exporter: Exporter([1; 32]),
    };
    Rig {
        channel,
        feed: FeedSecret::generate(rng),
        asked: Asked {
            nonce: [7; 32],
            epoch,
            chain,
        },
    }
}

fn denial(n: u8) -> Vec<u8> {
    let selector = Selector::launch(LaunchId([n; 16]));
    Denial::new(
        selector,
        String::new(),
        StatementDigest([0; 32]),
        Timestamp::from_seconds(1),
    )
    .to_cbor()
}

fn chain(count: u8) -> ChainDigest {
    (1..=count).fold(CHAIN_START, |chain, n| chain_next(chain, &denial(n)))
}

fn news(nonce: [u8; 32], epochs: std::ops::RangeInclusive<u8>, snapshot: bool) -> FeedAnswer {
    let epoch = u64::from(*epochs.end());
    let chain = chain(*epochs.end());
    let denials = epochs
        .map(|n| Numbered {
            epoch: n.into(),
            denial: denial(n),
        })
        .collect();
    FeedAnswer {
        nonce,
        epoch,
        chain,
        now: Timestamp::from_seconds(5),
        snapshot,
        denials,
    }
}

impl Rig {
    fn answer(&self, answer: &FeedAnswer) -> Result<News, FeedFault> {
        let body = answer.to_cbor();
        let proof = self
            .channel
            .sign_with(&self.feed, labels::FEED_ANSWER, None, &body);
        let bytes = Answer::Done {
            verb: Verb::Feed,
            body,
            proof: Some(proof),
        }
        .to_bytes();
        accept(&self.channel, &self.feed.public(), &self.asked, &bytes)
    }
}

#[test]
fn news_that_continue_the_chain_are_believed() {
    let rig = rig(1, chain(1));
    let got = rig.answer(&news([7; 32], 2..=4, false)).unwrap();
    assert_eq!((got.epoch, got.chain, got.denials.len()), (4, chain(4), 3));
    let nothing = FeedAnswer {
        denials: Vec::new(),
        ..news([7; 32], 1..=1, false)
    };
    assert_eq!(rig.answer(&nothing).unwrap().denials, []);
}

#[test]
fn an_answer_to_another_nonce_is_worth_nothing() {
    // rule: DEN-4
    assert_eq!(
        rig(0, CHAIN_START).answer(&news([8; 32], 1..=1, false)),
        Err(FeedFault::Nonce)
    );
}

#[test]
fn an_answer_signed_for_another_connection_is_worth_nothing() {
    // rule: DEN-4
    let mut rig = rig(0, CHAIN_START);
    let body = news([7; 32], 1..=1, false).to_cbor();
    let proof = rig
        .channel
        .sign_with(&rig.feed, labels::FEED_ANSWER, None, &body);
    let bytes = Answer::Done {
        verb: Verb::Feed,
        body,
        proof: Some(proof),
    }
    .to_bytes();
    assert!(accept(&rig.channel, &rig.feed.public(), &rig.asked, &bytes).is_ok());
    rig.channel.exporter = Exporter([2; 32]);
    assert_eq!(
        accept(&rig.channel, &rig.feed.public(), &rig.asked, &bytes),
        Err(FeedFault::Proof)
    );
}

#[test]
fn an_epoch_below_the_own_is_a_rollback() {
    // rule: DEN-4
    let rig = rig(3, chain(3));
    for snapshot in [false, true] {
        let fault = rig.answer(&news([7; 32], 1..=2, snapshot)).unwrap_err();
        assert_eq!(
            fault,
            FeedFault::Rollback {
                offered: 2,
                applied: 3
            }
        );
        assert!(fault.is_alarming());
    }
}

#[test]
fn denials_that_do_not_join_are_refused() {
    // rule: DEN-1, DEN-4
    let rig = rig(1, chain(1));
    let gap = news([7; 32], 3..=4, false);
    let other_digest = FeedAnswer {
        chain: ChainDigest([9; 32]),
        ..news([7; 32], 2..=3, false)
    };
    let mut other_denial = news([7; 32], 2..=3, false);
    other_denial.denials[0].denial = denial(9);
    let same_epoch_other_chain = FeedAnswer {
        denials: vec![],
        chain: ChainDigest([9; 32]),
        ..news([7; 32], 1..=1, true)
    };
    for answer in [gap, other_digest, other_denial, same_epoch_other_chain] {
        assert_eq!(rig.answer(&answer), Err(FeedFault::Chain { applied: 1 }));
    }
}

#[test]
fn a_gap_is_bridged_by_a_snapshot() {
    // rule: DEN-4
    let got = rig(1, chain(1))
        .answer(&news([7; 32], 3..=4, true))
        .unwrap();
    assert!(got.snapshot && got.epoch == 4);
}
