//! A stolen ticket, bootstrap secret or identity document alone opens nothing (promises 1 to 3).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_a_stolen_ticket_file_alone_opens_nothing() {
    let house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");

    // The file without its keys: every way of using it needs one of them.
    let stolen = NodeSession {
        ticket: node.ticket().ticket.clone(),
        secrets: secrets(),
    };
    let message = wire::issue(&broker.channel, &stolen, &node.key, DATASET, &secrets());
    assert_eq!(
        broker.send(&message).await.refusal(),
        Some(Refusal::Possession)
    );
    let message = wire::issue(
        &broker.channel,
        node.ticket(),
        &NodeSecret::generate(&mut rng()),
        DATASET,
        &secrets(),
    );
    assert!(
        broker.send(&message).await.refusal().is_some(),
        "evidence by another node key"
    );
    let thief = DatasetSession {
        secrets: secrets(),
        ..again(&ticket)
    };
    assert_eq!(
        refused(server.present(&thief).await),
        Some(Refusal::Possession)
    );

    // Everything that was seen on one connection, on another one.
    let presentation = wire::present(&ticket).on(&server.channel);
    let presented = server.present_when_leased(&ticket).await;
    let (wrap, dek) = server
        .generate(&presented, &named("a"))
        .await
        .expect("a DEK");
    let captured = presented
        .batch(
            Verb::Redeem,
            RedeemBody::encode(&presented.head(), &[(&wrap, &named("a"))]),
        )
        .on(&server.channel);
    assert!(
        server.raw(&captured).await.refusal().is_none(),
        "it is good where it was made"
    );
    let other = house.to_key_server().await;
    assert_eq!(
        other.raw(&presentation).await.refusal(),
        Some(Refusal::Possession)
    );
    assert_eq!(
        other.raw(&captured).await.refusal(),
        Some(Refusal::HandleUnknown)
    );
    // The owner presents the same ticket there: same handle perhaps, another key.
    let there = other.present(&ticket).await.expect("the owner");
    assert!(
        other.raw(&captured).await.refusal().is_some(),
        "a captured request was served again"
    );
    let again = other
        .redeem(&there, &[(&wrap, &named("a"))])
        .await
        .expect("the owner's own");
    assert_eq!(again[0].clone().expect("released").0, Some(dek));

    // A node ticket is no dataset ticket, nor the reverse, nor a ticket signed by a ticket's key.
    let crossed = DatasetSession {
        ticket: node.ticket().ticket.clone(),
        ..self::again(&ticket)
    };
    assert_eq!(
        refused(server.present(&crossed).await),
        Some(Refusal::TicketKind)
    );

    // The wallet's file in another home.
    let user_data = house.user_data(&Iid::real(1).account, &[]);
    let home = Home::new(&house, "owner", &Iid::real(1), &user_data);
    home.run(&["login"]).ok();
    home.run(&["issue", DATASET]).ok();
    let thief = Home::new(&house, "thief", &Iid::real(1), "nothing");
    fs::copy(home.dir.join("run/wallet"), thief.dir.join("run/wallet")).expect("copied");
    let said = thief.run(&["tickets"]);
    assert!(
        said.code != Some(0) || !said.text().contains(DATASET),
        "{}",
        said.text()
    );
}

