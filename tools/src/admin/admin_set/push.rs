//! Every server that is configured is brought up to the newest set.

use std::path::PathBuf;

use client::cli::output::Printed;
use serde_json::{Value, json};
use store::files;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{AdminSetBody, AdminSetShow, ReceivedStatement};

use crate::admin::config::{Config, Place};
use crate::admin::remote::{Admin, Remote};
use crate::admin::view::text;
use crate::admin::{Context, block_on};

/// How it went with one server.
#[derive(Debug)]
pub(crate) struct Told {
    server: String,
    /// The version that it has now, and how many sets it took; or what stopped it.
    came: Result<(u64, usize), Report>,
}

pub(super) fn run(context: &Context, files: &[PathBuf]) -> Printed {
    let (config, admin) = context.admin()?;
    let given = files
        .iter()
        .map(|file| {
            files::read_bounded(file, limits::STATEMENT as u64).map_err(|error| {
                Report::new(exit::LOCAL, format!("cannot read {}", file.display())).why(error)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    block_on(async {
        let told = if given.is_empty() {
            from_broker(&config, &admin).await?
        } else {
            all(&config, &admin, &given, 0).await?
        };
        let failed = told.iter().find_map(|one| one.came.as_ref().err().cloned());
        let row = |one: &Told| -> Vec<Value> {
            match &one.came {
                Ok((version, 0)) => vec![text(&one.server), json!(version), text("had it")],
                Ok((version, _)) => vec![text(&one.server), json!(version), text("took it")],
                Err(report) => vec![text(&one.server), Value::Null, text(&report.what)],
            }
        };
        let rows = told.iter().map(row).collect();
        context
            .output
            .rows("servers", &["server", "version", "state"], rows)?;
        failed.map_or(Ok(()), |report| Err(not_all(&report)))
    })
}

fn not_all(report: &Report) -> Report {
    let code = if report.exit == exit::INTEGRITY {
        exit::INTEGRITY
    } else {
        exit::RETRY
    };
    Report::new(code, "not every server has the newest admin set")
        .why(&report.what)
        .next("run `postern-admin admin-set push` again when it can be reached")
}

/// The servers that have the set now; those that have not are told of, and end the command with 8.
pub(crate) fn report(context: &Context, told: &[Told]) -> Result<Vec<String>, Report> {
    for one in told {
        match &one.came {
            Ok((version, _)) => {
                context.talk(format_args!("{} has version {version}", one.server));
            }
            Err(report) => context.talk(format_args!(
                "{} has it not: {}{}",
                one.server,
                report.what,
                report
                    .why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(" ({why})")),
            )),
        }
    }
    match told.iter().find_map(|one| one.came.as_ref().err()) {
        Some(failed) => Err(not_all(failed)),
        None => Ok(told.iter().map(|one| one.server.clone()).collect()),
    }
}

/// As [`all`], with the sets that the broker has.
pub(crate) async fn from_broker(config: &Config, admin: &Admin) -> Result<Vec<Told>, Report> {
    let known = admin.known().await?;
    all(config, admin, &known.later, known.base).await
}

/// Sends each server, the broker first, those of the sets that it has not. `base` is the version
/// before the first of them, or 0 when that is to be found in them.
pub(crate) async fn all(
    config: &Config,
    admin: &Admin,
    sets: &[Vec<u8>],
    base: u64,
) -> Result<Vec<Told>, Report> {
    let mut numbered = Vec::with_capacity(sets.len());
    for statement in sets {
        let body = ReceivedStatement::parse(statement)
            .and_then(|received| received.body::<AdminSetBody>())
            .map_err(|error| Report::new(exit::USAGE, "a file holds no admin set").why(error))?;
        numbered.push((body.version, statement.as_slice()));
    }
    numbered.sort_by_key(|(version, _)| *version);
    let first = numbered
        .first()
        .map_or(base, |(version, _)| version.saturating_sub(1));
    let mut servers: Vec<Place> = vec![config.broker()?.server()];
    servers.extend(config.key_servers()?.iter().map(|keys| keys.server()));
    let mut told = Vec::with_capacity(servers.len());
    for server in servers {
        let name = format!(
            "{} {}",
            server.server.word,
            server.server.addresses.join(",")
        );
        let mut remote = admin.at(server);
        let came = bring(&mut remote, &numbered, first).await;
        remote.close().await;
        told.push(Told { server: name, came });
    }
    Ok(told)
}

/// Brings one server up to date; its version then, and how many sets it took.
async fn bring(
    remote: &mut Remote<'_>,
    sets: &[(u64, &[u8])],
    base: u64,
) -> Result<(u64, usize), Report> {
    let (mut version, mut took) = (base, 0);
    loop {
        let page = remote.ask(&AdminSetShow { after: version }).await?;
        let more = page.more && !page.statements.is_empty();
        version = version.saturating_add(page.statements.len() as u64);
        if !more {
            break;
        }
    }
    for (next, statement) in sets {
        if *next <= version {
            continue;
        }
        remote.deliver(statement).await?;
        version = *next;
        took += 1;
    }
    Ok((version, took))
}
