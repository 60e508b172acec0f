//! Aliases: set, moved, taken away, and asked for.
#![allow(missing_docs)]

mod support;

use support::admins::{MANAGES, admin, set_of};
use support::{Held, Node, REALM, SYDNEY, World, refusal, rng};
use ticket_format::cbor::{Decode, Encode};
use ticket_format::denial::Selector;
use ticket_format::ids::DatasetId;
use ticket_format::ids::StatementId;
use ticket_format::keys::{AdminSecret, ProofSecret};
use ticket_format::messages::alias::{AliasAnswer, AliasBody};
use ticket_format::messages::{RefusalNotice, Verb};
use ticket_format::statement::{
    AliasList, AliasRow, AliasSet, AliasTarget, DatasetRecord, Payload, ReceivedStatement,
};
use ticket_format::time::Timestamp;
use ticket_format::{Refusal, labels, limits, ticket};

fn target(record: &DatasetRecord) -> AliasTarget {
    AliasTarget {
        dataset: record.dataset,
        name: record.name.clone(),
    }
}

fn alias(to: Option<&DatasetRecord>, before: Option<&AliasSet>) -> AliasSet {
    AliasSet {
        alias: "current".to_owned(),
        target: to.map(target),
        follows: before.map_or(AliasSet::FIRST, AliasSet::digest),
    }
}

/// Another dataset at the same key server.
fn another(of: &DatasetRecord, name: &str) -> DatasetRecord {
    DatasetRecord {
        dataset: DatasetId::random(&mut rng()),
        name: name.to_owned(),
        ..of.clone()
    }
}

async fn two_datasets(world: &World) -> [DatasetRecord; 2] {
    let first = world.dataset_record();
    let second = another(&first, "faces-2027");
    world.record(&first).await.unwrap();
    world.record(&second).await.unwrap();
    [first, second]
}

async fn node(world: &World) -> (Node, Held) {
    let launch = world.launch(&SYDNEY, |_| {}).await;
    let mut node = Node::boot(&SYDNEY);
    let held = node.login(world, &launch).await.unwrap();
    (node, held)
}

async fn ask(
    world: &World,
    held: &Held,
    key: &ProofSecret,
    name: &str,
) -> Result<AliasSet, RefusalNotice> {
    let connection = world.connect();
    let body = AliasBody {
        ticket: held.bytes.clone(),
        alias: name.to_owned(),
    }
    .to_cbor();
    let hash = Some(ticket::hash(&held.bytes));
    let channel = &connection.channel;
    let proof = channel.sign_with(key, labels::ALIAS_REQUEST, hash, &body);
    let (answer, _) = connection.send(Verb::Alias, &body, &[proof]).await?;
    let answer = AliasAnswer::from_cbor(&answer, limits::SMALL_MESSAGE).unwrap();
    let received = ReceivedStatement::parse(&answer.statement).unwrap();
    Ok(AliasSet::from_cbor(&received.payload().body, limits::RECORD).unwrap())
}

async fn rows(world: &World) -> Vec<AliasRow> {
    world.act(&AliasList::first()).await.unwrap().rows
}

#[tokio::test]
async fn an_alias_is_swapped_in_one_act_and_outlives_a_restart() {
    // rule: ALI-1, ALI-2
    let mut world = World::new().await;
    let [first, second] = two_datasets(&world).await;
    let (_, held) = node(&world).await;
    let key = &held.proof_key;
    let unknown = refusal(ask(&world, &held, key, "current").await);
    assert_eq!(unknown, Refusal::DatasetUnknown);
    let one = alias(Some(&first), None);
    world.record(&one).await.unwrap();
    assert_eq!(ask(&world, &held, key, "current").await.unwrap(), one);
    let two = alias(Some(&second), Some(&one));
    world.record(&two).await.unwrap();
    assert_eq!(ask(&world, &held, key, "current").await.unwrap(), two);
    world.restart().await;
    assert_eq!(ask(&world, &held, key, "current").await.unwrap(), two);
    let gone = alias(None, Some(&two));
    world.record(&gone).await.unwrap();
    let unknown = refusal(ask(&world, &held, key, "current").await);
    assert_eq!(unknown, Refusal::DatasetUnknown);
    let row = AliasRow {
        alias: "current".to_owned(),
        target: None,
        record: gone.digest(),
    };
    assert_eq!(rows(&world).await, [row]);
    // Its name is no dataset's from now on: old records of it are signed still.
    let named = DatasetRecord {
        name: "current".to_owned(),
        ..world.dataset_record()
    };
    assert_eq!(refusal(world.record(&named).await), Refusal::Exists);
    // What is gone is not taken away again, but given again.
    let again = alias(None, Some(&gone));
    assert_eq!(refusal(world.record(&again).await), Refusal::NotFound);
    world
        .record(&alias(Some(&first), Some(&gone)))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_alias_names_what_it_replaces_a_dataset_that_is_there_and_no_datasets_name() {
    // rule: ALI-1, ADM-5
    let world = World::new().await;
    let [first, second] = two_datasets(&world).await;
    let one = alias(Some(&first), None);
    // Two agree to it, and one of them keeps the statement.
    let kept = alias(Some(&second), Some(&one));
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, world.now(), &kept);
    let [a, b] = &world.admins.managers;
    let kept = payload.sign(&[a, b]).unwrap();
    world.record(&one).await.unwrap();
    let there = alias(None, Some(&one));
    world.record(&there).await.unwrap();
    world
        .record(&alias(Some(&first), Some(&there)))
        .await
        .unwrap();
    let late = world.send_statement::<AliasSet>(&kept).await;
    assert_eq!(refusal(late), Refusal::Stale);
    let fresh = |name: &str, to: AliasTarget| AliasSet {
        alias: name.to_owned(),
        target: Some(to),
        follows: AliasSet::FIRST,
    };
    // What was made before the one that it replaces looks older to nodes.
    let earlier = alias(Some(&second), Some(&alias(Some(&first), Some(&there))));
    let before = Timestamp::from_seconds(world.now().seconds() - 1);
    let payload = Payload::record(StatementId::random(&mut rng()), REALM, before, &earlier);
    let earlier = payload.sign(&[a, b]).unwrap();
    let earlier = world.send_statement::<AliasSet>(&earlier).await;
    assert_eq!(refusal(earlier), Refusal::Stale);
    let taken = fresh(&second.name, target(&first));
    assert_eq!(refusal(world.record(&taken).await), Refusal::Exists);
    let nobody = fresh("other", target(&another(&first, "x")));
    assert_eq!(
        refusal(world.record(&nobody).await),
        Refusal::DatasetUnknown
    );
    // Id and name must be of one dataset.
    let crossed = AliasTarget {
        dataset: first.dataset,
        name: second.name.clone(),
    };
    let crossed = refusal(world.record(&fresh("other", crossed)).await);
    assert_eq!(crossed, Refusal::DatasetUnknown);
    // One that is for this broker alone can be shown to nobody.
    let alone = world.act(&fresh("other", target(&first))).await;
    assert_eq!(refusal(alone), Refusal::Invalid);
    // And no dataset takes the name of an alias.
    let named = world.record(&another(&first, "current")).await;
    assert_eq!(refusal(named), Refusal::Exists);
}

