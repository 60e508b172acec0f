//! The admin set at the broker (`spec/protocol.md`, section 9, "The admin set").
#![allow(missing_docs)]

mod support;

use std::sync::Arc;

use broker::StartError;
use support::admins::{MANAGES, admin, set_of};
use support::*;
use ticket_format::Refusal;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{AdminSetDigest, LaunchId, PolicyDigest, StatementId};
use ticket_format::keys::{AdminSecret, LaunchSecret, NodeSecret, ServerKey};
use ticket_format::statement::status::StatusShow;
use ticket_format::statement::*;

const POLICY: &str = r#"@id("all") permit (principal, action, resource);"#;

fn launch_terms(world: &World) -> LaunchCreate {
    LaunchCreate {
        launch: LaunchId::random(&mut rng()),
        key: LaunchSecret::generate(&mut rng()).public(),
        accounts: vec![SYDNEY.account.to_owned()],
        regions: Vec::new(),
        images: Vec::new(),
        uses: 1,
        group: false,
        from: world.now(),
        until: world.now().plus(60),
        max_age: 900,
        node_life: 3_600,
        comment: String::new(),
    }
}

/// A set that follows the first one, with these admins.
fn second(world: &World, admins: Vec<Admin>) -> AdminSetBody {
    set_of(2, world.admins.set().digest(), admins)
}

fn statement<B: ActBody>(world: &World, body: &B, by: &[&AdminSecret]) -> Vec<u8> {
    let id = StatementId::random(&mut rng());
    let payload = Payload::record(id, REALM, world.now(), body);
    payload.sign(by).unwrap()
}

#[tokio::test]
async fn one_admin_alone_is_refused_each_act_that_takes_two() {
    // rule: SET-2
    let world = World::new().await;
    world.dataset().await;
    let record = world.dataset_record();
    let policy = PolicySet {
        text: POLICY.to_owned(),
        replaces: None,
    };
    let unfreeze = NodeUnfreeze {
        node: SYDNEY.node(),
        node_key: NodeSecret::generate(&mut rng()).public(),
    };
    let denied = world.deny(Selector::node(SEOUL.node())).await;
    let digest = ticket_format::ids::DenialDigest::of(&denied.record);
    let undeny = Undeny {
        denials: vec![(denied.epoch, digest)],
        reason: String::new(),
    };
    let third = AdminSecret::generate(&mut rng());
    let mut more = world.admins.all();
    more.push(admin("manager-3", &third, &MANAGES));
    let set = second(&world, more);
    let before = world.entries().len();
    for one in [&world.admins.managers[0], &world.admins.managers[1]] {
        let refused = [
            refusal(world.act_by(&policy, &[one]).await),
            refusal(world.act_by(&unfreeze, &[one]).await),
            refusal(world.record_by(&undeny, &[one]).await),
            refusal(world.record_by(&record, &[one]).await),
            refusal(world.record_by(&set, &[one]).await),
        ];
        assert_eq!(refused, [Refusal::Quorum; 5]);
    }
    let notice = world
        .act_by(&policy, &[&world.admins.managers[0]])
        .await
        .unwrap_err();
    assert!(notice.detail.unwrap().contains('2'), "it says how many");
    let listed: Vec<_> = world.entries().split_off(before);
    assert!(listed.iter().all(|entry| entry.kind == Kind::Statement
        && entry.outcome == Err(Refusal::Quorum)
        && entry.proof.is_some()
        && entry.subject.as_deref().unwrap().starts_with("manager-")));
    assert_eq!(
        listed.len(),
        2,
        "who tries it alone is known, once a minute"
    );
    // With the other one it is done.
    world.act(&policy).await.unwrap_err();
    world.record(&undeny).await.unwrap();
    world.record(&set).await.unwrap();
}

