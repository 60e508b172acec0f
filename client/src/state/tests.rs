//! The state outlives crashes, and only on the instance that it was made on.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ticket_format::bootstrap::Bootstrap;
use ticket_format::ids::AdminSetDigest;
use ticket_format::ids::{ProofHash, StatementDigest};
use ticket_format::keys::{AdminSecret, TicketSecret, TlsSecret};
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::{Admin, AdminKeyKind, AdminRole, AdminSetBody, Role, TicketKeySet};
use ticket_format::tlog::{LogSecret, Origin};

use super::*;
use crate::chain::tests::link;
use crate::login::{Evidence, prepare};

fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

/// The first set's body.
fn admins() -> AdminSetBody {
    let admin = |seed: u8, roles: &[AdminRole]| Admin {
        name: format!("admin-{seed}"),
        kind: AdminKeyKind::File,
        key: AdminSecret::from_seed(&[seed; 32]).public(),
        roles: roles.to_vec(),
        application: None,
    };
    let managers = [AdminRole::DatasetOwner, AdminRole::Security];
    let mut admins = vec![
        admin(2, &[AdminRole::Operator]),
        admin(12, &managers),
        admin(13, &managers),
    ];
    admins.sort_by_key(|admin| admin.key.to_bytes());
    AdminSetBody {
        version: 1,
        follows: AdminSetDigest([0; 32]),
        admins,
        quorums: AdminSetBody::usual_quorums(2),
    }
}

fn log_key() -> LogKey {
    let origin = Origin::new(
        "example.org",
        Role::Broker,
        &TlsSecret::from_seed(&[1; 32]).public(),
    );
    let secret = LogSecret::from_seeds(origin, &[6; 32], &[7; 32]).unwrap();
    secret.key().clone()
}

fn chain(byte: u8) -> Chain {
    Chain::begin(EvidenceHash([byte; 32]), vec![byte; 1_500], link(byte))
}

fn evidence(instance: &str, launch: u8) -> Evidence {
    Evidence {
        admins: AdminSet::new(admins()).unwrap(),
        bootstrap: Bootstrap {
            realm: "example.org".to_owned(),
            launch: LaunchId([launch; 16]),
            secret: BootstrapSecret::from_bytes([0x77; 32]),
            brokers: vec!["127.0.0.1:1".to_owned()],
            broker_key: TlsSecret::from_seed(&[1; 32]).public(),
            admin_set: admins().to_cbor(),
            launch_digest: StatementDigest([3; 32]),
            ticket_key: TicketSecret::from_seed(&[4; 32]).public(),
            log_key: log_key(),
        },
        proof: String::new(),
        node: NodeId::new("123456789012", "eu-west-1", instance).unwrap(),
        proof_hash: ProofHash([5; 32]),
    }
}

#[test]
fn preparing_twice_gives_the_same_node_key_and_login_id() {
    // rule: LOG-1
    let dir = tempfile::tempdir().unwrap();
    let here = evidence("i-0123456789abcdef0", 1);
    let first = prepare(dir.path(), &here, &mut rng()).unwrap();
    let second = prepare(dir.path(), &here, &mut rng()).unwrap();
    assert_eq!(first.key.public(), second.key.public());
    assert_eq!(first.login, second.login);
    assert_eq!(first.wallet_key, second.wallet_key);
    assert_eq!(first.pins, second.pins);
}

#[test]
fn a_state_from_another_instance_is_thrown_away() {
    for (instance, launch) in [("i-0fedcba9876543210", 1), ("i-0fedcba9876543210", 2)] {
        let dir = tempfile::tempdir().unwrap();
        let origin = evidence("i-0123456789abcdef0", 1);
        let first = prepare(dir.path(), &origin, &mut rng()).unwrap();
        // A login that the other instance has begun came along too.
        prepare(dir.path(), &evidence("i-0123456789abcdef0", 3), &mut rng()).unwrap();
        let second = prepare(dir.path(), &evidence(instance, launch), &mut rng()).unwrap();
        assert!(!NodeState::waiting_path(dir.path()).exists());
        assert_ne!(first.key.public(), second.key.public());
        assert_ne!(first.login, second.login);
        // With the wallet's key its tickets are lost too.
        assert_ne!(first.wallet_key, second.wallet_key);
        assert!(second.chains.is_empty() && !second.known);
        let kept = NodeState::load(dir.path()).unwrap().unwrap();
        assert_eq!(kept.key.public(), second.key.public());
    }
}

