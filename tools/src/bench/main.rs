//! `postern-bench`: one program for everything that is ever measured. `tools/bench` builds it
//! together with the servers and runs it.
//!
//! A suite is one module under [`suites`]; it is listed in [`suites::ALL`] and brings rows. Each row
//! is measured several times, in turn with the others, and beside its floor: what its unavoidable
//! primitives cost in the same run on the same machine.

mod admins;
mod args;
mod documents;
mod drive;
mod floor;
mod machine;
mod realm;
mod rows;
mod servers;
mod suites;

use std::io::Write as _;
use std::process::ExitCode;

use ticket_format::report::{Report, exit};

use args::Args;
use suites::Run;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    let result = if args.list { list() } else { measure(&args) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            // Where stderr is gone nobody is left to tell.
            let _ = writeln!(anstream::stderr().lock(), "{report}");
            ExitCode::from(report.exit)
        }
    }
}

fn list() -> Result<(), Report> {
    let mut text = String::new();
    for suite in suites::ALL {
        text += &format!("{}\t{}\n", suite.name, suite.about);
    }
    print(&text)
}

fn measure(args: &Args) -> Result<(), Report> {
    let suite = suites::find(args.suite.as_deref().unwrap_or_default())?;
    args.check_json()?;
    let run = Run {
        binaries: args.binaries()?,
        rounds: args.rounds,
        span: args.span(),
        row: args.row.clone(),
    };
    let machine = machine::describe();
    let ended = runtime()?.block_on(async {
        tokio::select! {
            rows = (suite.run)(&run) => Some(rows),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // Interrupted: by now the servers are stopped and the directories removed.
    let rows = ended.unwrap_or_else(|| std::process::exit(130))?;
    print(&format!(
        "{machine}\n{}\n{}",
        rows::table(&rows),
        rows::noise(&rows, run.rounds)
    ))?;
    let Some(path) = &args.json else {
        return Ok(());
    };
    std::fs::write(path, rows::json(&rows)?).map_err(|error| {
        Report::new(exit::LOCAL, format!("cannot write {}", path.display())).why(error)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Report::new(exit::LOCAL, "cannot start").why(error))
}

/// Prints results. A reader who has gone away has seen enough.
fn print(text: &str) -> Result<(), Report> {
    match writeln!(anstream::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Report::new(exit::LOCAL, "cannot print the results").why(error))
        }
        _ => Ok(()),
    }
}
