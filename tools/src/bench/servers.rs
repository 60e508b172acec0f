//! Broker and key server as processes of their own, made by their own `init` and run as an operator
//! would: default limits, default logs, data in a temporary directory, any free port of loopback.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::link::Server;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use ticket_format::keys::{FeedKey, TicketKey, TlsKey};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::share_key;
use ticket_format::tlog::LogKey;

use crate::documents;

/// The realm of every bench.
pub(crate) const REALM: &str = "bench";
/// For how long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Broker and key server, running. They are stopped, and their data removed, when this is dropped.
pub(crate) struct Servers {
    /// The broker.
    pub(crate) broker: Server,
    /// Its ticket-signing key.
    pub(crate) ticket_key: TicketKey,
    /// Its feed-signing key.
    pub(crate) feed_key: FeedKey,
    /// The keys of its log.
    pub(crate) broker_log: LogKey,
    /// The key server.
    pub(crate) key_server: Server,
    // Stopped in this order, before the directory goes.
    key_process: Process,
    broker_process: Process,
    binaries: PathBuf,
    admin_set: PathBuf,
    broker_keys: PathBuf,
    dir: tempfile::TempDir,
}

/// One more key server, which can be stopped and started. It is stopped when this is dropped.
pub(crate) struct KeyServer {
    program: Program,
    process: Option<Process>,
}

/// What a server's file of public keys says, as far as it is needed here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PublicKeys {
    tls_key: String,
    ticket_key: Option<String>,
    feed_key: Option<String>,
    #[serde(default)]
    log_keys: Vec<String>,
}

impl Servers {
    /// Makes and starts both, with this admin set.
    pub(crate) async fn start(binaries: &Path, admin_set: &[u8]) -> Result<Self, Report> {
        let dir = tempfile::Builder::new().prefix("postern-bench.").tempdir();
        let dir =
            dir.map_err(|error| Report::new(exit::LOCAL, "no temporary directory").why(error))?;
        let regions = dir.path().join("regions");
        let pem = regions.join(format!("{}.pem", documents::REGION));
        fs::create_dir(&regions)
            .and_then(|()| fs::write(&pem, documents::certificate()))
            .map_err(|error| Report::new(exit::LOCAL, "cannot write a certificate").why(error))?;
        let set = dir.path().join("admin-set.cose");
        fs::write(&set, admin_set)
            .map_err(|error| Report::new(exit::LOCAL, "cannot write the admin set").why(error))?;
        let program = Program::new(binaries, "postern-broker", dir.path().join("broker"), &set)?;
        program.init(&[])?;
        put(
            &program.dir.join("broker.toml"),
            "region-keys-dir",
            text(&regions),
        )?;
        let (broker_process, address) = program.run("broker.toml").await?;
        let keys_file = program.dir.join("broker-keys.toml");
        let keys = public_keys(&keys_file)?;
        let ticket_key = parsed(keys.ticket_key.as_deref().unwrap_or_default(), &keys_file)?;
        let feed_key = parsed(keys.feed_key.as_deref().unwrap_or_default(), &keys_file)?;
        let broker_log = log_key(&keys, &keys_file)?;
        let broker = server("broker", &keys, &keys_file, address)?;
        // The port that the system chose.
        put(&keys_file, "addresses", vec![address.to_string()])?;
        let program = Program::new(
            binaries,
            "postern-key-server",
            dir.path().join("key-server"),
            &set,
        )?;
        program.init_key_server(&keys_file)?;
        let (key_process, address) = program.run("key-server.toml").await?;
        let key_server = program.key_server(address)?;
        Ok(Self {
            broker,
            ticket_key,
            feed_key,
            broker_log,
            key_server,
            key_process,
            broker_process,
            binaries: binaries.to_owned(),
            admin_set: set,
            broker_keys: keys_file,
            dir,
        })
    }

    /// Makes one more key server of this name, not yet running, that follows the broker or nobody.
    pub(crate) fn another(&self, name: &str, follows: bool) -> Result<KeyServer, Report> {
        let dir = self.dir.path().join(name);
        let program = Program::new(&self.binaries, "postern-key-server", dir, &self.admin_set)?;
        let keys = if follows {
            self.broker_keys.clone()
        } else {
            let keys = self.dir.path().join(format!("{name}-broker-keys.toml"));
            fs::copy(&self.broker_keys, &keys)
                .map_err(|error| Report::new(exit::LOCAL, "cannot copy a file").why(error))?;
            // The discard port: nothing answers there.
            put(&keys, "addresses", vec!["127.0.0.1:9".to_owned()])?;
            keys
        };
        program.init_key_server(&keys)?;
        Ok(KeyServer {
            program,
            process: None,
        })
    }

    /// The processes of the broker and of the key server.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [&self.broker_process, &self.key_process].map(|process| process.0.id())
    }

    /// The directory of this run, on the disk that the servers write to.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl KeyServer {
    /// Lets so many connections stand at a time, when it is started next.
    pub(crate) fn allow_connections(&self, connections: usize) -> Result<(), Report> {
        let mut limits = toml::Table::new();
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        limits.insert("connections".to_owned(), connections.into());
        put(&self.program.dir.join("key-server.toml"), "limits", limits)
    }

    /// Starts it; gives how long it took until it served, and where.
    pub(crate) async fn start(&mut self) -> Result<(Duration, Server), Report> {
        self.stop();
        let started = Instant::now();
        let (process, address) = self.program.run("key-server.toml").await?;
        let took = started.elapsed();
        self.process = Some(process);
        Ok((took, self.program.key_server(address)?))
    }

    /// Stops it.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Its store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.program.dir.join("data/store.redb")
    }

    /// Bytes of memory that its process holds, as the kernel counts them; none when it does not run.
    pub(crate) fn memory(&self) -> Option<u64> {
        let process = self.process.as_ref()?;
        let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1_024)
    }
}

