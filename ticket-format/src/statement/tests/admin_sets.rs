//! What a set holds to, how sets follow each other, and what they authorise.

use super::house::{act, after, body, record, replacing, set, without};
use super::*;

const ALL: &[u8] = &[1, 2, 3, 4, 5, 6];

fn fault(edit: impl FnOnce(&mut AdminSetBody)) -> AdminSetFault {
    let mut body = body();
    edit(&mut body);
    let fault = AdminSet::new(body).unwrap_err();
    assert!(!fault.to_string().contains('\n'));
    assert_eq!(
        AdminSetRefusal::Fault(fault.clone()).refusal(),
        Refusal::Invalid
    );
    fault
}

#[test]
fn every_act_has_a_role_or_changes_nothing_that_a_quorum_guards() {
    // rule: SET-1, ADM-4
    let of = |role| -> Vec<&str> {
        let acts = Act::ALL.iter().filter(|act| act.role() == Some(role));
        acts.map(|act| act.name()).collect()
    };
    assert_eq!(
        of(AdminRole::Operator),
        ["launch-create", "launch-close", "deny"]
    );
    assert_eq!(
        of(AdminRole::DatasetOwner),
        [
            "dataset-create",
            "dataset-record",
            "dataset-policy-set",
            "producer-add",
            "dataset-set",
            "canary-set",
            "kek-rotate",
            "kek-set",
            "import-begin",
            "kek-import",
            "alias-set"
        ]
    );
    assert_eq!(
        of(AdminRole::Security),
        [
            "policy-set",
            "dataset-owners-set",
            "node-unfreeze",
            "undeny",
            "admin-set",
            "log-recover",
            "kek-destroy",
            "kek-keep",
            "kek-export",
            "seal",
            "rekey",
            "backup-begin",
            "ticket-key-make",
            "ticket-key",
            "restore"
        ]
    );
    for act in Act::ALL {
        let kinds = [act.role().is_some(), act.only_reads(), act.is_inbox()];
        assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{act}");
    }
}

#[test]
fn a_set_with_a_key_or_a_name_twice_is_refused() {
    // rule: SET-4
    assert_eq!(
        fault(|body| body.admins[1].key = body.admins[0].key),
        AdminSetFault::DoubledKey
    );
    let name = body().admins[0].name.clone();
    assert_eq!(
        fault(|body| body.admins[1].name.clone_from(&name)),
        AdminSetFault::DoubledName(name)
    );
    assert_eq!(fault(|body| body.admins.swap(0, 1)), AdminSetFault::Order);
    for odd in ["a\nb", " a", "a ", "\u{7f}", "a\u{200b}", "\u{202e}a"] {
        assert_eq!(
            fault(|body| body.admins[0].name = odd.into()),
            AdminSetFault::Name(odd.into())
        );
    }
}

#[test]
fn a_set_whose_operator_manages_keys_is_refused() {
    // rule: SET-4
    for managing in [AdminRole::DatasetOwner, AdminRole::Security] {
        for admin in 0..6 {
            let overlap = fault(|body| {
                body.admins[admin].roles = vec![AdminRole::Operator, managing];
            });
            assert!(matches!(overlap, AdminSetFault::Overlap(_, role) if role == managing));
        }
    }
    let mut both = body();
    for admin in &mut both.admins {
        if admin.roles != [AdminRole::Operator] {
            admin.roles = vec![AdminRole::DatasetOwner, AdminRole::Security];
        }
    }
    assert!(AdminSet::new(both).is_ok(), "managers may hold both roles");
}