#[tokio::test]
async fn a_signature_counts_only_for_the_acts_of_its_role() {
    // rule: SET-1, SET-2
    let world = World::new().await;
    let policy = PolicySet {
        text: POLICY.to_owned(),
        replaces: None,
    };
    let (operator, [one, two]) = (&world.admins.operator, &world.admins.managers);
    // The operator makes no second manager.
    assert_eq!(
        refusal(world.act_by(&policy, &[operator, one]).await),
        Refusal::Quorum
    );
    assert_eq!(
        refusal(world.act_by(&policy, &[operator]).await),
        Refusal::Quorum
    );
    // Two managers let in no node, and deny nothing.
    let terms = launch_terms(&world);
    assert_eq!(
        refusal(world.record_by(&terms, &[one, two]).await),
        Refusal::Quorum
    );
    let deny = DenyBody {
        selector: Selector::node(SYDNEY.node()),
        reason: String::new(),
    };
    assert_eq!(
        refusal(world.act_by(&deny, &[one, two]).await),
        Refusal::Quorum
    );
    world.act_by(&deny, &[operator]).await.unwrap();
    // Everybody may look.
    for who in [operator, one, two] {
        world.act_by(&StatusShow {}, &[who]).await.unwrap();
    }
    // One key cannot sign twice, whatever else signs.
    let payload = world.payload(&policy);
    assert!(payload.sign(&[one, one]).is_err());
}

#[tokio::test]
async fn every_signer_stands_in_the_entry() {
    let world = World::new().await;
    world.set_policy(POLICY).await.unwrap();
    let entry = world.entries().pop().unwrap();
    assert_eq!(entry.subject.as_deref(), Some("manager-1"));
    assert_eq!(
        entry.signers.unwrap(),
        ["manager-1".to_owned(), "manager-2".to_owned()]
    );
}

#[tokio::test]
async fn a_policy_names_the_one_that_it_replaces() {
    // rule: ADM-5
    let world = World::new().await;
    let set = |text: &str, replaces| PolicySet {
        text: text.to_owned(),
        replaces,
    };
    let other = PolicyDigest([9; 32]);
    assert_eq!(
        refusal(world.act(&set(POLICY, Some(other))).await),
        Refusal::Stale
    );
    let first = world.act(&set(POLICY, None)).await.unwrap().digest;
    let tighter = r#"@id("none") forbid (principal, action, resource);"#;
    // Two changes of the same text: the second was agreed to against what stands no more.
    let second = world.act(&set(tighter, Some(first))).await.unwrap().digest;
    for stale in [None, Some(first), Some(other)] {
        let refused = world.act(&set(POLICY, stale)).await.unwrap_err();
        assert_eq!(refused.refusal, Refusal::Stale);
        assert!(refused.detail.unwrap().contains(&second.to_string()));
    }
}

#[tokio::test]
async fn a_set_is_followed_by_the_next_one_only() {
    // rule: SET-3, SET-4, SET-6, ADM-5
    let mut world = World::new().await;
    let [one, two] = &world.admins.managers;
    let third = AdminSecret::generate(&mut rng());
    let mut admins = world.admins.all();
    admins.push(admin("manager-3", &third, &MANAGES));
    let next = second(&world, admins.clone());
    // What does not hold.
    let mut lowered = next.clone();
    lowered.quorums.insert(Act::PolicySet, 1);
    let overlap = second(
        &world,
        vec![
            admin(
                "both",
                &world.admins.operator,
                &[AdminRole::Operator, AdminRole::Security],
            ),
            admins[1].clone(),
            admins[2].clone(),
        ],
    );
    let skips = AdminSetBody {
        version: 3,
        ..next.clone()
    };
    let forked = AdminSetBody {
        follows: AdminSetDigest([7; 32]),
        ..next.clone()
    };
    for (body, expected) in [
        (lowered, Refusal::Invalid),
        (overlap, Refusal::Invalid),
        (skips, Refusal::Invalid),
        (forked, Refusal::Stale),
    ] {
        assert_eq!(refusal(world.record(&body).await), expected);
    }
    // A set for one server could not be shown to the others.
    assert!(world.act(&next).await.is_err());
    let before = world.broker().realm().admins.current();
    assert_eq!((before.version(), world.alarms()), (1, Vec::new()));

    world.record_by(&next, &[one, two]).await.unwrap();
    assert_eq!(world.alarms(), [Alarm::AdminSet]);
    // Another second set, signed by the same, comes too late: there is one history.
    let mut rival = world.admins.all();
    rival.push(admin("rival", &AdminSecret::generate(&mut rng()), &MANAGES));
    assert_eq!(
        refusal(world.record(&second(&world, rival)).await),
        Refusal::Stale
    );
    // Who came in counts at once, also after a restart.
    for _ in 0..2 {
        world.act_by(&StatusShow {}, &[&third]).await.unwrap();
        let current = world.broker().realm().admins.current();
        assert_eq!((current.version(), current.admins().len()), (2, 4));
        world.restart().await;
    }
    let page = world.act(&AdminSetShow { after: 0 }).await.unwrap();
    assert_eq!((page.statements.len(), page.more), (2, false));
    let now = world.now();
    let first = AdminSet::first(&page.statements[0], REALM, now).unwrap();
    let shown = first.follow(&page.statements[1..], REALM, now).unwrap();
    assert_eq!(shown, *world.broker().realm().admins.current());
    assert_eq!(
        world
            .act(&AdminSetShow { after: 1 })
            .await
            .unwrap()
            .statements,
        page.statements[1..]
    );
}

