//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use ticket_format::report::{Report, exit};

use crate::suites;

/// Measures what Postern does in a second, beside what its primitives cost in the same run.
///
/// Broker and key server run as processes of their own on loopback, with their data in a temporary
/// directory; the nodes and jobs are this process. Each row is measured in several rounds, in turn
/// with its floor and with the other rows; the result is the median, and the noise is told.
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "tools/bench")]
pub(crate) struct Args {
    /// Which suite, or `all`.
    #[arg(value_name = "SUITE", required_unless_present_any = ["list", "stream_object", "serve_json"])]
    pub(crate) suite: Option<String>,
    /// Writes the rows to FILE: a JSON list of {"suite", "row", "value", "unit", "floor", "ratio",
    /// "target", "met", "missed_by_percent"}; ratio is value / floor.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Lists the suites.
    #[arg(long)]
    pub(crate) list: bool,
    /// How often each row is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long each measurement takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    span: u64,
    /// Measures only rows whose names contain this, where the suite can.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) row: String,
    /// Where postern-broker and postern-key-server are; without it, beside this program.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Encrypts and decrypts an object of so many bytes and prints the peak of memory: what suite
    /// `objects` starts as a process of its own.
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) stream_object: Option<u64>,
    /// Unwraps keys over HTTP until standard input ends, with a log in this directory: what suite `peer`
    /// starts as a process of its own.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) serve_json: Option<PathBuf>,
}

impl Args {
    /// Reads the command line; wrong usage, `--help` and `--version` end the process.
    pub(crate) fn from_command_line() -> Self {
        let matches = Self::command()
            .after_long_help(suites::legend())
            .get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Says at once, and not after minutes, that the rows cannot be written.
    pub(crate) fn check_json(&self) -> Result<(), Report> {
        let dir = self.json.as_deref().and_then(Path::parent);
        match dir.filter(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()) {
            Some(dir) => Err(Report::new(
                exit::LOCAL,
                format!("{} is no directory", dir.display()),
            )
            .next("name a file in a directory that is there")),
            None => Ok(()),
        }
    }

    /// The time of one measurement.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(self.span)
    }

    /// The directory of the server programs.
    pub(crate) fn binaries(&self) -> Result<PathBuf, Report> {
        if let Some(dir) = &self.binaries {
            return Ok(dir.clone());
        }
        let program = std::env::current_exe();
        let program = program.map_err(|error| {
            Report::new(exit::LOCAL, "cannot tell where this program is").why(error)
        })?;
        Ok(program.parent().map(Into::into).unwrap_or_default())
    }
}
