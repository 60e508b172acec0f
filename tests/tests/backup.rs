//! Backup and restore by real processes: `postern-admin backup`, `postern-key-server verify-restore`,
//! `restore` with shares, and what opens afterwards.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::house::{DATASET, House, Said, command, ended, files_below};
use ticket_format::entry::{Alarm, Kind};
use ticket_format::{Context, Refusal};

const PATIENCE: Duration = Duration::from_secs(60);

fn named(name: &str) -> Context {
    Context::new([("name".to_owned(), name.to_owned())].into()).expect("a context")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn json(said: Said) -> Value {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_slice(&said.stdout).expect("JSON")
}

/// One line on stderr says what was wrong, and nothing is said of it on stdout.
fn refused(said: &Said, exit: i32, what: &str) {
    assert_eq!(said.code, Some(exit), "{what}: {}", said.stderr);
    assert!(said.stdout.is_empty(), "{what}");
    let lines = said.stderr.lines().filter(|line| !line.contains(" INFO "));
    let lines: Vec<_> = lines.collect();
    assert!((1..=3).contains(&lines.len()), "{what}: {lines:?}");
}

/// The machine that a backup is brought to: the key server's configuration and nothing else of it.
struct Machine<'a>(&'a House);

impl Machine<'_> {
    fn verify(&self, file: &Path) -> Said {
        let scratch = self.0.path("scratch");
        let mut verify = command("postern-key-server");
        verify.arg("verify-restore").arg(file);
        verify.arg("--scratch").arg(&scratch);
        verify
            .arg("--credential")
            .arg(self.0.path("key-server-root"));
        let said = ended(verify);
        assert!(
            !scratch.exists() || files_below(&scratch).is_empty(),
            "something is left"
        );
        said
    }

    fn restore(&self, file: &Path, statement: &Path) -> std::process::Command {
        let mut restore = command("postern-key-server");
        restore.arg("restore").arg(file);
        restore.arg("--statement").arg(statement);
        restore
            .arg("--config")
            .arg(self.0.path("key-server/key-server.toml"));
        restore
    }
}

