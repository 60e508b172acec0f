//! What goes wrong around the programs: configuration, disk, clock, network, other processes. Each
//! fault is one clear error in three parts with the documented exit code, and leaves nothing
//! half-written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::home::Home;
use tests::house::{
    DATASET, House, OPEN_POLICY, REALM, Said, command, ended, files_below, private,
};
use tests::node::Iid;
use ticket_format::cbor::Encode;
use ticket_format::time::Timestamp;

/// The error at the end of stderr; log lines and talk stand before it.
fn told(said: &Said) -> String {
    let at = said.stderr.rfind("error: ");
    at.map_or_else(String::new, |at| said.stderr[at..].trim_end().to_owned())
}

/// Holds that a command failed with this code and said these words, in three parts at most.
fn fails(what: &str, said: &Said, code: i32, words: &[&str]) {
    let told = told(said);
    assert_eq!(
        said.code,
        Some(code),
        "{what}: {}{}",
        said.text(),
        said.stderr
    );
    assert!(told.starts_with("error: "), "{what}: {told}");
    assert!(!said.stderr.contains("panicked"), "{what}: {}", said.stderr);
    for word in words {
        assert!(told.contains(word), "{what}: no {word:?} in\n{told}");
    }
    assert!(
        told.lines().count() <= 4,
        "{what} is told at length:\n{told}"
    );
}

const SERVERS: [(&str, &str, &str); 2] = [
    ("broker", "postern-broker", "broker.toml"),
    ("key-server", "postern-key-server", "key-server.toml"),
];

fn server(house: &House, program: &str, dir: &str, config: &str, verb: &str) -> Command {
    let mut run = command(program);
    run.arg(verb)
        .arg("--config")
        .arg(house.path(dir).join(config));
    run
}

#[test]
fn a_configuration_that_does_not_hold_is_told_with_file_line_and_what_was_expected() {
    let mut house = House::bare();
    house.broker.stop();
    house.key_server.stop();
    for (dir, program, config) in SERVERS {
        let path = house.path(dir).join(config);
        let good = fs::read_to_string(&path).expect("a configuration");
        let name = path.to_str().expect("text").to_owned();
        let bad: [(&str, String, &[&str]); 7] = [
            (
                "unknown key",
                good.replace("data-dir", "data-dri"),
                &["data-dri", "data-dir", ":"],
            ),
            (
                "wrong type",
                good.replace("realm = \"", "realm = 7 #"),
                &["line", "expected a string"],
            ),
            ("no TOML", format!("{good}\n[[[\n"), &[":"]),
            (
                "no address",
                good.replace("listen = \"127", "listen = \"x127"),
                &["line", "address"],
            ),
            (
                "a missing key",
                good.replace("realm =", "# realm ="),
                &["realm"],
            ),
            (
                "no admin set",
                good.replace("admin-set.cose", "admin-set.none"),
                &["admin-set.none"],
            ),
            ("empty", String::new(), &[]),
        ];
        for (what, text, words) in bad {
            assert_ne!(text, good, "{what}");
            fs::write(&path, text).expect("written");
            for verb in ["run", "check-config"] {
                let said = ended(server(&house, program, dir, config, verb));
                fails(&format!("{program} {verb}: {what}"), &said, 10, words);
                assert!(
                    told(&said).contains(&name) || told(&said).contains("admin-set.none"),
                    "{program}: {what}: which file?\n{}",
                    told(&said)
                );
            }
        }
        fs::write(&path, &good).expect("written");
        let mut absent = command(program);
        absent.args(["run", "--config", "/nonexistent/file.toml"]);
        fails("absent", &ended(absent), 10, &["/nonexistent/file.toml"]);
        // And once mended it holds.
        ended(server(&house, program, dir, config, "check-config")).ok();
    }
    let bad_admin = house.path("admin-operator/admin.toml");
    let good = fs::read_to_string(&bad_admin).expect("a configuration");
    fs::write(&bad_admin, good.replace("realm =", "relam =")).expect("written");
    fails(
        "postern-admin",
        &house.admin_does(&["launch", "list"]),
        10,
        &["relam", "realm", "admin.toml"],
    );
}

