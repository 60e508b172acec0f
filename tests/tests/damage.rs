//! Damage: a bit that flips in any file that a server or a node keeps, a file that is cut off or emptied. Either
//! it is noticed, by a line that names what is wrong, or it changes nothing: no other key is ever served, and
//! nothing that was denied is served again.

#![allow(
    clippy::print_stdout,
    reason = "what became of each file is shown with the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tests::daemon::Daemon;
use tests::home::Home;
use tests::house::{DATASET, House, Said, copy_dir, files_below};
use tests::node::Iid;

/// Exit codes of what is noticed: an integrity failure, a configuration that cannot be used, a local failure.
const NOTICED: [i32; 3] = [9, 10, 1];

/// Of a daemon's directory: what the test itself writes there, and what says nothing after a stop.
const NOT_KEPT: [&str; 4] = ["log", "log.try", "ready", "lock"];

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit of the byte at this part of the whole, in thousandths.
    Flip(usize),
    Half,
    Nothing,
}

const HARMS: [Harm; 6] = [
    Harm::Flip(0),
    Harm::Flip(293),
    Harm::Flip(707),
    Harm::Flip(1_000),
    Harm::Half,
    Harm::Nothing,
];

impl Harm {
    fn to(self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        match self {
            Self::Flip(at) => {
                let last = bytes.len() - 1;
                bytes[last * at / 1_000] ^= 0x10;
            }
            Self::Half => bytes.truncate(whole.len() / 2),
            Self::Nothing => bytes.clear(),
        }
        bytes
    }
}

/// A node that has a data key, whose wrap stands in a file, and one that was denied.
struct Life {
    house: House,
    home: Home,
    denied: Home,
    dek: String,
}

const REDEEM: [&str; 9] = [
    "dek",
    "redeem",
    "--dataset",
    DATASET,
    "--name",
    "object",
    "--reveal",
    "--timeout",
    "3s",
];

impl Life {
    fn led() -> Self {
        let house = House::start();
        let [home, denied] = [("node", 0), ("other", 1)].map(|(name, document)| {
            let iid = Iid::real(document);
            let user_data = house.user_data(&iid.account, &[]);
            let home = Home::new(&house, name, &iid, &user_data);
            home.run(&["login"]).ok();
            home.run(&["issue", DATASET, "--action", "encrypt,decrypt"])
                .ok();
            home
        });
        let arguments = [
            "dek",
            "generate",
            "--dataset",
            DATASET,
            "--name",
            "object",
            "--out",
            "wrap",
        ];
        home.run(&arguments).ok();
        let dek = redeemed(&home.run(&[&REDEEM[..], &["wrap"]].concat())).expect("a data key");
        fs::copy(home.dir.join("wrap"), denied.dir.join("wrap")).expect("copied");
        assert_eq!(
            redeemed(&denied.run(&[&REDEEM[..], &["wrap"]].concat())),
            Ok(dek.clone())
        );
        let node = Iid::real(1).node.to_string();
        house
            .admin_does(&[
                "deny", "--node", &node, "--reason", "test", "--yes", "--wait", "20s",
            ])
            .ok();
        let after = denied.run(&[&REDEEM[..], &["wrap"]].concat());
        assert!(redeemed(&after).is_err(), "{}", after.text());
        Self {
            house,
            home,
            denied,
            dek,
        }
    }

    /// What is true is served, or nothing is; says which.
    fn serves_the_truth(&self, what: &str) -> bool {
        let said = self.home.run(&[&REDEEM[..], &["wrap"]].concat());
        let served = match redeemed(&said) {
            Ok(dek) => {
                assert_eq!(dek, self.dek, "{what}: another key");
                true
            }
            Err(code) => {
                assert_ne!(code, Some(101), "{what}: {}", said.stderr);
                false
            }
        };
        let said = self.denied.run(&[&REDEEM[..], &["wrap"]].concat());
        assert!(
            redeemed(&said).is_err(),
            "{what}: who was denied has a key again"
        );
        served
    }
}

/// The data key that a redemption showed, or how it ended.
fn redeemed(said: &Said) -> Result<String, Option<i32>> {
    if said.code != Some(0) {
        return Err(said.code);
    }
    let text = said.text();
    let line = text.lines().last().unwrap_or_default();
    Ok(line.split('\t').next_back().unwrap_or_default().to_owned())
}

/// A file of a server, by what it is rather than by its number or name.
fn kind(path: &Path) -> String {
    let mut kind = String::new();
    for letter in path.to_string_lossy().chars() {
        match letter {
            '0'..='9' | 'a'..='f' | '-' if kind.ends_with('0') => {}
            '0'..='9' => kind.push('0'),
            other => kind.push(other),
        }
    }
    kind
}

