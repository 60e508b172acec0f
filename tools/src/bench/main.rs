//! `postern-bench`: one program for everything that is ever measured. `tools/bench` builds it
//! together with the servers and runs it.
//!
//! A suite is one module under [`suites`]; it is listed in [`suites::ALL`] and brings rows. Each row
//! is measured several times, in turn with the others, and beside its floor: what its unavoidable
//! primitives cost in the same run on the same machine.

mod admins;
mod args;
mod cpu;
mod documents;
mod drive;
mod floor;
mod machine;
mod realm;
mod rows;
mod servers;
mod suites;
mod targets;

use std::io::Write as _;
use std::process::ExitCode;

use ticket_format::report::{Report, exit};

use args::Args;
use rows::Group;
use suites::{Run, Suite};

fn main() -> ExitCode {
    let args = Args::from_command_line();
    let result = match (args.stream_object, &args.serve_json) {
        (Some(bytes), _) => {
            suites::objects::peak::stream(bytes).and_then(|kib| print(&kib.to_string()))
        }
        (_, Some(dir)) => runtime().and_then(|runtime| suites::peer::serve(&runtime, dir)),
        _ if args.list => list(),
        _ => measure(&args),
    };
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
    let mut text = format!("{}\tevery suite below, in one table\n", suites::EVERY);
    for suite in suites::ALL {
        text += &format!("{}\t{}\n", suite.name, suite.about);
    }
    print(&text)
}

fn measure(args: &Args) -> Result<(), Report> {
    let suites = suites::wanted(args.suite.as_deref().unwrap_or_default())?;
    args.check_json()?;
    let run = Run {
        binaries: args.binaries()?,
        rounds: args.rounds,
        span: args.span(),
        row: args.row.clone(),
    };
    let machine = machine::describe(&suites::peers(&suites));
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = each(&suites, &run) => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // A suite that failed may leave threads that wait for what never comes: the results do not.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    // Interrupted: by now the servers are stopped and the directories removed.
    let (groups, failed) = ended.unwrap_or_else(|| std::process::exit(130));
    if groups.iter().any(|group| !group.rows.is_empty()) {
        print(&format!(
            "{machine}\n{}\n{}",
            rows::table(&groups),
            rows::noise(&groups, run.rounds)
        ))?;
    }
    if let (Some(path), false) = (&args.json, groups.is_empty()) {
        std::fs::write(path, rows::json(&groups)?).map_err(|error| {
            Report::new(exit::LOCAL, format!("cannot write {}", path.display())).why(error)
        })?;
    }
    failed.map_or(Ok(()), Err)
}

/// Runs these suites one after the other. One that fails is told of at once, and the others still run;
/// the last part is what the process ends with then.
async fn each(suites: &[&'static Suite], run: &Run) -> (Vec<Group>, Option<Report>) {
    let (mut groups, mut failed) = (Vec::new(), Vec::new());
    for suite in suites {
        if suites.len() > 1 {
            say(&format!("suite {}", suite.name));
        }
        match (suite.run)(run).await {
            Ok(mut rows) => {
                // Rows that were not wanted have nothing to tell.
                rows.retain(rows::Row::is_measured);
                groups.push(Group {
                    suite: suite.name,
                    rows,
                });
            }
            Err(report) if suites.len() == 1 => return (groups, Some(report)),
            Err(report) => {
                say(&format!("suite {}: {report}", suite.name));
                failed.push((suite.name, report.exit));
            }
        }
    }
    let Some((_, code)) = failed.first() else {
        return (groups, None);
    };
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    let report = Report::new(*code, format!("not measured: {}", names.join(", ")));
    (
        groups,
        Some(report.next("see what each of them said above")),
    )
}

/// Tells the person who waits.
fn say(line: &str) {
    // Where stderr is gone nobody waits.
    let _ = writeln!(anstream::stderr().lock(), "{line}");
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
