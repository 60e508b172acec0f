//! The `postern-admin` command: signed statements to broker and key servers, and inspectors that
//! need neither.

pub mod args;
pub mod ask;
pub mod audit;
pub mod config;
pub mod dataset;
pub mod deny;
pub mod help;
pub mod init;
pub mod inspect;
pub mod key;
pub mod launch;
pub mod node;
pub mod passphrase;
pub mod policy;
pub mod remote;
pub mod span;
pub mod status;
pub mod view;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use client::cli::output::{Output, Printed};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;

use args::{Cli, Command, Global};
use config::Config;
use remote::Admin;

/// The operating system's random generator.
pub type Rng = UnwrapErr<SysRng>;

/// A fresh handle on the operating system's random generator.
#[must_use]
pub fn rng() -> Rng {
    UnwrapErr(SysRng)
}

/// The wall clock. Before 1970 it reads as 1970, which every server refuses.
#[must_use]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_seconds(since.map_or(0, |since| since.as_secs()))
}

/// What every command has at hand.
#[derive(Debug)]
pub struct Context {
    /// The options that every command takes.
    pub global: Global,
    /// Where results go.
    pub output: Output,
}

impl Context {
    /// The configuration, with what flags and variables say before it.
    ///
    /// # Errors
    /// It is missing, unreadable or incomplete.
    pub fn config(&self) -> Result<Config, Report> {
        Config::load(&self.global)
    }

    /// The configuration, and the admin with the key opened: asks for the passphrase.
    ///
    /// # Errors
    /// Configuration, passphrase or key file.
    pub fn admin(&self) -> Result<(Config, Admin), Report> {
        let config = self.config()?;
        let passphrase = passphrase::read(self.global.passphrase_file.as_deref(), false)?;
        let secret = key::open(&config.admin_key, &config.realm, &passphrase)?;
        let admin = Admin::new(config.realm.clone(), secret, self.global.timeout());
        Ok((config, admin))
    }

    /// Says something to the person at the terminal, on stderr. Not in the JSON formats, whose
    /// readers want errors there and nothing else.
    pub fn talk(&self, text: impl std::fmt::Display) {
        use std::io::Write as _;
        if self.output.format == client::cli::output::Format::Text {
            // Where stderr is gone nobody is left to tell.
            let _ = writeln!(anstream::stderr().lock(), "{text}");
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    global.apply();
    let output = Output {
        format: global.format,
        no_header: global.no_header,
    };
    let context = Context { global, output };
    match run(&context, command) {
        Ok(code) => ExitCode::from(code),
        Err(report) => output.error(&report),
    }
}

fn run(context: &Context, command: Command) -> Result<u8, Report> {
    let done = |()| exit::DONE;
    match command {
        Command::Init(args) => init::run(context, &args).map(done),
        Command::Dataset(command) => dataset::run(context, command).map(done),
        Command::Launch(command) => launch::run(context, command).map(done),
        Command::Policy(command) => policy::run(context, command),
        Command::Node(command) => node::run(context, command).map(done),
        Command::Deny(args) => deny::run(context, args).map(done),
        Command::Ticket(command) => node::ticket(context, command).map(done),
        Command::Status => status::run(context).map(done),
        Command::Inspect(command) => inspect::run(context, command).map(done),
        Command::Audit(command) => audit::run(context, command).map(done),
        Command::Completions { shell } => help::completions(shell).map(done),
        Command::Man { dir } => help::man(&dir).map(done),
        Command::Help { topic } => help::topic(context, &topic).map(done),
    }
}

/// Runs the part of a command that talks to servers. Ctrl-C ends the process with 130; a statement
/// is one message, so nothing is left half-done.
pub(crate) fn block_on(work: impl Future<Output = Printed>) -> Printed {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Report::new(exit::LOCAL, "cannot start").why(error))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            result = work => Some(result),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // A question that waits for its answer sits in a blocking thread: it must not hold us up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended.unwrap_or_else(|| std::process::exit(130))
}
