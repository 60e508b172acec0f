//! A PKCS#11 token: SoftHSM (Debian package softhsm2), with its tokens in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::private;

const HOW: &str = "SoftHSM is missing; install it with: apt-get install softhsm2";
const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
/// The user PIN: a canary that must turn up nowhere.
pub const PIN: &str = "canary-pin-70412";
/// What its token is called.
pub const LABEL: &str = "postern";

/// A token and all its files.
#[derive(Debug)]
pub struct Token {
    dir: tempfile::TempDir,
}

impl Token {
    /// A new one.
    ///
    /// # Panics
    /// When SoftHSM is missing or makes none.
    #[must_use]
    pub fn new() -> Self {
        let token = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        fs::create_dir(token.tokens()).expect("a directory");
        private(&token.pin_file(), format!("{PIN}\n").as_bytes());
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            token.tokens().display()
        );
        fs::write(token.conf(), text).expect("written");
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", LABEL])
            .args(["--so-pin", "12345678", "--pin", PIN])
            .env("SOFTHSM2_CONF", token.conf())
            .output()
            .expect(HOW);
        assert!(made.status.success(), "{made:?}");
        token
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("softhsm2.conf")
    }

    /// Where what it keeps stands.
    #[must_use]
    pub fn tokens(&self) -> PathBuf {
        self.dir.path().join("tokens")
    }

    /// The file of the PIN.
    #[must_use]
    pub fn pin_file(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    /// The library.
    ///
    /// # Panics
    /// When it is missing.
    #[must_use]
    pub fn module(&self) -> &'static Path {
        let found = MODULES.iter().map(Path::new).find(|path| path.exists());
        found.expect(HOW)
    }

    /// The variable by which the library finds the token.
    ///
    /// # Panics
    /// When the path is no text.
    #[must_use]
    pub fn variable(&self) -> (String, String) {
        let conf = self.conf().into_os_string().into_string().expect("text");
        ("SOFTHSM2_CONF".to_owned(), conf)
    }

    /// What `init` of a broker is told.
    #[must_use]
    pub fn arguments(&self, key: &str) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        [
            ("module", text(self.module())),
            ("token", LABEL.to_owned()),
            ("key", key.to_owned()),
            ("pin-file", text(&self.pin_file())),
        ]
        .into_iter()
        .flat_map(|(name, value)| [format!("--ticket-pkcs11-{name}"), value])
        .collect()
    }

    /// What a broker's configuration says.
    #[must_use]
    pub fn section(&self, key: &str) -> String {
        format!(
            "\n[ticket-key.pkcs11]\nmodule = {:?}\ntoken = {LABEL:?}\nkey = {key:?}\npin-file = {:?}\n",
            self.module().display().to_string(),
            self.pin_file().display().to_string()
        )
    }

    /// What the library reads and writes, for a configuration.
    #[must_use]
    pub fn sandbox(&self) -> String {
        format!(
            "\n[sandbox]\nread = [{:?}]\nwrite = [{:?}]\n",
            self.conf().display().to_string(),
            self.tokens().display().to_string()
        )
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}
