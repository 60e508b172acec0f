//! The `postern-witness` command: a witness of transparency logs (C2SP tlog-witness). It remembers of
//! each log the newest checkpoint that it cosigned, and cosigns nothing that does not continue it.

pub mod args;
pub mod config;
pub mod keys;
pub mod run;
pub mod status;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use ticket_format::report::{Report, exit};

use args::{Cli, Command, LogFormat};
use config::Setup;

/// Runs the command line of this process; the exit code is of the closed list.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = logging(&cli).and_then(|()| dispatch(cli.command));
    match outcome {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(report) => {
            // Nobody is left to be told when stderr is gone.
            let _ = writeln!(anstream::stderr(), "{report}");
            ExitCode::from(report.exit)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Report> {
    match command {
        Command::Init { name, data_dir } => init(&name, &data_dir),
        Command::Vkeys { data_dir } => vkeys(&data_dir),
        Command::Status { data_dir, format } => status::run(&data_dir, format),
        Command::CheckConfig(from) => {
            let setup = Setup::read(&from)?;
            let keys = keys::Keys::open(&setup.data_dir)?;
            say(&format!(
                "ok: witness {}, {} logs",
                keys.name(),
                setup.logs.len()
            ));
            Ok(())
        }
        Command::Run { from, ready_file } => {
            // Before the keys are read.
            store::harden::process();
            let setup = Setup::read(&from)?;
            let keys = keys::Keys::open(&setup.data_dir)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            let runtime = runtime
                .map_err(|error| Report::new(exit::LOCAL, "the witness cannot start").why(error))?;
            runtime.block_on(run::serve(setup, &keys, ready_file))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "postern-witness", &mut script);
            say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::Man { dir } => man(&dir),
    }
}

fn init(name: &str, data_dir: &Path) -> Result<(), Report> {
    let keys = keys::Keys::make(name, data_dir, &mut UnwrapErr(SysRng))?;
    print_vkeys(&keys)
}

fn vkeys(data_dir: &Path) -> Result<(), Report> {
    print_vkeys(&keys::Keys::open(data_dir)?)
}

/// One vkey a line, Ed25519 first: what logs and policies are configured with.
fn print_vkeys(keys: &keys::Keys) -> Result<(), Report> {
    for key in keys.secret()?.vkeys() {
        say(&key.to_string());
    }
    Ok(())
}

fn man(dir: &Path) -> Result<(), Report> {
    let failed = |error: std::io::Error| {
        Report::new(
            exit::LOCAL,
            format!("cannot write man pages to {}", dir.display()),
        )
        .why(error)
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}

fn logging(cli: &Cli) -> Result<(), Report> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&cli.log)
        .map_err(|error| Report::new(exit::USAGE, "--log-level is not understood").why(error))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written, as on a full disk, must not end what is being served.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

pub(crate) fn say(line: &str) {
    // A closed pipe is the reader's choice, and no reason to stop serving.
    let mut out = anstream::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
