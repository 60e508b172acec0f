//! The program as its operator meets it.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod support;

use support::admins;

fn broker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-broker"));
    command.args(arguments);
    command
}

fn init(dir: &Path, root: &[&str]) -> Output {
    let target = dir.join("broker");
    let set = dir.join("admin-set.cose");
    std::fs::write(&set, admins::Admins::new().first).unwrap();
    let arguments = [
        "init",
        "--dir",
        target.to_str().unwrap(),
        "--realm",
        "test",
        "--listen",
        "127.0.0.1:0",
        "--admin-set",
        set.to_str().unwrap(),
    ];
    broker(&[&arguments[..], root].concat()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn init_makes_what_run_needs_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("root.credential");
    let root = ["--new-root-credential", credential.to_str().unwrap()];
    let made = init(dir.path(), &root);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let keys = std::fs::read_to_string(dir.path().join("broker/broker-keys.toml")).unwrap();
    let keys: broker::init::BrokerKeys = toml::from_str(&keys).unwrap();
    assert!(text(&made.stdout).contains(&keys.tls_key));
    let again = init(
        dir.path(),
        &["--root-credential", credential.to_str().unwrap()],
    );
    assert_eq!(again.status.code(), Some(7), "{}", text(&again.stderr));

    let config = dir.path().join("broker/broker.toml");
    let config = config.to_str().unwrap();
    // What others know of its log, and of it as a witness.
    let [first, second] = &keys.log_keys;
    let log = ticket_format::tlog::LogKey::from_vkeys(first, second).unwrap();
    let tls = ticket_format::keys::TlsKey::from_bytes(&hex(&keys.tls_key)).unwrap();
    let role = ticket_format::statement::Role::Broker;
    assert_eq!(
        log.origin,
        ticket_format::tlog::Origin::new("test", role, &tls)
    );
    let vkeys = broker(&["witness-keys", "--config", config])
        .output()
        .unwrap();
    let vkeys = text(&vkeys.stdout);
    let lines: Vec<_> = vkeys.lines().collect();
    assert_eq!(lines.len(), 2, "{vkeys}");
    for line in &lines {
        let vkey: ticket_format::tlog::Vkey = line.parse().unwrap();
        assert_eq!(vkey.name(), format!("{}/witness", log.origin));
    }
    // It witnesses a log, its own for that matter, which waits for nobody.
    let at = dir.path().join("witness.addr");
    let written = std::fs::read_to_string(config).unwrap();
    let witness = format!(
        "[witness]\nlisten = \"127.0.0.1:0\"\nready-file = \"{}\"\nlogs = [[\"{first}\", \"{second}\"]]\n",
        at.display()
    );
    std::fs::write(config, format!("{written}{witness}")).unwrap();

    let checked = broker(&["check-config", "--config", config])
        .output()
        .unwrap();
    assert!(checked.status.success() && text(&checked.stdout).contains(&keys.tls_key));

    let ready = dir.path().join("ready");
    let mut running = broker(&[
        "run",
        "--config",
        config,
        "--ready-file",
        ready.to_str().unwrap(),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let bound = line.strip_prefix("witness http://").expect("the witness");
    assert_eq!(std::fs::read_to_string(at).unwrap().trim(), bound);
    let asked = std::net::TcpStream::connect(bound).unwrap();
    writeln!(&asked, "GET /add-checkpoint HTTP/1.0\r\n\r").unwrap();
    let mut answered = String::new();
    (&asked).read_to_string(&mut answered).unwrap();
    assert!(answered.starts_with("HTTP/1.0 405"), "{answered}");
    let line = lines.next().unwrap().unwrap();
    let address = line
        .strip_prefix("listening ")
        .expect("the address")
        .to_owned();
    address.parse::<std::net::SocketAddr>().unwrap();
    // Its keys reach no core file.
    let bounds = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap();
    let core = bounds
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(words, ["0", "0"]);
    // A second one on the same files is refused.
    let second = broker(&["run", "--config", config]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains("in use by another process"),
        "{}",
        text(&second.stderr)
    );
    let signalled = Command::new("kill")
        .args(["-TERM", &running.id().to_string()])
        .status()
        .unwrap();
    assert!(signalled.success());
    assert!(
        running.wait().unwrap().success(),
        "a stop on request is no failure"
    );
    assert_eq!(std::fs::read_to_string(ready).unwrap().trim(), address);
    let status = || broker(&["status", "--config", config]).output().unwrap();
    let said = text(&status().stdout);
    assert!(
        said.contains("1 entries in 1 shards, each verified"),
        "{said}"
    );
    // One byte of it is another.
    let bundle = dir.path().join("broker/data/audit/1/tile/entries");
    let bundle = std::fs::read_dir(bundle.join("000.p")).unwrap().next();
    let bundle = bundle.unwrap().unwrap().path();
    let mut bytes = std::fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let refused = status();
    assert_eq!(refused.status.code(), Some(9), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("entry 0"),
        "{}",
        text(&refused.stderr)
    );
}

fn hex(text: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

#[test]
fn a_passphrase_makes_the_root_key_too() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let passphrase = dir.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse battery\n").unwrap();
    let root = ["--root-passphrase-file", passphrase.to_str().unwrap()];
    // Others could read it.
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(init(dir.path(), &root).status.code(), Some(1));
    assert!(!dir.path().join("broker").exists(), "nothing half-made");
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(init(dir.path(), &root).status.success());
    let config = dir.path().join("broker/broker.toml");
    let check = || {
        broker(&["check-config", "--config", config.to_str().unwrap()])
            .output()
            .unwrap()
    };
    assert!(check().status.success());
    std::fs::write(&passphrase, "another horse battery\n").unwrap();
    let refused = check();
    assert_eq!(refused.status.code(), Some(10));
    assert!(
        text(&refused.stderr).contains("wrong root key"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn a_fault_in_the_configuration_is_one_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("root.credential");
    assert!(
        init(
            dir.path(),
            &["--new-root-credential", credential.to_str().unwrap()]
        )
        .status
        .success()
    );
    let path = dir.path().join("broker/broker.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let cases = [
        (
            "listen =",
            "lisen =",
            "line 4: unknown key \"lisen\", did you mean \"listen\"?",
        ),
        ("127.0.0.1:0", "nowhere", "line 4: "),
        ("admin-set.cose", "broker.toml", "admin-set: "),
        ("admin-set.cose", "none.cose", "none.cose"),
        ("realm = \"test\"", "realm = \"other\"", "of another realm"),
        ("[hooks]", "[hooks]\nalarm = [\"tell\"]", "[hooks] alarm: "),
        (
            "# metrics-listen = \"127.0.0.1:9464\"",
            "metrics-listen = \"0.0.0.0:9464\"",
            "not a loopback address",
        ),
        (
            "credential =",
            "passphrase-file = \"x\"\ncredential =",
            "exactly one of",
        ),
        ("root.credential", "no.credential", "does not exist"),
        ("[log]", "[log]\nshard-bytes = 10", "shard-bytes"),
        (
            "[log]",
            "[[log.witness]]\nname = \"a\"\nurl = \"ftp://x\"\nkeys = []",
            "[[log.witness]] a: ",
        ),
        (
            "[limits]",
            "[witness]\nlisten = \"127.0.0.1:0\"\nlogs = [[\"a\", \"b\"]]\n[limits]",
            "[witness] logs, number 1: ",
        ),
    ];
    for (from, to, expected) in cases {
        std::fs::write(&path, good.replace(from, to)).unwrap();
        let refused = broker(&["run", "--config", path.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(10), "{to}");
        let said = text(&refused.stderr);
        assert!(
            said.contains(expected) && said.starts_with("error: "),
            "{to}: {said}"
        );
    }
}
