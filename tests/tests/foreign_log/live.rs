//! What live servers and a live witness publish and hand out.

use super::*;
use std::time::{Duration, Instant};
use tests::house::{DATASET, House};
use tests::witness::{self, Witness};

/// Waits until a server has published a checkpoint with a line of this signer.
fn published_with(house: &House, server: &str, signer: &str) -> PathBuf {
    let path = house.log(server).join("1/checkpoint");
    let line = format!("\n\u{2014} {signer} ");
    let deadline = Instant::now() + Duration::from_secs(30);
    // Another process publishes: its file is all there is to wait for.
    while !fs::read_to_string(&path).is_ok_and(|note| note.contains(&line)) {
        assert!(
            Instant::now() < deadline,
            "{signer} is not on {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_programs_verify_what_live_servers_and_a_witness_sign() {
    let mut house = House::start();
    let node = house.node(0).await;
    let (broker, server) = (house.to_broker().await, house.to_key_server().await);
    let ticket = node.issue(&broker, DATASET).await.expect("a ticket");
    let presented = server.present_when_leased(&ticket).await;
    let name = ticket_format::Context::named("a").expect("a context");
    server.generate(&presented, &name).await.expect("a DEK");
    let witness = Witness::start(&house, "w1");
    let witness_keys = house.path("w1-keys");
    fs::write(&witness_keys, witness.vkeys.join("\n")).expect("written");
    for (server, config) in [("broker", "broker.toml"), ("key-server", "key-server.toml")] {
        witness::witnessed_by(
            &house.path(server).join(config),
            std::slice::from_ref(&witness),
        );
    }
    house.broker.restart();
    house.key_server.restart();
    for server in ["broker", "key-server"] {
        let keys = house.path(&format!("{server}-log-keys"));
        fs::write(&keys, vkeys(&house.log_key(server).vkeys())).expect("written");
        let note = published_with(&house, server, &witness.name);
        let signed = said(&[
            "verify_log.mjs",
            "checkpoint",
            text(&note),
            text(&keys),
            text(&witness_keys),
        ]);
        assert_eq!(
            signed["signed"].as_array().map(Vec::len),
            Some(4),
            "{server}: {signed}"
        );
    }
    // At rest, so that nothing is published between two files that a program reads.
    house.broker.stop();
    house.key_server.stop();
    for server in ["broker", "key-server"] {
        let (dir, keys) = (house.log(server), house.path(&format!("{server}-log-keys")));
        let by_go = said(&["verify_log.go", "log", text(&dir), text(&keys)]);
        assert_eq!(by_go[0]["entries"], house.entries(server).len(), "{server}");
        assert_eq!(
            said(&["verify_log.py", "log", text(&dir)]),
            by_go,
            "{server}"
        );
    }
    // What the client was given, long before.
    let (entry, proof) = (house.path("entry"), house.path("proof"));
    fs::write(&entry, &ticket.receipt.entry).expect("written");
    fs::write(&proof, &ticket.receipt.proof).expect("written");
    let (keys, shard) = (house.path("broker-log-keys"), house.log("broker").join("1"));
    let by_go = said(&[
        "verify_log.go",
        "receipt",
        text(&entry),
        text(&proof),
        text(&keys),
    ]);
    let by_pymerkle = said(&[
        "verify_log.py",
        "receipt",
        text(&shard),
        text(&entry),
        text(&proof),
    ]);
    let by_npm = said(&[
        "verify_log.mjs",
        "receipt",
        text(&entry),
        text(&proof),
        text(&keys),
    ]);
    assert_eq!(by_go, by_pymerkle);
    assert_eq!(
        (&by_go["index"], &by_go["root"]),
        (&by_npm["index"], &by_npm["root"])
    );
    // The log of today goes on from the one that the client saw.
    let proof = ticket.receipt.proof.parse::<Proof>().expect("a proof");
    fs::write(house.path("old"), proof.checkpoint).expect("written");
    said(&[
        "verify_log.py",
        "consistency",
        text(&shard),
        text(&house.path("old")),
    ]);
}
