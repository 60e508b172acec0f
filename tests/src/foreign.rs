//! Other people's programs: `tests/foreign`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::house::{Said, ended};

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/foreign")).join(name)
}

/// A foreign S3 server without buckets, ended with this value. Credentials: `S3RVER` twice.
#[derive(Debug)]
pub struct S3 {
    child: Child,
    /// Its URL.
    pub url: String,
    /// A directory that goes with it.
    pub dir: tempfile::TempDir,
}

/// Access key and secret that both kinds of server take.
pub const S3_CREDENTIALS: &str = "S3RVER";

impl S3 {
    /// Starts `moto` or `s3rver`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(kind: &str) -> Self {
        let script = script("s3-server");
        let dir = tempfile::tempdir().expect("a directory");
        let port_file = dir.path().join("url");
        let mut child = Command::new(&script)
            .arg(kind)
            .arg(&port_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run tools/test", script.display()));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match std::fs::read_to_string(&port_file) {
                Ok(url) if !url.trim().is_empty() => {
                    let url = url.trim().to_owned();
                    return Self { child, url, dir };
                }
                _ => {}
            }
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("{kind} ended with {status}: run tools/test, or tests/foreign/setup");
            }
            assert!(
                Instant::now() < deadline,
                "{kind} did not come up within a minute"
            );
            // The server is another process: its file is all there is to wait for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script of `tests/foreign` in its environment.
#[must_use]
pub fn run(arguments: &[&str]) -> Said {
    let mut command = Command::new(script("run"));
    command.args(arguments).stdin(Stdio::null());
    ended(command)
}
