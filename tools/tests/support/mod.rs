//! Running `postern-admin` as a person does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

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
            "--out",
            "admin",
            "--passphrase-file",
            "passphrase",
        ]);
        assert_eq!(made.code, 0, "{}", made.err);
        made.out.trim().to_owned()
    }
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
