//! The program: what an operator types, and what he is told.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::ids::StatementId;
use ticket_format::keys::{AdminSecret, FeedSecret, TicketSecret, TlsSecret};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::share_key;
use ticket_format::statement::{Admin, AdminKeyKind, AdminRole, AdminSetBody, Payload, Role};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{LogKey, LogSecret, Origin, Vkey, VkeyKind};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-key-server"));
    command
        .env_remove("POSTERN_LOG")
        .env_remove("POSTERN_KEY_SERVER_CONFIG");
    command
}

struct Place {
    dir: tempfile::TempDir,
}

/// The first set of three admins, signed by so many of them.
fn admin_set(realm: &str, signed: usize) -> Vec<u8> {
    let rng = &mut UnwrapErr(SysRng);
    let mut keys: Vec<_> = (0..3).map(|_| AdminSecret::generate(rng)).collect();
    keys.sort_by_key(AdminSecret::public);
    let manages = vec![AdminRole::DatasetOwner, AdminRole::Security];
    let roles = [vec![AdminRole::Operator], manages.clone(), manages];
    let admins = keys.iter().zip(roles).map(|(key, roles)| Admin {
        name: key.public().to_string()[..8].to_owned(),
        kind: AdminKeyKind::File,
        key: key.public(),
        roles,
        application: None,
    });
    let body = AdminSetBody {
        version: 1,
        follows: AdminSetBody::NOTHING,
        admins: admins.collect(),
        quorums: AdminSetBody::usual_quorums(2),
    };
    let (id, made) = (StatementId::random(rng), Timestamp::from_seconds(1));
    let signers: Vec<_> = keys.iter().take(signed).collect();
    Payload::record(id, realm, made, &body)
        .sign(&signers)
        .unwrap()
}

impl Place {
    fn new() -> Self {
        let (dir, rng) = (tempfile::tempdir().unwrap(), &mut UnwrapErr(SysRng));
        let tls = TlsSecret::generate(rng);
        let origin = Origin::new("test", Role::Broker, &tls.public());
        let log = LogSecret::from_seeds(origin, &[1; 32], &[2; 32]).unwrap();
        let [ed25519, ml_dsa] = log.key().vkeys();
        let broker = format!(
            "realm = \"test\"\naddresses = [\"127.0.0.1:9\"]\ntls-key = \"{}\"\nticket-key = \"{}\"\nfeed-key = \"{}\"\nlog-keys = [\"{ed25519}\", \"{ml_dsa}\"]\n",
            tls.public(),
            TicketSecret::generate(rng).public(),
            FeedSecret::generate(rng).public(),
        );
        std::fs::write(dir.path().join("broker-keys.toml"), broker).unwrap();
        let holder = SealingSecret::generate(Kem::XWing, rng).public();
        std::fs::write(dir.path().join("share.pub"), share_key::write(&holder)).unwrap();
        std::fs::write(dir.path().join("admin-set"), admin_set("test", 3)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn init(&self, root: &str) -> Output {
        let mut init = program();
        init.args([
            "init",
            "--realm",
            "test",
            "--listen",
            "127.0.0.1:0",
            "--address",
            "127.0.0.1:7000",
        ]);
        init.arg(root).arg(self.path("root"));
        init.args(["--threshold", "1", "--share"]);
        init.arg(format!("holder={}", self.path("share.pub").display()));
        init.arg("--admin-set").arg(self.path("admin-set"));
        init.arg("--dir")
            .arg(self.path("ks"))
            .arg("--broker-keys")
            .arg(self.path("broker-keys.toml"));
        init.output().unwrap()
    }

    fn config(&self) -> PathBuf {
        self.path("ks/key-server.toml")
    }

    fn with_config(&self, verb: &str) -> Output {
        program()
            .arg(verb)
            .arg("--config")
            .arg(self.config())
            .output()
            .unwrap()
    }

    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from));
        std::fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    fn run(&self) -> Running {
        let mut run = program();
        run.args(["run", "--ready-file"])
            .arg(self.path("ready"))
            .arg("--config")
            .arg(self.config());
        let mut child = run
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Running { child, line }
    }
}

struct Running {
    child: Child,
    line: String,
}