fn give(house: &House, name: &str, file: &Path, shares: &Path) -> Said {
    let (attempt, out) = (shares.join("attempt"), shares.join(format!("{name}.share")));
    let arguments = [
        "share-key",
        "give",
        text(file),
        "--attempt",
        text(&attempt),
        "--out",
        text(&out),
        "--yes",
    ];
    house.as_admin(name, &arguments)
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn output(child: Child) -> Said {
    let output = child.wait_with_output().expect("it ends");
    Said {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_server_whose_machine_is_gone_comes_back_from_a_backup_by_shares() {
    // rule: BAK-1, BAK-2, BAK-3, BAK-4
    let mut house = House::start();
    let node = house.node(0).await;
    let ticket = node.issue(&house.to_broker().await, DATASET).await;
    let ticket = Arc::new(ticket.expect("a ticket"));
    let server = house.to_key_server().await;
    let presented = server.present_when_leased(&ticket).await;
    let made = server.generate(&presented, &named("a")).await;
    let (wrap, dek) = made.expect("a DEK");

    // A backup, fetched while others redeem and a KEK is rotated.
    let (stop, redeemed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load = tokio::spawn({
        let (stop, redeemed, wrap) = (Arc::clone(&stop), Arc::clone(&redeemed), wrap.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                let opened = server.redeem(&presented, &[(&wrap, &named("a"))]).await;
                let opened = opened.expect("an answer").remove(0).expect("released");
                assert_eq!(opened.0, Some(dek));
                redeemed.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let file = house.path("backup-1");
    let before = redeemed.load(Ordering::SeqCst);
    let arguments = ["backup", "--out", text(&file), "--format", "json"];
    assert_eq!(house.as_admin("operator", &arguments).code, Some(4));
    assert!(!file.exists() && !house.path("backup-1.partial").exists());
    let told = json(house.as_admin("owner-1", &arguments));
    wait_for("nothing was redeemed", || {
        redeemed.load(Ordering::SeqCst) > before
    });
    stop.store(true, Ordering::SeqCst);
    load.await.expect("it served all the while");
    assert_eq!(told["datasets"], 1);
    assert_eq!(told["kek_versions"], 1);
    let again = house.as_admin("owner-1", &arguments);
    assert_eq!(again.code, Some(7), "{}", again.stderr);

    // What is in it opens, and of a file that was touched nothing does.
    let machine = Machine(&house);
    let said = machine.verify(&file).ok();
    assert!(said.starts_with("opens: backup "), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert!(said.contains("1 datasets, 1 KEK versions"), "{said}");
    let whole = fs::read(&file).expect("read");
    let touched = house.path("touched");
    for (what, change) in [
        (
            "cut",
            Box::new(|file: &mut Vec<u8>| file.truncate(file.len() - 1))
                as Box<dyn Fn(&mut Vec<u8>)>,
        ),
        (
            "a bit",
            Box::new(|file| *file.last_mut().expect("a byte") ^= 1),
        ),
        ("none", Box::new(|file| file[0] ^= 1)),
    ] {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&touched, bytes).expect("written");
        refused(&machine.verify(&touched), 9, what);
    }

    // The machine is gone, and the credential with it.
    house.key_server.kill();
    let data = house.path("key-server/data");
    fs::rename(&data, house.path("gone")).expect("renamed");
    let credential = house.path("key-server-root");
    fs::rename(&credential, house.path("taken-away")).expect("renamed");

    // Two of security sign for this file.
    let statement = house.path("restore.cose");
    let sign = [
        "restore",
        text(&file),
        "--reason",
        "the machine burnt down",
        "--out",
        text(&statement),
    ];
    let proposed = house.as_admin("owner-1", &sign).ok();
    assert!(proposed.contains("1 of 2 signatures"), "{proposed}");
    let early = ended(Machine(&house).restore(&file, &statement));
    assert_ne!(early.code, Some(0), "one signature is not enough");
    assert!(!data.exists());
    let approve = ["approve", text(&statement), "--yes"];
    let approved = house.as_admin("owner-2", &approve);
    assert!(
        approved.stderr.contains("PUTS A BACKUP"),
        "{}",
        approved.stderr
    );
    assert!(approved.ok().contains("is complete"));

    let shares = house.path("shares");
    let mut restore = Machine(&house).restore(&file, &statement);
    restore.arg("--shares").arg(&shares);
    restore.stdout(Stdio::piped()).stderr(Stdio::piped());
    let restore = restore.spawn().expect("it starts");
    wait_for("no attempt", || shares.join("attempt").exists());
    for name in ["owner-1", "owner-2"] {
        let given = give(&house, name, &file, &shares);
        assert!(
            given.stderr.contains("is sealed to key"),
            "{}",
            given.stderr
        );
        given.ok();
    }
    let restored = output(restore);
    assert!(
        restored.stderr.contains("sealed to key"),
        "{}",
        restored.stderr
    );
    let restored = restored.ok();
    assert!(restored.starts_with("restored: backup "), "{restored}");
    assert!(restored.contains("destroy it again"), "{restored}");
    let over = ended(Machine(&house).restore(&file, &statement));
    refused(&over, 7, "over what is there");

    // The automatic way is gone: it starts sealed, and shares open it. Then the feed lets it serve.
    house.key_server.start_sealed();
    for name in ["owner-1", "owner-2"] {
        house.as_admin(name, &["unseal"]).ok();
    }
    house.key_server.opens();
    let server = house.to_key_server().await;
    // A ticket of before may have been used since the backup: a job has another issued.
    let spent = server.present(&ticket).await.map(drop);
    let spent = spent.expect_err("it is refused").refusal();
    assert_eq!(spent, Some(Refusal::TicketExpired));
    let again = node.issue(&house.to_broker().await, DATASET).await;
    let again = again.unwrap_or_else(|reply| panic!("{reply:?}"));
    let presented = server.present_when_leased(&again).await;
    let opened = server.redeem(&presented, &[(&wrap, &named("a"))]).await;
    let opened = opened.expect("an answer").remove(0).expect("released");
    assert_eq!(opened.0, Some(dek), "the DEK that was made before");

    // The record of it; and who saw more of the log than came back says so until he lets go of it.
    let entries = house.entries("key-server");
    let opened = entries.iter().find(|entry| entry.kind == Kind::ShardOpened);
    let opened = opened.expect("a shard of its own");
    assert!(opened.proof.is_some());
    let recorded = entries.iter().find(|entry| entry.kind == Kind::Backup);
    let recorded = recorded.expect("recorded");
    assert!(recorded.log.is_some());
    assert_eq!(
        recorded.signers,
        Some(vec!["test-owner-1".to_owned(), "test-owner-2".to_owned()])
    );
    assert_eq!(house.alarms("key-server", Alarm::StoreRollback), 0);
    let keks = ["dataset", "keks", DATASET];
    let seen = house.as_admin("owner-1", &keks);
    assert_eq!(seen.code, Some(9), "{}", seen.stderr);
    let keys = house.path("key-server/server-keys.toml");
    let forget = ["log", "forget", "--key-server", text(&keys), "--yes"];
    house.as_admin("owner-1", &forget).ok();
    assert!(house.as_admin("owner-1", &keks).ok().contains("enabled"));
    house.is_sound();
}

#[test]
fn a_backup_is_put_nowhere_but_in_an_empty_place_and_the_old_one_stays() {
    // rule: BAK-4
    let house = House::start();
    let file = house.path("backup-1");
    house
        .as_admin("owner-1", &["backup", "--out", text(&file)])
        .ok();
    let statement: PathBuf = house.path("restore.cose");
    let arguments = [
        "restore",
        text(&file),
        "--reason",
        "a try",
        "--out",
        text(&statement),
    ];
    house.as_admin("owner-1", &arguments).ok();
    let approve = ["approve", text(&statement), "--yes"];
    house.as_admin("owner-2", &approve).ok();
    let before = files_below(&house.path("key-server/data/root"));
    let said = ended(Machine(&house).restore(&file, &statement));
    refused(&said, 7, "a running key server's");
    assert!(said.stderr.contains("is not empty"), "{}", said.stderr);
    assert_eq!(files_below(&house.path("key-server/data/root")), before);
    // A server takes no such statement, whoever sends it.
    let other = house.path("other.cose");
    let arguments = [
        "restore",
        text(&file),
        "--reason",
        "a try",
        "--out",
        text(&other),
    ];
    let again = house.as_admin("owner-1", &arguments);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let nothing = ended(Machine(&house).restore(&house.path("restore.cose"), &statement));
    refused(&nothing, 9, "a statement is no backup");
}