#[test]
fn wrong_modes_and_wrong_root_credentials_are_refused_at_start() {
    let mut house = House::bare();
    house.broker.stop();
    house.key_server.stop();
    for (dir, program, config) in SERVERS {
        let credential = house.path(&format!("{dir}-root"));
        let good = fs::read(&credential).expect("a credential");
        let run = || ended(server(&house, program, dir, config, "run"));
        // Without its root key a key server does not end: it is sealed (ROOT-4).
        let verb = match dir {
            "key-server" => "check-config",
            _ => "run",
        };
        let open = || ended(server(&house, program, dir, config, verb));
        let mode = |path: &std::path::Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        private(&credential, &[9; 32]);
        fails("another credential", &open(), 10, &[]);
        private(&credential, b"short");
        fails("a short credential", &open(), 10, &[]);
        fs::remove_file(&credential).expect("removed");
        fails(
            "no credential",
            &open(),
            10,
            &[credential.to_str().expect("text")],
        );
        private(&credential, &good);
        mode(&credential, 0o644);
        fails(
            "a readable credential",
            &open(),
            10,
            &[credential.to_str().expect("text")],
        );
        mode(&credential, 0o600);
        let data = house.path(dir).join("data");
        mode(&data, 0o777);
        fails(
            "an open data directory",
            &run(),
            10,
            &[data.to_str().expect("text")],
        );
        mode(&data, 0o700);
        let store = data.join("store.redb");
        mode(&store, 0o644);
        let said = run();
        assert!(
            matches!(said.code, Some(1 | 10)),
            "an open store: {:?} {}",
            said.code,
            said.stderr
        );
        assert!(told(&said).contains("store.redb"), "{}", told(&said));
        mode(&store, 0o600);
    }
    house.broker.start();
    house.key_server.start();
    house.is_sound();
}

#[test]
fn a_second_process_on_one_store_is_refused_and_harms_nothing() {
    let mut house = House::start();
    for (dir, program, config) in SERVERS {
        // Another port, so that only the store is in the way.
        let second = house.path(dir).join("second.toml");
        let text = fs::read_to_string(house.path(dir).join(config)).expect("a configuration");
        fs::write(&second, text).expect("written");
        tests::house::set(&second, "listen", "\"127.0.0.1:0\"");
        let said = ended(server(&house, program, dir, "second.toml", "run"));
        assert!(
            matches!(said.code, Some(1 | 7 | 8 | 10)),
            "{:?} {}",
            said.code,
            said.stderr
        );
        let told = told(&said);
        assert!(told.contains("another process"), "{told}");
        assert!(told.lines().count() <= 4, "{told}");
    }
    house.is_sound();
    house.admin_does(&["launch", "list"]).ok();
}

#[test]
fn a_clock_before_the_last_persisted_time_stops_the_start() {
    let mut house = House::bare();
    house.broker.stop();
    house.key_server.stop();
    let ahead = Timestamp::from_seconds(tests::wire::now().seconds() + 3_600);
    for (dir, program, config) in SERVERS {
        let path = house.path(dir).join("data/store.redb");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            use store::{RedbStore, Store, Transaction};
            let store = RedbStore::open(&path, store::Options::default()).expect("the store");
            let written = store
                .commit(Transaction::new().put("time/latest", ahead.to_cbor()))
                .await;
            written.expect("committed");
            store.close().await;
        });
        let said = ended(server(&house, program, dir, config, "run"));
        fails(&format!("{program}: clock"), &said, 10, &["clock"]);
    }
}