#[test]
fn a_set_with_a_number_below_its_floor_or_above_its_holders_is_refused() {
    // rule: SET-4
    let floored = [
        Act::AdminSet,
        Act::PolicySet,
        Act::Undeny,
        Act::NodeUnfreeze,
        Act::DatasetOwnersSet,
        Act::DatasetRecord,
        Act::DatasetPolicySet,
        Act::DatasetSet,
        Act::ProducerAdd,
        Act::LogRecover,
        Act::KekDestroy,
        Act::Rekey,
        Act::TicketKeySet,
        Act::Restore,
    ];
    for act in floored {
        assert_eq!(
            fault(|body| _ = body.quorums.insert(act, 1)),
            AdminSetFault::Number {
                act,
                quorum: 1,
                exact: false
            }
        );
    }
    let deny = fault(|body| _ = body.quorums.insert(Act::Deny, 2));
    assert!(matches!(deny, AdminSetFault::Number { exact: true, .. }));
    for act in [Act::Deny, Act::AdminSet] {
        assert_eq!(
            fault(|body| _ = body.quorums.remove(&act)),
            AdminSetFault::Missing(act)
        );
    }
    for act in Act::ALL.iter().filter(|act| act.role().is_none()) {
        assert_eq!(
            fault(|body| _ = body.quorums.insert(*act, 1)),
            AdminSetFault::NoRole(*act)
        );
    }
    for act in Act::ALL.iter().filter(|act| act.role().is_some()) {
        if *act != Act::Deny {
            let few = fault(|body| _ = body.quorums.insert(*act, 3));
            assert!(matches!(few, AdminSetFault::TooFew { holders: 2, .. }));
        }
    }
}

#[test]
fn only_a_security_key_has_an_application_and_only_version_1_follows_nothing() {
    // rule: SET-3, SET-7
    let name = body().admins[0].name.clone();
    let wrong = AdminSetFault::Application(name);
    assert_eq!(
        fault(|body| body.admins[0].application = Some("ssh:".into())),
        wrong
    );
    assert_eq!(
        fault(|body| body.admins[0].kind = AdminKeyKind::SecurityKey),
        wrong
    );
    assert_eq!(fault(|body| body.version = 2), AdminSetFault::Start);
    assert_eq!(
        fault(|body| body.follows = set().digest()),
        AdminSetFault::Start
    );
}

#[test]
fn the_first_set_is_signed_by_all_its_admins() {
    // rule: SET-3
    let first = |bytes: &[u8]| AdminSet::first(bytes, "realm", at(1));
    assert_eq!(first(&record(&body(), ALL)), Ok(set()));
    assert_eq!(
        AdminSet::pinned(&body().to_cbor()).unwrap().digest(),
        set().digest()
    );
    for left_out in 0..6 {
        let mut seeds = ALL.to_vec();
        seeds.remove(left_out);
        let refused = first(&record(&body(), &seeds)).unwrap_err();
        assert_eq!(
            refused,
            AdminSetRefusal::NotAll {
                signed: 5,
                admins: 6
            }
        );
        assert_eq!(refused.refusal(), Refusal::Quorum);
    }
    let stranger = first(&record(&body(), &[1, 2, 3, 4, 5, 6, 77])).unwrap_err();
    assert_eq!(stranger.refusal(), Refusal::StatementSignature);
    assert_eq!(
        first(&act(&body(), ALL)).unwrap_err(),
        AdminSetRefusal::OneServer
    );
    let second = after(&set(), |_| ());
    assert!(first(&record(&second, ALL)).is_err(), "it follows another");
    let elsewhere = AdminSet::first(&record(&body(), ALL), "other", at(1)).unwrap_err();
    assert_eq!(elsewhere.refusal(), Refusal::StatementAudience);
    let deny = act(&deny(), &[1]);
    assert_eq!(
        first(&deny).unwrap_err().refusal(),
        Refusal::StatementMalformed
    );
}

