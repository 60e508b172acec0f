//! The `postern` command.

pub mod agent;
pub mod app;
pub mod args;
pub mod copy;
pub mod dek;
pub mod doctor;
pub mod exec;
pub mod help;
pub mod issue;
pub mod login;
pub mod logs;
pub mod output;
pub mod plan;
pub mod producer;
pub mod progress;
pub mod read;
pub mod rewrap;
pub mod settings;
pub mod tickets;
pub mod watch;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser as _, ValueEnum as _};
use ticket_format::report::{Report, exit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use app::{App, Ended};
use args::{Cli, Command};
use output::{Format, Output};
use settings::{SYSTEM_FILE, Setting, Settings};

/// Exit code of a command that a signal ended.
pub const INTERRUPTED: u8 = 130;

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output {
        // For errors of the settings themselves.
        format: cli.global.format.as_deref().map_or(Format::Text, format),
        no_header: cli.global.no_header,
    };
    let ended = start(&cli, &mut out);
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(report) => out.error(&report),
    }
}

fn format(text: &str) -> Format {
    Format::from_str(text, true).unwrap_or_default()
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn start(cli: &Cli, out: &mut Output) -> Ended {
    let root = rustix::process::geteuid().is_root();
    let settings = Settings::read(cli.flags(), &env, Path::new(SYSTEM_FILE), root)?;
    let read = settings.parse(Setting::Format, |text| Format::from_str(text, true))?;
    out.format = read.unwrap_or_default();
    let choice = settings.parse(Setting::Color, color)?;
    choice.unwrap_or(anstream::ColorChoice::Auto).write_global();
    log(cli.global.verbose);
    let app = App::new(*out, settings);
    let failed = |error| Report::new(exit::LOCAL, "cannot start").why(error);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)),
        )
        .enable_all()
        .build()
        .map_err(failed)?;
    let ended = runtime.block_on(until_signal(&app, &cli.command));
    // Files and uploads that were begun are taken back as their tasks are dropped.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

fn color(text: &str) -> Result<anstream::ColorChoice, String> {
    match text {
        "auto" => Ok(anstream::ColorChoice::Auto),
        "always" => Ok(anstream::ColorChoice::Always),
        "never" => Ok(anstream::ColorChoice::Never),
        _ => Err(format!("expected auto, always or never, not {text:?}")),
    }
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "warn,client=info",
        2 => "info,client=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("POSTERN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(verbose > 1);
    // A second subscriber in one process is a test's.
    let _ = subscriber.try_init();
}

/// Ctrl-C and SIGTERM drop the command where it stands; what it had not finished is not there.
async fn until_signal(app: &App, command: &Command) -> Ended {
    let own = match command {
        Command::Renew(args) => args.watch,
        Command::Agent(_) | Command::Exec(_) => true,
        _ => false,
    };
    if own {
        // It ends by a signal, and in its own way.
        return dispatch(app, command).await;
    }
    let failed = |error| Report::new(exit::LOCAL, "cannot watch for signals").why(error);
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        ended = dispatch(app, command) => ended,
        _ = interrupted.recv() => Ok(INTERRUPTED),
        _ = terminated.recv() => Ok(INTERRUPTED),
    }
}

async fn dispatch(app: &App, command: &Command) -> Ended {
    match command {
        Command::Login(args) => login::login(app, args).await,
        Command::Renew(args) => login::renew(app, args).await,
        Command::Status { quiet } => tickets::status(app, *quiet).await,
        Command::Tickets => tickets::tickets(app),
        Command::Logs { command } => logs::logs(app, command.as_ref()),
        Command::Logout(args) => tickets::logout(app, args).await,
        Command::Watch(args) => watch::watch(app, args).await,
        Command::Agent(args) => agent::agent(app, args).await,
        Command::Exec(args) => exec::exec(app, args).await,
        Command::Issue(args) => issue::issue(app, args).await,
        Command::Dek(args) => dek::dek(app, args).await,
        Command::Producer(args) => producer::producer(app, args),
        Command::Encrypt(args) => copy::encrypt(app, args).await,
        Command::Decrypt(args) => copy::decrypt(app, args).await,
        Command::Cp(args) => copy::cp(app, args).await,
        Command::Cat(args) => read::cat(app, args).await,
        Command::Ls(args) => read::ls(app, args).await,
        Command::Rewrap(args) => rewrap::rewrap(app, args).await,
        Command::Doctor(_) => doctor::doctor(app).await,
        Command::Config(args::Config::Show { origin }) => help::config(app, *origin),
        Command::Completions { shell } => help::completions(*shell),
        Command::Help { topic } => help::help(app, topic),
        Command::Man { dir } => help::man(dir),
    }
}
