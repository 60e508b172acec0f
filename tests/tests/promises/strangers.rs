//! What a stranger's refusal says, to its last byte (promises 2 and 3).

use super::*;
use ticket_format::ids::NodeId;
use ticket_format::messages::{Answer, RefusalNotice};
use ticket_format::statement::LaunchClose;

/// The answer as it came over the wire.
async fn answered(wire: &Wire, message: &wire::Message) -> Vec<u8> {
    let request = message.on(&wire.channel);
    let answer = wire
        .connection
        .exchange_within(&request, wire::PATIENCE)
        .await
        .expect("an answer");
    answer.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_the_secret_or_the_key_gets_one_answer_the_same_to_its_last_byte() {
    // rule: LOG-2
    // rule: REN-4
    // rule: REF-2
    let house = House::start();
    let broker = house.to_broker().await;
    let iid = Iid::real(0);
    let unused = house.launch(&iid.account);
    let mut node = house.node(0).await;
    let used = node.bootstrap.clone();
    let closed = house.launch(&iid.account);
    let close = LaunchClose {
        launch: closed.launch,
        deny: false,
        reason: String::new(),
    };
    broker.act(&house.admins, &close).await.expect("closed");
    let elsewhere = house.launch(&Iid::real(1).account);
    let unknown = Bootstrap {
        launch: LaunchId::random(&mut rng()),
        ..unused.clone()
    };

    let mut messages = Vec::new();
    let launches = [
        ("unused", &unused),
        ("unknown", &unknown),
        ("used up", &used),
        ("closed", &closed),
        ("of another account", &elsewhere),
    ];
    for (what, launch) in launches {
        let wrong = Bootstrap {
            secret: BootstrapSecret::random(&mut rng()),
            ..launch.clone()
        };
        let stranger = Node::new(&iid, &wrong);
        let (message, _) = stranger.login_message(&broker, &secrets());
        messages.push((format!("login, launch {what}"), message));
        // The document is looked at by nobody who has not seen the signature.
        let mut iid = iid.clone();
        iid.proof.truncate(40);
        let (message, _) = Node::new(&iid, &wrong).login_message(&broker, &secrets());
        messages.push((format!("login, launch {what}, no document"), message));
    }
    let account = &iid.account;
    let nobody = NodeId::new(account, "ap-southeast-2", "i-00000000000000001").expect("a node");
    for (what, name) in [("its node", &iid.node), ("no node", &nobody)] {
        let (message, _) = wire::renew(
            &broker.channel,
            name,
            &NodeSecret::generate(&mut rng()),
            &NodeSecret::generate(&mut rng()),
            &secrets(),
            node.chain.expect("a chain"),
        );
        messages.push((format!("renewal of {what}"), message));
    }

    let one = Answer::from(RefusalNotice::bare(Refusal::NotAuthenticated)).to_bytes();
    for (what, message) in &messages {
        let answer = answered(&broker, message).await;
        assert_eq!(answer, one, "{what}");
    }
    // Whoever has the secret is told more: the answers are not all alike.
    let late = Bootstrap {
        secret: used.secret.clone(),
        ..used
    };
    let late = Node::new(&Iid::real(1), &late).login_message(&broker, &secrets());
    assert_ne!(answered(&broker, &late.0).await, one);
    let next = NodeSecret::generate(&mut rng());
    node.renew(&broker, &next).await.expect("nothing happened");
}
