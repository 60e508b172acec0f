use super::*;
use crate::cbor::Encode;
use crate::ids::{DatasetId, LaunchId, TicketId};
use crate::messages::mutate::strict;
use crate::messages::samples::{at, node};

fn everything() -> Members {
    Members {
        ticket: Some(TicketId([1; 16])),
        node: Some(node()),
        launch: Some(LaunchId([2; 16])),
        account: Some("123456789012".into()),
        region: Some("eu-west-1".into()),
        image: Some("ami-1".into()),
        dataset: Some(DatasetId([3; 16])),
        issued_before: Some(at(10)),
    }
}

fn denial(members: Members) -> Denial {
    Denial::new(
        Selector::new(members).unwrap(),
        "why".into(),
        StatementDigest([7; 32]),
        at(0),
        "ann".into(),
    )
}

fn facts(node: &crate::ids::NodeId) -> TicketFacts<'_> {
    TicketFacts {
        ticket: Some(TicketId([9; 16])),
        parent: Some(TicketId([1; 16])),
        node,
        launch: LaunchId([2; 16]),
        image: "ami-1",
        dataset: Some(DatasetId([3; 16])),
        issued: at(5),
    }
}

/// One selector for each member, and one of all.
fn selectors() -> Vec<Members> {
    let all = everything();
    let none = Members::default;
    vec![
        Members {
            ticket: all.ticket,
            ..none()
        },
        Members {
            node: all.node.clone(),
            ..none()
        },
        Members {
            launch: all.launch,
            ..none()
        },
        Members {
            account: all.account.clone(),
            ..none()
        },
        Members {
            region: all.region.clone(),
            ..none()
        },
        Members {
            image: all.image.clone(),
            ..none()
        },
        Members {
            dataset: all.dataset,
            ..none()
        },
        Members {
            issued_before: all.issued_before,
            ..none()
        },
        all,
    ]
}

#[test]
fn denials_and_selectors_hold_to_their_shapes() {
    // rule: ENC-3
    strict(&denial(everything()), &[], &[2, 6]);
    let all: Vec<i64> = (1..=8).collect();
    strict(&Selector::new(everything()).unwrap(), &all, &[]);
}

#[test]
fn a_selector_without_members_is_refused() {
    // rule: DEN-2
    assert_eq!(Selector::new(Members::default()), Err(EmptySelector));
    assert!(<Selector as crate::cbor::Decode>::from_cbor(&[0xa0], 8).is_err());
}

#[test]
fn a_ticket_is_hit_by_each_of_its_members_and_by_all_together() {
    // rule: DEN-2
    let node = node();
    for members in selectors() {
        let mut set = DenialSet::new();
        assert_eq!(set.check(&facts(&node)), None);
        set.insert(&denial(members.clone()), 4).unwrap();
        assert_eq!(
            set.check(&facts(&node)),
            Some(Hit { epoch: 4 }),
            "{members:?}"
        );
    }
}

#[test]
fn a_ticket_that_differs_in_one_member_is_not_hit() {
    // rule: DEN-2
    let node = node();
    let other = "ec2/123456789013/eu-west-2/i-0123456789abcdef1"
        .parse()
        .unwrap();
    let mut set = DenialSet::new();
    set.insert(&denial(everything()), 1).unwrap();
    let good = facts(&node);
    for facts in [
        TicketFacts {
            parent: None,
            ..good
        },
        TicketFacts {
            node: &other,
            ..good
        },
        TicketFacts {
            launch: LaunchId([8; 16]),
            ..good
        },
        TicketFacts {
            image: "ami-2",
            ..good
        },
        TicketFacts {
            dataset: None,
            ..good
        },
        TicketFacts {
            dataset: Some(DatasetId([8; 16])),
            ..good
        },
        TicketFacts {
            issued: at(10),
            ..good
        },
    ] {
        assert_eq!(set.check(&facts), None, "{facts:?}");
    }
    assert_eq!(set.check(&good), Some(Hit { epoch: 1 }));
}

#[test]
fn a_node_tickets_id_hits_the_dataset_tickets_issued_on_it() {
    // rule: DEN-2
    let node = node();
    let mut set = DenialSet::new();
    set.insert(
        &denial(Members {
            ticket: Some(TicketId([1; 16])),
            ..Members::default()
        }),
        1,
    )
    .unwrap();
    let good = facts(&node);
    assert!(set.check(&good).is_some());
    assert!(
        set.check(&TicketFacts {
            ticket: good.parent,
            parent: None,
            ..good
        })
        .is_some()
    );
    assert!(
        set.check(&TicketFacts {
            ticket: None,
            parent: None,
            ..good
        })
        .is_none()
    );
}

#[test]
fn of_two_denials_of_one_selector_the_wider_wins_in_either_order() {
    // rule: DEN-2
    let node = node();
    let before = |time| {
        denial(Members {
            node: Some(node.clone()),
            issued_before: time,
            ..Members::default()
        })
    };
    for order in [
        [Some(at(3)), None],
        [None, Some(at(3))],
        [Some(at(3)), Some(at(9))],
        [Some(at(9)), Some(at(3))],
    ] {
        let mut set = DenialSet::new();
        for (epoch, time) in (1..).zip(order) {
            set.insert(&before(time), epoch).unwrap();
        }
        assert_eq!(set.len(), 2);
        let wider = if order[0].is_none() || order[0] == Some(at(9)) {
            1
        } else {
            2
        };
        assert_eq!(
            set.check(&facts(&node)),
            Some(Hit { epoch: wider }),
            "{order:?}"
        );
    }
}

