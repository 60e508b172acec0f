use proptest::prelude::*;

use super::*;
use crate::cbor::{Decode as _, Encode as _};
use crate::denial::{Members, Selector};
use crate::ids::StatementDigest;

/// Few values of each member, so that random selectors and tickets meet.
fn node(which: u8) -> NodeId {
    let (account, region, instance) = match which {
        0 => ("123456789012", "eu-west-1", "i-00000000"),
        1 => ("123456789012", "eu-west-1", "i-00000001"),
        _ => ("123456789013", "eu-west-2", "i-00000000"),
    };
    NodeId::new(account, region, instance).unwrap()
}

fn image(which: u8) -> &'static str {
    ["ami-0", "ami-1", "ami-2"][usize::from(which) % 3]
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn denial(members: Members, forget: Timestamp) -> Denial {
    Denial {
        forget,
        ..Denial::new(
            Selector::new(members).unwrap(),
            String::new(),
            StatementDigest([0; 32]),
            at(0),
            String::new(),
        )
    }
}

/// What a ticket has of each member, by the few values above.
#[derive(Clone, Copy, Debug)]
struct Facts {
    ticket: Option<u8>,
    parent: Option<u8>,
    node: u8,
    launch: u8,
    image: u8,
    dataset: Option<u8>,
    issued: u64,
}

impl Facts {
    fn with<T>(self, then: impl FnOnce(&TicketFacts<'_>) -> T) -> T {
        then(&TicketFacts {
            ticket: self.ticket.map(|id| TicketId([id; 16])),
            parent: self.parent.map(|id| TicketId([id; 16])),
            node: &node(self.node),
            launch: LaunchId([self.launch; 16]),
            image: image(self.image),
            dataset: self.dataset.map(|id| DatasetId([id; 16])),
            issued: at(self.issued),
        })
    }
}

/// DEN-2, word by word, of one selector.
fn meets(members: &Members, facts: &TicketFacts<'_>) -> bool {
    fn is<T: PartialEq>(wanted: Option<&T>, has: &T) -> bool {
        wanted.is_none_or(|wanted| wanted == has)
    }
    let ticket = members.ticket.is_none()
        || members.ticket == facts.ticket
        || members.ticket == facts.parent;
    ticket
        && is(members.node.as_ref(), facts.node)
        && is(members.launch.as_ref(), &facts.launch)
        && is(members.account.as_ref(), &facts.node.account().to_owned())
        && is(members.region.as_ref(), &facts.node.region().to_owned())
        && is(members.image.as_ref(), &facts.image.to_owned())
        && (members.dataset.is_none() || members.dataset == facts.dataset)
        && members
            .issued_before
            .is_none_or(|before| facts.issued < before)
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Members, u64),
    /// The denial at this place of the list, and one that is not there.
    Lift(usize),
    Prune(u64),
    Check(Facts),
    /// Goes on with a clone; the one before must stay as it is.
    Clone,
}

fn members() -> impl Strategy<Value = Members> {
    let few = || proptest::option::weighted(0.3, 0..3_u8);
    (
        few(),
        few(),
        few(),
        few(),
        few(),
        few(),
        few(),
        proptest::option::of(0..6_u64),
    )
        .prop_map(
            |(ticket, owner, launch, account, region, picture, dataset, before)| Members {
                ticket: ticket.map(|id| TicketId([id; 16])),
                node: owner.map(node),
                launch: launch.map(|id| LaunchId([id; 16])),
                account: account.map(|of| node(of).account().to_owned()),
                region: region.map(|of| node(of).region().to_owned()),
                image: picture.map(|which| image(which).to_owned()),
                dataset: dataset.map(|id| DatasetId([id; 16])),
                issued_before: before.map(at),
            },
        )
        .prop_filter("one member at least", |members| {
            *members != Members::default()
        })
}

