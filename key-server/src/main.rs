//! The key server's program.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use key_server::cli::{Cli, LogFormat};
use ticket_format::report::{Report, exit};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // rule: MEM-1 — every command opens keys, or makes them.
    store::harden::process();
    let outcome = logging(&cli).and_then(|()| {
        // While this thread is the only one: the others inherit it.
        cli.confine()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|error| Report::new(exit::LOCAL, "the runtime does not start").why(error))?;
        runtime.block_on(cli.run())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            // A closed stderr leaves the exit code.
            let _ = writeln!(anstream::stderr(), "{report}");
            ExitCode::from(report.exit)
        }
    }
}

fn logging(cli: &Cli) -> Result<(), Report> {
    let filter = EnvFilter::try_new(&cli.log);
    let filter =
        filter.map_err(|error| Report::new(exit::USAGE, "--log is not understood").why(error))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written, as on a full disk, must not end what is being served: the
        // complaint about it would go to the same place, and panic there.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = builder.with_ansi(colours);
    match cli.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
