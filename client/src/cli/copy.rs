//! `encrypt`, `decrypt` and `cp`.

use indicatif::HumanBytes;
use serde_json::{Value, json};
use ticket_format::report::{Report, exit};
use ticket_format::ticket::Action;

use super::app::{App, Ended};
use super::args::{CopyArgs, Cp, Decrypt, Encrypt, KeyArgs};
use super::issue::{Need, by_agent, keys};
use super::plan::{Direction, direction, exit_of, jobs, make_directories};
use super::producer::upload;
use super::progress::progress;
use super::settings::Setting;
use super::watch::unless_denied;
use crate::keys::KeyError;
use crate::object::metadata::{Context, MetadataError};
use crate::object::s3ec::S3ecError;
use crate::s3::copy::{CopyError, Job, Options, Reading, Summary, download_many, upload_many};
use crate::s3::{Fault, Location, StoreError, Stores};

/// Failures that are told one by one; of more only their number.
const TOLD: usize = 20;

/// `postern encrypt`.
pub async fn encrypt(app: &App, args: &Encrypt) -> Ended {
    encrypt_to(app, &args.from, &args.to, &args.keys, &args.copy).await
}

/// `postern decrypt`.
pub async fn decrypt(app: &App, args: &Decrypt) -> Ended {
    let dataset = args.dataset.as_deref();
    let accept = (args.accept_unsigned, args.read.reading());
    decrypt_to(app, &args.from, &args.to, dataset, accept, &args.copy).await
}

/// `postern cp`.
pub async fn cp(app: &App, args: &Cp) -> Ended {
    match direction(&args.from, &args.to)? {
        Direction::Encrypt => encrypt_to(app, &args.from, &args.to, &args.keys, &args.copy).await,
        Direction::Decrypt => {
            let dataset = args.keys.dataset.as_deref();
            let accept = (args.accept_unsigned, args.read.reading());
            decrypt_to(app, &args.from, &args.to, dataset, accept, &args.copy).await
        }
    }
}

async fn encrypt_to(
    app: &App,
    from: &Location,
    to: &Location,
    args: &KeyArgs,
    copy: &CopyArgs,
) -> Ended {
    let stores = app.stores()?;
    let context: Context = args.context.iter().cloned().collect();
    let jobs = jobs(
        &stores,
        from,
        to,
        Direction::Encrypt,
        copy.name.as_deref(),
        &context,
    )
    .await?;
    make_directories(&jobs)?;
    let options = Options {
        format: args.write_as.unwrap_or_default(),
        ..options(app)?
    };
    let progress = progress(jobs.len() as u64, copy.quiet);
    let summary = match &args.record {
        Some(record) => {
            let keys = upload(record, args)?;
            let summary = upload_many(&stores, &keys, jobs, options, &progress).await;
            drop(progress);
            summary
        }
        None => {
            let need = need(args.dataset.as_deref(), Action::Encrypt, &jobs, false);
            match by_agent(app, &need).await? {
                // It watches its tickets itself.
                Some(keys) => upload_many(&stores, &keys, jobs, options, &progress).await,
                None => {
                    let keys = keys(app, &need).await?;
                    unless_denied(app, keys, progress, async |keys, progress| {
                        upload_many(&stores, keys, jobs, options, progress).await
                    })
                    .await?
                }
            }
        }
    };
    finish(app, "encrypted", summary, false)
}

async fn decrypt_to(
    app: &App,
    from: &Location,
    to: &Location,
    dataset: Option<&str>,
    (accept_unsigned, reading): (bool, Reading),
    copy: &CopyArgs,
) -> Ended {
    let stores: Stores = app.stores()?;
    let jobs = jobs(
        &stores,
        from,
        to,
        Direction::Decrypt,
        copy.name.as_deref(),
        &Context::new(),
    )
    .await?;
    make_directories(&jobs)?;
    let options = Options {
        reading,
        ..options(app)?
    };
    let need = need(dataset, Action::Decrypt, &jobs, accept_unsigned);
    let (total, quiet) = (jobs.len() as u64, copy.quiet);
    let summary = match by_agent(app, &need).await? {
        Some(keys) => {
            let progress = progress(total, quiet);
            download_many(&stores, &keys, jobs, options, &progress).await
        }
        None => {
            let keys = keys(app, &need).await?;
            unless_denied(app, keys, progress(total, quiet), async |keys, progress| {
                download_many(&stores, keys, jobs, options, progress).await
            })
            .await?
        }
    };
    finish(app, "decrypted", summary, *to == Location::Stdio)
}

