//! A node as its owner sees it: a metadata service, a home, and the `postern` command.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::foreign::S3_CREDENTIALS;
use crate::house::{House, Said, command, ended, program};
use crate::node::Iid;

/// A metadata service that replays a real document, ended with this value.
#[derive(Debug)]
pub struct Imds {
    child: Child,
    /// Its URL.
    pub url: String,
}

impl Imds {
    /// Starts it for one instance; `user_data` is a file's path.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(iid: &Iid, user_data: &std::path::Path) -> Self {
        let mut stub = Command::new(program("imds-stub"));
        stub.arg("--document").arg(iid.dir.join("document.json"));
        stub.arg("--rsa2048").arg(iid.dir.join("rsa2048.b64"));
        stub.arg("--user-data").arg(user_data);
        let mut child = stub.stdout(Stdio::piped()).spawn().expect("imds-stub");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening ");
        let url = url
            .unwrap_or_else(|| panic!("imds-stub says {line:?}"))
            .to_owned();
        Self { child, url }
    }
}

impl Drop for Imds {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node's home: its metadata service, state and wallet.
#[derive(Debug)]
pub struct Home {
    imds: Option<Imds>,
    /// Its directory: state in `state`, wallet in `run/wallet`.
    pub dir: PathBuf,
    /// URL of an S3 server.
    pub s3: Option<String>,
    /// Lines of user-data; kept for tests that look for the secret in them.
    pub user_data: String,
}

impl Home {
    /// The home of an instance with this user-data, within a house.
    ///
    /// # Panics
    /// When its directory or its metadata service cannot be made.
    #[must_use]
    pub fn new(house: &House, name: &str, iid: &Iid, user_data: &str) -> Self {
        let dir = house.path(name);
        std::fs::create_dir(&dir).expect("a directory");
        for part in ["state", "run"] {
            store::files::private_dir(&dir.join(part)).expect("a directory");
        }
        // The service reads it once, at its start: nothing of it stays in the house.
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), user_data).expect("written");
        let imds = Imds::start(iid, file.path());
        Self {
            imds: Some(imds),
            dir,
            s3: None,
            user_data: user_data.to_owned(),
        }
    }

    /// A home without a metadata service.
    #[must_use]
    pub fn without_imds(mut self) -> Self {
        self.imds = None;
        self
    }

    /// `postern` with these arguments, on this node.
    #[must_use]
    pub fn postern(&self, arguments: &[&str]) -> Command {
        let mut postern = command("postern");
        postern.args(arguments).current_dir(&self.dir);
        postern.env("HOME", &self.dir);
        postern.env("XDG_CONFIG_HOME", self.dir.join("config"));
        postern.env("POSTERN_STATE", self.dir.join("state"));
        let wallet = self.dir.join("run/wallet");
        postern.env("POSTERN_WALLET", format!("FILE:{}", wallet.display()));
        // A port that nobody answers on, where there is no service: never the real one.
        let url = self
            .imds
            .as_ref()
            .map_or("http://127.0.0.1:9", |imds| &imds.url);
        postern.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url);
        if let Some(url) = &self.s3 {
            postern
                .env("POSTERN_S3", url)
                .env("AWS_REGION", "us-east-1");
            postern.env("AWS_ACCESS_KEY_ID", S3_CREDENTIALS);
            postern.env("AWS_SECRET_ACCESS_KEY", S3_CREDENTIALS);
        }
        postern
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Said {
        ended(self.postern(arguments))
    }
}