#[test]
fn init_replaces_nothing_and_leaves_nothing_half_made() {
    let house = House::bare();
    let before = files_below(house.dir.path());
    let set = house.path("admin-set.cose");
    let dir = house.path("broker");
    let mut again = command("postern-broker");
    again
        .args(["init", "--realm", REALM, "--dir"])
        .arg(&dir)
        .arg("--admin-set")
        .arg(&set);
    again
        .arg("--root-credential")
        .arg(house.path("broker-root"));
    fails("broker", &ended(again), 7, &["exists"]);
    let mut again = command("postern-key-server");
    again
        .args([
            "init",
            "--realm",
            REALM,
            "--listen",
            "127.0.0.1:0",
            "--address",
            "a:1",
            "--dir",
        ])
        .arg(house.path("key-server"))
        .arg("--admin-set")
        .arg(&set);
    again
        .arg("--broker-keys")
        .arg(dir.join("broker-keys.toml"))
        .arg("--root-credential")
        .arg(house.path("key-server-root"))
        .args(House::shares(house.dir.path()));
    fails("key server", &ended(again), 7, &["exists"]);
    let mut again = command("postern-admin");
    again
        .args(["init", "--realm", REALM, "--name", "operator", "--out"])
        .arg(house.path("admin-operator"))
        .arg("--passphrase-file")
        .arg(house.path("passphrase"));
    fails("admin", &ended(again), 7, &["exists"]);
    let keys = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        let kept = files.iter().filter(|(path, _)| {
            path.to_string_lossy().contains("key")
                && !path.to_string_lossy().ends_with("log")
                && !path.to_string_lossy().ends_with("redb")
        });
        kept.cloned().collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(keys(&before), keys(&files_below(house.dir.path())));
}

#[test]
fn a_node_without_metadata_service_or_servers_is_told_so() {
    let mut house = House::start();
    let iid = Iid::real(0);
    let user_data = house.user_data(&iid.account, &[]);
    let home = Home::new(&house, "node", &iid, &user_data);
    let nothing_written = |home: &Home, what: &str| {
        assert!(
            files_below(&home.dir)
                .iter()
                .all(|(path, _)| path.ends_with("wallet.lock")
                    || path.ends_with("node.lock")
                    || path.to_string_lossy().contains("lock")),
            "{what}: {:?}",
            files_below(&home.dir)
                .iter()
                .map(|(path, _)| path)
                .collect::<Vec<_>>()
        );
    };

    fails(
        "no ticket yet",
        &home.run(&["issue", DATASET]),
        3,
        &["postern login"],
    );
    assert_eq!(home.run(&["status", "-q"]).code, Some(3));
    let alone = Home::new(&house, "alone", &iid, &user_data).without_imds();
    fails(
        "no metadata service",
        &alone.run(&["--timeout", "2s", "login"]),
        8,
        &["metadata service"],
    );
    nothing_written(&alone, "no metadata service");
    let empty = Home::new(&house, "empty", &iid, "#!/bin/sh\nexit 0\n");
    fails(
        "no bootstrap",
        &empty.run(&["--timeout", "2s", "login"]),
        10,
        &["user-data", "postern-admin launch create"],
    );
    nothing_written(&empty, "no bootstrap");

    // The broker is away: safe to retry, and the login id stays the same until there is an answer.
    house.broker.stop();
    let started = Instant::now();
    fails(
        "no broker",
        &home.run(&["--timeout", "2s", "login"]),
        8,
        &["broker"],
    );
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "it waited {:?}",
        started.elapsed()
    );
    house.broker.start();
    home.run(&["login"]).ok();
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    let wrapped = house.path("wrapped");
    let generate = [
        "dek",
        "generate",
        "--dataset",
        DATASET,
        "--name",
        "x",
        "--out",
    ];
    home.run(&[&generate[..], &[wrapped.to_str().expect("text")]].concat())
        .ok();
    house.key_server.stop();
    let out = house.path("dek");
    let redeem = [
        "--timeout",
        "2s",
        "dek",
        "redeem",
        "--dataset",
        DATASET,
        "--name",
        "x",
        "--out",
        out.to_str().expect("text"),
        wrapped.to_str().expect("text"),
    ];
    fails("no key server", &home.run(&redeem), 8, &["key server"]);
    assert!(!out.exists());
    house.key_server.start();
    fails(
        "unknown dataset",
        &home.run(&["issue", "no-such"]),
        6,
        &["refusal 41"],
    );
    fails("usage", &home.run(&["--format", "xml", "tickets"]), 2, &[]);
}

