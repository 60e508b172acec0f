//! Aliases and the class of a dataset, member by member.

use super::*;
use crate::statement::{
    AliasPage, AliasRow, AliasSet, AliasTarget, Canary, DatasetClass, DatasetCreate, DatasetSet,
    Witnessing,
};

fn target() -> AliasTarget {
    AliasTarget {
        dataset: DatasetId([1; 16]),
        name: "faces-2027".to_owned(),
    }
}

#[test]
fn the_acts_on_aliases_hold_to_their_shapes() {
    // rule: ALI-1, ENC-3
    strict(&target(), &[], &[]);
    let set = AliasSet {
        alias: "current".to_owned(),
        target: Some(target()),
        follows: AliasSet::FIRST,
    };
    strict(&set, &[], &[]);
    let gone = AliasSet {
        target: None,
        follows: set.digest(),
        ..set.clone()
    };
    strict(&gone, &[], &[]);
    assert_ne!(gone.digest(), set.digest());
    for alias in [String::new(), "x".repeat(limits::NAME + 1)] {
        let unfit = AliasSet {
            alias,
            ..set.clone()
        };
        assert!(AliasSet::from_cbor(&unfit.to_cbor(), usize::MAX).is_err());
    }
    let row = AliasRow {
        alias: set.alias.clone(),
        target: Some(target()),
        record: set.digest(),
    };
    strict(&row, &[], &[]);
    strict(
        &AliasRow {
            target: None,
            ..row.clone()
        },
        &[],
        &[],
    );
    let page = AliasPage {
        rows: vec![row],
        more: false,
    };
    strict(&page, &[], &[1]);
    // rule: ADM-1 — a record for everyone, or nobody could verify it again.
    assert!(Act::AliasSet.is_record() && !Act::AliasList.is_record());
}

#[test]
fn a_class_is_one_of_four_and_said_only_where_it_is_not_the_usual_one() {
    // rule: ENC-1
    let set = |class| DatasetSet {
        name: "faces".to_owned(),
        max_budget: 1,
        max_life: 1,
        kems: vec![Kem::XWing],
        lease: 1,
        evidence: false,
        canary: Canary::No,
        witnessing: Witnessing::none(),
        rotation: Default::default(),
        class,
    };
    let usual = set(DatasetClass::default());
    assert_eq!(usual.class.number(), 3);
    strict(&usual, &[], &[]);
    for class in DatasetClass::ALL {
        let bytes = set(*class).to_cbor();
        let read = DatasetSet::from_cbor(&bytes, usize::MAX).unwrap();
        assert_eq!(read.class, *class);
        let said = bytes.len() - usual.to_cbor().len();
        assert_eq!(said, if *class == usual.class { 0 } else { 2 }, "{class:?}");
    }
    let mut bytes = set(DatasetClass::Restricted).to_cbor();
    assert_eq!(bytes.pop(), Some(4));
    for unfit in [0, 3, 5] {
        bytes.push(unfit);
        assert!(
            DatasetSet::from_cbor(&bytes, usize::MAX).is_err(),
            "{unfit}"
        );
        bytes.pop();
    }
    let create = |class| DatasetCreate {
        name: "faces".to_owned(),
        tags: BTreeMap::new(),
        policy: "permit (principal, action, resource);".to_owned(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: 1,
        max_life: 1,
        owners: vec![key(1)],
        lease: 1,
        evidence: false,
        canary: Canary::No,
        witnessing: Witnessing::none(),
        rotation: Default::default(),
        class,
        exportable: false,
    };
    strict(&create(DatasetClass::Public), &[14], &[2, 4]);
}