/// The same ticket with its own keys: a session has no copies by itself.
fn again(session: &DatasetSession) -> DatasetSession {
    DatasetSession {
        dataset: session.dataset.clone(),
        ticket: session.ticket.clone(),
        secrets: wire::copy(&session.secrets),
        receipt: session.receipt.clone(),
        record: session.record.clone(),
        alias: None,
        evidence: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_a_stolen_bootstrap_secret_alone_opens_nothing_and_its_second_use_is_noticed() {
    let mut house = House::start();
    let (first, second) = (Iid::real(0), Iid::real(1));
    let broker = house.to_broker().await;

    // With the document of an instance that the launch is not for.
    let launch = house.launch(&first.account);
    let mut thief = Node::new(&second, &launch);
    assert_eq!(
        refused(thief.log_in(&broker).await),
        Some(Refusal::IdentityMismatch)
    );
    // With the right document, changed in one character.
    let mut forged = Iid::real(0);
    let place = forged.proof.find('A').expect("base64");
    forged.proof.replace_range(place..=place, "B");
    assert!(refused(Node::new(&forged, &launch).log_in(&broker).await).is_some());
    // rule: LOG-5
    let mut node = Node::new(&first, &launch);
    node.log_in(&broker)
        .await
        .expect("the launch is still whole");

    // A second instance that the launch would allow; the one use is gone.
    let both = house.user_data(&second.account, &["--account", &Iid::real(2).account]);
    let both = Bootstrap::find(both.as_bytes()).expect("a bootstrap");
    Node::new(&second, &both)
        .log_in(&broker)
        .await
        .expect("the first of the two");
    let mut late = Node::new(&Iid::real(2), &both);
    assert_eq!(
        refused(late.log_in(&broker).await),
        Some(Refusal::LaunchUsed)
    );
    assert!(house.alarms("broker", Alarm::LaunchReused) >= 1);

    // The same instance's document with another node key: somebody read user-data and document there.
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let mut twin = Node::new(&first, &launch);
    assert_eq!(
        refused(twin.log_in(&broker).await),
        Some(Refusal::NodeConflict)
    );
    assert!(house.alarms("broker", Alarm::NodeConflict) >= 1);
    let next = NodeSecret::generate(&mut rng());
    // rule: LOG-8
    assert!(
        refused(node.renew(&broker, &next).await).is_some(),
        "a frozen node renews"
    );
    assert!(
        refused(node.issue(&broker, DATASET).await).is_some(),
        "a frozen node gets tickets"
    );
    let server = house.to_key_server().await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while refused(server.present(&ticket).await) != Some(Refusal::Denied) {
        assert!(
            Instant::now() < deadline,
            "the tickets of a frozen node are still good"
        );
    }

    // Instances that race for one use: one wins.
    let iids: Vec<Iid> = (0..4).map(Iid::real).collect();
    let race = house.user_data(
        &iids[0].account,
        &[
            "--account",
            &iids[1].account,
            "--account",
            &iids[2].account,
            "--account",
            &iids[3].account,
        ],
    );
    let race = Bootstrap::find(race.as_bytes()).expect("a bootstrap");
    let server = house.broker_server();
    let claims = (0..24).map(|number| {
        let (mut node, server) = (Node::new(&iids[2 + number % 2], &race), server.clone());
        tokio::spawn(async move {
            let wire = Wire::connect(&server).await;
            node.log_in(&wire).await.is_ok()
        })
    });
    let mut won = 0;
    for claim in claims.collect::<Vec<_>>() {
        won += usize::from(claim.await.expect("no panic"));
    }
    assert_eq!(won, 1, "claims of one use that succeeded");
    house.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_an_identity_document_alone_opens_nothing() {
    let house = House::start();
    let iid = Iid::real(0);
    let real = house.launch(&iid.account);
    let broker = house.to_broker().await;
    // Everything right but the secret, and everything right but the launch: told apart by nothing.
    let wrong_secret = Bootstrap {
        secret: BootstrapSecret::random(&mut rng()),
        ..real.clone()
    };
    let wrong_launch = Bootstrap {
        launch: LaunchId::random(&mut rng()),
        ..real.clone()
    };
    for bootstrap in [wrong_secret, wrong_launch] {
        let reply = Node::new(&iid, &bootstrap)
            .log_in(&broker)
            .await
            .expect_err("refused");
        // rule: LOG-2
        // rule: REF-2
        assert!(
            matches!(
                reply,
                Reply::Refused {
                    refusal: Refusal::NotAuthenticated,
                    detail: None
                }
            ),
            "{reply:?}"
        );
    }
    // A whole captured login on another connection, and there under another login id.
    let mut node = Node::new(&iid, &real);
    let (message, _) = node.login_message(&broker, &secrets());
    let captured = message.on(&broker.channel);
    let other = house.to_broker().await;
    assert_eq!(
        other.raw(&captured).await.refusal(),
        Some(Refusal::NotAuthenticated)
    );
    node.log_in(&broker).await.expect("the honest login");
    assert_eq!(
        other.raw(&captured).await.refusal(),
        Some(Refusal::NotAuthenticated)
    );
    // Nobody without the node key renews, and trying freezes nobody.
    let stranger = NodeSecret::generate(&mut rng());
    let (message, _) = wire::renew(
        &other.channel,
        &iid.node,
        &stranger,
        &NodeSecret::generate(&mut rng()),
        &secrets(),
        node.chain.expect("a chain"),
    );
    // rule: REN-4
    assert_eq!(
        other.send(&message).await.refusal(),
        Some(Refusal::NotAuthenticated)
    );
    node.renew(&broker, &NodeSecret::generate(&mut rng()))
        .await
        .expect("nothing happened to the node");
}