#[test]
fn a_state_of_another_launch_stays_in_force_until_the_new_login_is_answered() {
    // rule: LOG-1, LOG-8
    let dir = tempfile::tempdir().unwrap();
    let [old, new, third] = [1, 2, 3].map(|launch| evidence("i-0123456789abcdef0", launch));
    let mut first = prepare(dir.path(), &old, &mut rng()).unwrap();
    first.known = true;
    first.save(dir.path()).unwrap();
    let in_force = || NodeState::load(dir.path()).unwrap().unwrap().key.public();

    let mut second = prepare(dir.path(), &new, &mut rng()).unwrap();
    assert_ne!(second.key.public(), first.key.public());
    second.add_chain(chain(8));
    second.save(dir.path()).unwrap();
    assert_eq!(in_force(), first.key.public());
    // Going back finds the old one as it was, and a renewal of it takes nothing from the new one.
    let back = prepare(dir.path(), &old, &mut rng()).unwrap();
    assert_eq!((back.key.public(), back.known), (first.key.public(), true));
    back.save(dir.path()).unwrap();
    // After a crash the new one is found again.
    let mut again = prepare(dir.path(), &new, &mut rng()).unwrap();
    assert_eq!(again.key.public(), second.key.public());
    assert_eq!(
        (again.login, again.wallet_key.clone()),
        (second.login, second.wallet_key)
    );
    assert_eq!(again.chains, [chain(8)]);

    again.known = true;
    again.save(dir.path()).unwrap();
    assert_eq!(in_force(), again.key.public());
    assert!(!NodeState::waiting_path(dir.path()).exists());
    again.save(dir.path()).unwrap();

    // As a crash between the two steps leaves it.
    std::fs::copy(
        NodeState::path(dir.path()),
        NodeState::waiting_path(dir.path()),
    )
    .unwrap();
    prepare(dir.path(), &new, &mut rng()).unwrap();
    assert!(!NodeState::waiting_path(dir.path()).exists());

    prepare(dir.path(), &third, &mut rng()).unwrap();
    assert!(NodeState::waiting_path(dir.path()).exists());
    NodeState::remove(dir.path()).unwrap();
    assert!(
        !NodeState::waiting_path(dir.path()).exists(),
        "it holds a node key"
    );
    assert!(!NodeState::path(dir.path()).exists());
}

#[test]
fn a_state_comes_back_as_it_was_saved() {
    // rule: REN-1
    let dir = tempfile::tempdir().unwrap();
    let mut state = prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    state.next = Some(NodeSecret::generate(&mut rng()));
    state.add_chain(chain(8));
    state.launch_statement = Some(vec![9; 700]);
    state.known = true;
    state.save(dir.path()).unwrap();
    let loaded = NodeState::load(dir.path()).unwrap().unwrap();
    let public = |state: &NodeState| state.next.as_ref().map(NodeSecret::public);
    assert_eq!(public(&loaded), public(&state));
    assert_eq!(loaded.key.public(), state.key.public());
    // rule: EVD-3
    assert_eq!(loaded.chains, state.chains);
    assert_eq!(loaded.launch_statement, state.launch_statement);
    assert_eq!(loaded.launch_digest, state.launch_digest);
    assert_eq!(loaded.pins, state.pins);
    assert_eq!(loaded.chain(EvidenceHash([8; 32])), Some(&chain(8)));
    assert_eq!(loaded.chain(EvidenceHash([7; 32])), None);
    assert_eq!(loaded.node, state.node);
    assert!(loaded.known);
}

#[test]
fn the_first_and_the_latest_chains_are_remembered_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    for number in 0..=u8::try_from(CHAINS).unwrap() {
        state.add_chain(chain(number));
        state.add_chain(chain(number));
    }
    assert_eq!(state.chains.len(), CHAINS);
    let ends = [0, 2].map(chain);
    assert_eq!(state.chains[..2], ends);
    assert_eq!(state.chains[CHAINS - 1], chain(16));
    state.save(dir.path()).unwrap();
    assert!(NodeState::load(dir.path()).unwrap().is_some());
}

#[test]
fn the_file_is_private_or_refused_and_holds_no_bootstrap_secret() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    let path = NodeState::path(dir.path());
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(32).any(|window| window == [0x77; 32]));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(NodeState::load(dir.path()), Err(Error::File(_))));
}