#[tokio::test]
async fn a_removed_admin_counts_nowhere_any_more() {
    // rule: SET-2
    let world = World::new().await;
    let [one, two] = &world.admins.managers;
    let third = AdminSecret::generate(&mut rng());
    let mut admins = world.admins.all();
    admins.retain(|admin| admin.name != "manager-1");
    admins.push(admin("manager-3", &third, &MANAGES));
    // Signed while he was an admin, sent when he is none.
    let policy = PolicySet {
        text: POLICY.to_owned(),
        replaces: None,
    };
    let early = world.payload(&policy).sign(&[one, two]).unwrap();
    world
        .record_by(&second(&world, admins), &[one, two])
        .await
        .unwrap();
    assert_eq!(
        refusal(world.send_statement::<PolicySet>(&early).await),
        Refusal::StatementSignature
    );
    assert_eq!(
        refusal(world.act_by(&StatusShow {}, &[one]).await),
        Refusal::StatementSignature
    );
    world.act_by(&policy, &[two, &third]).await.unwrap();
    // His key stays registered: it becomes nothing else.
    let terms = LaunchCreate {
        key: LaunchSecret::from_seed(&one.seed()).public(),
        ..launch_terms(&world)
    };
    assert_eq!(refusal(world.record(&terms).await), Refusal::KeyReused);
}

#[tokio::test]
async fn an_act_that_races_with_its_signers_removal_is_done_before_or_not_at_all() {
    // rule: SET-2
    for _ in 0..8 {
        let world = Arc::new(World::new().await);
        let [one, two] = &world.admins.managers;
        let third = AdminSecret::generate(&mut rng());
        let mut admins = world.admins.all();
        admins.retain(|admin| admin.name != "manager-1");
        admins.push(admin("manager-3", &third, &MANAGES));
        let policy = PolicySet {
            text: POLICY.to_owned(),
            replaces: None,
        };
        let policy = world.payload(&policy).sign(&[one, two]).unwrap();
        let set = statement(&world, &second(&world, admins), &[one, two]);
        let (by_policy, by_set) = (Arc::clone(&world), Arc::clone(&world));
        let (policy, set) = tokio::join!(
            tokio::spawn(async move { by_policy.send_statement::<PolicySet>(&policy).await }),
            tokio::spawn(async move { by_set.send_statement::<AdminSetBody>(&set).await }),
        );
        set.unwrap().unwrap();
        let entries = world.entries();
        let place = |policy_set: bool| {
            entries.iter().position(|entry| {
                entry.kind == Kind::Statement && entry.policy.is_some() == policy_set
            })
        };
        match policy.unwrap() {
            Ok(_) => assert!(place(true) < place(false), "the policy came first"),
            Err(notice) => assert_eq!(notice.refusal, Refusal::StatementSignature),
        }
    }
}

#[tokio::test]
async fn the_set_in_the_store_decides_and_not_the_one_in_memory() {
    // rule: SET-2
    let world = World::new().await;
    let [one, two] = &world.admins.managers;
    let third = AdminSecret::generate(&mut rng());
    let mut admins = world.admins.all();
    admins.retain(|admin| admin.name != "manager-1");
    admins.push(admin("manager-3", &third, &MANAGES));
    let body = second(&world, admins);
    let set = statement(&world, &body, &[one, two]);
    // As a moment after a commit that memory has not heard of.
    let head = broker::state::AdminSetHead {
        version: 2,
        digest: AdminSet::new(body).unwrap().digest(),
    };
    let keys = (
        broker::state::keys::admin_set(2),
        broker::state::keys::ADMIN_SET_HEAD,
    );
    world.put_raw(&keys.0, set).await;
    world.put(keys.1, &head).await;
    assert_eq!(
        refusal(world.act_by(&StatusShow {}, &[one]).await),
        Refusal::StatementSignature
    );
    world.act_by(&StatusShow {}, &[&third]).await.unwrap();
}