#[test]
fn a_set_follows_the_one_that_it_names_when_that_ones_quorum_signed_it() {
    // rule: SET-3, ADM-5
    let first = set();
    let next = |body: &AdminSetBody, seeds: &[u8]| first.next(&record(body, seeds), "realm", at(1));
    let of = |result: Result<AdminSet, AdminSetRefusal>| result.unwrap_err().refusal();

    let second = after(&first, |body| *body = replacing(body.clone(), 5, 60));
    let taken = next(&second, &[5, 6]).unwrap();
    assert_eq!((taken.version(), taken.body()), (2, &second));
    assert_eq!(of(next(&second, &[5])), Refusal::Quorum);
    assert_eq!(of(next(&second, &[5, 1])), Refusal::Quorum, "an operator");
    assert_eq!(
        of(next(&second, &[60, 6])),
        Refusal::StatementSignature,
        "the new admin is none yet"
    );
    assert_eq!(
        of(first.next(&act(&second, &[5, 6]), "realm", at(1))),
        Refusal::StatementAudience,
        "for one server"
    );

    let stale = after(&taken, |_| ());
    assert_eq!(of(next(&stale, &[5, 6])), Refusal::Stale);
    let skipped = after(&first, |body| body.version = 3);
    assert_eq!(of(next(&skipped, &[5, 6])), Refusal::Invalid);
    let faulty = after(&first, |body| {
        _ = body.quorums.insert(Act::Undeny, 1);
    });
    assert_eq!(of(next(&faulty, &[5, 6])), Refusal::Invalid);
    // The same set once more: it names the set before.
    let again = record(&second, &[5, 6]);
    assert_eq!(
        of(taken.next(&again, "realm", at(1))),
        Refusal::StatementSignature,
        "one of its signers was removed"
    );
}

#[test]
fn lowering_a_quorum_needs_the_old_quorum() {
    // rule: SET-3
    let mut three = body();
    three
        .admins
        .push(house::admin(61, "security-3", AdminRole::Security));
    three.admins.sort_by_key(|admin| admin.key);
    three.quorums.insert(Act::AdminSet, 3);
    let three = AdminSet::new(three).unwrap();
    let lower = after(&three, |body| {
        _ = body.quorums.insert(Act::AdminSet, 2);
    });
    let next = |seeds: &[u8]| three.next(&record(&lower, seeds), "realm", at(1));
    assert_eq!(
        next(&[5, 6]),
        Err(StatementRefusal::Quorum { have: 2, need: 3 }.into())
    );
    assert_eq!(next(&[5, 6, 61]).unwrap().quorum(Act::AdminSet), Some(2));
}

#[test]
fn a_history_is_followed_set_by_set_and_a_gap_is_refused() {
    // rule: SET-3, ISS-6
    let first = set();
    let body_2 = after(&first, |body| *body = replacing(body.clone(), 1, 60));
    let second = AdminSet::new(body_2.clone()).unwrap();
    let body_3 = after(&second, |body| *body = replacing(body.clone(), 60, 61));
    let sets = [record(&body_2, &[5, 6]), record(&body_3, &[5, 6])];
    let followed = first.follow(&sets, "realm", at(1)).unwrap();
    assert_eq!((followed.version(), followed.body()), (3, &body_3));
    assert_eq!(first.follow(&sets[..0], "realm", at(1)).unwrap(), first);
    assert_eq!(
        first
            .follow(&sets[1..], "realm", at(1))
            .unwrap_err()
            .refusal(),
        Refusal::Stale
    );
}

#[test]
fn an_act_needs_as_many_admins_of_its_role_as_the_set_says() {
    // rule: SET-2
    let quorum = |have| Err(StatementRefusal::Quorum { have, need: 2 });
    let undeny = Undeny {
        denials: vec![(1, crate::ids::DenialDigest([1; 32]))],
        reason: String::new(),
    };
    let check = |seeds: &[u8]| verify(&act(&undeny, seeds), at(1)).map(drop);
    assert_eq!(check(&[5, 6]), Ok(()));
    assert_eq!(check(&[5]), quorum(1));
    assert_eq!(check(&[5, 1, 2, 3, 4]), quorum(1), "of another role");
    assert_eq!(check(&[1, 2]), quorum(0));
    assert_eq!(check(&[5, 6, 1]), Ok(()), "one more does no harm");
    assert_eq!(
        check(&[5, 6, 77]),
        Err(StatementRefusal::UnknownSigner),
        "a stranger does"
    );
    assert_eq!(
        verify(&act(&deny(), &[3]), at(1)).map(drop),
        Err(StatementRefusal::Quorum { have: 0, need: 1 }),
        "an owner denies nobody"
    );
    assert_eq!(
        StatementRefusal::Quorum { have: 0, need: 1 }.refusal(),
        Refusal::Quorum
    );
}

