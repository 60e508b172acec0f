//! The `postern-admin` command: signed statements to broker and key servers, and inspectors that
//! need neither.

pub mod admin_set;
pub mod agent;
pub mod approve;
pub mod args;
pub mod ask;
pub mod audit;
pub mod backup;
pub mod card;
pub mod config;
pub mod dataset;
pub mod deny;
pub mod diff;
pub mod exposure;
pub mod feed;
pub mod help;
pub mod init;
pub mod inspect;
pub mod key;
pub mod launch;
pub mod log;
pub mod node;
pub mod passphrase;
pub mod policy;
pub mod proposal;
pub mod remote;
pub mod root;
pub mod seed_file;
pub mod share_key;
pub mod signer;
pub mod span;
pub mod status;
pub mod ticket_key;
pub mod trust;
pub mod undeny;
pub mod view;
pub mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use client::cli::output::{Output, Printed};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;
use zeroize::Zeroizing;

use args::{Cli, Command, Global};
use config::{Config, KeySource};
use remote::{Admin, House};
use signer::Key;
use trust::Trust;

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

/// The passphrase that opened the admin's key; none where an agent has the key.
pub type Passphrase = Option<Zeroizing<Vec<u8>>>;

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
        let (config, admin, _) = self.admin_and_passphrase()?;
        Ok((config, admin))
    }

    /// As [`Context::admin`], with the passphrase that opened the key; none where an agent has it.
    ///
    /// # Errors
    /// As [`Context::admin`].
    pub fn admin_and_passphrase(&self) -> Result<(Config, Admin, Passphrase), Report> {
        let config = self.config()?;
        let (key, passphrase) = self.key(&config)?;
        // A realm's first set is signed before there is a broker.
        let broker = config.broker().map(|keys| keys.server());
        let house = House {
            trust: Trust::new(config.admin_set.clone(), config.realm.clone()),
            broker,
            logs: config.logs_seen(),
            propose: self.global.propose.clone(),
        };
        let admin = Admin::with(config.realm.clone(), key, self.global.timeout(), house);
        Ok((config, admin, passphrase))
    }

    fn key(&self, config: &Config) -> Result<(Key, Passphrase), Report> {
        Ok(match &config.key {
            KeySource::File(path) => {
                let passphrase = passphrase::read(self.global.passphrase_file.as_deref(), false)?;
                let key = key::open(path, &config.realm, &passphrase)?;
                (Key::File(Box::new(key)), Some(passphrase))
            }
            KeySource::Agent(key) => (Key::Agent(key.clone()), None),
        })
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
        Command::AdminSet(command) => admin_set::run(context, command).map(done),
        Command::Approve(args) => approve::run(context, &args).map(done),
        Command::List { pending: _ } => proposal::list(context).map(done),
        Command::Proposal(command) => proposal::run(context, command).map(done),
        Command::Undeny(args) => undeny::run(context, args).map(done),
        Command::Feed(command) => feed::run(context, &command).map(done),
        Command::Exposure(args) => exposure::run(context, args).map(done),
        Command::Dataset(command) => dataset::run(context, command).map(done),
        Command::Launch(command) => launch::run(context, command).map(done),
        Command::Policy(command) => policy::run(context, command),
        Command::Node(command) => node::run(context, command).map(done),
        Command::Deny(args) => deny::run(context, args).map(done),
        Command::Ticket(command) => node::ticket(context, command).map(done),
        Command::TicketKey(command) => ticket_key::run(context, command).map(done),
        Command::Status => status::run(context).map(done),
        Command::Inspect(command) => inspect::run(context, command).map(done),
        Command::Audit(command) => audit::run(context, command).map(done),
        Command::Log(command) => log::run(context, command).map(done),
        Command::Unseal(args) => root::unseal(context, &args).map(done),
        Command::Seal(args) => root::seal(context, &args).map(done),
        Command::Rekey(args) => root::rekey(context, &args).map(done),
        Command::Drill(args) => root::drill(context, &args).map(done),
        Command::Backup(args) => backup::run(context, &args).map(done),
        Command::Restore(args) => backup::restore(context, &args).map(done),
        Command::ShareKey(command) => share_key::run(context, command).map(done),
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
