//! The command line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use store::root::{Holders, Means, Pkcs11Means, RootError, Tpm2Means};
use ticket_format::report::{Report, exit};
use ticket_format::share_key;
use ticket_format::statement::ShareHolder;

use crate::backup::command;
use crate::clock::Clock as _;
use crate::config::{Secrets, Setup, SetupError};
use crate::confine;
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
    /// Try whether a backup opens, wholly, and leave nothing behind
    VerifyRestore(Box<command::Verify>),
    /// Put a backup where the data directory is to be; overwrites nothing
    Restore(Box<command::Restore>),
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
    way: Way,
    #[command(flatten)]
    token: Token,
    /// Who gets a share of the root key, and the file of his public share key; may be repeated
    #[arg(long = "share", value_name = "NAME=FILE", required = true, value_parser = share)]
    shares: Vec<(String, PathBuf)>,
    /// So many shares open the root key
    #[arg(long)]
    threshold: u64,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Way {
    /// Make a credential that opens the root key, and write it here
    #[arg(long)]
    new_root_credential: Option<PathBuf>,
    /// Let the credential in this file open the root key
    #[arg(long)]
    root_credential: Option<PathBuf>,
    /// Let the passphrase in this file open the root key
    #[arg(long)]
    root_passphrase_file: Option<PathBuf>,
    /// Let a key in a PKCS#11 token open the root key: the token's library
    #[arg(long, requires_all = ["root_pkcs11_token", "root_pkcs11_key", "root_pkcs11_pin_file"])]
    root_pkcs11_module: Option<PathBuf>,
    /// Let a TPM 2.0 open the root key
    #[arg(long, requires = "root_tpm2_pcrs")]
    root_tpm2: bool,
}

#[derive(Debug, Args)]
struct Token {
    /// The token's label
    #[arg(long, requires = "root_pkcs11_module")]
    root_pkcs11_token: Option<String>,
    /// The label of the key in the token
    #[arg(long, requires = "root_pkcs11_module")]
    root_pkcs11_key: Option<String>,
    /// The file of the token's user PIN
    #[arg(long, requires = "root_pkcs11_module")]
    root_pkcs11_pin_file: Option<PathBuf>,
    /// How the TPM is reached, for example "device:/dev/tpmrm0"
    #[arg(long, requires = "root_tpm2")]
    root_tpm2_tcti: Option<String>,
    /// The PCRs that must be as they are now, for example "sha256:0,2,4,7"
    #[arg(long, requires = "root_tpm2")]
    root_tpm2_pcrs: Option<String>,
}

fn share(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err("expected NAME=FILE".to_owned()),
    }
}

/// The automatic way that was named; clap holds that it is one.
fn root(way: Way, token: Token) -> Option<Root> {
    if let Some(path) = way.new_root_credential {
        return Some(Root::New(path));
    }
    // As a configuration names them: from wherever the server is started.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let means = if let Some(path) = way.root_credential {
        Means::Credential(absolute(path))
    } else if let Some(path) = way.root_passphrase_file {
        Means::Passphrase(absolute(path))
    } else if let Some(module) = way.root_pkcs11_module {
        Means::Pkcs11(Pkcs11Means {
            module: absolute(module),
            token: token.root_pkcs11_token?,
            key: token.root_pkcs11_key?,
            pin_file: absolute(token.root_pkcs11_pin_file?),
        })
    } else {
        Means::Tpm2(Tpm2Means {
            tcti: token.root_tpm2_tcti,
            pcrs: token.root_tpm2_pcrs?,
        })
    };
    Some(Root::There(means))
}

/// Reads the holders' public share keys.
fn holders(shares: Vec<(String, PathBuf)>, threshold: u64) -> Result<Holders, Report> {
    let mut holders = Vec::with_capacity(shares.len());
    for (name, path) in shares {
        let wrong = |why: &dyn std::fmt::Display| {
            Report::new(exit::CONFIG, format!("{} is no share key", path.display()))
                .why(why)
                .next("let its holder make one: `postern-admin share-key new`")
        };
        let bytes = store::files::read_bounded(&path, share_key::FILE);
        let bytes = bytes.map_err(|error| wrong(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not text"))?;
        let key = share_key::read(&text).map_err(|error| wrong(&error))?;
        holders.push(ShareHolder { name, key });
    }
    Holders::new(threshold, holders)
        .map_err(|error| Report::new(exit::USAGE, "the root key cannot be shared so").why(error))
}

impl From<SetupError> for Report {
    fn from(error: SetupError) -> Self {
        use store::config::ConfigError;
        use store::files::FileError;
        // What happened to a file is the same news whoever read it.
        let error = match error {
            SetupError::Root(RootError::File(error)) => SetupError::File(error),
            error => error,
        };
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
            SetupError::Root(RootError::Exists(_)) => (
                exit::CONFLICT,
                "choose another directory, or remove what is there",
            ),
            SetupError::Root(_) => (
                exit::CONFIG,
                "mend the automatic way, or start the server and give shares: `postern-admin unseal`",
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
    /// Confines the server that is asked for to what its configuration names (MEM-2). Nothing else that
    /// the program does is confined.
    ///
    /// # Errors
    /// [`Report`]: the configuration does not hold.
    pub fn confine(&self) -> Result<(), Report> {
        if let Command::Run { config, ready_file } = &self.command {
            let setup = Setup::read(&config.config)?;
            confine::enter(&setup, ready_file.as_deref());
        }
        Ok(())
    }

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
            Command::VerifyRestore(args) => command::run_verify(*args).await,
            Command::Restore(args) => command::run_restore(*args).await,
            Command::WitnessKeys(config) => witness_keys(&config.config),
        }
    }
}

fn check(path: &Path) -> Result<Setup, Report> {
    let setup = Setup::read(path)?;
    secrets(&setup)?;
    setup.door()?;
    setup.admin_set(net::SystemClock.now())?;
    Ok(setup)
}

/// The server's keys, opened by the automatic way.
fn secrets(setup: &Setup) -> Result<Secrets, SetupError> {
    // A running server may be replacing its root key right now.
    let ways = setup.root_dir().look()?;
    setup.secrets(&ways, &ways.open_auto(&setup.means)?)
}

fn witness_keys(path: &Path) -> Result<(), Report> {
    let setup = Setup::read(path)?;
    let secrets = secrets(&setup)?;
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
        way,
        token,
        shares,
        threshold,
    } = wanted;
    let root = root(way, token);
    let wanted = Wanted {
        dir,
        realm,
        listen,
        addresses,
        metrics_listen,
        admin_set,
        broker_keys,
        root: root.ok_or_else(|| Report::new(exit::USAGE, "no way to the root key is named"))?,
        holders: holders(shares, threshold)?,
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

pub(crate) fn say(line: &str) {
    let mut stdout = anstream::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = writeln!(stdout, "{line}");
}
