use super::*;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::denial::{CHAIN_START, Selector};
use ticket_format::ids::{DenialDigest, LaunchId, StatementDigest, TicketId};
use ticket_format::keys::{FeedSecret, TlsSecret};
use ticket_format::messages::Answer;
use ticket_format::messages::feed::Epoch;
use ticket_format::sign::Exporter;

struct Rig {
    channel: Channel,
    feed: FeedSecret,
    asked: Asked,
    now: Timestamp,
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
            reports: Vec::new(),
        },
        now: Timestamp::from_seconds(10),
    }
}

fn of(selector: Selector) -> Event {
    let (none, made) = (StatementDigest([0; 32]), Timestamp::from_seconds(1));
    let denial = Denial::new(selector, String::new(), none, made, String::new());
    Event::Denial(denial.to_cbor())
}

fn denial(n: u8) -> Event {
    of(Selector::ticket(TicketId([n; 16])))
}

/// The denial as a broker that has forgotten it tells of it.
fn gone(event: &Event) -> Event {
    let link = Link::of(event).unwrap();
    Event::Gone {
        forget: link.forget,
        denial: link.record,
    }
}

fn chain(count: u8) -> ChainDigest {
    (1..=count).fold(CHAIN_START, |chain, n| {
        Link::of(&denial(n)).unwrap().after(chain)
    })
}

fn news(epochs: std::ops::RangeInclusive<u8>) -> FeedAnswer {
    FeedAnswer {
        nonce: [7; 32],
        epoch: u64::from(*epochs.end()),
        chain: chain(*epochs.end()),
        now: Timestamp::from_seconds(5),
        epochs: epochs
            .map(|n| Epoch {
                number: n.into(),
                event: denial(n),
            })
            .collect(),
        admin_set: 3,
    }
}

impl Rig {
    fn bytes(&self, answer: &FeedAnswer) -> Vec<u8> {
        let body = answer.to_cbor();
        let proof = self
            .channel
            .sign_with(&self.feed, labels::FEED_ANSWER, None, &body);
        Answer::Done {
            verb: Verb::Feed,
            body,
            proof: Some(proof),
        }
        .to_bytes()
    }

    fn accept(&self, bytes: &[u8]) -> Result<News, FeedFault> {
        let key = self.feed.public();
        accept(&self.channel, &key, &self.asked, bytes, self.now)
    }

    fn answer(&self, answer: &FeedAnswer) -> Result<News, FeedFault> {
        self.accept(&self.bytes(answer))
    }
}

#[test]
fn news_that_continue_the_chain_are_believed() {
    // rule: DEN-4
    let rig = rig(1, chain(1));
    let got = rig.answer(&news(2..=4)).unwrap();
    assert_eq!(
        (got.after, got.epoch, got.chain),
        ((1, chain(1)), 4, chain(4))
    );
    let numbers: Vec<_> = got.epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(numbers, [2, 3, 4]);
    assert!(got.whole && got.admin_set == 3);
    let nothing = FeedAnswer {
        epochs: Vec::new(),
        ..news(1..=1)
    };
    assert_eq!(rig.answer(&nothing).unwrap().epochs, []);
}

#[test]
fn an_answer_to_another_nonce_is_worth_nothing() {
    // rule: DEN-4
    let other = FeedAnswer {
        nonce: [8; 32],
        ..news(1..=1)
    };
    assert_eq!(rig(0, CHAIN_START).answer(&other), Err(FeedFault::Nonce));
}

#[test]
fn an_answer_signed_for_another_connection_is_worth_nothing() {
    // rule: DEN-4
    let mut rig = rig(0, CHAIN_START);
    let bytes = rig.bytes(&news(1..=1));
    assert!(rig.accept(&bytes).is_ok());
    rig.channel.exporter = Exporter([2; 32]);
    assert_eq!(rig.accept(&bytes), Err(FeedFault::Proof));
}

#[test]
fn an_epoch_below_the_own_is_a_rollback() {
    // rule: DEN-4
    let rig = rig(3, chain(3));
    for offered in [
        news(1..=2),
        FeedAnswer {
            epochs: Vec::new(),
            ..news(1..=2)
        },
    ] {
        let fault = rig.answer(&offered).unwrap_err();
        let (offered, applied) = (2, 3);
        assert_eq!(fault, FeedFault::Rollback { offered, applied });
        assert!(fault.is_alarming());
    }
}

#[test]
fn a_broker_that_is_behind_raises_the_alarm_here_too() {
    // rule: DEN-4
    let refused = |refusal| {
        let bytes = Answer::from(RefusalNotice::bare(refusal)).to_bytes();
        rig(3, chain(3)).accept(&bytes).unwrap_err().is_alarming()
    };
    assert!(refused(Refusal::Rollback));
    assert!(!refused(Refusal::NotSubscriber) && !refused(Refusal::Busy));
}

