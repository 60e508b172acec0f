//! What copied disks, foreign memory and recordings give away (promises 4 to 6).

use super::*;

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
        (
            "broker",
            &[
                "tls",
                "ticket",
                "feed",
                "log-ed25519",
                "log-ml-dsa",
                "pairs",
            ][..],
        ),
        (
            "key-server",
            &["tls", "signing", "log-ed25519", "log-ml-dsa"],
        ),
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

    // The copies open nothing without their root credential, or with another one.
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
            if server == "key-server" {
                // rule: ROOT-4 — it opens nothing, and waits for shares of its admins.
                stays_sealed(run, &copy.join("ready-copy"));
                continue;
            }
            let said = ended(run);
            assert_eq!(said.code, Some(10), "{program}: {}", said.stderr);
            assert!(!copy.join("ready-copy").exists());
        }
    }
    house.broker.start();
    house.key_server.start();
    house.is_sound();
}

/// Starts a key server that must come up sealed, and ends it.
fn stays_sealed(mut run: std::process::Command, ready: &std::path::Path) {
    let _ = fs::remove_file(ready);
    let mut child = run.spawn().expect("a key server");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let said = loop {
        match fs::read_to_string(ready) {
            Ok(said) if said.ends_with('\n') => break said,
            _ if std::time::Instant::now() >= deadline => break "nothing".to_owned(),
            _ => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
        if child.try_wait().expect("a process").is_some() {
            break "that it ended".to_owned();
        }
    };
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(said.trim_end().ends_with(" sealed"), "it said {said}");
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
