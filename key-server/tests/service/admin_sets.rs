//! The admin set at a key server: SET-1 to SET-6, ADM-5.

use key_server::admins::HistoryError;
use key_server::service::StartError;
use ticket_format::Refusal;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{AdminSetDigest, DekId, PolicyDigest, StatementId};
use ticket_format::keys::{AdminSecret, ProducerKey, ProducerSecret};
use ticket_format::statement::datasets::policy_digest;
use ticket_format::statement::{
    AdminSet, AdminSetBody, AdminSetShow, Canary, CanarySet, DatasetOwnersSet, DatasetPolicySet,
    DatasetSet, DatasetShow, Payload, ProducerAdd,
};

use crate::rig::{
    MANAGES, POLICY, Rig, World, admin, first_digest, manager, operator, owners, refusal, rig, rng,
    set_of, set_statement, wanted,
};

/// The set after the first: these managers.
fn second(managers: &[u8]) -> AdminSetBody {
    set_of(2, first_digest(), managers)
}

async fn replace(rig: &Rig, body: &AdminSetBody, signers: &[&AdminSecret]) -> Result<(), Refusal> {
    let sent = rig.send_statement(&set_statement(body, signers)).await;
    sent.map(drop).map_err(|notice| notice.refusal)
}

fn policy() -> DatasetPolicySet {
    DatasetPolicySet {
        name: "faces".into(),
        text: "@id(\"all\") permit (principal, action, resource);".into(),
        replaces: policy_digest(POLICY),
    }
}

fn options(canary: Canary) -> DatasetSet {
    DatasetSet {
        rotation: Default::default(),
        class: Default::default(),
        name: "faces".into(),
        max_budget: 7,
        max_life: 60,
        kems: wanted("faces").kems,
        lease: 30,
        evidence: false,
        canary,
        witnessing: wanted("faces").witnessing,
    }
}

fn producer() -> ProducerAdd {
    ProducerAdd {
        name: "faces".into(),
        producer: ProducerSecret::generate(&mut rng()).public(),
    }
}

fn canary() -> CanarySet {
    CanarySet {
        name: "faces".into(),
        dek: DekId([1; 16]),
        canary: Canary::Alarm,
    }
}