/// One server's program and directory.
struct Program {
    path: PathBuf,
    dir: PathBuf,
    admin_set: PathBuf,
}

impl Program {
    fn new(binaries: &Path, name: &str, dir: PathBuf, admin_set: &Path) -> Result<Self, Report> {
        let path = binaries.join(name);
        if !path.is_file() {
            let report = Report::new(exit::NOT_FOUND, format!("{} is not there", path.display()));
            return Err(report
                .next("run tools/bench, which builds it, or name its directory with --binaries"));
        }
        Ok(Self {
            path,
            dir,
            admin_set: admin_set.to_owned(),
        })
    }

    /// A key server, as others know it.
    fn key_server(&self, address: SocketAddr) -> Result<Server, Report> {
        let keys_file = self.dir.join("server-keys.toml");
        server("key server", &public_keys(&keys_file)?, &keys_file, address)
    }

    /// Makes a key server. Nobody holds the other way to its root key: it lives for this run only.
    fn init_key_server(&self, broker_keys: &Path) -> Result<(), Report> {
        let file = self.dir.with_extension("share-key.pub");
        let secret = SealingSecret::generate(Kem::XWing, &mut UnwrapErr(SysRng));
        fs::write(&file, share_key::write(&secret.public()))
            .map_err(|error| self.failed("needs a share key", error))?;
        let share = format!("nobody={}", file.display());
        let broker_keys = text(broker_keys);
        self.init(&[
            "--broker-keys",
            &broker_keys,
            "--threshold",
            "1",
            "--share",
            &share,
        ])
    }

    fn init(&self, more: &[&str]) -> Result<(), Report> {
        let mut command = Command::new(&self.path);
        let root = self.dir.with_extension("root");
        command.arg("init").arg("--dir").arg(&self.dir);
        command.args([
            "--realm",
            REALM,
            "--listen",
            "127.0.0.1:0",
            "--address",
            "127.0.0.1:0",
        ]);
        command.arg("--admin-set").arg(&self.admin_set);
        command.arg("--new-root-credential").arg(root).args(more);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| self.failed("cannot be run", error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.failed(
            "init failed",
            String::from_utf8_lossy(&output.stderr).trim(),
        ))
    }

    /// Runs the server and waits until it listens.
    async fn run(&self, config: &str) -> Result<(Process, SocketAddr), Report> {
        let (ready, log) = (self.dir.join("ready"), self.dir.join("log"));
        // Of a run before this one.
        let _ = fs::remove_file(&ready);
        let file =
            File::create(&log).map_err(|error| self.failed("cannot write its log", error))?;
        let mut command = Command::new(&self.path);
        command
            .arg("run")
            .arg("--config")
            .arg(self.dir.join(config));
        command.arg("--ready-file").arg(&ready);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let child = command
            .spawn()
            .map_err(|error| self.failed("cannot be run", error))?;
        let mut process = Process(child);
        let started = Instant::now();
        loop {
            if let Ok(address) = fs::read_to_string(&ready) {
                let address = address.trim().parse();
                return Ok((
                    process,
                    address.map_err(|error| self.failed("wrote a strange ready file", error))?,
                ));
            }
            let ended = process.0.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > PATIENCE {
                return Err(self.failed("did not start", last_lines(&log)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn failed(&self, what: &str, why: impl std::fmt::Display) -> Report {
        Report::new(exit::LOCAL, format!("{} {what}", self.path.display())).why(why)
    }
}

/// A server's process; it is asked to stop when this is dropped, and made to if it does not.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Fails only when the process has ended, which is what is wanted.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let asked = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) {
            if asked.elapsed() > PATIENCE {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The end of a log, for the person who has to find out.
fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

fn public_keys(path: &Path) -> Result<PublicKeys, Report> {
    let read = store::config::read(path);
    read.map_err(|error| {
        Report::new(exit::LOCAL, "a server's public keys cannot be read").why(error)
    })
}

fn parsed<K: std::str::FromStr>(key: &str, path: &Path) -> Result<K, Report> {
    let wrong = || {
        Report::new(
            exit::LOCAL,
            format!("{} has a key that is none", path.display()),
        )
    };
    key.parse().map_err(|_| wrong())
}

fn log_key(keys: &PublicKeys, path: &Path) -> Result<LogKey, Report> {
    let wrong = |why: &dyn std::fmt::Display| {
        let what = format!("{} has no keys of a log", path.display());
        Report::new(exit::LOCAL, what).why(why)
    };
    match keys.log_keys.as_slice() {
        [ed25519, ml_dsa] => LogKey::from_vkeys(ed25519, ml_dsa).map_err(|error| wrong(&error)),
        _ => Err(wrong(&"log-keys are two")),
    }
}

fn server(
    word: &'static str,
    keys: &PublicKeys,
    path: &Path,
    address: SocketAddr,
) -> Result<Server, Report> {
    let tls_key: TlsKey = parsed(&keys.tls_key, path)?;
    Ok(Server {
        word,
        realm: REALM.to_owned(),
        addresses: vec![address.to_string()],
        tls_key,
    })
}

/// Sets one top-level value of a server's TOML file.
pub(crate) fn put(path: &Path, name: &str, value: impl Into<toml::Value>) -> Result<(), Report> {
    let failed = |error: &dyn std::fmt::Display| {
        Report::new(exit::LOCAL, format!("cannot rewrite {}", path.display())).why(error)
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let mut table: toml::Table = text.parse().map_err(|error| failed(&error))?;
    table.insert(name.to_owned(), value.into());
    fs::write(path, table.to_string()).map_err(|error| failed(&error))
}