#[tokio::test]
async fn an_admins_key_is_for_statements_only() {
    // rule: SET-4, SIG-5
    let world = World::new().await;
    world.dataset().await;
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    node.login(&world, &launch).await.unwrap();
    // Keys that are something else already: a node's, a launch's, a key server's, the broker's.
    for taken in [
        node.key.seed(),
        launch.secret.seed(),
        world.server.seed(),
        world.tls.seed(),
    ] {
        let key = AdminSecret::from_seed(&taken);
        let mut admins = world.admins.all();
        admins.push(admin("manager-3", &key, &MANAGES));
        let refused = world.record(&second(&world, admins)).await.unwrap_err();
        assert_eq!(refused.refusal, Refusal::KeyReused);
        assert!(refused.detail.unwrap().contains("manager-3"));
    }
    // And the other way round.
    let key = world.admins.managers[0].public();
    let record = DatasetRecord {
        server_key: ServerKey::from_bytes(&key.to_bytes()).unwrap(),
        dataset: ticket_format::ids::DatasetId([3; 16]),
        name: "voices".to_owned(),
        ..world.dataset_record()
    };
    assert_eq!(refusal(world.record(&record).await), Refusal::KeyReused);
}

#[tokio::test]
async fn a_dataset_is_its_owners() {
    // rule: SET-5
    let world = World::new().await;
    let others = [
        AdminSecret::generate(&mut rng()),
        AdminSecret::generate(&mut rng()),
    ];
    let [one, two] = &world.admins.managers;
    let [three, four] = &others;
    let mut admins = world.admins.all();
    admins.push(admin("owner-3", three, &[AdminRole::DatasetOwner]));
    admins.push(admin("owner-4", four, &[AdminRole::DatasetOwner]));
    world.record(&second(&world, admins.clone())).await.unwrap();
    let mut theirs: Vec<_> = others.iter().map(AdminSecret::public).collect();
    theirs.sort();
    let record = world.dataset_record();
    // Nobody records a dataset for others, nor one that nobody could ever change.
    assert_eq!(
        refusal(world.record_by(&record, &[three, four]).await),
        Refusal::Quorum
    );
    let alone = DatasetRecord {
        owners: vec![one.public()],
        ..record.clone()
    };
    assert_eq!(refusal(world.record(&alone).await), Refusal::Invalid);
    let mut stranger = vec![one.public(), world.admins.operator.public()];
    stranger.sort();
    let stranger = DatasetRecord {
        owners: stranger,
        ..record.clone()
    };
    assert_eq!(refusal(world.record(&stranger).await), Refusal::Invalid);
    world.record_by(&record, &[one, two]).await.unwrap();
    // A newer record needs the quorum of the owners; other holders of the role do not count.
    let newer = DatasetRecord {
        kek_version: 2,
        follows: record.digest(),
        ..record.clone()
    };
    for by in [&[three, four][..], &[one, three]] {
        assert_eq!(refusal(world.record_by(&newer, by).await), Refusal::Quorum);
    }
    world.record_by(&newer, &[one, two]).await.unwrap();
    // Nor do they take it over alone; they do with security, and then the old owners do not count.
    let taken = DatasetRecord {
        owners: theirs,
        follows: newer.digest(),
        ..newer.clone()
    };
    assert_eq!(
        refusal(world.record_by(&taken, &[three, four]).await),
        Refusal::Quorum
    );
    assert_eq!(
        refusal(world.record_by(&taken, &[three, four, one]).await),
        Refusal::Quorum
    );
    world
        .record_by(&taken, &[three, four, one, two])
        .await
        .unwrap();
    let back = DatasetRecord {
        kek_version: 3,
        follows: taken.digest(),
        ..taken.clone()
    };
    assert_eq!(
        refusal(world.record_by(&back, &[one, two]).await),
        Refusal::Quorum
    );
    world.record_by(&back, &[three, four]).await.unwrap();
    let shown = world
        .act(&DatasetShow {
            name: "faces".to_owned(),
        })
        .await
        .unwrap();
    assert_eq!((shown.owners, shown.lease), (taken.owners, 5));
}