fn new_owners(managers: &[u8]) -> DatasetOwnersSet {
    DatasetOwnersSet {
        name: "faces".into(),
        owners: owners(managers),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_alone_does_what_needs_two_and_each_attempt_is_listed() {
    // rule: SET-2, SET-3
    let rig = rig().await;
    let alone = manager(0);
    let by = [&alone];
    let tried = [
        refusal(rig.administer_by(&policy(), &by).await),
        refusal(rig.administer_by(&options(Canary::No), &by).await),
        refusal(rig.administer_by(&producer(), &by).await),
        refusal(rig.administer_by(&new_owners(&[0]), &by).await),
        replace(&rig, &second(&[0, 1]), &by).await.unwrap_err(),
    ];
    assert_eq!(tried, [Refusal::Quorum; 5]);
    let entry = rig.entries().pop().unwrap();
    assert_eq!(
        (entry.kind, entry.outcome, entry.signers),
        (
            Kind::Statement,
            Err(Refusal::Quorum),
            Some(vec!["manager-0".to_owned()])
        )
    );
    // Nor together with one who holds another role, or with himself.
    let (operator, one) = (operator(), manager(0));
    assert_eq!(
        refusal(rig.administer_by(&policy(), &[&one, &operator]).await),
        Refusal::Quorum
    );
    let show = DatasetShow {
        name: "faces".into(),
    };
    let view = rig.administer(&show).await.unwrap();
    assert_eq!(view.policy.as_deref(), Some(POLICY));
    assert_eq!((view.producers.len(), view.max_budget), (0, 10_000));
    assert_eq!(rig.service.state.admins.current().version(), 1);
    // An operator makes no dataset.
    assert_eq!(
        refusal(rig.administer_by(&wanted("voices"), &[&operator]).await),
        Refusal::Quorum
    );
    assert!(rig.administer_by(&wanted("voices"), &by).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_owners_act_on_their_dataset_until_security_says_otherwise() {
    // rule: SET-5
    let rig = rig().await;
    let (zero, one, two) = (manager(0), manager(1), manager(2));
    for other in [&zero, &one] {
        let by = [&two, other];
        let tried = [
            refusal(rig.administer_by(&policy(), &by).await),
            refusal(rig.administer_by(&options(Canary::No), &by).await),
            refusal(rig.administer_by(&producer(), &by).await),
        ];
        assert_eq!(tried, [Refusal::Quorum; 3]);
    }
    assert_eq!(
        refusal(rig.administer_by(&canary(), &[&two]).await),
        Refusal::Quorum
    );
    rig.administer_by(&canary(), &[&one]).await.unwrap();
    let by = [&zero, &two];
    let view = rig.administer_by(&new_owners(&[0, 2]), &by).await.unwrap();
    assert_eq!(view.owners, owners(&[0, 2]));
    assert_eq!(
        refusal(rig.administer_by(&policy(), &[&zero, &one]).await),
        Refusal::Quorum
    );
    let rig = rig.restart().await;
    rig.administer_by(&policy(), &by).await.unwrap();
    assert_eq!(
        refusal(rig.administer_by(&canary(), &[&one]).await),
        Refusal::Quorum
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_admins_who_hold_the_role() {
    // rule: SET-5
    let rig = rig().await;
    let mut body = wanted("voices");
    for stranger in [operator(), AdminSecret::generate(&mut rng())] {
        body.owners = vec![stranger.public()];
        assert_eq!(refusal(rig.administer(&body).await), Refusal::Invalid);
        let set = DatasetOwnersSet {
            name: "faces".into(),
            owners: vec![stranger.public()],
        };
        assert_eq!(refusal(rig.administer(&set).await), Refusal::Invalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_take_effect_and_stay() {
    let rig = rig().await;
    let view = rig.administer(&options(Canary::Alarm)).await.unwrap();
    assert_eq!((view.max_budget, view.max_life, view.lease), (7, 60, 30));
    assert_eq!(view.canary, Some(Canary::Alarm));
    let mut none = options(Canary::No);
    none.max_life = 0;
    assert_eq!(refusal(rig.administer(&none).await), Refusal::Invalid);
    let rig = rig.restart().await;
    let show = DatasetShow {
        name: "faces".into(),
    };
    assert_eq!(rig.administer(&show).await.unwrap(), view);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_replaces_the_one_that_its_signers_saw() {
    // rule: ADM-5
    let rig = rig().await;
    let mut stale = policy();
    stale.replaces = PolicyDigest([1; 32]);
    assert_eq!(refusal(rig.administer(&stale).await), Refusal::Stale);
    rig.administer(&policy()).await.unwrap();
    assert_eq!(refusal(rig.administer(&policy()).await), Refusal::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admins_key_is_no_producers() {
    // rule: SET-4, SIG-5
    let rig = rig().await;
    let key = ProducerKey::from_bytes(&operator().public().to_bytes()).unwrap();
    let add = ProducerAdd {
        name: "faces".into(),
        producer: key,
    };
    assert_eq!(refusal(rig.administer(&add).await), Refusal::KeyReused);
    let mut body = wanted("voices");
    body.producers = vec![key];
    assert_eq!(refusal(rig.administer(&body).await), Refusal::KeyReused);
    // Nor does a producer, or the server, become an admin.
    let secret = [0x77; 32];
    let add = ProducerAdd {
        name: "faces".into(),
        producer: ProducerSecret::from_seed(&secret).public(),
    };
    rig.administer(&add).await.unwrap();
    for seed in [secret, *rig.world.signing.seed()] {
        let mut body = second(&[0, 1]);
        let key = AdminSecret::from_seed(&seed).public();
        body.admins.push(admin("other", key, &MANAGES));
        body.admins.sort_by_key(|admin| admin.key);
        let replaced = replace(&rig, &body, &[&manager(0), &manager(1)]).await;
        assert_eq!(replaced, Err(Refusal::KeyReused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_admin_signs_nothing_any_more() {
    // rule: SET-2, SET-6
    let rig = rig().await;
    let (zero, one, two) = (manager(0), manager(1), manager(2));
    // Signed while he was an admin, and not sent yet.
    let early = rig.statement_by(&new_owners(&[0, 2]), &[&one, &two]);
    replace(&rig, &second(&[0, 2]), &[&zero, &two])
        .await
        .unwrap();
    let alarm = rig.entries().pop().unwrap();
    assert_eq!(
        (
            alarm.kind,
            alarm.alarm,
            alarm.signers.map(|names| names.len())
        ),
        (Kind::Alarm, Some(Alarm::AdminSet), Some(2))
    );
    assert_eq!(rig.service.metrics.alarms(Alarm::AdminSet), 1);
    assert_eq!(
        refusal(rig.send_statement(&early).await),
        Refusal::StatementSignature
    );
    let show = DatasetShow {
        name: "faces".into(),
    };
    assert_eq!(
        refusal(rig.administer_by(&show, &[&one]).await),
        Refusal::StatementSignature
    );
    // The owner that is gone leaves the dataset with one: security names others.
    assert_eq!(
        refusal(rig.administer_by(&policy(), &[&zero, &two]).await),
        Refusal::Quorum
    );
    let rig = rig.restart().await;
    assert_eq!(rig.service.state.admins.current().version(), 2);
    rig.administer_by(&new_owners(&[0, 2]), &[&zero, &two])
        .await
        .unwrap();
    rig.administer_by(&policy(), &[&zero, &two]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_who_is_removed_while_his_statement_is_decided_signs_nothing() {
    // rule: SET-2
    let rig = std::sync::Arc::new(rig().await);
    let (zero, one, two) = (manager(0), manager(1), manager(2));
    let late = rig.statement_by(&new_owners(&[1, 2]), &[&one, &two]);
    let set = set_statement(&second(&[0, 2]), &[&zero, &two]);
    let other = std::sync::Arc::clone(&rig);
    rig.world.cut_off.meanwhile(async move {
        other.send_statement(&set).await.unwrap();
    });
    assert_eq!(refusal(rig.send_statement(&late).await), Refusal::Stale);
    let show = DatasetShow {
        name: "faces".into(),
    };
    let view = rig.administer_by(&show, &[&zero]).await.unwrap();
    assert_eq!(view.owners, owners(&[0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_set_that_does_not_follow_is_refused() {
    // rule: SET-3, ADM-5
    let rig = rig().await;
    let (zero, one, two) = (manager(0), manager(1), manager(2));
    let by = [&zero, &one];
    // Invented by somebody who holds no key of the set in force, as a broker might.
    let thief = [
        AdminSecret::generate(&mut rng()),
        AdminSecret::generate(&mut rng()),
    ];
    let mut invented = second(&[]);
    let named = [("a", &thief[0]), ("b", &thief[1])];
    let thieves = named.map(|(name, key)| admin(name, key.public(), &MANAGES));
    invented.admins.extend(thieves);
    invented.admins.sort_by_key(|admin| admin.key);
    let signers = [&thief[0], &thief[1]];
    assert_eq!(
        replace(&rig, &invented, &signers).await,
        Err(Refusal::StatementSignature)
    );
    let mut skipped = second(&[0, 1]);
    skipped.version = 3;
    assert_eq!(replace(&rig, &skipped, &by).await, Err(Refusal::Invalid));
    let mut forked = second(&[0, 1]);
    forked.follows = AdminSetDigest([9; 32]);
    assert_eq!(replace(&rig, &forked, &by).await, Err(Refusal::Stale));
    let mut lone = second(&[0, 1]);
    lone.quorums
        .insert(ticket_format::statement::Act::AdminSet, 1);
    assert_eq!(replace(&rig, &lone, &by).await, Err(Refusal::Invalid));
    // The second version is one: another one comes too late.
    replace(&rig, &second(&[0, 1]), &by).await.unwrap();
    assert_eq!(
        replace(&rig, &second(&[0, 1, 2]), &by).await,
        Err(Refusal::Stale)
    );
    let _ = two;
    assert_eq!(rig.service.state.admins.current().version(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_set_counts_once_and_the_history_is_shown() {
    // rule: ADM-2, ADM-3
    let rig = rig().await;
    let statement = set_statement(&second(&[0, 1]), &[&manager(0), &manager(1)]);
    rig.send_statement(&statement).await.unwrap();
    assert_eq!(
        refusal(rig.send_statement(&statement).await),
        Refusal::StatementReplayed
    );
    let page = rig.administer(&AdminSetShow { after: 0 }).await.unwrap();
    assert_eq!(
        page.statements,
        [rig.world.admin_set.clone(), statement.clone()]
    );
    let rig = rig.restart().await;
    let page = rig.administer(&AdminSetShow { after: 1 }).await.unwrap();
    assert_eq!((page.statements, page.more), (vec![statement], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_a_set_that_is_none_of_its_history() {
    // rule: SET-3
    let rig = rig().await;
    let next = second(&[0, 1]);
    let statement = set_statement(&next, &[&manager(0), &manager(1)]);
    rig.send_statement(&statement).await.unwrap();
    rig.service.close().await;
    drop(rig.service);
    let mut world = rig.world;
    // Either of them is fine, also the newer one.
    world.admin_set = statement;
    let (service, _) = world.try_start().await.unwrap();
    assert_eq!(service.state.admins.current().version(), 2);
    service.close().await;
    drop(service);
    // Another second set, a later one, another first one.
    let fork = set_statement(&second(&[0, 2]), &[&manager(0), &manager(1)]);
    let digest = AdminSet::new(next).unwrap().digest();
    let third = set_of(3, digest, &[0, 1, 2]);
    let third = set_statement(&third, &[&manager(0), &manager(1)]);
    let mut others = set_of(1, AdminSetBody::NOTHING, &[0, 1]);
    others.quorums = AdminSetBody::usual_quorums(2);
    let others = set_statement(&others, &[&operator(), &manager(0), &manager(1)]);
    for set in [fork, third, others] {
        world.admin_set = set;
        let error = world.try_start().await.err().unwrap();
        assert!(
            matches!(
                error,
                StartError::Admins(HistoryError::Contradiction { .. })
            ),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_set_is_signed_by_all_its_admins_and_is_of_the_realm() {
    // rule: SET-3
    let body = set_of(1, AdminSetBody::NOTHING, &[0, 1]);
    let mut world = World::new();
    world.admin_set = set_statement(&body, &[&manager(0), &manager(1)]);
    let refused = world.try_start().await.err().unwrap();
    assert!(matches!(
        refused,
        StartError::Admins(HistoryError::Configured(_))
    ));
    let (id, now) = (
        StatementId::random(&mut rng()),
        ticket_format::time::Timestamp::from_seconds(1),
    );
    let all = [operator(), manager(0), manager(1)];
    let other = Payload::record(id, "other", now, &body);
    world.admin_set = other.sign(&all.each_ref()).unwrap();
    let refused = world.try_start().await.err().unwrap();
    assert!(matches!(
        refused,
        StartError::Admins(HistoryError::Configured(_))
    ));
    // A later set can be named too; whose quorum it had is not known here, but its realm is.
    let later = set_of(2, AdminSet::new(body).unwrap().digest(), &[0, 1]);
    let other = Payload::record(id, "other", now, &later);
    world.admin_set = other.sign(&all.each_ref()).unwrap();
    let refused = world.try_start().await.err().unwrap();
    assert!(matches!(
        refused,
        StartError::Admins(HistoryError::Configured(_))
    ));
    world.admin_set = set_statement(&later, &[&manager(0), &manager(1)]);
    let (service, _) = world.try_start().await.unwrap();
    assert_eq!(service.state.admins.current().version(), 2);
}
