//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ticket_format::report::{Report, exit};

use crate::clock::Clock as _;
use crate::config::{Setup, SetupError};
use crate::init::{self, Root, Wanted};
use crate::net;

/// Postern's key server: holds dataset KEKs and redeems tickets.
#[derive(Debug, Parser)]
#[command(name = "postern-key-server", version, about)]
pub struct Cli {
    /// How log lines look; they go to stderr.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        env = "POSTERN_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// Which log lines, for example "info" or "key_server=debug".
    #[arg(long, global = true, default_value = "info", env = "POSTERN_LOG")]
    pub log: String,
    #[command(subcommand)]
    command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or SIGINT
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Write the address here when the server listens
        #[arg(long)]
        ready_file: Option<PathBuf>,
    },
    /// Check the configuration and the files that it names
    CheckConfig(ConfigFile),
    /// Make keys and configuration; overwrites nothing
    Init(Box<Init>),
    /// Show how the running server is (needs metrics-listen)
    Status(ConfigFile),
    /// Check configuration, keys and the way to the broker
    Doctor(ConfigFile),
    /// Print the vkeys that this server cosigns with as a witness, one a line
    WitnessKeys(ConfigFile),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, env = "POSTERN_KEY_SERVER_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Init {
    /// Directory to make the files in
    #[arg(long)]
    dir: PathBuf,
    /// The realm, as the broker's
    #[arg(long)]
    realm: String,
    /// Where to listen (UDP)
    #[arg(long)]
    listen: SocketAddr,
    /// How nodes reach this server, host:port; may be repeated
    #[arg(long = "address", required = true)]
    addresses: Vec<String>,
    /// Where to serve /metrics and /healthz (loopback)
    #[arg(long)]
    metrics_listen: Option<SocketAddr>,
    /// The admin set, as its admins signed it
    #[arg(long)]
    admin_set: PathBuf,
    /// The broker's broker-keys.toml
    #[arg(long)]
    broker_keys: PathBuf,
    #[command(flatten)]
    root: RootArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RootArgs {
    /// Make a root key credential and write it here
    #[arg(long)]
    new_root_credential: Option<PathBuf>,
    /// Use the root key credential in this file
    #[arg(long)]
    root_credential: Option<PathBuf>,
    /// Use the passphrase in this file
    #[arg(long)]
    root_passphrase_file: Option<PathBuf>,
}

impl From<SetupError> for Report {
    fn from(error: SetupError) -> Self {
        use store::config::ConfigError;
        use store::files::FileError;
        let (code, next) = match &error {
            SetupError::File(FileError::Exists(_)) => (
                exit::CONFLICT,
                "choose another directory, or remove what is there",
            ),
            SetupError::File(FileError::Missing(_))
            | SetupError::Config(ConfigError::File(FileError::Missing(_))) => (
                exit::CONFIG,
                "check the path, or make the files with `postern-key-server init`",
            ),
            SetupError::File(FileError::NotPrivate(_)) => {
                (exit::CONFIG, "chmod 600 the file and ask who could read it")
            }
            SetupError::File(FileError::NotPrivateDirectory(_)) => (
                exit::CONFIG,
                "chmod 700 the directory and ask who could write to it",
            ),
            SetupError::Sealed { .. } => (
                exit::CONFIG,
                "use the root key that the files were sealed with",
            ),
            SetupError::Config(_) | SetupError::File(_) | SetupError::Wrong { .. } => {
                (exit::CONFIG, "mend the file")
            }
        };
        Report::new(code, "the configuration does not hold")
            .why(error)
            .next(next)
    }
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// [`Report`], for the person who asked.
    pub async fn run(self) -> Result<(), Report> {
        match self.command {
            Command::Run { config, ready_file } => {
                net::run(Setup::read(&config.config)?, ready_file.as_deref()).await
            }
            Command::CheckConfig(config) => {
                check(&config.config)?;
                say(&format!("{} holds", config.config.display()));
                Ok(())
            }
            Command::Init(init) => make(*init),
            Command::Status(config) => status(&config.config).await,
            Command::Doctor(config) => doctor(&config.config).await,
            Command::WitnessKeys(config) => witness_keys(&config.config),
        }
    }
}

fn check(path: &Path) -> Result<Setup, Report> {
    let setup = Setup::read(path)?;
    setup.secrets(&setup.root_key()?)?;
    setup.admin_set(net::SystemClock.now())?;
    Ok(setup)
}

fn witness_keys(path: &Path) -> Result<(), Report> {
    let setup = Setup::read(path)?;
    let secrets = setup.secrets(&setup.root_key()?)?;
    for key in secrets.witness.vkeys() {
        say(&key.to_string());
    }
    Ok(())
}

fn make(wanted: Init) -> Result<(), Report> {
    let Init {
        dir,
        realm,
        listen,
        addresses,
        metrics_listen,
        admin_set,
        broker_keys,
        root,
    } = wanted;
    let root = match root {
        RootArgs {
            new_root_credential: Some(path),
            ..
        } => Root::New(path),
        RootArgs {
            root_credential: Some(path),
            ..
        } => Root::Credential(path),
        RootArgs {
            root_passphrase_file: Some(path),
            ..
        } => Root::Passphrase(path),
        _ => return Err(Report::new(exit::USAGE, "no root key is named")),
    };
    let wanted = Wanted {
        dir,
        realm,
        listen,
        addresses,
        metrics_listen,
        admin_set,
        broker_keys,
        root,
    };
    let made = init::init(&wanted, net::SystemClock.now())?;
    // What was made must hold.
    check(&made.config)?;
    say(&format!("configuration  {}", made.config.display()));
    say(&format!("public keys    {}", made.server_keys.display()));
    Ok(())
}

async fn status(path: &Path) -> Result<(), Report> {
    let setup = Setup::read(path)?;
    let Some(address) = setup.config.metrics_listen else {
        let report = Report::new(exit::CONFIG, "the server cannot be asked")
            .why("metrics-listen is not configured");
        return Err(report.next("configure it, or ask with `postern-admin`"));
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), health(address)).await;
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let down = |error: std::io::Error| {
        Report::new(exit::RETRY, "the key server does not answer")
            .why(error)
            .next("start it")
    };
    say(&answer.map_err(down)?);
    Ok(())
}

/// One HTTP request to our own loopback endpoint.
async fn health(address: SocketAddr) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).await?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.trim().to_owned());
    body.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

async fn doctor(path: &Path) -> Result<(), Report> {
    let setup = check(path)?;
    say("ok    configuration and keys");
    let mut reached = false;
    for name in &setup.broker.addresses {
        match reach(name, &setup).await {
            Ok(()) => {
                reached = true;
                say(&format!("ok    broker at {name}"));
            }
            Err(why) => say(&format!("fail  broker at {name}: {why}")),
        }
    }
    if reached {
        return Ok(());
    }
    let report = Report::new(exit::RETRY, "the broker cannot be reached");
    Err(report.next("without it the key server releases nothing once its lease is over"))
}

async fn reach(name: &str, setup: &Setup) -> Result<(), String> {
    let mut found = tokio::net::lookup_host(name)
        .await
        .map_err(|error| error.to_string())?;
    let address = found.next().ok_or("the name does not resolve")?;
    let pin = setup.broker.tls_key.to_bytes();
    let limits = transport::ClientLimits::default();
    let connected =
        transport::Connection::connect(address, pin, limits, Duration::from_secs(2)).await;
    connected
        .map(|connection| connection.close())
        .map_err(|error| error.to_string())
}

fn say(line: &str) {
    let mut stdout = anstream::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = writeln!(stdout, "{line}");
}
