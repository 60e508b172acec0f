//! Secrets are never printed (promise 12).

use super::*;

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
