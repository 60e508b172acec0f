//! `postern-soak`: honest and hostile load against real processes for so many minutes, with invariants
//! that are checked all the time. `tools/soak MINUTES` builds it together with the servers and runs it.
//!
//! It ends by itself, prints one table, and fails by the name of the invariant that was broken:
//! - `honest-refused`: an honest request got something else than an answer or a refusal that is safe to
//!   retry;
//! - `honest-starved`: fewer than half of the honest requests got through;
//! - `denied-served`: something was served after its denial had been applied;
//! - `denial-late`: a denial was not applied within its dataset's lease;
//! - `guess-taken`: a login with a wrong secret was not refused as unknown;
//! - `memory-grows`, `descriptors-grow`: a server holds more at the end than when it was warm;
//! - `server-gone`: a process ended;
//! - `log-broken`: a server's log does not verify;
//! - `log-errors`: a server wrote a line of an error.

// The realm is the bench's own, which uses more of it.
#[allow(dead_code)]
#[path = "../bench/admins.rs"]
mod admins;
#[allow(dead_code)]
#[path = "../bench/documents.rs"]
mod documents;
mod ending;
mod floor;
mod hostile;
mod load;
#[allow(dead_code)]
#[path = "../bench/realm.rs"]
mod realm;
#[allow(dead_code)]
#[path = "../bench/servers.rs"]
mod servers;
mod tally;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ticket_format::report::{Report, exit};
use tokio::task::JoinSet;

use realm::Realm;
use tally::{Broken, Tallies};

/// Of the whole time: until the servers are taken to be warm.
const WARM: u32 = 4;
/// The end of the load comes with the last round of each task; nothing takes longer.
const LAST: Duration = Duration::from_secs(60);

/// Mixed honest and hostile load for some minutes, with invariants checked all the time
#[derive(Debug, Parser)]
#[command(name = "postern-soak")]
struct Args {
    /// For how long, in minutes
    #[arg(value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// Where the server programs are; beside this one when it is not said
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match soak(&args) {
        Ok(code) => code,
        Err(report) => {
            // Where stderr is gone nobody is left to tell.
            let _ = writeln!(anstream::stderr().lock(), "{report}");
            ExitCode::from(report.exit)
        }
    }
}

fn soak(args: &Args) -> Result<ExitCode, Report> {
    let failed = |error: std::io::Error| Report::new(exit::LOCAL, "cannot start").why(error);
    let beside = || {
        let program = std::env::current_exe().map_err(failed)?;
        Ok::<_, Report>(program.parent().map(PathBuf::from).unwrap_or_default())
    };
    let binaries = args.binaries.clone().map_or_else(beside, Ok)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let span = Duration::from_secs(60 * args.minutes);
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(&binaries, span) => Some(ended),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // Interrupted: by now the servers are stopped and the directories removed.
    let Some(ended) = ended else {
        return Ok(ExitCode::from(130));
    };
    let (table, broken) = ended?;
    let mut text = table;
    for broken in &broken {
        text += &format!("BROKEN {broken}\n");
    }
    let _ = write!(anstream::stdout().lock(), "{text}");
    Ok(match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::INTEGRITY),
    })
}

/// Runs everything; the table, and what was broken.
async fn run(binaries: &std::path::Path, span: Duration) -> Result<(String, Vec<Broken>), Report> {
    let realm = Arc::new(Realm::start(binaries).await?);
    let log_keys = load::log_keys(&realm).await?;
    let launch = realm.launch().await?;
    let (begun, tallies) = (Instant::now(), Arc::new(Tallies::default()));
    let until = begun + span;
    let shared = load::Shared::new(&realm, &launch, &tallies, until).await?;
    let mut tasks = JoinSet::new();
    for number in 0..load::WORKERS {
        tasks.spawn(load::worker(Arc::clone(&shared), number));
    }
    tasks.spawn(load::newcomers(Arc::clone(&shared)));
    tasks.spawn(load::denier(Arc::clone(&shared)));
    tasks.spawn(hostile::cycle(Arc::clone(&shared)));
    let watched = watch::Watched::over(&realm, &tallies, begun + span / WARM, until).await;
    let ended = tokio::time::timeout(LAST, async {
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| {
                Report::new(exit::LOCAL, "a task of the load ended").why(error)
            })??;
        }
        Ok::<(), Report>(())
    });
    ended
        .await
        .map_err(|_| Report::new(exit::LOCAL, "the load does not end"))??;
    ending::look(&realm, &log_keys, &tallies);
    watched.judge(&tallies);
    Ok((tallies.table() + &watched.table(), tallies.broken()))
}