#[test]
fn refusals_of_a_policy_and_of_a_name_have_their_own_codes() {
    let house = House::start();
    let iid = Iid::real(0);
    let home = Home::new(&house, "node", &iid, &house.user_data(&iid.account, &[]));
    home.run(&["login"]).ok();
    let closed = house.policy_file("@id(\"nobody\")\nforbid(principal, action, resource);\n");
    house
        .admin_does(&["policy", "set", closed.to_str().expect("text")])
        .ok();
    fails("policy", &home.run(&["issue", DATASET]), 4, &["refusal 40"]);
    let broken = house.policy_file(
        "@id(\"x\")\npermit(principal, action, resource) when { principal.acount == \"1\" };\n",
    );
    let said = house.admin_does(&["policy", "set", broken.to_str().expect("text")]);
    assert_ne!(said.code, Some(0));
    assert!(
        said.stderr.contains("policy.cedar") && said.stderr.contains("account"),
        "{}",
        said.stderr
    );
    let open = house.policy_file(OPEN_POLICY);
    house
        .admin_does(&["policy", "set", open.to_str().expect("text")])
        .ok();
    home.run(&["issue", DATASET]).ok();
    fails(
        "no such node",
        &house.admin_does(&[
            "node",
            "show",
            "ec2/123456789012/eu-west-1/i-0123456789abcdef0",
        ]),
        6,
        &[],
    );
    private(
        &house.path("passphrase"),
        b"another passphrase, quite wrong",
    );
    let said = house.admin_does(&["launch", "list"]);
    fails("wrong passphrase", &said, 1, &["passphrase"]);
}

#[test]
fn interrupted_and_cut_off_commands_leave_nothing_half_written() {
    let house = House::start();
    let iid = Iid::real(0);
    let home = Home::new(&house, "node", &iid, &house.user_data(&iid.account, &[]));
    home.run(&["login"]).ok();
    home.run(&["issue", DATASET, "--action", "decrypt,encrypt"])
        .ok();
    let plain = house.path("plain");
    fs::write(&plain, vec![7; 20 << 20]).expect("written");
    let target = house.path("target.postern");
    let mut encrypt = home.postern(&[
        "encrypt",
        plain.to_str().expect("text"),
        target.to_str().expect("text"),
        "--dataset",
        DATASET,
    ]);
    let child = encrypt
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // Once it has begun to write beside the target.
    let deadline = Instant::now() + Duration::from_secs(30);
    let names = || -> Vec<String> {
        let entries = fs::read_dir(house.dir.path())
            .expect("a directory")
            .flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let before = names();
    let mut child = child;
    while names().len() == before.len()
        && matches!(child.try_wait(), Ok(None))
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    let interrupted = rustix::process::kill_process(pid, rustix::process::Signal::INT).is_ok();
    let status = child.wait().expect("it ended");
    if interrupted && status.code() != Some(0) {
        assert_eq!(status.code(), Some(130));
        assert!(!target.exists(), "an interrupted copy left its target");
        let left: Vec<_> = names()
            .into_iter()
            .filter(|name| name.contains("target"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    home.run(&[
        "encrypt",
        plain.to_str().expect("text"),
        target.to_str().expect("text"),
        "--dataset",
        DATASET,
    ])
    .ok();

    // A body that was cut off: exit code 9, and no file.
    let whole = fs::read(&target).expect("the object");
    let back = house.path("back");
    for cut in [whole.len() - 1, whole.len() / 2, 200] {
        let damaged = house.path("cut.postern");
        fs::write(&damaged, &whole[..cut]).expect("written");
        let said = home.run(&[
            "decrypt",
            damaged.to_str().expect("text"),
            back.to_str().expect("text"),
            "--name",
            "plain",
        ]);
        assert!(
            matches!(said.code, Some(9)),
            "cut to {cut}: {:?} {}",
            said.code,
            said.stderr
        );
        assert!(!back.exists());
    }
    // A reader who has seen enough.
    let mut cat = home.postern(&["cat", target.to_str().expect("text")]);
    let mut child = cat
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 16];
    let mut out = child.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut out, &mut first).expect("bytes");
    drop(out);
    let output = child.wait_with_output().expect("it ended");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