#[test]
fn a_damaged_state_is_refused_and_never_replaced_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let here = evidence("i-0123456789abcdef0", 1);
    prepare(dir.path(), &here, &mut rng()).unwrap();
    let path = NodeState::path(dir.path());
    let good = std::fs::read(&path).unwrap();
    files::write_private(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(
        prepare(dir.path(), &here, &mut rng()),
        Err(Error::Damaged { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap().len(), good.len() - 1);
}

#[test]
fn login_and_renew_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let held = NodeState::lock(dir.path()).unwrap();
    assert!(matches!(NodeState::lock(dir.path()), Err(Error::Locked(_))));
    drop(held);
    assert!(NodeState::lock(dir.path()).is_ok());
}

#[test]
fn the_largest_state_can_be_read_back() {
    // rule: EVD-3
    let dir = tempfile::tempdir().unwrap();
    let mut state = prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    let iid = vec![b'A'; ticket_format::limits::IID_TEXT];
    for number in 0..=u8::try_from(CHAINS).unwrap() {
        let end = EvidenceHash([number; 32]);
        state.add_chain(Chain::begin(end, iid.clone(), link(number)));
    }
    state.launch_statement = Some(vec![9; RECORD]);
    state.save(dir.path()).unwrap();
    assert!(NodeState::load(dir.path()).unwrap().is_some());
    let mut longest = chain(1);
    for number in 0..ticket_format::messages::present::LINKS {
        longest = longest.renewed(EvidenceHash([2; 32]), link(u8::try_from(number).unwrap()));
    }
    state.add_chain(longest);
    state.save(dir.path()).unwrap();
    let loaded = NodeState::load(dir.path()).unwrap().unwrap();
    assert_eq!(loaded.chains, state.chains);
}

#[test]
fn a_later_admin_set_is_kept_and_an_earlier_one_never_replaces_it() {
    // rule: ISS-6
    let dir = tempfile::tempdir().unwrap();
    let state = prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    let first = state.pins.admins.clone();
    let version = |version| {
        AdminSet::new(AdminSetBody {
            version,
            follows: first.digest(),
            ..admins()
        })
        .unwrap()
    };
    let offer = |offered| Pins {
        admins: version(offered),
        ..state.pins.clone()
    };
    let kept = || NodeState::load(dir.path()).unwrap().unwrap().pins.admins;
    for (offered, expected) in [(3, 3), (2, 3), (4, 4)] {
        NodeState::keep_followed(dir.path(), &offer(offered)).unwrap();
        assert_eq!(kept(), version(expected));
    }
    // Nothing else of the state changes, and where there is none, none is made.
    let after = NodeState::load(dir.path()).unwrap().unwrap();
    assert_eq!(after.key.public(), state.key.public());
    let empty = tempfile::tempdir().unwrap();
    NodeState::keep_followed(empty.path(), &offer(2)).unwrap();
    assert!(NodeState::load(empty.path()).unwrap().is_none());
}

#[test]
fn later_ticket_keys_are_kept_and_earlier_ones_or_another_chains_never_replace_them() {
    // rule: KEY-3
    let dir = tempfile::tempdir().unwrap();
    let state = prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    let key = |seed: u8| TicketSecret::from_seed(&[seed; 32]).public();
    let at = ticket_format::time::Timestamp::from_seconds;
    let chain = |first, count: u64| {
        let mut keys = TicketKeys::of(first);
        for number in 2..=count {
            let record = TicketKeySet {
                number,
                follows: keys.digest(),
                key: key(100 + number as u8),
                old: *keys.newest(),
                from: at(number * 10),
                until: at(number * 10 + 5),
            };
            keys.take(&record).unwrap();
        }
        keys
    };
    let offer = |keys: &TicketKeys| {
        let pins = Pins {
            ticket_keys: keys.clone(),
            ..state.pins.clone()
        };
        NodeState::keep_followed(dir.path(), &pins).unwrap();
        let kept = NodeState::load(dir.path()).unwrap().unwrap();
        assert_eq!(kept.pins.admins, state.pins.admins);
        kept.pins.ticket_keys
    };
    let pinned = *state.pins.ticket_keys.newest();
    assert_eq!(offer(&chain(pinned, 3)), chain(pinned, 3));
    assert_eq!(offer(&chain(pinned, 2)), chain(pinned, 3));
    assert_eq!(offer(&chain(key(99), 4)), chain(pinned, 3));
    assert_eq!(offer(&chain(pinned, 4)).number(), 4);
}

#[test]
fn the_latest_records_of_aliases_are_kept() {
    // rule: ALI-2
    let dir = tempfile::tempdir().unwrap();
    let state = prepare(dir.path(), &evidence("i-0123456789abcdef0", 1), &mut rng()).unwrap();
    let at = Timestamp::from_seconds;
    let offer = |rows: &[(&str, u64)]| {
        let mut pins = state.pins.clone();
        for (alias, of) in rows {
            assert!(pins.aliases.take(alias, at(*of)));
        }
        NodeState::keep_followed(dir.path(), &pins).unwrap();
        NodeState::load(dir.path()).unwrap().unwrap().pins.aliases
    };
    offer(&[("current", 10)]);
    offer(&[("current", 8), ("latest", 5)]);
    let mut kept = offer(&[]);
    let mut both = Aliases::default();
    assert!(both.take("current", at(10)) && both.take("latest", at(5)));
    assert_eq!(kept, both);
    assert!(!kept.take("current", at(9)) && kept.take("current", at(11)));
    // There is room for so many: of more, the oldest goes.
    for more in 0..ALIASES as u64 - 1 {
        assert!(kept.take(&format!("alias-{more}"), at(100 + more)));
    }
    assert_eq!(kept.0.len(), ALIASES);
    assert!(!kept.take("current", at(10)), "it is not the oldest");
    assert!(kept.take("latest", at(1)), "it was forgotten");
    let mut longest = state.pins.clone();
    for more in 0..ALIASES {
        let name = format!("{more:0>NAME$}");
        assert!(longest.aliases.take(&name, at(u64::from(u32::MAX))));
    }
    NodeState::keep_followed(dir.path(), &longest).unwrap();
    let kept = NodeState::load(dir.path()).unwrap().unwrap();
    assert_eq!(kept.pins.aliases, longest.aliases);
}
