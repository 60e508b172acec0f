//! The command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use audit_log::{AuditLog, Folder, SideFile, SideOptions};
use clap::{Args, Parser, Subcommand, ValueEnum};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::pkcs11::SigningToken;
use store::root::Pkcs11Means;
use store::{RedbStore, Store, files};
use ticket_format::report::{Report, exit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use transport::{Server, ServerLimits, StrangerLimits};

use super::alarms::Hooks;
use super::clock::{Clock, SystemClock};
use super::config::{Checked, Config};
use super::init::{Plan, init};
use super::secrets::{RootKeyConfig, Secrets};
use super::service::Broker;
use super::start::{Files, StartError};
use super::witnessing::{self, Kinds};
use super::{confine, http, net};
use crate::administer::datasets::registered;
use crate::admins::Admins;
use crate::realm::Realm;

/// The broker of a Postern realm: logs nodes in, renews and issues tickets, keeps denials.
#[derive(Debug, Parser)]
#[command(name = "postern-broker", version, about, max_term_width = 100)]
pub struct Cli {
    /// How to log to stderr.
    #[arg(
        long,
        value_enum,
        default_value = "text",
        global = true,
        env = "POSTERN_LOG_FORMAT"
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        at: At,
        /// Write the bound address to this file once the broker serves.
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Say whether a configuration holds and its keys open; start nothing.
    CheckConfig(At),
    /// Make a broker's keys and configuration in a new directory.
    Init(Box<Init>),
    /// Say whether a broker runs on this configuration, and how its files are.
    #[command(visible_alias = "doctor")]
    Status(At),
    /// Print the two keys by which this broker cosigns the logs that it witnesses.
    WitnessKeys(At),
}

#[derive(Debug, Args)]
struct At {
    /// The configuration: broker.toml.
    #[arg(long, value_name = "FILE", env = "POSTERN_BROKER_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Init {
    /// Where everything goes.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The realm's name.
    #[arg(long)]
    realm: String,
    /// Where to listen (UDP).
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:7878")]
    listen: SocketAddr,
    /// An address that others reach it at, host:port. Repeatable; by default the one it listens on.
    #[arg(long = "address", value_name = "HOST:PORT")]
    addresses: Vec<String>,
    /// The admin set, as all its admins signed it (`postern-admin init` makes one).
    #[arg(long, value_name = "FILE")]
    admin_set: PathBuf,
    /// Where to serve /metrics and /healthz (loopback).
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    root: RootSource,
    #[command(flatten)]
    token: TicketToken,
}

#[derive(Debug, Args)]
struct TicketToken {
    /// Let the keys that sign tickets be made in a PKCS#11 token: the token's library.
    #[arg(long, value_name = "FILE", requires_all = ["ticket_pkcs11_token", "ticket_pkcs11_key", "ticket_pkcs11_pin_file"])]
    ticket_pkcs11_module: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", requires = "ticket_pkcs11_module")]
    ticket_pkcs11_token: Option<String>,
    /// The label of the keys in the token.
    #[arg(long, value_name = "LABEL", requires = "ticket_pkcs11_module")]
    ticket_pkcs11_key: Option<String>,
    /// The file of the token's user PIN.
    #[arg(long, value_name = "FILE", requires = "ticket_pkcs11_module")]
    ticket_pkcs11_pin_file: Option<PathBuf>,
}

impl TicketToken {
    /// All four or none; clap holds that it is so.
    fn means(self) -> Option<Pkcs11Means> {
        // As the configuration names them: from wherever the broker is started.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Some(Pkcs11Means {
            module: absolute(self.ticket_pkcs11_module?),
            token: self.ticket_pkcs11_token?,
            key: self.ticket_pkcs11_key?,
            pin_file: absolute(self.ticket_pkcs11_pin_file?),
        })
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RootSource {
    /// The root key: a file of 32 bytes or 64 hexadecimal digits, mode 0600.
    #[arg(long, value_name = "FILE")]
    root_credential: Option<PathBuf>,
    /// A passphrase from which the root key is derived, mode 0600.
    #[arg(long, value_name = "FILE")]
    root_passphrase_file: Option<PathBuf>,
    /// Make a fresh root key in this file and use it.
    #[arg(long, value_name = "FILE")]
    new_root_credential: Option<PathBuf>,
}

/// Runs the command line; the exit code is of the closed list.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging(cli.log_format);
    match run(cli.command) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(report) => {
            // Nobody is left to be told when stderr is gone.
            let _ = writeln!(anstream::stderr(), "{report}");
            ExitCode::from(report.exit)
        }
    }
}