#[test]
fn an_act_without_a_number_is_authorised_by_nobody() {
    // rule: SET-2
    let mut body = body();
    body.quorums.remove(&Act::PolicySet);
    let set = AdminSet::new(body).unwrap();
    let policy = PolicySet {
        text: "x".into(),
        replaces: None,
    };
    let received = ReceivedStatement::parse(&act(&policy, ALL)).unwrap();
    let refused = received.verify(&set, "realm", Some(&key(9)), at(1));
    assert_eq!(refused, Err(StatementRefusal::NoQuorum(Act::PolicySet)));
    assert_eq!(refused.unwrap_err().refusal(), Refusal::Quorum);
}

#[test]
fn reading_and_the_inbox_need_one_admin_of_any_role() {
    // rule: ADM-4
    for seed in ALL {
        assert!(verify(&act(&StatusShow {}, &[*seed]), at(1)).is_ok());
        let propose = Propose { statement: vec![1] };
        assert!(verify(&act(&propose, &[*seed]), at(1)).is_ok());
    }
    assert_eq!(
        verify(&act(&StatusShow {}, &[77]), at(1)).map(drop),
        Err(StatementRefusal::UnknownSigner)
    );
}

#[test]
fn a_removed_admins_signature_counts_nowhere() {
    // rule: SET-2
    let bytes = act(&deny(), &[1]);
    assert!(verify(&bytes, at(1)).is_ok());
    let received = ReceivedStatement::parse(&bytes).unwrap();
    assert_eq!(
        received.signed_by(&without(1)),
        Err(StatementRefusal::UnknownSigner)
    );
    let both = ReceivedStatement::parse(&act(&deny(), &[1, 2])).unwrap();
    let refused = both.verify(&without(1), "realm", Some(&key(9)), at(1));
    assert_eq!(
        refused.map(drop),
        Err(StatementRefusal::UnknownSigner),
        "not even beside one that would be enough"
    );
}

#[test]
fn only_a_datasets_owners_count_for_an_act_on_it() {
    // rule: SET-5
    let record = super::record();
    let bytes = house::record(&record, &[3, 4]);
    let verified = verify(&bytes, at(1)).unwrap();
    let need = house::set().quorum(verified.act()).unwrap();
    assert_eq!(verified.by_owners(&[key(3), key(4)], need), Ok(()));
    assert_eq!(
        verified.by_owners(&[key(3)], need),
        Err(StatementRefusal::Quorum { have: 1, need: 2 })
    );
    assert_eq!(
        verified.by_owners(&[key(1), key(2)], need),
        Err(StatementRefusal::Quorum { have: 0, need: 2 })
    );
    // An operator who is put down as owner owns nothing: the role is missing.
    let verified = verify(&house::record(&record, &[3, 4, 1]), at(1)).unwrap();
    assert_eq!(
        verified.by_owners(&[key(3), key(1)], need),
        Err(StatementRefusal::Quorum { have: 1, need: 2 })
    );
}

#[test]
fn usual_quorums_hold_to_the_floors_and_cover_every_act_that_changes_something() {
    // rule: SET-4
    for k in 0..=3 {
        let quorums = AdminSetBody::usual_quorums(k);
        for act in Act::ALL {
            assert_eq!(quorums.contains_key(act), act.role().is_some(), "{act}");
            let enough = quorums.get(act).is_none_or(|quorum| *quorum >= act.floor());
            assert!(enough, "{act}");
        }
        assert_eq!(quorums[&Act::Deny], 1);
    }
}