/// One selector, made at two epochs.
fn twice(set: &mut DenialSet, first: Members, second: Members) {
    set.insert(&denial(first), 1).unwrap();
    set.insert(&denial(second), 2).unwrap();
}

#[test]
fn lifting_one_of_two_denials_of_one_selector_leaves_the_other() {
    // rule: DEN-9
    let node = node();
    for members in selectors() {
        for (lifted, left) in [(1, 2), (2, 1)] {
            let mut set = DenialSet::new();
            twice(&mut set, members.clone(), members.clone());
            set.lift(&[lifted]);
            assert_eq!(set.check(&facts(&node)), Some(Hit { epoch: left }));
            set.lift(&[left]);
            assert_eq!(set.check(&facts(&node)), None, "{members:?}");
            // And it can be denied again.
            set.insert(&denial(members.clone()), 3).unwrap();
            assert_eq!(set.check(&facts(&node)), Some(Hit { epoch: 3 }));
        }
    }
}

#[test]
fn lifting_the_wider_of_two_denials_leaves_what_the_narrower_says() {
    // rule: DEN-9
    let node = node();
    let until = |time| Members {
        node: Some(node.clone()),
        issued_before: time,
        ..Members::default()
    };
    for wider in [None, Some(at(9))] {
        let mut set = DenialSet::new();
        twice(&mut set, until(Some(at(3))), until(wider));
        set.lift(&[2]);
        assert_eq!(set.check(&facts(&node)), None, "issued at 5");
        let early = TicketFacts {
            issued: at(2),
            ..facts(&node)
        };
        assert_eq!(set.check(&early), Some(Hit { epoch: 1 }));
    }
}

#[test]
fn lifting_what_is_not_there_lifts_nothing() {
    // rule: DEN-9
    let node = node();
    let mut set = DenialSet::new();
    for (epoch, members) in (1..).zip(selectors()) {
        set.insert(&denial(members), epoch).unwrap();
    }
    let copy = set.clone();
    set.lift(&[0, 17, u64::MAX]);
    assert!(set.check(&facts(&node)).is_some());
    set.lift(&(1..=9).collect::<Vec<_>>());
    assert_eq!(set.check(&facts(&node)), None);
    // A copy that was made before knows nothing of it.
    assert!(copy.check(&facts(&node)).is_some());
}

#[test]
fn a_denial_is_forgotten_when_no_ticket_is_left_that_it_could_hit_and_not_before() {
    // rule: DEN-7
    let node = node();
    let forget = at(limits::LONGEST_TICKET_LIFE + limits::SKEW);
    for members in selectors() {
        let made = denial(members.clone());
        let forgotten = members.ticket.is_some() || members.issued_before.is_some();
        let expected = if forgotten { forget } else { Timestamp::LAST };
        assert_eq!(made.forget, expected, "{members:?}");
        let mut set = DenialSet::new();
        set.insert(&made, 4).unwrap();
        set.prune(forget.minus(1));
        assert_eq!(set.check(&facts(&node)), Some(Hit { epoch: 4 }));
        set.prune(forget);
        assert_eq!(set.check(&facts(&node)).is_none(), forgotten, "{members:?}");
        // What hits tickets that are not issued yet is kept for good.
        set.prune(Timestamp::LAST);
        assert_eq!(set.check(&facts(&node)).is_none(), forgotten, "{members:?}");
    }
}

#[test]
fn the_chain_depends_on_every_record_its_forget_time_and_their_order() {
    // rule: DEN-1
    let (a, b) = (
        denial(everything()).to_cbor(),
        denial(selectors().remove(0)).to_cbor(),
    );
    let chain = |denials: &[(u64, &Vec<u8>)]| {
        denials.iter().fold(CHAIN_START, |chain, (forget, denial)| {
            chain_next(chain, at(*forget), denial)
        })
    };
    assert_ne!(chain(&[(1, &a), (1, &b)]), chain(&[(1, &b), (1, &a)]));
    assert_ne!(chain(&[(1, &a)]), chain(&[(1, &a), (1, &a)]));
    assert_ne!(chain(&[(1, &a)]), chain(&[(1, &b)]));
    assert_ne!(chain(&[(1, &a)]), chain(&[(2, &a)]));
}

#[test]
fn an_epoch_has_one_link_whether_it_is_kept_whole_or_gone() {
    // rule: DEN-1, DEN-4
    let denial = denial(everything());
    let bytes = denial.to_cbor();
    let gone = Event::Gone {
        forget: denial.forget,
        denial: DenialDigest::of(&bytes),
    };
    let link = Link::of(&gone).unwrap();
    assert_eq!(Link::of(&Event::Denial(bytes.clone())), Ok(link));
    assert_eq!(
        link.after(CHAIN_START),
        chain_next(CHAIN_START, denial.forget, &bytes)
    );
    let lifting = Link::of(&Event::Lifting(bytes.clone())).unwrap();
    assert_eq!(lifting.forget, Timestamp::LAST);
    assert!(Link::of(&Event::Denial(vec![0xa0])).is_err());
}
