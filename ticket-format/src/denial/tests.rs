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
    strict(&denial(everything()), &[], &[2]);
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
        assert_eq!(set.len(), 1);
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

#[test]
fn a_denial_is_forgotten_when_no_ticket_is_left_that_it_could_hit_and_not_before() {
    // rule: DEN-7
    let node = node();
    let mut set = DenialSet::new();
    let mut late = denial(Members {
        launch: Some(LaunchId([8; 16])),
        ..Members::default()
    });
    late.forget = at(1_000_000);
    for (epoch, denial) in (1..).zip(selectors().into_iter().map(denial).chain([late.clone()])) {
        set.insert(&denial, epoch).unwrap();
    }
    let forget = at(limits::LONGEST_TICKET_LIFE + limits::SKEW);
    set.prune(forget.minus(1));
    assert_eq!(set.len(), 10);
    set.prune(forget);
    assert_eq!(set.len(), 1);
    assert_eq!(set.check(&facts(&node)), None);
    assert_eq!(
        set.check(&TicketFacts {
            launch: LaunchId([8; 16]),
            ..facts(&node)
        }),
        Some(Hit { epoch: 10 })
    );
}

#[test]
fn the_chain_depends_on_every_denial_and_their_order() {
    // rule: DEN-1
    let (a, b) = (
        denial(everything()).to_cbor(),
        denial(selectors().remove(0)).to_cbor(),
    );
    let chain = |denials: &[&Vec<u8>]| {
        denials
            .iter()
            .fold(CHAIN_START, |chain, denial| chain_next(chain, denial))
    };
    assert_ne!(chain(&[&a, &b]), chain(&[&b, &a]));
    assert_ne!(chain(&[&a]), chain(&[&a, &a]));
    assert_ne!(chain(&[&a]), chain(&[&b]));
}
