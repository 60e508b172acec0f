//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::cli::output::Format;

use super::span::Span;
use super::{
    admin_set, approve, audit, backup, dataset, deny, exposure, feed, init, inspect, launch, log,
    node, policy, proposal, root, share_key, ticket_key, undeny,
};

/// Administers a Postern realm: every act is a statement signed with the admin's key.
#[derive(Debug, Parser)]
#[command(name = "postern-admin", version, disable_help_subcommand = true)]
#[command(after_help = "Exit codes, environment and refusals: postern-admin help TOPIC")]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Whether output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal that can, unless NO_COLOR says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Configuration [default: $XDG_CONFIG_HOME/postern/admin.toml, then /etc/postern/admin.toml]
    #[arg(long, global = true, value_name = "FILE", env = "POSTERN_ADMIN_CONFIG")]
    pub config: Option<PathBuf>,
    /// The broker's public keys and addresses (broker-keys.toml, as `broker init` wrote it)
    #[arg(long, global = true, value_name = "FILE", env = "POSTERN_BROKER_KEYS")]
    pub broker: Option<PathBuf>,
    /// The admin's key, as `postern-admin init` wrote it
    #[arg(long, global = true, value_name = "FILE", env = "POSTERN_ADMIN_KEY")]
    pub admin_key: Option<PathBuf>,
    /// The admin set by which signatures are checked [default: admin-set.cose beside the configuration]
    #[arg(long, global = true, value_name = "FILE", env = "POSTERN_ADMIN_SET")]
    pub admin_set: Option<PathBuf>,
    /// Where an act goes that more admins must sign: a new file, instead of the broker's inbox
    #[arg(long, global = true, value_name = "FILE")]
    pub propose: Option<PathBuf>,
    /// File with the passphrase of the admin's key (mode 0600; `-` for stdin); else it is asked for
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "POSTERN_PASSPHRASE_FILE"
    )]
    pub passphrase_file: Option<PathBuf>,
    /// How results are printed
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "POSTERN_FORMAT"
    )]
    pub format: Format,
    /// Tables without their first line
    #[arg(long, global = true)]
    pub no_header: bool,
    /// Colour
    #[arg(long, global = true, value_enum, default_value_t)]
    pub color: Color,
    /// Say more on stderr; twice for more yet
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How long to wait for a server
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "10s",
        env = "POSTERN_TIMEOUT"
    )]
    pub timeout: Span,
}

impl Global {
    /// How long to wait for a server.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.into()
    }

    /// Sets what holds for the whole process: colour and the log on stderr.
    pub fn apply(&self) {
        match self.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
        let level = match self.verbose {
            0 => return,
            1 => tracing::Level::INFO,
            2 => tracing::Level::DEBUG,
            _ => tracing::Level::TRACE,
        };
        let log = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr);
        // A second subscriber could only come from a second call in one process.
        let _ = log.with_ansi(self.color == Color::Always).try_init();
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the admin's key and configuration
    Init(init::Init),
    /// The admin set: who may do what, and how many must sign
    #[command(subcommand)]
    AdminSet(admin_set::Command),
    /// Sign what another admin proposed; carry it out when enough have
    Approve(approve::Approve),
    /// List what waits for signatures (as `proposal list`)
    List {
        /// What waits for signatures
        #[arg(long, required = true)]
        pending: bool,
    },
    /// What waits for signatures in the broker's inbox
    #[command(subcommand)]
    Proposal(proposal::Command),
    /// Datasets: their KEKs, policies, producers and records
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Launches: who may log in, how often and when
    #[command(subcommand)]
    Launch(launch::Command),
    /// The broker's policy, and checking any policy without a server
    #[command(subcommand)]
    Policy(policy::Command),
    /// Nodes that logged in
    #[command(subcommand)]
    Node(node::Command),
    /// Tickets that the broker issued
    #[command(subcommand)]
    Ticket(node::TicketCommand),
    /// Refuse tickets, nodes, launches and more from now on
    Deny(deny::Deny),
    /// Lift denials: a quorum signs it
    Undeny(undeny::Undeny),
    /// The feed of denials: who has applied what, proven by signatures
    #[command(subcommand)]
    Feed(feed::Command),
    /// What a node, ticket or launch could have read, from the audit records
    Exposure(exposure::Exposure),
    /// The broker's ticket-signing keys: make the next one, and say when it takes over
    #[command(subcommand)]
    TicketKey(ticket_key::Command),
    /// How the broker and the key servers are, and who has applied which denials
    Status,
    /// Say what a file holds, without any server
    #[command(subcommand)]
    Inspect(inspect::Command),
    /// Audit logs: verify and read them, without any server
    #[command(subcommand)]
    Audit(audit::Command),
    /// A server's own log: how it is, and where it goes on after a rollback
    #[command(subcommand)]
    Log(log::Command),
    /// Share keys: what an admin opens shares of key servers' root keys with
    #[command(subcommand)]
    ShareKey(share_key::Command),
    /// Give your share of a sealed key server's root key; enough of them open it
    Unseal(root::Unseal),
    /// Make a key server forget its root key: it serves nobody until shares are given
    Seal(root::Seal),
    /// Make a new root key at a key server, with new shares; the old ones open nothing any more
    Rekey(root::Rekey),
    /// Give your share to an open key server, to prove that enough of them would open it
    Drill(root::Drill),
    /// Fetch a backup of a key server, made while it serves; its root key opens it
    Backup(backup::Backup),
    /// Sign that a backup may be put in its key server's place
    Restore(backup::Restore),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    #[command(hide = true)]
    Man {
        /// Where to
        dir: PathBuf,
    },
    /// Explain: exit-codes, environment, refusals, refusal N, or a command
    Help {
        /// What to explain
        topic: Vec<String>,
    },
}