fn facts() -> impl Strategy<Value = Facts> {
    let maybe = || proptest::option::of(0..3_u8);
    (
        maybe(),
        maybe(),
        0..3_u8,
        0..3_u8,
        0..3_u8,
        maybe(),
        0..6_u64,
    )
        .prop_map(
            |(ticket, parent, node, launch, image, dataset, issued)| Facts {
                ticket,
                parent,
                node,
                launch,
                image,
                dataset,
                issued,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (members(), prop_oneof![0..20_u64, Just(u64::MAX)])
            .prop_map(|(members, forget)| Step::Insert(members, forget)),
        2 => (0..64_usize).prop_map(Step::Lift),
        1 => (0..20_u64).prop_map(Step::Prune),
        8 => facts().prop_map(Step::Check),
        1 => Just(Step::Clone),
    ]
}

type Naive = Vec<(Denial, u64)>;

fn same(set: &DenialSet, naive: &Naive, facts: Facts) -> Result<(), TestCaseError> {
    facts.with(|facts| {
        let hit = set.check(facts);
        let hits: Vec<u64> = naive
            .iter()
            .filter(|(denial, _)| meets(denial.selector.members(), facts))
            .map(|(_, epoch)| *epoch)
            .collect();
        prop_assert_eq!(hit.is_some(), !hits.is_empty());
        prop_assert!(hit.is_none_or(|hit| hits.contains(&hit.epoch)));
        prop_assert_eq!(set.len(), naive.len());
        prop_assert_eq!(set.is_empty(), naive.is_empty());
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_set_answers_as_a_list_of_denials_read_from_end_to_end(
        steps in proptest::collection::vec(step(), 1..120),
        seed: [u8; 16],
    ) {
        // rule: DEN-2
        // rule: DEN-7
        // rule: DEN-9
        let (mut set, mut naive) = (DenialSet::seeded(&seed), Naive::new());
        let mut before: Vec<(DenialSet, Naive)> = Vec::new();
        let mut asked = Vec::new();
        for (epoch, step) in (1..).zip(steps) {
            match step {
                Step::Insert(members, forget) => {
                    let denial = denial(members, at(forget));
                    set.insert(&denial, epoch).unwrap();
                    naive.push((denial, epoch));
                }
                Step::Lift(place) => {
                    let lifted = naive.get(place).map_or(0, |(_, epoch)| *epoch);
                    set.lift(&[lifted, u64::MAX]);
                    naive.retain(|(_, epoch)| *epoch != lifted);
                }
                Step::Prune(now) => {
                    set.prune(at(now));
                    naive.retain(|(denial, _)| denial.forget > at(now));
                }
                Step::Check(facts) => {
                    asked.push(facts);
                    same(&set, &naive, facts)?;
                }
                Step::Clone => before.push((set.clone(), naive.clone())),
            }
        }
        // Read again from the store, it is the same set.
        let mut loader = Loader::new(&seed);
        for (denial, epoch) in &naive {
            loader.insert(denial, *epoch).unwrap();
            // As it is stored, and a second time.
            loader.read(&denial.to_cbor(), *epoch).unwrap();
        }
        before.push((loader.finish(), naive.clone()));
        before.push((set, naive));
        for ((set, naive), facts) in before.iter().flat_map(|pair| asked.iter().map(move |facts| (pair, facts))) {
            same(set, naive, *facts)?;
        }
    }
}

/// A node of many.
fn instance(number: u64) -> NodeId {
    let instance = format!("i-{number:017x}");
    NodeId::new("123456789012", "eu-west-1", &instance).unwrap()
}

fn of_node(number: u64) -> Denial {
    let members = Members {
        node: Some(instance(number)),
        ..Members::default()
    };
    denial(members, at(1_000 + number))
}

fn hit(set: &DenialSet, number: u64) -> Option<u64> {
    let facts = TicketFacts {
        ticket: None,
        parent: None,
        node: &instance(number),
        launch: LaunchId([0; 16]),
        image: "ami-0",
        dataset: None,
        issued: at(0),
    };
    set.check(&facts).map(|hit| hit.epoch)
}

#[test]
fn of_many_denials_each_is_found_and_goes_alone() {
    // rule: DEN-9
    let count = 40_000;
    let mut set = DenialSet::new();
    for number in 0..count {
        set.insert(&of_node(number), number).unwrap();
    }
    assert_eq!(set.len(), 40_000);
    assert!((0..count).all(|number| hit(&set, number) == Some(number)));
    assert!((count..count + 10_000).all(|number| hit(&set, number).is_none()));
    let whole = set.clone();
    set.lift(&[7, 20_000, count + 5]);
    assert_eq!(set.len(), 39_998);
    assert!((0..count).all(|number| hit(&set, number).is_none() == [7, 20_000].contains(&number)));
    // What is forgotten first, the first tenth, goes alone.
    set.prune(at(1_000 + 3_999));
    assert_eq!(set.len(), 36_000 - 1);
    assert_eq!(hit(&set, 3_999), None);
    assert_eq!(hit(&set, 4_000), Some(4_000));
    assert_eq!(whole.len(), 40_000);
    assert!((0..count).all(|number| hit(&whole, number) == Some(number)));
    set.prune(at(1_000 + count));
    assert!(set.is_empty());
}

#[test]
fn a_denial_that_is_lifted_leaves_another_by_the_same_selector_in_force() {
    // rule: DEN-9
    let mut set = DenialSet::new();
    let (twice, other) = (of_node(1), of_node(2));
    for (epoch, denial) in [(1, &twice), (2, &twice), (3, &other)] {
        set.insert(denial, epoch).unwrap();
        // Read again after a crash, it is still one.
        set.insert(denial, epoch).unwrap();
    }
    assert_eq!((set.len(), hit(&set, 1)), (3, Some(1)));
    set.lift(&[1]);
    assert_eq!(
        (set.len(), hit(&set, 1), hit(&set, 2)),
        (2, Some(2), Some(3))
    );
    set.lift(&[2]);
    assert_eq!((set.len(), hit(&set, 1), hit(&set, 2)), (1, None, Some(3)));
}

#[test]
fn a_name_that_is_longer_than_the_wire_has_is_hit_too() {
    // rule: DEN-2
    let (long, longer) = ("x".repeat(100), "x".repeat(101));
    let mut set = DenialSet::new();
    let members = Members {
        image: Some(long.clone()),
        ..Members::default()
    };
    set.insert(&denial(members, at(1)), 1).unwrap();
    let check = |image| {
        let facts = TicketFacts {
            ticket: None,
            parent: None,
            node: &instance(1),
            launch: LaunchId([0; 16]),
            image,
            dataset: None,
            issued: at(0),
        };
        set.check(&facts)
    };
    assert_eq!(check(&long), Some(Hit { epoch: 1 }));
    assert_eq!(check(&longer), None);
}

#[test]
fn an_epoch_that_cannot_be_held_is_refused_and_changes_nothing() {
    let mut set = DenialSet::new();
    assert_eq!(set.insert(&of_node(1), 1 << 45), Err(TooMany));
    assert!(set.is_empty());
    set.insert(&of_node(1), (1 << 45) - 1).unwrap();
    assert_eq!(hit(&set, 1), Some((1 << 45) - 1));
}

#[test]
fn what_is_kept_for_good_outlives_the_last_time() {
    // rule: DEN-7
    let mut set = DenialSet::new();
    let mut denial = of_node(1);
    denial.forget = Timestamp::LAST;
    set.insert(&denial, 1).unwrap();
    set.prune(Timestamp::LAST);
    assert_eq!(hit(&set, 1), Some(1));
}

#[test]
fn a_stored_denial_is_read_as_strictly_as_any_other() {
    // rule: ENC-3
    use crate::messages::mutate::holds_to_its_shape;
    let members = Members {
        ticket: Some(TicketId([1; 16])),
        node: Some(instance(1)),
        launch: Some(LaunchId([2; 16])),
        account: Some("123456789012".to_owned()),
        region: Some("eu-west-1".to_owned()),
        image: Some("ami-1".to_owned()),
        dataset: Some(DatasetId([3; 16])),
        issued_before: Some(at(5)),
    };
    let good = denial(members.clone(), at(1)).to_cbor();
    let mut loader = Loader::new(&[9; 16]);
    loader.read(&good, 1).unwrap();
    // Its members one by one, and the selector's.
    holds_to_its_shape(&good, &[], &[1, 2, 6], |bytes| {
        let mut loader = Loader::new(&[9; 16]);
        let read = loader.read(bytes, 1).is_ok();
        assert_eq!(read, Denial::from_cbor(bytes, 4_096).is_ok());
        read
    });
    let selector = denial(members.clone(), at(1)).selector.to_cbor();
    let optional: Vec<i64> = (1..=8).collect();
    holds_to_its_shape(&selector, &optional, &[], |bytes| {
        let at = good
            .windows(selector.len())
            .position(|window| window == selector);
        let at = at.unwrap();
        let whole = [&good[..at], bytes, &good[at + selector.len()..]].concat();
        let read = Loader::new(&[9; 16]).read(&whole, 1).is_ok();
        assert_eq!(read, Denial::from_cbor(&whole, usize::MAX).is_ok());
        read
    });
}
