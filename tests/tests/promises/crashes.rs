//! Crashes at any instant, and forks (promise 10).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn promise_10_a_killed_broker_loses_no_acknowledged_act() {
    let mut house = House::start();
    let accounts: Vec<Iid> = (0..2).map(Iid::real).collect();
    let launch = house.user_data(&accounts[0].account, &["--account", &accounts[1].account]);
    let launch = Bootstrap::find(launch.as_bytes()).expect("a bootstrap");

    // Login: killed somewhere in the middle, asked again with the same login id until it has an answer.
    let mut node = Node::new(&accounts[0], &launch);
    let mut tries = 0;
    for wait in (0..).map(|number| Duration::from_millis(number * 4 % 40)) {
        let server = house.broker_server();
        let wire = Wire::connect(&server).await;
        let login = node.log_in(&wire);
        let answered = tokio::select! {
            answer = login => match answer {
                Ok(()) => true,
                Err(Reply::Transport(_)) => false,
                Err(other) => panic!("{other:?}"),
            },
            () = tokio::time::sleep(wait) => false,
        };
        tries += 1;
        house.broker.restart();
        if answered && tries >= 4 {
            break;
        }
        assert!(tries < 60, "no login ever succeeds");
    }
    let broker = house.to_broker().await;
    let view = broker
        .act(
            &house.admins,
            &LaunchShow {
                launch: launch.launch,
            },
        )
        .await
        .expect("the launch");
    assert_eq!((view.used, view.nodes), (1, vec![accounts[0].node.clone()]));
    // rule: LOG-6 — a used launch stays used.
    assert_eq!(
        refused(Node::new(&accounts[1], &launch).log_in(&broker).await),
        Some(Refusal::LaunchUsed)
    );

    // Renew: the answer may be lost, the next key is sent again, and nobody is frozen.
    for round in 0..5_u64 {
        let next = NodeSecret::generate(&mut rng());
        let mut attempts = 0;
        loop {
            let wire = Wire::connect(&house.broker_server()).await;
            let answer = tokio::select! {
                answer = node.renew(&wire, &next) => Some(answer),
                () = tokio::time::sleep(Duration::from_millis((round * 7 + attempts * 5) % 25)) => None,
            };
            house.broker.restart();
            attempts += 1;
            match answer {
                Some(Ok(())) => break,
                None | Some(Err(Reply::Transport(_))) => {}
                // rule: REN-2
                Some(Err(other)) => panic!("{other:?}"),
            }
            assert!(attempts < 60, "no renewal ever succeeds");
        }
    }
    assert_eq!(house.alarms("broker", Alarm::Fork), 0);

    // Denials and tickets that were acknowledged: killed with the answer barely here.
    let mut denied = Vec::new();
    for number in 0..5_u8 {
        let wire = house.to_broker().await;
        let ticket = TicketId([number; 16]);
        let deny = DenyBody {
            selector: Selector::ticket(ticket),
            reason: "crash".into(),
        };
        let at = wire.act(&house.admins, &deny).await.expect("denied");
        house.broker.restart();
        denied.push(at.epoch);
    }
    let broker = house.to_broker().await;
    let page = broker
        .act(
            &house.admins,
            &DenyList {
                after: 0,
                rows: 100,
            },
        )
        .await
        .expect("denials");
    let epochs: Vec<u64> = page.rows.iter().map(|row| row.epoch).collect();
    assert!(
        denied.iter().all(|epoch| epochs.contains(epoch)),
        "{denied:?} in {epochs:?}"
    );
    // The log names every act once.
    let entries = house.entries("broker");
    let mut acts: Vec<_> = entries.iter().map(|entry| entry.act).collect();
    let all = acts.len();
    acts.sort_by_key(|act| act.0);
    acts.dedup();
    assert_eq!(acts.len(), all, "an act stands in the log twice");
    node.issue(&broker, DATASET)
        .await
        .expect("the node is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_10_a_killed_key_server_forgets_no_denial_and_no_budget() {
    let mut house = House::with(|dataset| dataset.max_budget = 3);
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let mut wraps = Vec::new();
    for number in 0..3 {
        let name = format!("object {number}");
        let (wrap, _) = server
            .generate(&presented, &named(&name))
            .await
            .expect("within the budget");
        wraps.push((name, wrap));
    }
    house.key_server.restart();
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    // rule: RED-4 — what was used is used; the same items again are free.
    for (name, wrap) in &wraps {
        let again = server
            .redeem(&presented, &[(wrap, &named(name))])
            .await
            .expect("a retry");
        assert!(again[0].is_ok(), "{again:?}");
    }
    let body = ticket_format::messages::batch::GenerateBody::encode(
        &presented.head(),
        &[&named("more")],
        false,
        None,
    );
    let more = server.batch(&presented, Verb::Generate, body).await;
    match more {
        Ok(verdicts) => assert_eq!(verdicts[0].clone().err(), Some(Refusal::Budget)),
        Err(reply) => assert_eq!(reply.refusal(), Some(Refusal::Budget)),
    }

    // A denial that was applied outlives the kill, also while the broker is away.
    let name = node.iid.node.to_string();
    house
        .admin_does(&[
            "deny", "--node", &name, "--reason", "gone", "--yes", "--wait", "10s",
        ])
        .ok();
    for _ in 0..3 {
        house.key_server.restart();
        let server = house.to_key_server().await;
        let reply = server.present(&ticket).await.expect_err("denied");
        assert!(
            matches!(reply.refusal(), Some(Refusal::Denied | Refusal::Lease)),
            "{reply:?}"
        );
    }
    let status = house
        .to_key_server()
        .await
        .act(&house.admins, &StatusShow {})
        .await
        .expect("a status");
    assert!(status.epoch >= 1, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_the_node_key_freezes_the_node_until_an_admin_decides() {
    let house = House::start();
    let mut node = house.node(0).await;
    let broker = house.to_broker().await;
    let (first, chain) = (wire::again(&node.key), node.chain.expect("a chain"));
    node.renew(&broker, &NodeSecret::generate(&mut rng()))
        .await
        .expect("renewed");
    // A copy of the old disk renews with the key that was current then, to another one.
    let (fork, _) = wire::renew(
        &broker.channel,
        &node.iid.node,
        &first,
        &NodeSecret::generate(&mut rng()),
        &secrets(),
        chain,
    );
    // rule: REN-3
    assert_eq!(broker.send(&fork).await.refusal(), Some(Refusal::Fork));
    assert_eq!(house.alarms("broker", Alarm::Fork), 1);
    let current = wire::again(&node.key);
    assert_eq!(
        refused(node.renew(&broker, &NodeSecret::generate(&mut rng())).await),
        Some(Refusal::NodeFrozen)
    );
    let unfreeze = NodeUnfreeze {
        node: node.iid.node.clone(),
        node_key: current.public(),
    };
    let view = broker
        .act(&house.admins, &unfreeze)
        .await
        .expect("an admin decided");
    assert_eq!(view.state, NodeState::Live);
    node.renew(&broker, &NodeSecret::generate(&mut rng()))
        .await
        .expect("the one that the admin named");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_10_a_killed_key_server_has_released_nothing_that_its_log_does_not_hold() {
    // rule: TLOG-3, RED-6
    use ticket_format::tlog::{Verifier, merkle};
    let mut house = House::start();
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let verifier = Verifier::new(house.log_key("key-server"), None);
    let mut receipts = Vec::new();
    for round in 0..12_u64 {
        let server = std::sync::Arc::new(house.to_key_server().await);
        let presented = std::sync::Arc::new(server.present_when_leased(&ticket).await);
        let askers: Vec<_> = (0..6)
            .map(|asker| {
                let (server, presented) = (server.clone(), presented.clone());
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    for number in 0.. {
                        let context = named(&format!("{round} {asker} {number}"));
                        // Of a server that was killed nothing comes any more, not even an error.
                        let answer = server.generated(&presented, &context);
                        match tokio::time::timeout(Duration::from_secs(1), answer).await {
                            Ok(Ok(receipt)) => got.push(receipt),
                            _ => break,
                        }
                    }
                    got
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(15 + round * 11 % 60)).await;
        house.key_server.kill();
        for asker in askers {
            receipts.extend(asker.await.expect("an asker"));
        }
        house.key_server.start();
    }
    assert!(receipts.len() > 50, "{} answers", receipts.len());
    let entries = house.entries("key-server");
    let leaves: Vec<merkle::Hash> = entries
        .iter()
        .map(|entry| merkle::leaf_hash(&ticket_format::cbor::Encode::to_cbor(entry)))
        .collect();
    for receipt in &receipts {
        let logged = verifier.verify(receipt).expect("a receipt");
        let index = usize::try_from(logged.index).expect("an index");
        assert_eq!(entries.get(index), Some(&logged.entry), "entry {index}");
        assert_eq!(leaves[index], merkle::leaf_hash(&receipt.entry));
    }
    println!(
        "{} releases, 12 kills, every one in the log",
        receipts.len()
    );
    house.is_sound();
}

#[test]
fn promise_10_kills_under_load_lose_nothing_that_was_acknowledged() {
    const JOBS: usize = 3;
    const KILLS: usize = 6;
    let mut house = House::start();
    let homes: Vec<Home> = (0..JOBS)
        .map(|number| {
            let iid = Iid::real(number);
            let user_data = house.user_data(&iid.account, &[]);
            let home = Home::new(&house, &format!("node-{number}"), &iid, &user_data);
            home.run(&["login"]).ok();
            home.run(&["issue", DATASET, "--action", "encrypt,decrypt"])
                .ok();
            home
        })
        .collect();
    let over = AtomicBool::new(false);
    let acknowledged = Mutex::new(Vec::new());
    // Each job makes one data key after the other, and gets over each kill by itself.
    std::thread::scope(|scope| {
        for (job, home) in homes.iter().enumerate() {
            let (over, acknowledged) = (&over, &acknowledged);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (name, file) = (format!("{job}-{number}"), format!("wrap-{number}"));
                    let make = ["dek", "generate", "--dataset", DATASET, "--name", &name];
                    let more = ["--out", &file, "--timeout", "60s"];
                    home.run(&[&make[..], &more].concat()).ok();
                    let wrap = fs::read(home.dir.join(&file)).expect("a wrap");
                    acknowledged
                        .lock()
                        .expect("whole")
                        .push((job, name, file, wrap));
                }
            });
        }
        let count = || acknowledged.lock().expect("whole").len();
        for kill in 0..KILLS {
            let before = count();
            let deadline = Instant::now() + Duration::from_secs(120);
            while count() < before + JOBS + kill {
                assert!(Instant::now() < deadline, "the jobs do not get over a kill");
                // Other processes are watched: there is nothing to wait on.
                std::thread::sleep(Duration::from_millis(3));
            }
            let killed = match kill % 3 {
                2 => &mut house.broker,
                _ => &mut house.key_server,
            };
            killed.restart();
        }
        over.store(true, Ordering::Relaxed);
    });
    let acknowledged = acknowledged.into_inner().expect("whole");
    let recorded: BTreeSet<_> = house
        .entries("key-server")
        .into_iter()
        .filter(|entry| entry.kind == Kind::Generate)
        .flat_map(|entry| entry.items.unwrap_or_default())
        .filter(|(_, outcome)| outcome.is_ok())
        .map(|(digest, _)| digest.0)
        .collect();
    for (job, name, file, wrap) in &acknowledged {
        let context = Context::named(name).expect("a context").to_cbor();
        let digest = item_digest(wrap, &context);
        assert!(recorded.contains(&digest.0), "{name} is not in the log");
        let redeem = ["dek", "redeem", "--dataset", DATASET, "--name", name, file];
        homes[*job].run(&redeem).ok();
    }
    // What a job was shown of either log before a kill, the server has proven to go on since: else `redeem`
    // had ended with 9. And nobody was taken for a clone of himself.
    assert_eq!(house.alarms("broker", Alarm::Fork), 0);
    house.is_sound();
}
