//! What a node believes of an issue's answer: admin sets that follow, records that they authorise.

use ticket_format::ids::{
    AdminSetDigest, DatasetId, KekId, LaunchId, NodeId, StatementDigest, StatementId,
};
use ticket_format::keys::{AdminSecret, ServerSecret, TicketSecret, TlsSecret};
use ticket_format::seal::SealingSecret;
use ticket_format::statement::{
    Admin, AdminKeyKind, AdminRole, AdminSet, AdminSetBody, AliasSet, AliasTarget, Payload, Role,
    Witnessing,
};
use ticket_format::ticket::TicketKeys;
use ticket_format::tlog::{LogSecret, Origin};

use super::*;
use crate::chain::Chain;
use crate::chain::tests::link;

const REALM: &str = "example.org";

fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

fn owner(seed: u8) -> AdminSecret {
    AdminSecret::from_seed(&[seed; 32])
}

fn log_key(role: Role) -> LogKey {
    let origin = Origin::new(REALM, role, &TlsSecret::from_seed(&[4; 32]).public());
    let secret = LogSecret::from_seeds(origin, &[6; 32], &[7; 32]).unwrap();
    secret.key().clone()
}

fn at() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

/// A set of an operator and these owners.
fn set(version: u64, follows: AdminSetDigest, owners: &[u8]) -> AdminSetBody {
    let admin = |name: String, key, roles: &[AdminRole]| Admin {
        name,
        kind: AdminKeyKind::File,
        key,
        roles: roles.to_vec(),
        application: None,
    };
    let mut admins = vec![admin(
        "operator".to_owned(),
        owner(9).public(),
        &[AdminRole::Operator],
    )];
    let roles = [AdminRole::DatasetOwner, AdminRole::Security];
    for seed in owners {
        let name = format!("owner-{seed}");
        admins.push(admin(name, owner(*seed).public(), &roles));
    }
    admins.sort_by_key(|admin| admin.key);
    AdminSetBody {
        version,
        follows,
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    }
}

fn signed(body: &AdminSetBody, by: &[u8]) -> Vec<u8> {
    let id = StatementId::random(&mut rng());
    let by: Vec<AdminSecret> = by.iter().map(|seed| owner(*seed)).collect();
    let by: Vec<&AdminSecret> = by.iter().collect();
    let payload = Payload::record(id, REALM, at(), body);
    payload.sign(&by).unwrap()
}

fn state() -> NodeState {
    let first = set(1, AdminSetDigest([0; 32]), &[1, 2, 3]);
    let pins = Pins {
        broker: Server {
            word: "broker",
            realm: REALM.to_owned(),
            addresses: vec!["127.0.0.1:1".to_owned()],
            tls_key: TlsSecret::from_seed(&[4; 32]).public(),
        },
        ticket_keys: TicketKeys::of(TicketSecret::from_seed(&[5; 32]).public()),
        log_key: log_key(Role::Broker),
        admins: AdminSet::new(first).unwrap(),
        aliases: Default::default(),
    };
    NodeState::new(
        pins,
        LaunchId([1; 16]),
        StatementDigest([2; 32]),
        NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap(),
        &mut rng(),
    )
}

fn record(owners: &[u8], by: &[u8]) -> Vec<u8> {
    let mut owners: Vec<_> = owners.iter().map(|seed| owner(*seed).public()).collect();
    owners.sort();
    let record = DatasetRecord {
        recipients: Default::default(),
        class: Default::default(),
        dataset: DatasetId([1; 16]),
        name: "faces".to_owned(),
        tags: std::collections::BTreeMap::new(),
        tls_key: TlsSecret::from_seed(&[6; 32]).public(),
        server_key: ServerSecret::from_seed(&[7; 32]).public(),
        addresses: vec!["127.0.0.1:1".to_owned()],
        kek: KekId([2; 16]),
        kek_version: 1,
        public_key: SealingSecret::generate(Kem::XWing, &mut rng()).public(),
        producers: Vec::new(),
        kems: vec![Kem::XWing],
        max_budget: 10,
        max_life: 60,
        owners,
        lease: 5,
        evidence: true,
        follows: DatasetRecord::FIRST,
        log_key: log_key(Role::KeyServer),
        witnessing: Witnessing::none(),
    };
    let by: Vec<AdminSecret> = by.iter().map(|seed| owner(*seed)).collect();
    let by: Vec<&AdminSecret> = by.iter().collect();
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, at(), &record);
    payload.sign(&by).unwrap()
}

