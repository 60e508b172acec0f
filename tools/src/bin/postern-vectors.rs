//! `postern-vectors`: makes the specification's test vectors, or holds the files to be what it makes.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};

/// Makes or checks the test vectors of the specification.
#[derive(Debug, Parser)]
#[command(name = "postern-vectors", version)]
struct Cli {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Exit 0 only when the files are exactly what the code makes, and there is no other
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
    /// Write them
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Write what the programs of tests/foreign read
    #[arg(long, value_name = "DIR")]
    foreign: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse().what) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(9),
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(1)
        }
    }
}

fn run(what: &What) -> std::io::Result<bool> {
    if let Some(directory) = &what.check {
        let faults = tools::vectors::check(directory)?;
        faults
            .iter()
            .for_each(|fault| say(&format!("error: {fault}")));
        if !faults.is_empty() {
            say(
                "next: if the change is meant, run `postern-vectors --write` and read the difference",
            );
        }
        return Ok(faults.is_empty());
    }
    if let Some(directory) = &what.write {
        let count = tools::vectors::write(directory)?;
        say(&format!("{count} vectors in {}", directory.display()));
    }
    if let Some(directory) = &what.foreign {
        tools::vectors::foreign(directory)?;
    }
    Ok(true)
}

fn say(line: &str) {
    // Where stderr is gone nobody is left to tell.
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}
