//! Each promise of `spec/security.md` attacked against a running house.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client::wallet::{DatasetSession, NodeSession};
use tests::home::Home;
use tests::house::{DATASET, House, PASSPHRASE, command, copy_dir, ended, files_below};
use tests::node::{Iid, Node};
use tests::wire::{self, Reply, Wire, rng, secrets};
use ticket_format::bootstrap::Bootstrap;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{LaunchId, TicketId};
use ticket_format::keys::NodeSecret;
use ticket_format::messages::Verb;
use ticket_format::messages::batch::RedeemBody;
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::{
    DenyBody, DenyList, LaunchShow, NodeState, NodeUnfreeze, StatusShow,
};
use ticket_format::{Context, Refusal};

#[path = "../../transport/tests/loopback/raw.rs"]
#[allow(dead_code)]
mod raw;

/// What `raw` expects beside it.
mod rig {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    pub(crate) fn loopback(_host: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
    }
}

fn named(name: &str) -> Context {
    Context::named(name).expect("a context")
}

fn refused<T: std::fmt::Debug>(result: Result<T, Reply>) -> Option<Refusal> {
    match result {
        Err(Reply::Refused { refusal, .. }) => Some(refusal),
        Ok(done) => {
            println!("done: {done:?}");
            None
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Whether `needle` stands in `hay` raw, in hexadecimal or in base64.
fn stands_in(hay: &[u8], needle: &[u8]) -> bool {
    let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    let forms = [
        needle.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        URL_SAFE_NO_PAD.encode(needle).into_bytes(),
        STANDARD
            .encode(needle)
            .trim_end_matches('=')
            .as_bytes()
            .to_vec(),
    ];
    forms.iter().any(|form| contains(hay, form))
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = hay;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

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
    use ticket_format::keys::ProofSecret;
    use ticket_format::seal::SealingSecret;
    use ticket_format::secret::SealingSeed;
    let own = &session.secrets;
    DatasetSession {
        dataset: session.dataset.clone(),
        ticket: session.ticket.clone(),
        secrets: client::wallet::SessionSecrets {
            proof: ProofSecret::from_seed(&own.proof.seed()),
            sealing: SealingSecret::from_seed(
                own.sealing.kem(),
                SealingSeed::from_bytes(*own.sealing.seed().expose()),
            ),
        },
        receipt: session.receipt.clone(),
        record: session.record.clone(),
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

#[tokio::test(flavor = "multi_thread")]
async fn promise_4_a_copied_disk_mints_nothing_and_opens_nothing() {
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let presented = server.present_when_leased(&ticket).await;
    let (_, dek) = server
        .generate(&presented, &named("a"))
        .await
        .expect("a DEK");
    house.broker.stop();
    house.key_server.stop();

    // None of the secrets stands on a disk.
    let mut canaries: Vec<(String, Vec<u8>)> = vec![
        (
            "bootstrap secret".into(),
            node.bootstrap.secret.expose().to_vec(),
        ),
        (
            "launch key".into(),
            node.bootstrap.launch_secret().seed().to_vec(),
        ),
        ("DEK".into(), dek.to_vec()),
        ("node key".into(), node.key.seed().to_vec()),
    ];
    for (server, names) in [
        ("broker", &["tls", "ticket", "feed"][..]),
        ("key-server", &["tls", "signing"]),
    ] {
        for name in names {
            let seed = house.sealed_seed(server, &format!("{server}-root"), name);
            canaries.push((format!("{server} {name}"), seed.to_vec()));
        }
        let root = fs::read(house.path(&format!("{server}-root"))).expect("a credential");
        canaries.push((format!("{server} root"), root));
    }
    for server in ["broker", "key-server"] {
        for (path, bytes) in files_below(&house.path(server)) {
            for (name, canary) in &canaries {
                assert!(
                    !stands_in(&bytes, canary),
                    "{name} stands in {}",
                    path.display()
                );
            }
        }
    }

    // The copies do not start without their root credential, or with another one.
    for (server, program, config) in [
        ("broker", "postern-broker", "broker.toml"),
        ("key-server", "postern-key-server", "key-server.toml"),
    ] {
        let copy = house.path(&format!("copy-of-{server}"));
        copy_dir(&house.path(server), &copy);
        let credential = house.path("another-root");
        let text = fs::read_to_string(copy.join(config)).expect("a configuration");
        let own = house.path(&format!("{server}-root"));
        let changed = text.replace(
            own.to_str().expect("text"),
            credential.to_str().expect("text"),
        );
        assert_ne!(changed, text, "{config} names its credential");
        fs::write(copy.join(config), changed).expect("written");
        for other in [None, Some([7; 32])] {
            let _ = fs::remove_file(&credential);
            if let Some(bytes) = other {
                tests::house::private(&credential, &bytes);
            }
            let mut run = command(program);
            run.arg("run")
                .arg("--config")
                .arg(copy.join(config))
                .arg("--ready-file")
                .arg(copy.join("ready-copy"));
            let said = ended(run);
            assert_eq!(said.code, Some(10), "{program}: {}", said.stderr);
            assert!(!copy.join("ready-copy").exists());
        }
    }
    house.broker.start();
    house.key_server.start();
    house.is_sound();
}

/// Whether bytes stand in the writable memory of a process; none when we may not look.
fn in_memory(pid: u32, needles: &[&[u8]]) -> Option<Vec<bool>> {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut found = vec![false; needles.len()];
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next()?, words.next()?);
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let (from, to) = (
            u64::from_str_radix(from, 16).ok()?,
            u64::from_str_radix(to, 16).ok()?,
        );
        let mut bytes = vec![0; usize::try_from(to - from).ok()?.min(256 << 20)];
        if let Ok(read) = memory.read_at(&mut bytes, from) {
            for (needle, found) in needles.iter().zip(&mut found) {
                *found |= contains(&bytes[..read], needle);
            }
        }
    }
    Some(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_broker_and_key_server_share_no_secret_and_the_broker_never_sees_a_dek() {
    let house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let presented = server.present_when_leased(&ticket).await;
    let mut deks = Vec::new();
    for number in 0..8 {
        let name = named(&format!("object {number}"));
        deks.push(server.generate(&presented, &name).await.expect("a DEK").1);
    }
    let seed =
        |server: &str, name: &str| house.sealed_seed(server, &format!("{server}-root"), name);
    let (ticket_seed, feed_seed) = (seed("broker", "ticket"), seed("broker", "feed"));
    let (signing_seed, tls_seed) = (seed("key-server", "signing"), seed("key-server", "tls"));
    let mut needles: Vec<&[u8]> = vec![&ticket_seed, &feed_seed, &signing_seed, &tls_seed];
    needles.extend(deks.iter().map(|dek| dek.as_slice()));
    let at_broker = in_memory(house.broker.pid(), &needles);
    let at_server = in_memory(house.key_server.pid(), &needles);
    match (at_broker, at_server) {
        (Some(broker), Some(server)) => {
            assert!(
                broker[0],
                "the broker has its own ticket key: the search works"
            );
            assert!(
                server[2],
                "the key server has its own signing key: the search works"
            );
            assert_eq!(
                broker[2..],
                vec![false; 2 + deks.len()],
                "the broker holds a key server's secret or a DEK"
            );
            assert_eq!(
                server[..2],
                [false; 2],
                "the key server holds a secret of the broker's"
            );
            // What was released is erased.
            assert_eq!(
                server[4..],
                vec![false; deks.len()],
                "the key server keeps DEKs that it released"
            );
        }
        _ => println!(
            "the memory of other processes may not be read here; only the disk is looked at"
        ),
    }
    for (path, bytes) in files_below(&house.path("broker")) {
        for dek in &deks {
            assert!(
                !stands_in(&bytes, dek),
                "a DEK stands in {}",
                path.display()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_recordings_stay_closed_to_a_quantum_computer() {
    let house = House::start();
    for server in [house.broker_server(), house.key_server_server()] {
        let address = server.addresses[0].parse().expect("an address");
        // rule: TR-1
        let classical = raw::client_tls(raw::classical(), &[transport::ALPN]);
        raw::connect(address, raw::quic(classical))
            .await
            .expect_err("a classical client");
        raw::connect(address, raw::quic(raw::good_tls()))
            .await
            .expect("a hybrid client");
    }
    // What is sealed is sealed to X-Wing, unless an admin said otherwise for the dataset.
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let job =
        client::wallet::SessionSecrets::generate(ticket_format::seal::Kem::X25519, &mut rng());
    let message = wire::issue(&broker.channel, node.ticket(), &node.key, DATASET, &job);
    // rule: ISS-5
    assert_eq!(broker.send(&message).await.refusal(), Some(Refusal::Kem));
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_7_no_key_leaves_unless_its_record_is_durable() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let mut house = House::start();
    let node = house.node(0).await;
    let broker = house.to_broker().await;
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");

    // A server that ignores the signal of a file that may not grow sees EFBIG, as it would ENOSPC.
    house.key_server.stop();
    let run = house.key_server.command();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(run.get_program())
        .args(run.get_args());
    house.key_server.start_as(shell);
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let mut released = 0;
    let mut wraps = Vec::new();
    for number in 0..10 {
        let name = format!("object {number}");
        let (wrap, _) = server
            .generate(&presented, &named(&name))
            .await
            .expect("a DEK");
        wraps.push((name, wrap));
        released += 1;
    }
    let redeemed = server
        .redeem(&presented, &[(&wraps[0].1, &named("object 0"))])
        .await
        .expect("released");
    assert!(redeemed[0].is_ok());
    released += 1;
    let log = house.path("key-server/data/audit.log");
    let len = fs::metadata(&log).expect("a log").len();
    let pid = Pid::from_raw(i32::try_from(house.key_server.pid()).expect("a pid"));
    prlimit(
        pid,
        Resource::Fsize,
        Rlimit {
            current: Some(len),
            maximum: None,
        },
    )
    .expect("a limit");
    for _ in 0..3 {
        let reply = server
            .redeem(&presented, &[(&wraps[1].1, &named("object 1"))])
            .await
            .expect_err("not recorded");
        // rule: AUD-4
        assert_eq!(
            reply.refusal(),
            Some(Refusal::AuditUnavailable),
            "{reply:?}\n{}",
            house.key_server.log()
        );
    }
    assert!(refused(server.generate(&presented, &named("more")).await).is_some());

    // Killed at once: what was released is all there, and nothing that was not.
    house.key_server.kill();
    let entries = house.entries("key-server");
    let done = entries.iter().filter(|entry| {
        matches!(entry.kind, Kind::Redeem | Kind::Generate) && entry.outcome.is_ok()
    });
    assert_eq!(done.count(), released, "entries of releases");
    house.key_server.start();
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let redeemed = server
        .redeem(&presented, &[(&wraps[1].1, &named("object 1"))])
        .await
        .expect("the disk is free again");
    assert!(redeemed[0].is_ok());
    // rule: RED-6 — its entry is on disk when the answer is here.
    house.key_server.kill();
    let last = house.entries("key-server");
    assert!(last.iter().any(|entry| entry.kind == Kind::Redeem
        && entry.ticket_hash == Some(presented.hash)
        && entry.time >= last[0].time));
    let done = last.iter().filter(|entry| {
        matches!(entry.kind, Kind::Redeem | Kind::Generate) && entry.outcome.is_ok()
    });
    assert_eq!(done.count(), released + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_a_denial_reaches_every_key_server_at_once_and_who_applied_it_is_known() {
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let mut taken = Vec::new();
    for _ in 0..20 {
        let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
        let presented = server.present_when_leased(&ticket).await;
        let (wrap, _) = server
            .generate(&presented, &named("a"))
            .await
            .expect("a DEK");
        let id = wire::claims(&ticket).common.id;
        let deny = DenyBody {
            selector: Selector::ticket(id),
            reason: "stolen".into(),
        };
        let asked = Instant::now();
        broker.act(&house.admins, &deny).await.expect("denied");
        let item = named("a");
        loop {
            match server.redeem(&presented, &[(&wrap, &item)]).await {
                Err(reply) if reply.refusal() == Some(Refusal::Denied) => break,
                Ok(_) => assert!(
                    asked.elapsed() < Duration::from_secs(5),
                    "the denial is not applied"
                ),
                Err(reply) => panic!("{reply:?}"),
            }
        }
        taken.push(asked.elapsed());
    }
    taken.sort();
    println!(
        "denied to refused, 20 times: median {:?}, worst {:?}",
        taken[10], taken[19]
    );
    // Of the node: nothing of it goes on, and postern-admin hears who applied it.
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let presented = server.present_when_leased(&ticket).await;
    let name = node.iid.node.to_string();
    let said = house
        .admin_does(&[
            "deny", "--node", &name, "--reason", "gone", "--yes", "--wait", "10s",
        ])
        .ok();
    println!("{said}");
    assert_eq!(
        refused(server.generate(&presented, &named("b")).await),
        Some(Refusal::Denied)
    );
    assert_eq!(
        refused(server.present(&ticket).await),
        Some(Refusal::Denied)
    );
    assert_eq!(
        refused(node.issue(&broker, DATASET).await),
        Some(Refusal::Denied)
    );
    house.is_sound();
}

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
async fn promise_12_secrets_are_never_printed() {
    let mut house = House::start();
    // Everything that can be logged is logged.
    for daemon in [&mut house.broker, &mut house.key_server] {
        daemon.stop();
        for name in ["RUST_LOG", "POSTERN_LOG"] {
            daemon.environment.push((name.into(), "trace".into()));
        }
        daemon.start();
    }
    let iid = Iid::real(0);
    let user_data = house.user_data(&iid.account, &[]);
    let home = Home::new(&house, "node", &iid, &user_data);
    let mut talk = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut say = |arguments: &[&str]| {
        let said = home.run(&[&["-vvv"], arguments].concat());
        talk.extend_from_slice(&said.stdout);
        talk.extend_from_slice(said.stderr.as_bytes());
        said
    };
    say(&["login"]).ok();
    say(&["issue", DATASET, "--action", "decrypt,encrypt"]).ok();
    let (dek_file, wrap_file) = (house.path("dek"), house.path("wrap"));
    let generate = [
        "dek",
        "generate",
        "--dataset",
        DATASET,
        "--name",
        "x",
        "--out",
        wrap_file.to_str().expect("text"),
        "--dek-out",
        dek_file.to_str().expect("text"),
    ];
    while say(&generate).code != Some(0) {
        assert!(Instant::now() < deadline, "no DEK is generated");
        let _ = (fs::remove_file(&dek_file), fs::remove_file(&wrap_file));
    }
    say(&[
        "dek",
        "redeem",
        "--dataset",
        DATASET,
        "--name",
        "x",
        wrap_file.to_str().expect("text"),
    ])
    .ok();
    say(&[
        "dek",
        "redeem",
        "--dataset",
        DATASET,
        "--name",
        "other",
        wrap_file.to_str().expect("text"),
    ]);
    say(&["--format", "json", "tickets"]).ok();
    say(&["status"]).ok();
    say(&["config", "show", "--origin"]).ok();
    say(&["doctor"]);
    say(&["renew"]).ok();
    let bootstrap = Bootstrap::find(user_data.as_bytes()).expect("a bootstrap");
    let state = client::state::NodeState::load(&home.dir.join("state"))
        .expect("readable")
        .expect("a state");
    let dek = fs::read(&dek_file).expect("a DEK");
    fs::remove_file(&dek_file).expect("removed");
    let mut canaries: BTreeMap<String, Vec<u8>> = BTreeMap::from([
        (
            "bootstrap secret".into(),
            bootstrap.secret.expose().to_vec(),
        ),
        (
            "launch key".into(),
            bootstrap.launch_secret().seed().to_vec(),
        ),
        ("node key".into(), state.key.seed().to_vec()),
        ("wallet key".into(), state.wallet_key.to_vec()),
        ("DEK".into(), dek),
        ("passphrase".into(), PASSPHRASE.as_bytes().to_vec()),
        ("admin key".into(), house.admins.operator.seed().to_vec()),
        ("owner's key".into(), house.admins.owners[0].seed().to_vec()),
    ]);
    for (server, names) in [
        ("broker", &["tls", "ticket", "feed"][..]),
        ("key-server", &["tls", "signing"]),
    ] {
        for name in names {
            canaries.insert(
                format!("{server} {name}"),
                house
                    .sealed_seed(server, &format!("{server}-root"), name)
                    .to_vec(),
            );
        }
    }
    assert!(
        !talk.is_empty() && house.broker.log().len() > 1_000,
        "nothing was logged"
    );
    for (name, canary) in &canaries {
        assert!(!stands_in(&talk, canary), "postern printed the {name}");
        for (path, bytes) in files_below(house.dir.path()) {
            let kept = [
                house.path("passphrase"),
                home.dir.join("state/node"),
                house.path("broker-root"),
                house.path("key-server-root"),
            ];
            if kept.contains(&path) {
                continue;
            }
            assert!(
                !stands_in(&bytes, canary),
                "the {name} stands in {}",
                path.display()
            );
        }
    }
    // Nor on any command line, which every process of the machine can read.
    for pid in [house.broker.pid(), house.key_server.pid()] {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(canaries.values().all(|canary| !stands_in(&line, canary)));
    }
    house.is_sound();
}
