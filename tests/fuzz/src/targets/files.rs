//! Files that an operator writes and that programs keep: configurations, and what is sealed.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use client::cli::settings::{Flags, Settings};
use client::wallet::WalletFile;
use store::sealed::RootKey;
use tempfile::TempDir;
use ticket_format::backup::Beginning;

use super::{DECIDES, Target};
use crate::mutate::Form;
use crate::rng::Chance;
use crate::vectors;
use crate::world::world;

/// Configuration files of the broker, the key server and the client.
pub const CONFIG: Target = Target {
    name: "config",
    form: Form::Text,
    runs: 6_000,
    room: (2 * 1024 * 1024, 2_048),
    seeds: configurations,
    run: config,
};

fn configurations() -> Vec<Vec<u8>> {
    let keys = &world().keys;
    let vkeys = |log: &ticket_format::tlog::LogSecret| {
        let [ed25519, ml_dsa] = log.key().vkeys();
        format!("[\"{ed25519}\", \"{ml_dsa}\"]")
    };
    let (broker, server) = (vkeys(&keys.broker_log), vkeys(&keys.server_log));
    let policy = vectors::text("log/cosignatures", "policy");
    let texts = [
        "realm = \"example\"\nlisten = \"127.0.0.1:0\"\ndata-dir = \"data\"\nadmin-set = \"admin-set\"\n\
         metrics-listen = \"127.0.0.1:0\"\nready-file = \"ready\"\n\n[root-key]\ncredential = \"root\"\n\n\
         [hooks]\nalarm = [\"/bin/true\"]\n\n[limits]\nlogins-per-second = 10\nbudget-window-hours = 1\n"
            .to_owned(),
        format!(
            "realm = \"example\"\nlisten = \"127.0.0.1:0\"\ndata-dir = \"data\"\nadmin-set = \"admin-set\"\n\n\
             [root-key]\npassphrase-file = \"pass\"\n\n[log]\nshard-mib = 64\nkeep-days = 30\n\
             [[log.witnesses]]\nurl = \"http://127.0.0.1:1/\"\n\n\
             [witness]\nlisten = \"127.0.0.1:0\"\n[[witness.logs]]\nvkeys = {server}\n"
        ),
        format!(
            "realm = \"example\"\nlisten = \"127.0.0.1:0\"\naddresses = [\"ks.example:7879\"]\ndata-dir = \"data\"\n\
             admin-set = \"admin-set\"\n\n[root-key]\ncredential = \"root\"\n\n[broker]\naddresses = [\"broker.example:7878\"]\n\
             tls-key = \"{}\"\nticket-key = \"{}\"\nfeed-key = \"{}\"\nlog-keys = {broker}\n",
            keys.broker_tls.public(),
            keys.ticket.public(),
            keys.feed.public(),
        ),
        "state = \"/var/lib/postern\"\nwallet = \"FILE:/tmp/wallet\"\nformat = \"json\"\ntimeout = 30\nparallel = \"4\"\ncolor = \"never\"\n".to_owned(),
        format!("policy = \"\"\"\n{policy}\"\"\"\n"),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// A directory with what the configurations name.
fn place() -> TempDir {
    let directory = super::scratch();
    let put = |name: &str, bytes: &[u8]| {
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(directory.path().join(name));
        std::io::Write::write_all(&mut file.expect("a file"), bytes).expect("a file");
    };
    put(
        "admin-set",
        &vectors::bytes("statement/admin-set-first", "statement"),
    );
    put("root", &[7; 32]);
    directory
}

thread_local! {
    static PLACE: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// Gives the bytes as a private file of this name.
fn as_file<T>(name: &str, data: &[u8], work: impl FnOnce(&Path) -> T) -> T {
    PLACE.with_borrow_mut(|kept| {
        let path = kept.get_or_insert_with(place).path().join(name);
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        std::io::Write::write_all(&mut file.expect("a file"), data).expect("a file");
        work(&path)
    })
}

/// One clear line says what was wrong.
fn told(error: &dyn std::fmt::Display) {
    let told = error.to_string();
    assert!(
        !told.is_empty() && told.len() <= 4_096 && !told.contains(['\n', '\0', '\u{1b}']),
        "not one clear line: {told:?}"
    );
}

fn config(data: &[u8]) {
    as_file("config.toml", data, |path| {
        match broker::config::Config::read(path) {
            Ok(checked) => assert!(!checked.config.realm.is_empty()),
            Err(fault) => told(&fault),
        }
        match key_server::config::Setup::read(path) {
            Ok(setup) => assert!(setup.config.addresses.len() <= 8),
            Err(error) => told(&error),
        }
        let nothing = |_: &str| None;
        if let Err(report) = Settings::read(Flags::default(), &nothing, path, false) {
            assert!(report.to_string().len() <= 8_192);
        }
    });
}

/// What stands sealed on a disk: secrets, wallets, the beginning of a backup.
pub const SEALED: Target = Target {
    name: "sealed",
    form: Form::Bytes,
    runs: 2_500,
    room: DECIDES,
    seeds: || {
        let root = RootKey::from_bytes([7; 32]);
        let mut seeds = vec![root.seal(PATH, b"a secret", &mut Chance::new(9))];
        seeds.extend(vectors::all_bytes(|file, _, _| file.contains("backup")));
        seeds.extend(vectors::all_bytes(|file, member, _| {
            file.contains("issue") && member.starts_with("answer")
        }));
        seeds
    },
    run: sealed,
};

const PATH: &str = "somewhere";

fn sealed(data: &[u8]) {
    let root = RootKey::from_bytes([7; 32]);
    if let Ok(opened) = root.open(PATH, data) {
        // rule: REST-1
        assert_eq!(opened.as_slice(), b"a secret", "a sealed value was forged");
        assert_eq!(data, root.seal(PATH, b"a secret", &mut Chance::new(9)));
    }
    assert!(
        root.open("elsewhere", data).is_err(),
        "what is sealed for one place opens at another"
    );
    if let Ok(beginning) = Beginning::read(&mut &data[..]) {
        assert!(
            data.starts_with(&beginning.to_bytes()),
            "a backup's beginning has two encodings"
        );
    }
    // A wallet of whatever was written by who has the key.
    let key = [8; 32];
    let wallet = RootKey::from_bytes(key).seal("wallet", data, &mut Chance::new(10));
    for bytes in [&wallet, data] {
        as_file("wallet", bytes, |path| {
            let file = WalletFile::from_spec(&format!("FILE:{}", path.display()))
                .expect("a wallet's name");
            if let Err(error) = file.load(&key) {
                told(&error);
            }
        });
    }
}