#[test]
fn admin_sets_are_followed_one_by_one_by_the_quorum_of_the_one_before() {
    // rule: ISS-6, SET-3
    let mut state = state();
    let first = state.pins.admins.clone();
    let second = set(2, first.digest(), &[2, 3, 4]);
    let third = set(
        3,
        AdminSet::new(second.clone()).unwrap().digest(),
        &[3, 4, 5],
    );
    for (what, wrong) in [
        ("one signature", vec![signed(&second, &[1])]),
        ("an operator's", vec![signed(&second, &[1, 9])]),
        ("a stranger's", vec![signed(&second, &[1, 2, 7])]),
        ("a gap", vec![signed(&third, &[2, 3])]),
        (
            "signed by who came later",
            vec![signed(&second, &[1, 2]), signed(&third, &[4, 5])],
        ),
        ("no set", vec![record(&[1, 2], &[1, 2])]),
        ("garbage", vec![vec![1, 2, 3]]),
    ] {
        let error = follow(&mut state, &wrong, at()).unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{what}");
        assert_eq!(state.pins.admins, first, "{what}");
    }
    follow(&mut state, &[], at()).unwrap();
    assert_eq!(state.pins.admins, first);
    let sets = [signed(&second, &[1, 2]), signed(&third, &[3, 4])];
    follow(&mut state, &sets, at()).unwrap();
    assert_eq!(state.pins.admins.body(), &third);
}

#[test]
fn a_record_counts_by_its_owners_and_the_quorum_of_the_set_in_force() {
    // rule: ISS-6, SET-2, SET-5
    let mut state = state();
    let ok = |state: &NodeState, record: &[u8]| verify_record(record, &state.pins, at()).is_ok();
    assert!(ok(&state, &record(&[1, 2], &[1, 2])));
    assert!(ok(&state, &record(&[1, 2], &[1, 2, 3])));
    assert!(!ok(&state, &record(&[1, 2], &[1])), "a quorum");
    assert!(!ok(&state, &record(&[1, 2], &[1, 3])), "an owner");
    assert!(!ok(&state, &record(&[1, 2], &[1, 9])), "the role");
    assert!(!ok(&state, &record(&[1, 2], &[1, 2, 8])), "a stranger");
    let old = record(&[1, 2], &[1, 2]);
    let second = set(2, state.pins.admins.digest(), &[2, 3, 4]);
    follow(&mut state, &[signed(&second, &[1, 2])], at()).unwrap();
    assert!(!ok(&state, &old), "who was removed signs nothing any more");
    assert!(ok(&state, &record(&[2, 4], &[2, 4])));
}

#[test]
fn evidence_is_that_of_the_chain_that_the_node_ticket_names() {
    // rule: EVD-3
    let mut state = state();
    let ends = [1, 2].map(|byte| EvidenceHash([byte; 32]));
    for (byte, end) in [1, 2].into_iter().zip(ends) {
        state.add_chain(Chain::begin(end, vec![byte; 9], link(byte)));
    }
    let issued = || (at(), link(3).proof);
    let missing =
        |state: &NodeState, end| matches!(evidence(state, end, issued()), Err(Error::NoTicket(_)));
    assert!(missing(&state, ends[0]), "the launch has not come");
    state.launch_statement = Some(b"launch".to_vec());
    for (byte, end) in [1, 2].into_iter().zip(ends) {
        let found = evidence(&state, end, issued()).unwrap();
        assert_eq!((found.login, found.iid_proof), (link(byte), vec![byte; 9]));
    }
    assert!(missing(&state, EvidenceHash([3; 32])));
    state.chains[0].parts = None;
    assert!(matches!(
        evidence(&state, ends[0], issued()),
        Err(Error::TooLong)
    ));
}