fn logging(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("POSTERN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written, as on a full disk, must not end what is being served: the
        // complaint about it would go to the same place, and panic there.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

fn say(line: &str) {
    // A closed pipe is no reason to stop serving.
    let mut out = anstream::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What a person does whose broker does not start.
const MEND: &str = "mend what is named, or put back an undamaged copy of it";

fn failed(code: u8, what: &str) -> impl Fn(&dyn std::fmt::Display) -> Report + '_ {
    move |why| Report::new(code, what).why(why)
}

fn cannot_start(code: u8) -> impl Fn(&dyn std::fmt::Display) -> Report {
    move |why| {
        Report::new(code, "the broker cannot start")
            .why(why)
            .next(MEND)
    }
}

fn run(command: Command) -> Result<(), Report> {
    match command {
        Command::Init(init) => make(*init),
        Command::CheckConfig(at) => {
            let (checked, secrets) = open_config(&at.config)?;
            if let Some(token) = &checked.config.ticket_key.pkcs11 {
                let keys = SigningToken::open(token).and_then(|token| token.keys());
                let bad = failed(exit::CONFIG, "the configuration cannot be used");
                keys.map_err(|error| bad(&error).next("check [ticket-key.pkcs11]"))?;
            }
            say(&format!(
                "ok: realm {}, tls-key {}, log {}",
                checked.config.realm,
                secrets.tls.public(),
                secrets.origin(&checked.config.realm)
            ));
            Ok(())
        }
        Command::Status(at) => status(&at.config),
        Command::WitnessKeys(at) => {
            let (checked, secrets) = open_config(&at.config)?;
            let cannot = failed(exit::LOCAL, "this broker can witness nothing");
            let witness = secrets.witness(&checked.config.realm);
            for key in witness.map_err(|error| cannot(&error))?.vkeys() {
                say(&key.to_string());
            }
            Ok(())
        }
        Command::Run { at, ready_file } => {
            // Before the keys are read.
            store::harden::process();
            let (checked, secrets) = open_config(&at.config)?;
            // While this thread is the only one: the others inherit it.
            confine::enter(&checked.config, ready_file.as_deref());
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| cannot_start(exit::LOCAL)(&error))?;
            runtime.block_on(serve(checked, secrets, ready_file))
        }
    }
}

fn make(args: Init) -> Result<(), Report> {
    let usage = |why: String| Report::new(exit::USAGE, "init cannot make this broker").why(why);
    if args.realm.is_empty() || args.realm.len() > ticket_format::limits::NAME {
        return Err(usage("--realm must have 1 to 128 bytes".to_owned()));
    }
    let admin_set = files::read_bounded(&args.admin_set, ticket_format::limits::RECORD as u64)
        .map_err(|error| usage(format!("--admin-set: {error}")))?;
    let RootSource {
        root_credential,
        root_passphrase_file,
        new_root_credential,
    } = args.root;
    let plan = Plan {
        addresses: if args.addresses.is_empty() {
            vec![args.listen.to_string()]
        } else {
            args.addresses
        },
        dir: args.dir,
        realm: args.realm,
        listen: args.listen,
        admin_set,
        root: RootKeyConfig {
            credential: root_credential.or_else(|| new_root_credential.clone()),
            passphrase_file: root_passphrase_file,
        },
        new_credential: new_root_credential,
        metrics: args.metrics_listen,
        ticket_token: args.token.means(),
    };
    let keys = init(&plan).map_err(|error| {
        let exists = error.to_string().contains("exists already");
        let report = failed(
            if exists { exit::CONFLICT } else { exit::LOCAL },
            "no broker was made",
        )(&error);
        report.next("give a new directory, or remove what is left there of an earlier attempt")
    })?;
    say(&format!(
        "broker of realm {} made in {}",
        keys.realm,
        plan.dir.display()
    ));
    say(&format!("tls-key {}", keys.tls_key));
    say(&format!(
        "next: postern-broker run --config {}",
        plan.dir.join("broker.toml").display()
    ));
    Ok(())
}

fn open_config(path: &Path) -> Result<(Checked, Secrets), Report> {
    let bad = failed(exit::CONFIG, "the configuration cannot be used");
    let checked = Config::read(path).map_err(|error| bad(&error).next(MEND))?;
    let data = &checked.config.data_dir;
    let root = checked.config.root_key.open(data);
    let root = root.map_err(|error| bad(&error).next(MEND))?;
    let secrets = Secrets::open(data, &root)
        .map_err(|error| bad(&error).next("check [root-key] and data-dir; `init` makes both"))?;
    Ok((checked, secrets))
}

fn status(path: &Path) -> Result<(), Report> {
    let (checked, secrets) = open_config(path)?;
    let data = &checked.config.data_dir;
    say(&format!(
        "realm {}, tls-key {}",
        checked.config.realm,
        secrets.tls.public()
    ));
    match RedbStore::open(data.join("store.redb"), store::Options::default()) {
        Ok(_) => say("store: whole; no broker runs on it"),
        Err(store::OpenError::InUse { .. }) => say("store: in use, so a broker runs"),
        Err(error) => return Err(failed(exit::INTEGRITY, "the store cannot be used")(&error)),
    }
    let cannot = failed(exit::INTEGRITY, "the audit log cannot be used");
    let log = secrets.log(&checked.config.realm);
    let key = log.map_err(|error| cannot(&error))?.key().clone();
    let audit = data.join("audit");
    if !audit.exists() {
        say("audit log: none yet");
        return Ok(());
    }
    let summary = audit_log::verify(&Folder::new(audit), &key, &mut Kinds);
    let summary = summary.map_err(|error| cannot(&error))?;
    if !summary.is_whole() {
        let findings: Vec<_> = summary.findings.iter().map(ToString::to_string).collect();
        return Err(cannot(&findings.join("; ")));
    }
    say(&format!(
        "audit log: {} entries in {} shards, each verified; origin {}",
        summary.entries(),
        summary.shards.len(),
        key.origin
    ));
    Ok(())
}

/// Opens store and log and starts the broker on them.
///
/// # Errors
/// One line: what cannot be used, and what to do.
pub async fn open(
    checked: Checked,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Broker>, Report> {
    let data = checked.config.data_dir.clone();
    let cannot = cannot_start(exit::LOCAL);
    let hooks = Hooks::new(&checked.config.hooks).map_err(|error| cannot(&error))?;
    let config = &checked.config;
    let log_key = secrets.log(&config.realm).map_err(|error| cannot(&error))?;
    let witness = secrets.witness(&config.realm);
    let witness = witness.map_err(|error| cannot(&error))?;
    let told = Arc::clone(&clock);
    let options = config.log.options(Arc::new(move || told.now()));
    let options = options.map_err(|error| cannot(&error))?;
    let witnesses = config.log.witnesses().map_err(|error| cannot(&error))?;
    let opened = tokio::task::spawn_blocking(move || {
        let store = RedbStore::open(data.join("store.redb"), store::Options::default())
            .map_err(|error| error.to_string())?;
        let (log, torn) = AuditLog::open(data.join("audit"), log_key, &options)
            .map_err(|error| error.to_string())?;
        if let Some(torn) = torn {
            tracing::warn!(
                bytes = torn.bytes,
                "a torn tail of the audit log was cut away; nothing in it was acknowledged"
            );
        }
        let (side, lost) = SideFile::open(data.join("audit.side"), &SideOptions::default())
            .map_err(|error| error.to_string())?;
        if let Some(lost) = lost {
            tracing::warn!(
                torn = lost.torn,
                damaged = lost.damaged,
                "the side file of the audit log has lost records; what-if leaves out what it cannot know"
            );
        }
        let store: Arc<dyn Store> = Arc::new(store);
        Ok::<_, String>(Files { store, log, side })
    });
    let files = opened
        .await
        .map_err(|error| cannot(&error))?
        .map_err(|why| cannot(&why))?;
    let Secrets {
        tls,
        tickets,
        feed,
        pairs,
        ..
    } = secrets;
    let admins = Admins::configured(&checked.admin_set, &checked.config.realm, clock.now());
    let admins =
        admins.map_err(|error| cannot_start(exit::CONFIG)(&format!("admin-set: {error}")))?;
    let token = checked.config.ticket_key.pkcs11.clone();
    let tickets = tokio::task::spawn_blocking(move || tickets.ring(token.as_ref()));
    let tickets = tickets.await.map_err(|error| cannot(&error))?;
    let tickets = tickets.map_err(|error| cannot(&error))?;
    let realm = Realm {
        name: checked.config.realm,
        tls: tls.public(),
        tickets,
        feed,
        pairs,
        others: witness.vkeys().iter().map(registered).collect(),
        admins,
        regions: checked.regions,
        nobody: Realm::nobody(&mut UnwrapErr(SysRng)),
    };
    let broker = Broker::start(files, realm, clock, checked.limits, hooks, witnesses).await;
    broker.map(Arc::new).map_err(|error| {
        let code = match error {
            StartError::Clock { .. } | StartError::AdminSet(_) => exit::CONFIG,
            StartError::Rollback { .. } | StartError::OldAdminSet { .. } => exit::INTEGRITY,
            StartError::State(_) => exit::LOCAL,
        };
        cannot_start(code)(&error)
    })
}

async fn serve(
    checked: Checked,
    secrets: Secrets,
    ready_file: Option<PathBuf>,
) -> Result<(), Report> {
    let cannot = cannot_start(exit::LOCAL);
    let listen = checked.config.listen;
    let ready_file = ready_file.or_else(|| checked.config.ready_file.clone());
    let metrics_listen = checked.config.metrics_listen;
    let identity = net::identity(&secrets.tls).map_err(|error| cannot(&error))?;
    // Before the socket: who comes early finds nobody rather than half a broker.
    let mut shutdown = signals().map_err(|error| cannot(&error))?;
    let (stop, stopped) = watch::channel(false);
    let ended = move || {
        let mut stopped = stopped.clone();
        async move {
            // An error means that the sender is gone, and so is the broker.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    if let Some(section) = &checked.config.witness {
        // First: servers that witness each other may start at the same time.
        let secret = secrets.witness(&checked.config.realm);
        let secret = secret.map_err(|error| cannot(&error))?;
        let data = &checked.config.data_dir;
        let bound = witnessing::witness(section, data, secret, ended()).await;
        let bound = bound.map_err(|why| cannot(&why))?;
        say(&format!("witness http://{bound}"));
    }
    let broker = open(checked, secrets, Arc::new(SystemClock)).await?;
    let limits = ServerLimits {
        // rule: TR-8
        strangers: Some(StrangerLimits::default()),
        ..ServerLimits::default()
    };
    let server = Server::bind(listen, &identity, limits).map_err(|error| cannot(&error))?;
    let address = server.local_addr();
    if let Some(at) = metrics_listen {
        let listener = TcpListener::bind(at)
            .await
            .map_err(|error| cannot(&format!("metrics-listen {at}: {error}")))?;
        let bound = listener.local_addr().map_err(|error| cannot(&error))?;
        say(&format!("metrics http://{bound}/metrics"));
        tokio::spawn(http::serve(
            listener,
            Arc::clone(&broker),
            server.metrics(),
            ended(),
        ));
    }
    let chores = tokio::spawn(net::chores(Arc::clone(&broker), ended()));
    say(&format!("listening {address}"));
    if let Some(path) = ready_file {
        files::write_private(&path, format!("{address}\n").as_bytes())
            .map_err(|error| cannot(&error))?;
    }
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(%address, "serving");
    let stopping = Arc::clone(&broker);
    let ran = server
        .run(Arc::new(net::Exchanges(Arc::clone(&broker))), async move {
            shutdown.recv().await;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            tracing::info!("stopping");
            stopping.stop();
        })
        .await;
    stop.send_replace(true);
    // A chore that panicked has said so.
    let _ = chores.await;
    broker.close().await;
    let stopped = ran.map_err(|error| failed(exit::LOCAL, "the broker had to stop")(&error))?;
    tracing::info!(unfinished = stopped.unfinished, "stopped");
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn signals() -> std::io::Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl Signals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