impl Running {
    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn init_makes_private_files_that_hold_and_overwrites_nothing() {
    let place = Place::new();
    let made = place.init("--new-root-credential");
    assert_eq!(made.status.code(), Some(0), "{}", told(&made));
    for private in [
        "root",
        "ks/key-server.toml",
        "ks/data/door.seed",
        "ks/data/root/current",
        "ks/data/root/1/sealed/keys/tls.sealed",
    ] {
        assert_eq!(mode(&place.path(private)), 0o600, "{private}");
    }
    assert_eq!(mode(&place.path("ks/data")), 0o700);
    assert_eq!(place.with_config("check-config").status.code(), Some(0));
    let before = std::fs::read(place.path("ks/server-keys.toml")).unwrap();
    let again = place.init("--root-credential");
    assert_eq!(again.status.code(), Some(7));
    assert!(told(&again).contains("exists already") && told(&again).contains("next: "));
    assert_eq!(
        std::fs::read(place.path("ks/server-keys.toml")).unwrap(),
        before
    );
}

#[test]
fn init_says_which_keys_sign_the_log_and_which_cosign_others() {
    // rule: SIG-5, TLOG-2, TLOG-9
    let place = Place::new();
    assert_eq!(place.init("--new-root-credential").status.code(), Some(0));
    let public = std::fs::read_to_string(place.path("ks/server-keys.toml")).unwrap();
    let line = public.lines().find(|line| line.starts_with("log-keys = "));
    let keys: Vec<_> = line.unwrap().split('"').skip(1).step_by(2).collect();
    let key = LogKey::from_vkeys(keys[0], keys[1]).unwrap();
    assert!(key.origin.as_str().starts_with("test/key-server/"));
    let shown = place.with_config("witness-keys");
    assert_eq!(shown.status.code(), Some(0), "{}", told(&shown));
    let shown = String::from_utf8(shown.stdout).unwrap();
    let vkeys: Vec<Vkey> = shown.lines().map(|line| line.parse().unwrap()).collect();
    let kinds: Vec<_> = vkeys.iter().map(Vkey::kind).collect();
    let both = [VkeyKind::CosignatureEd25519, VkeyKind::CosignatureMlDsa44];
    assert_eq!(kinds, both);
    let name = format!("{}/witness", key.origin);
    assert!(vkeys.iter().all(|vkey| vkey.name() == name));
    assert_ne!(vkeys[0].key(), key.ed25519());
    assert_ne!(vkeys[1].key(), key.ml_dsa());
}

#[test]
fn log_keys_of_another_broker_and_a_faulty_witness_are_told_beforehand() {
    // rule: TLOG-2
    let place = Place::new();
    assert_eq!(place.init("--new-root-credential").status.code(), Some(0));
    place.edit("# keep-days = 400", "keep-days = 0");
    let refused = place.with_config("check-config");
    assert_eq!(refused.status.code(), Some(10));
    assert!(told(&refused).contains("keep-days"), "{}", told(&refused));
    place.edit(
        "keep-days = 0",
        "[[log.witness]]\nname = \"w1\"\nurl = \"ftp://127.0.0.1\"\nkeys = []",
    );
    let refused = place.with_config("check-config");
    assert_eq!(refused.status.code(), Some(10));
    assert!(told(&refused).contains("w1"), "{}", told(&refused));
    let place = Place::new();
    assert_eq!(place.init("--new-root-credential").status.code(), Some(0));
    let kept = place.path("ks/broker-keys.toml");
    let other = LogSecret::from_seeds(
        "test/broker/0000000000000000".parse().unwrap(),
        &[1; 32],
        &[2; 32],
    );
    let [ed25519, ml_dsa] = other.unwrap().key().vkeys();
    let text = std::fs::read_to_string(&kept).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("log-keys") {
        true => format!("log-keys = [\"{ed25519}\", \"{ml_dsa}\"]\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(&kept, lines.collect::<String>()).unwrap();
    let refused = place.with_config("check-config");
    assert_eq!(refused.status.code(), Some(10));
    assert!(
        told(&refused).contains("another broker"),
        "{}",
        told(&refused)
    );
}

#[test]
fn a_passphrase_opens_the_keys_as_a_credential_does() {
    let place = Place::new();
    store::files::write_private(&place.path("root"), b"correct horse battery\n").unwrap();
    assert_eq!(place.init("--root-passphrase-file").status.code(), Some(0));
    assert_eq!(place.with_config("check-config").status.code(), Some(0));
    store::files::write_private(&place.path("root"), b"wrong horse battery\n").unwrap();
    let wrong = place.with_config("check-config");
    assert_eq!(wrong.status.code(), Some(10));
    assert!(
        told(&wrong).contains("passphrase is not the one"),
        "{}",
        told(&wrong)
    );
}

#[test]
fn a_mistake_in_the_configuration_is_told_with_its_line() {
    let place = Place::new();
    place.init("--new-root-credential");
    place.edit("burst-factor = 10", "burst-facto = 10");
    let output = place.with_config("check-config");
    assert_eq!(output.status.code(), Some(10));
    let expected = "unknown key \"burst-facto\", did you mean \"burst-factor\"?";
    assert!(
        told(&output).contains(expected) && told(&output).contains(", line "),
        "{}",
        told(&output)
    );
    place.edit("burst-facto = 10", "burst-factor = 0");
    assert_eq!(place.with_config("run").status.code(), Some(10));
    place.edit("burst-factor = 0", "burst-factor = 10");
    place.edit(
        "# metrics-listen = \"127.0.0.1:9465\"",
        "metrics-listen = \"0.0.0.0:9\"",
    );
    assert!(told(&place.with_config("run")).contains("loopback"));
}

#[test]
fn an_admin_set_that_does_not_hold_is_refused_before_anything_is_made() {
    // rule: SET-3
    let place = Place::new();
    for (set, why) in [
        (admin_set("test", 2), "2 of its 3 admins"),
        (admin_set("other", 3), "another realm"),
        (b"nothing".to_vec(), "not a statement"),
    ] {
        std::fs::write(place.path("admin-set"), set).unwrap();
        let refused = place.init("--new-root-credential");
        assert_eq!(refused.status.code(), Some(10));
        assert!(told(&refused).contains(why), "{}", told(&refused));
        assert!(!place.path("ks").exists());
    }
}

#[test]
fn a_set_that_is_none_of_the_servers_history_refuses_the_start_with_one_line() {
    // rule: SET-3
    let place = Place::new();
    place.init("--new-root-credential");
    assert_eq!(place.run().stop(), Some(0));
    std::fs::write(place.path("ks/admin-set.cose"), admin_set("test", 3)).unwrap();
    let refused = place.with_config("run");
    assert_eq!(refused.status.code(), Some(10));
    let said = told(&refused);
    assert!(said.contains("none of this server's history"), "{said}");
}

#[test]
fn a_hook_that_cannot_be_started_is_told_beforehand() {
    // rule: EXP-4
    let place = Place::new();
    place.init("--new-root-credential");
    place.edit("[hooks]\n", "[hooks]\nalarm = [\"tell\"]\n");
    let refused = place.with_config("check-config");
    assert_eq!(refused.status.code(), Some(10));
    assert!(
        told(&refused).contains("absolute path"),
        "{}",
        told(&refused)
    );
}

#[test]
fn a_root_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.init("--new-root-credential");
    std::fs::set_permissions(place.path("root"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = place.with_config("check-config");
    assert_eq!(output.status.code(), Some(10));
    assert!(told(&output).contains("mode 0600"), "{}", told(&output));
}

#[test]
fn a_server_says_where_it_listens_and_stops_when_asked() {
    let place = Place::new();
    place.init("--new-root-credential");
    let running = place.run();
    let address = running
        .line
        .strip_prefix("listening 127.0.0.1:")
        .unwrap()
        .trim_end();
    assert_ne!(address, "0");
    assert_eq!(
        std::fs::read_to_string(place.path("ready")).unwrap(),
        format!("127.0.0.1:{address}\n")
    );
    // A second one on the same data is refused with one clear report.
    let second = place.with_config("run");
    assert_eq!(second.status.code(), Some(10));
    assert!(
        told(&second).contains("another process"),
        "{}",
        told(&second)
    );
    assert_eq!(running.stop(), Some(0));
    // And it starts again.
    assert_eq!(place.run().stop(), Some(0));
}

#[test]
fn a_server_that_does_not_run_is_told_apart_from_one_that_cannot_be_asked() {
    let place = Place::new();
    place.init("--new-root-credential");
    assert_eq!(place.with_config("status").status.code(), Some(10));
    place.edit(
        "# metrics-listen = \"127.0.0.1:9465\"",
        "metrics-listen = \"127.0.0.1:1\"",
    );
    assert_eq!(place.with_config("status").status.code(), Some(8));
    assert_eq!(
        place.with_config("doctor").status.code(),
        Some(8),
        "the broker does not answer"
    );
}