/// One file of each kind that a directory keeps, relative to it.
fn kept(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut kinds = BTreeMap::new();
    for (path, bytes) in files_below(dir) {
        let path = path.strip_prefix(dir).expect("below").to_owned();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !bytes.is_empty() && !NOT_KEPT.contains(&&*name) {
            kinds.entry(kind(&path)).or_insert((path, bytes));
        }
    }
    kinds.into_values().collect()
}

fn write(path: &Path, bytes: &[u8]) {
    let mode = fs::metadata(path).expect("a file").permissions();
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    fs::write(path, bytes).expect("written");
    fs::set_permissions(path, mode).expect("a mode");
}

/// Does each harm to each kind of file of a server that has stopped, and starts it. Each trial begins with the
/// same copy of everything: what another trial has appended to a log is missed by whoever saw it.
fn harm_a_server(name: &str, pick: fn(&mut House) -> &mut Daemon) {
    let mut life = Life::led();
    life.house.broker.stop();
    life.house.key_server.stop();
    let parts = ["broker", "key-server", "node", "other"];
    let copies = tempfile::tempdir().expect("a directory");
    for part in parts {
        copy_dir(&life.house.path(part), &copies.path().join(part));
    }
    let dir = life.house.path(name);
    let files = kept(&dir);
    assert!(files.len() > 8, "what a server keeps: {files:?}");
    let mut noticed = 0;
    for (file, bytes) in &files {
        let mut became = Vec::new();
        for harm in HARMS {
            let what = format!("{} {harm:?}", file.display());
            write(&dir.join(file), &harm.to(bytes));
            let came = pick(&mut life.house).tries();
            match came {
                Err(said) => {
                    let code = said.code.unwrap_or_default();
                    assert!(!said.stderr.contains("panicked"), "{what}: {}", said.stderr);
                    assert!(NOTICED.contains(&code), "{what}: {code}: {}", said.stderr);
                    let errors = said
                        .stderr
                        .lines()
                        .filter(|line| line.starts_with("error:"));
                    assert_eq!(errors.count(), 1, "{what}: {}", said.stderr);
                    for part in ["  why:", "  next:"] {
                        assert!(said.stderr.contains(part), "{what}: {part} {}", said.stderr);
                    }
                    became.push(code.to_string());
                    noticed += 1;
                }
                Ok(()) => {
                    let other = match name {
                        "broker" => &mut life.house.key_server,
                        _ => &mut life.house.broker,
                    };
                    other.start();
                    let served = life.serves_the_truth(&what);
                    became.push(if served { "true" } else { "refuses" }.to_owned());
                    life.house.is_sound();
                    life.house.broker.stop();
                    life.house.key_server.stop();
                }
            }
            for part in parts {
                fs::remove_dir_all(life.house.path(part)).expect("removed");
                copy_dir(&copies.path().join(part), &life.house.path(part));
            }
        }
        println!("{}: {}", file.display(), became.join(", "));
    }
    assert!(noticed > files.len(), "{noticed} of {} files", files.len());
    life.house.broker.start();
    life.house.key_server.start();
    assert!(life.serves_the_truth("everything is as it was"));
}

#[test]
fn a_bit_that_flips_in_any_file_of_a_key_server_is_noticed_or_changes_nothing() {
    harm_a_server("key-server", |house| &mut house.key_server);
}

#[test]
fn a_bit_that_flips_in_any_file_of_a_broker_is_noticed_or_changes_nothing() {
    harm_a_server("broker", |house| &mut house.broker);
}

#[test]
fn a_bit_that_flips_in_any_file_of_a_node_is_noticed_or_changes_nothing() {
    let life = Life::led();
    let whole = life.house.path("whole");
    copy_dir(&life.home.dir, &whole);
    let files = kept(&life.home.dir);
    assert!(files.len() > 3, "what a node keeps: {files:?}");
    for (file, bytes) in &files {
        let mut became = Vec::new();
        for harm in HARMS {
            let what = format!("{} {harm:?}", file.display());
            write(&life.home.dir.join(file), &harm.to(bytes));
            let said = life.home.run(&[&REDEEM[..], &["wrap"]].concat());
            assert!(!said.stderr.contains("panicked"), "{what}: {}", said.stderr);
            match redeemed(&said) {
                Ok(dek) => {
                    assert_eq!(dek, life.dek, "{what}: another key");
                    became.push("true".to_owned());
                }
                Err(code) => {
                    assert!(said.stderr.contains("error:"), "{what}: {}", said.stderr);
                    became.push(code.map_or("killed".to_owned(), |code| code.to_string()));
                }
            }
            fs::remove_dir_all(&life.home.dir).expect("removed");
            copy_dir(&whole, &life.home.dir);
        }
        println!("{}: {}", file.display(), became.join(", "));
    }
    assert!(life.serves_the_truth("restored"));
}
