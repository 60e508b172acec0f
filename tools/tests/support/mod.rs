//! Running `postern-admin` as a person does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use ticket_format::keys::AdminSecret;
use ticket_format::statement::{AdminSet, ReceivedStatement};
use ticket_format::time::Timestamp;

pub(crate) const PASSPHRASE: &str = "correct horse battery";

/// A place for one test's files.
pub(crate) struct Place(tempfile::TempDir);

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[allow(dead_code)] // not every test program asks
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {:?}, stderr {:?}", self.out, self.err))
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file with mode 0600.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// `postern-admin` here, with nothing of the machine's configuration.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern-admin"));
        command
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(self.command().args(arguments).write_stdin(""))
    }

    /// An admin's key and configuration under `admin/`; its public key.
    #[allow(dead_code)] // not every test program has one
    pub(crate) fn init(&self) -> String {
        self.write("passphrase", format!("{PASSPHRASE}\n"));
        let made = self.run(&[
            "init",
            "--realm",
            "example",
            "--name",
            "me",
            "--out",
            "admin",
            "--passphrase-file",
            "passphrase",
        ]);
        assert_eq!(made.code, 0, "{}", made.err);
        made.out.trim().to_owned()
    }

    /// The admin under `admin/` in a set with others, whose keys are here: `ops` (operator), `second` and
    /// `third` (dataset-owner, security). The set's file is where the configuration looks for it.
    #[allow(dead_code)] // not every test program has one
    pub(crate) fn realm(&self, roles: &str) -> AdminSet {
        let own = self.init();
        let mut arguments = vec![
            "admin-set".to_owned(),
            "draft".to_owned(),
            "--config=admin/admin.toml".to_owned(),
            "--passphrase-file=passphrase".to_owned(),
            "--quorum=2".to_owned(),
            "--out=draft".to_owned(),
            format!("--admin={own}={roles}"),
        ];
        for (name, roles) in OTHERS {
            let key = secret(name).public();
            arguments.push(format!(
                "--admin=postern-admin-card/1:{name}:file:{key}={roles}"
            ));
        }
        let drafted = self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(drafted.code, 0, "{}", drafted.err);
        let mut statement = fs::read(self.path("draft")).unwrap();
        for (name, _) in OTHERS {
            let received = ReceivedStatement::parse(&statement).unwrap();
            statement = received.add_by(&secret(name)).unwrap();
        }
        self.write("admin/admin-set.cose", &statement);
        AdminSet::first(&statement, "example", now()).unwrap()
    }
}

const OTHERS: [(&str, &str); 3] = [
    ("ops", "operator"),
    ("second", "dataset-owner,security"),
    ("third", "dataset-owner,security"),
];

/// The key of another admin than the one under `admin/`.
#[allow(dead_code)] // not every test program signs
pub(crate) fn secret(name: &str) -> AdminSecret {
    AdminSecret::from_seed(&[name.as_bytes()[0]; 32])
}

#[allow(dead_code)] // not every test program asks
pub(crate) fn now() -> Timestamp {
    Timestamp::from_seconds(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A file of the repository.
#[allow(dead_code)] // not every test program reads one
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
