//! What can be asked on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Witnesses transparency logs: cosigns their checkpoints, and never one that takes anything back.
#[derive(Debug, Parser)]
#[command(
    name = "postern-witness",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 local failure, 2 usage, 7 exists already, 9 integrity failure, 10 configuration."
)]
pub struct Cli {
    /// How log lines look; they go to stderr.
    #[arg(
        long,
        value_enum,
        default_value = "text",
        global = true,
        env = "POSTERN_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// Which log lines, for example "info" or "audit_log=debug".
    #[arg(
        long = "log-level",
        value_name = "FILTER",
        default_value = "info",
        global = true,
        env = "POSTERN_LOG"
    )]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How results look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a witness's keys and state in a new directory, and print its vkeys
    Init {
        /// The witness's name: a URL without its scheme, such as witness.example/w1
        #[arg(long)]
        name: String,
        /// Where keys and state go; must not exist
        #[arg(long, value_name = "DIR", env = "POSTERN_WITNESS_DATA_DIR")]
        data_dir: PathBuf,
    },
    /// Serve until SIGTERM or SIGINT
    Run {
        /// From where.
        #[command(flatten)]
        from: From,
        /// Write the bound address to this file once the witness serves
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Say whether a configuration holds and its keys open; start nothing
    CheckConfig(From),
    /// Print the witness's public keys: Ed25519, then ML-DSA-44
    Vkeys {
        /// Where the keys are
        #[arg(long, value_name = "DIR", env = "POSTERN_WITNESS_DATA_DIR")]
        data_dir: PathBuf,
    },
    /// Show what the witness cosigned last of each log; works beside a running one
    Status {
        /// Where the state is
        #[arg(long, value_name = "DIR", env = "POSTERN_WITNESS_DATA_DIR")]
        data_dir: PathBuf,
        /// How it looks
        #[arg(long, value_enum, default_value = "text", env = "POSTERN_FORMAT")]
        format: Format,
    },
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
}

/// Where the configuration comes from: flags, then the file.
#[derive(Clone, Debug, Default, Args)]
pub struct From {
    /// The configuration: witness.toml
    #[arg(long, value_name = "FILE", env = "POSTERN_WITNESS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to listen (TCP, plain HTTP: every answer is signed); port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where keys and state are
    #[arg(long, value_name = "DIR", env = "POSTERN_WITNESS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// A vkey of a log to follow; repeatable, two for each log (Ed25519 and ML-DSA-44)
    #[arg(long = "log", value_name = "VKEY")]
    pub logs: Vec<String>,
    /// A file of such vkeys, one a line; repeatable
    #[arg(long = "log-file", value_name = "FILE")]
    pub log_files: Vec<PathBuf>,
}