#[test]
fn epochs_that_do_not_join_are_refused() {
    // rule: DEN-1, DEN-4
    let rig = rig(1, chain(1));
    let applied = || Err(FeedFault::Chain { applied: 1 });
    let other_digest = FeedAnswer {
        chain: ChainDigest([9; 32]),
        ..news(2..=3)
    };
    let mut another = news(2..=3);
    another.epochs[0].event = denial(9);
    let same_epoch_other_chain = FeedAnswer {
        epochs: vec![],
        chain: ChainDigest([9; 32]),
        ..news(1..=1)
    };
    // A later epoch without those between.
    let leap = FeedAnswer {
        epochs: vec![],
        ..news(1..=4)
    };
    let mut cut = news(2..=4);
    cut.epochs.pop();
    let again = news(1..=3);
    for (what, answer) in [
        ("a skipped epoch", news(3..=4)),
        ("another digest", other_digest),
        ("another denial", another),
        ("a fork at the own epoch", same_epoch_other_chain),
        ("a leap", leap),
        ("the last one missing", cut),
        ("the own epoch once more", again),
    ] {
        assert_eq!(rig.answer(&answer), applied(), "{what}");
    }
    let mut gap = news(2..=4);
    gap.epochs.remove(1);
    assert!(rig.answer(&gap).is_err());
}

#[test]
fn a_denial_is_gone_when_its_time_is_over_on_the_own_clock_and_not_before() {
    // rule: DEN-4, DEN-7
    let mut rig = rig(0, CHAIN_START);
    let mut answer = news(1..=2);
    let forget = Link::of(&denial(1)).unwrap().forget;
    answer.epochs[0].event = gone(&denial(1));
    rig.now = forget.minus(1);
    let early = rig.answer(&answer).unwrap_err();
    assert_eq!(early, FeedFault::Early { epoch: 1, forget });
    assert!(early.is_alarming());
    rig.now = forget;
    let got = rig.answer(&answer).unwrap();
    assert_eq!(got.epochs[0].happened, Happened::Gone);
    assert!(matches!(got.epochs[1].happened, Happened::Denied { .. }));
    // Another forget time is another chain.
    let Event::Gone { denial, .. } = gone(&denial(1)) else {
        panic!()
    };
    answer.epochs[0].event = Event::Gone {
        forget: Timestamp::from_seconds(2),
        denial,
    };
    assert_eq!(rig.answer(&answer), Err(FeedFault::Chain { applied: 0 }));
}

#[test]
fn what_is_kept_for_good_is_never_gone() {
    // rule: DEN-4, DEN-7
    let mut rig = rig(0, CHAIN_START);
    rig.now = Timestamp::LAST;
    let lifting = Event::Lifting(vec![1, 2, 3]);
    for event in [of(Selector::launch(LaunchId([1; 16]))), lifting] {
        let link = Link::of(&event).unwrap();
        let answer = FeedAnswer {
            epochs: vec![Epoch {
                number: 1,
                event: gone(&event),
            }],
            chain: link.after(CHAIN_START),
            ..news(1..=1)
        };
        let fault = rig.answer(&answer).unwrap_err();
        assert!(matches!(fault, FeedFault::Early { epoch: 1, .. }));
    }
    // A lifting binds the last time there is, so it cannot be put in a denial's place.
    let event = Event::Gone {
        forget: Timestamp::from_seconds(1),
        denial: DenialDigest::of(&[1, 2, 3]),
    };
    let link = Link::of(&Event::Lifting(vec![1, 2, 3])).unwrap();
    let answer = FeedAnswer {
        epochs: vec![Epoch { number: 1, event }],
        chain: link.after(CHAIN_START),
        ..news(1..=1)
    };
    assert_eq!(rig.answer(&answer), Err(FeedFault::Chain { applied: 0 }));
}

#[test]
fn a_full_answer_is_not_all_the_news() {
    // rule: DEN-6
    let rig = rig(0, CHAIN_START);
    let many = |count: u64, event: &Event| {
        let link = Link::of(event).unwrap();
        let epochs = (1..=count).map(|number| Epoch {
            number,
            event: event.clone(),
        });
        let answer = FeedAnswer {
            epoch: count,
            chain: (0..count).fold(CHAIN_START, |chain, _| link.after(chain)),
            epochs: epochs.collect(),
            ..news(1..=1)
        };
        rig.answer(&answer).unwrap().whole
    };
    assert!(many(999, &denial(1)));
    assert!(!many(1_000, &denial(1)));
    // By bytes.
    let long = Event::Lifting(vec![0; limits::RECORD]);
    assert!(many(100, &long));
    assert!(!many(125, &long));
}

#[test]
fn a_denial_that_would_be_forgotten_too_early_is_not_believed() {
    // rule: DEN-7
    for selector in [
        Selector::ticket(TicketId([1; 16])),
        Selector::launch(LaunchId([1; 16])),
    ] {
        let rig = rig(0, CHAIN_START);
        let mut denial = Denial::new(
            selector,
            "copied".to_owned(),
            StatementDigest([0; 32]),
            rig.now,
            "operator".to_owned(),
        );
        denial.forget = rig.now;
        let event = Event::Denial(denial.to_cbor());
        let answer = FeedAnswer {
            chain: Link::of(&event).unwrap().after(CHAIN_START),
            epochs: vec![Epoch { number: 1, event }],
            ..news(1..=1)
        };
        let fault = rig.answer(&answer).unwrap_err();
        assert!(
            matches!(fault, FeedFault::Early { epoch: 1, .. }),
            "{fault}"
        );
        assert!(fault.is_alarming());
    }
}