fn need<'a>(
    dataset: Option<&'a str>,
    action: Action,
    jobs: &[Job],
    accept_unsigned: bool,
) -> Need<'a> {
    Need {
        dataset,
        action,
        budget: jobs.len() as u64,
        accept_unsigned,
    }
}

/// How objects are copied, as set.
///
/// # Errors
/// A setting cannot be read.
pub fn options(app: &App) -> Result<Options, Report> {
    let parallel = app.settings.parse(Setting::Parallel, parallel)?;
    let default = Options::default();
    Ok(Options {
        parallel: parallel.unwrap_or(default.parallel),
        ..default
    })
}

/// Reads how many objects move at one time.
///
/// # Errors
/// Not a number from 1 to 64.
pub fn parallel(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(format!("expected a number from 1 to 64, not {text:?}")),
    }
}

/// One object's error as a person reads it.
#[must_use]
pub fn report(error: &CopyError<KeyError>) -> Report {
    match (error, error.fault()) {
        (CopyError::Key { place, source }, _) => {
            let mut report = source.report();
            report.what = format!("{place}: {}", report.what);
            report
        }
        (_, Some(fault)) => {
            let report = Report::new(exit_of(fault), failed(fault)).why(error);
            if uncommitted(error) {
                // rule: AMZ-3
                report.next("if such objects are meant to be read, say --accept-uncommitted")
            } else if report.exit == exit::INTEGRITY {
                report.next("do not use what was there; find out who changed it")
            } else {
                report
            }
        }
        (_, None) => Report::new(exit::LOCAL, failed(Fault::Local)).why(error),
    }
}

fn uncommitted(error: &CopyError<KeyError>) -> bool {
    let CopyError::Store(StoreError::Metadata { source, .. }) = error else {
        return false;
    };
    *source == MetadataError::S3ec(S3ecError::Uncommitted)
}

fn failed(fault: Fault) -> &'static str {
    match fault {
        Fault::Integrity => "an object is not what was encrypted",
        Fault::NotFound => "an object was not found",
        Fault::Unreachable => "an object could not be reached",
        _ => "an object could not be read or written",
    }
}

fn finish(app: &App, word: &str, summary: Summary<KeyError>, stdout_taken: bool) -> Ended {
    // Who read the decrypted object has seen enough (`postern decrypt X - | head`).
    if stdout_taken
        && summary
            .failed
            .iter()
            .any(|(_, error)| is_broken_pipe(error))
    {
        return Ok(exit::DONE);
    }
    let Summary {
        done,
        bytes,
        failed,
        aborted,
    } = summary;
    if !stdout_taken {
        let failures: Vec<Value> = failed.iter().map(failure).collect();
        let text = format!("{done} {word}, {}", HumanBytes(bytes));
        app.done(
            text,
            json!({ "done": done, "bytes": bytes, "failed": failures }),
        )?;
    }
    let total = failed.len();
    let reports: Vec<Report> = failed.iter().map(|(_, error)| report(error)).collect();
    let worst = reports
        .iter()
        .position(|report| report.exit == exit::INTEGRITY)
        .unwrap_or(0);
    if let Some(error) = aborted {
        for report in reports.iter().take(TOLD) {
            let _ = app.out.error(report);
        }
        return Err(error.report());
    }
    if total == 0 {
        return Ok(exit::DONE);
    }
    // All but the one that ends the command.
    for (_, report) in reports
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != worst)
        .take(TOLD)
    {
        let _ = app.out.error(report);
    }
    if total > TOLD + 1 {
        super::app::talk(format!(
            "and {} more; --format json lists them all",
            total - TOLD - 1
        ));
    }
    let last = reports.into_iter().nth(worst);
    last.map_or(Ok(exit::DONE), Err)
}

fn failure((job, error): &(Job, CopyError<KeyError>)) -> Value {
    let report = report(error);
    json!({
        "from": job.from.to_string(),
        "to": job.to.to_string(),
        "exit": report.exit,
        "refusal": report.refusal.map(|refusal| refusal.name()),
        "why": report.why,
    })
}

/// Whether nobody reads any more.
#[must_use]
pub fn is_broken_pipe(error: &CopyError<KeyError>) -> bool {
    matches!(error, CopyError::Store(crate::s3::StoreError::Io { source, .. })
        if source.kind() == std::io::ErrorKind::BrokenPipe)
}