fn aliased(set: &AliasSet, by: &[u8]) -> Vec<u8> {
    aliased_at(at(), set, by)
}

fn aliased_at(when: Timestamp, set: &AliasSet, by: &[u8]) -> Vec<u8> {
    let by: Vec<AdminSecret> = by.iter().map(|seed| owner(*seed)).collect();
    let by: Vec<&AdminSecret> = by.iter().collect();
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, when, set);
    payload.sign(&by).unwrap()
}

#[test]
fn an_earlier_record_of_an_alias_than_one_that_was_seen_is_refused() {
    // rule: ALI-2
    let mut state = state();
    let bytes = record(&[1, 2], &[1, 2]);
    let record = verify_record(&bytes, &state.pins, at()).unwrap();
    let set = |alias: &str| AliasSet {
        alias: alias.to_owned(),
        target: Some(AliasTarget {
            dataset: DatasetId([1; 16]),
            name: "faces".to_owned(),
        }),
        follows: AliasSet::FIRST,
    };
    let mut shown = |alias: &str, seconds: u64| {
        let when = Timestamp::from_seconds(at().seconds() - 100 + seconds);
        let statement = aliased_at(when, &set(alias), &[1, 2]);
        let pins = &mut state.pins;
        let answer = alias::latest(&statement, alias, &record, pins, at());
        answer.map_err(|error| assert!(matches!(error, Error::Answer { .. }), "{error:?}"))
    };
    for (alias, seconds, good) in [
        ("current", 50, true),
        ("current", 50, true),
        ("current", 49, false),
        ("latest", 49, true),
        ("current", 60, true),
        ("current", 50, false),
    ] {
        assert_eq!(shown(alias, seconds).is_ok(), good, "{alias} {seconds}");
    }
}

#[test]
fn an_alias_counts_by_the_owners_of_the_dataset_that_it_names() {
    // rule: ALI-2
    let mut state = state();
    let bytes = record(&[1, 2], &[1, 2]);
    let record = verify_record(&bytes, &state.pins, at()).unwrap();
    let names = |state: &NodeState, statement: &[u8]| {
        alias::names(statement, "current", &record, &state.pins, at()).is_some()
    };
    let set = |alias: &str, dataset: u8, name: &str| AliasSet {
        alias: alias.to_owned(),
        target: Some(AliasTarget {
            dataset: DatasetId([dataset; 16]),
            name: name.to_owned(),
        }),
        follows: AliasSet::FIRST,
    };
    let good = set("current", 1, "faces");
    assert!(names(&state, &aliased(&good, &[1, 2])));
    assert!(!names(&state, &aliased(&good, &[1])), "a quorum");
    assert!(!names(&state, &aliased(&good, &[1, 3])), "an owner");
    assert!(!names(&state, &aliased(&good, &[1, 2, 8])), "a stranger");
    for (what, other) in [
        ("another alias", set("latest", 1, "faces")),
        ("another dataset", set("current", 2, "faces")),
        ("another name", set("current", 1, "voices")),
    ] {
        assert!(!names(&state, &aliased(&other, &[1, 2])), "{what}");
    }
    let gone = AliasSet {
        target: None,
        ..good.clone()
    };
    assert!(!names(&state, &aliased(&gone, &[1, 2])), "it names nothing");
    assert!(!names(&state, &bytes), "another act");
    let second = super::tests::set(2, state.pins.admins.digest(), &[2, 3, 4]);
    follow(&mut state, &[signed(&second, &[1, 2])], at()).unwrap();
    assert!(!names(&state, &aliased(&good, &[1, 2])), "who was removed");
}