#[tokio::test]
async fn a_configuration_that_contradicts_the_history_starts_nothing() {
    // rule: SET-3
    let mut world = World::new().await;
    let first = world.configured.clone();
    let third = AdminSecret::generate(&mut rng());
    let mut admins = world.admins.all();
    admins.push(admin("manager-3", &third, &MANAGES));
    let set = second(&world, admins);
    let [one, two] = &world.admins.managers;
    let newer = statement(&world, &set, &[one, two]);
    // Of another house, in the same realm.
    let elsewhere = support::admins::Admins::new().first;
    // Ahead of the history.
    world.stop().await;
    for configured in [elsewhere, newer.clone()] {
        world.configured = configured;
        let error = world.start(broker::Limits::default()).await.unwrap_err();
        assert!(matches!(error, StartError::AdminSet(_)), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    // Any one of the history will do, and the newest is in force.
    world.configured = first.clone();
    world.start(broker::Limits::default()).await.unwrap();
    world.send_statement::<AdminSetBody>(&newer).await.unwrap();
    for configured in [first, newer] {
        world.stop().await;
        world.configured = configured;
        world.start(broker::Limits::default()).await.unwrap();
        assert_eq!(world.broker().realm().admins.current().version(), 2);
        world.act_by(&StatusShow {}, &[&third]).await.unwrap();
    }
}

#[tokio::test]
async fn a_new_store_takes_a_later_set_as_its_first() {
    // rule: SET-3
    let mut world = World::new().await;
    let [one, two] = &world.admins.managers;
    let later = second(&world, world.admins.all());
    let later = statement(&world, &later, &[one, two]);
    world.stop().await;
    world.remove();
    world.configured = later;
    world.start(broker::Limits::default()).await.unwrap();
    assert_eq!(world.broker().realm().admins.current().version(), 2);
    assert_eq!(
        world
            .act(&AdminSetShow { after: 0 })
            .await
            .unwrap()
            .statements
            .len(),
        1
    );
    world.restart().await;
}

#[tokio::test]
async fn a_store_with_an_older_admin_set_than_the_log_starts_nothing() {
    // rule: SET-3
    let mut world = World::new().await;
    world.stop().await;
    let old = std::fs::read(world.path("store.redb")).unwrap();
    world.start(broker::Limits::default()).await.unwrap();
    let mut admins = world.admins.all();
    admins.retain(|admin| admin.name != "manager-1");
    let third = AdminSecret::generate(&mut rng());
    admins.push(admin("manager-3", &third, &MANAGES));
    world.record(&second(&world, admins)).await.unwrap();
    world.stop().await;
    std::fs::write(world.path("store.redb"), old).unwrap();
    let error = world.start(broker::Limits::default()).await.unwrap_err();
    assert_eq!(
        error,
        StartError::OldAdminSet {
            logged: 2,
            stored: 1
        }
    );
}

#[tokio::test]
async fn a_dataset_record_that_was_held_back_is_not_taken_after_another() {
    // rule: ADM-5
    let world = World::new().await;
    let record = world.dataset_record();
    world.record(&record).await.unwrap();
    // Two agree to another lease, and one of them keeps the statement.
    let held_back = DatasetRecord {
        lease: 300,
        follows: record.digest(),
        ..record.clone()
    };
    let kept = Payload::record(
        StatementId::random(&mut rng()),
        REALM,
        world.now(),
        &held_back,
    );
    let [one, two] = &world.admins.managers;
    let kept = kept.sign(&[one, two]).unwrap();
    let newer = DatasetRecord {
        evidence: true,
        follows: record.digest(),
        ..record.clone()
    };
    world.record(&newer).await.unwrap();
    assert_eq!(
        refusal(world.send_statement::<DatasetRecord>(&kept).await),
        Refusal::Stale
    );
    // A first record of a dataset that is known is none either.
    assert_eq!(refusal(world.record(&record).await), Refusal::Stale);
    let shown = world
        .act(&DatasetShow {
            name: record.name.clone(),
        })
        .await
        .unwrap();
    assert_eq!((shown.lease, shown.evidence), (record.lease, true));
}