#[tokio::test]
async fn the_owners_of_both_datasets_agree_to_a_swap() {
    // rule: ALI-1, SET-5
    let world = World::new().await;
    let others = [
        AdminSecret::generate(&mut rng()),
        AdminSecret::generate(&mut rng()),
    ];
    let mut admins = world.admins.all();
    admins.push(admin("manager-3", &others[0], &MANAGES));
    admins.push(admin("manager-4", &others[1], &MANAGES));
    let set = world.broker().realm().admins.current();
    world
        .record(&set_of(2, set.digest(), admins))
        .await
        .unwrap();
    let first = world.dataset_record();
    world.record(&first).await.unwrap();
    let mut second = another(&first, "faces-2027");
    second.owners = others.iter().map(AdminSecret::public).collect();
    second.owners.sort_unstable();
    let [c, d] = &others;
    world.record_by(&second, &[c, d]).await.unwrap();
    let [a, b] = &world.admins.managers;
    let one = alias(Some(&first), None);
    for by in [[a, c], [c, d]] {
        assert_eq!(refusal(world.record_by(&one, &by).await), Refusal::Quorum);
    }
    world.record_by(&one, &[a, b]).await.unwrap();
    let two = alias(Some(&second), Some(&one));
    for by in [[a, b], [c, d]] {
        assert_eq!(refusal(world.record_by(&two, &by).await), Refusal::Quorum);
    }
    world.record_by(&two, &[a, b, c, d]).await.unwrap();
    let gone = alias(None, Some(&two));
    assert_eq!(
        refusal(world.record_by(&gone, &[a, b]).await),
        Refusal::Quorum
    );
    world.record_by(&gone, &[c, d]).await.unwrap();
}

#[tokio::test]
async fn only_the_holder_of_a_live_node_ticket_hears_what_an_alias_names() {
    // rule: ALI-2
    let world = World::new().await;
    let [first, _] = two_datasets(&world).await;
    world.record(&alias(Some(&first), None)).await.unwrap();
    let (_, held) = node(&world).await;
    let key = &held.proof_key;
    let stranger = ProofSecret::generate(&mut rng());
    let other = ask(&world, &held, &stranger, "current").await;
    assert_eq!(refusal(other), Refusal::Possession);
    ask(&world, &held, key, "current").await.unwrap();
    world
        .deny(Selector::node(held.claims(&world).common.node().clone()))
        .await;
    let denied = ask(&world, &held, key, "current").await;
    assert_eq!(refusal(denied), Refusal::Denied);
}

#[tokio::test]
async fn policies_see_the_aliases_and_the_class_of_a_dataset() {
    // rule: ALI-1, ISS-3
    let world = World::new().await;
    world.dataset().await;
    let (node, held) = node(&world).await;
    let first: DatasetRecord = {
        let view = world
            .act(&ticket_format::statement::DatasetShow {
                name: "faces".into(),
            })
            .await
            .unwrap();
        let received = ReceivedStatement::parse(&view.record.unwrap()).unwrap();
        DatasetRecord::from_cbor(&received.payload().body, limits::STATEMENT).unwrap()
    };
    world
        .set_policy(
            r#"@id("current") permit (principal, action, resource)
               when { resource has aliases && resource.aliases.contains("current") && resource.class <= 3 };"#,
        )
        .await
        .unwrap();
    let refused = node.issue(&world, &held, |_| {}).await;
    assert_eq!(refusal(refused), Refusal::Policy);
    world.record(&alias(Some(&first), None)).await.unwrap();
    node.issue(&world, &held, |_| {}).await.unwrap();
    // By the alias itself nothing is issued: the ticket is to the dataset.
    let by_alias = node
        .issue(&world, &held, |body| body.dataset = "current".to_owned())
        .await;
    assert_eq!(refusal(by_alias), Refusal::DatasetUnknown);
    let restricted = DatasetRecord {
        class: ticket_format::statement::DatasetClass::Restricted,
        follows: first.digest(),
        ..first
    };
    world.record(&restricted).await.unwrap();
    let refused = node.issue(&world, &held, |_| {}).await;
    assert_eq!(refusal(refused), Refusal::Policy);
}
