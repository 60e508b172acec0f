//! `postern-admin exposure`: what a node, ticket or launch could have read is what key servers
//! released to it, by their own records (EXP-1).

mod plan;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use client::cli::output::{Format, Printed};
use serde_json::{Value, json};
use ticket_format::Context as Pairs;
use ticket_format::denial::{Members, Selector};
use ticket_format::ids::{ActId, LaunchId, NodeId, TicketId};
use ticket_format::report::{Report, exit};
use ticket_format::statement::exposures::EXPOSED;
use ticket_format::statement::{Exposed, ExposureShow};
use ticket_format::time::Timestamp;

use super::config::ServerKeys;
use super::remote::Admin;
use super::span::since;
use super::view::{maybe, text};
use super::{Context, block_on};

/// What could have been read.
#[derive(Debug, Args)]
pub struct Exposure {
    #[command(flatten)]
    whose: Whose,
    /// From when on: a time, or how long ago (24h) [default: all that is recorded]
    #[arg(long, value_name = "TIME", value_parser = since, default_value = "1970-01-01T00:00:00Z", hide_default_value = true)]
    since: Timestamp,
    /// Write a plan for `postern rewrap --plan FILE`, a new file
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// What the plan does to each object
    #[arg(long, value_enum, default_value_t, requires = "plan")]
    op: Op,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// A node: ec2/ACCOUNT/REGION/INSTANCE
    #[arg(long, value_name = "NODE")]
    node: Option<NodeId>,
    /// A ticket, by its id
    #[arg(long, value_name = "ID")]
    ticket: Option<TicketId>,
    /// A launch, and every node that it let in
    #[arg(long, value_name = "ID")]
    launch: Option<LaunchId>,
}

/// What a plan does to an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// A new key and new ciphertext: a key that was read stays read.
    #[default]
    ReEncrypt,
    /// The same key under a new wrap: only for keys that nobody kept.
    Rewrap,
}

impl Op {
    /// As the plan has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReEncrypt => "re-encrypt",
            Self::Rewrap => "rewrap",
        }
    }
}

const COLUMNS: [&str; 11] = [
    "time", "kind", "node", "dataset", "object", "dek", "digest", "context", "ticket", "server",
    "entry",
];

/// Asks every configured key server; one that does not answer makes the report incomplete, which is
/// told and ends the command with 8.
///
/// # Errors
/// The configuration, or a key server that does not answer.
pub fn run(context: &Context, args: Exposure) -> Printed {
    let selector = Selector::new(Members {
        node: args.whose.node.clone(),
        ticket: args.whose.ticket,
        launch: args.whose.launch,
        ..Members::default()
    });
    let selector =
        selector.map_err(|error| Report::new(exit::USAGE, "that is nobody").why(error))?;
    let (config, admin) = context.admin()?;
    let servers = config.key_servers()?;
    if servers.is_empty() {
        return Err(
            Report::new(exit::CONFIG, "no key server is configured to be asked")
                .next("name their files in `key-servers` of the configuration"),
        );
    }
    block_on(async {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for keys in &servers {
            match released(&admin, keys, &selector, args.since).await {
                Ok(rows) => all.extend(rows.into_iter().map(|row| (keys.addresses.join(","), row))),
                Err(report) if report.exit == exit::RETRY => {
                    missing.push((keys.addresses.join(","), report));
                }
                Err(report) => return Err(report),
            }
        }
        all.sort_by_key(|(_, row)| row.time);
        if let (Some(file), true) = (&args.plan, missing.is_empty()) {
            let rows: Vec<&Exposed> = all.iter().map(|(_, row)| row).collect();
            let plan = plan::Plan {
                realm: &config.realm,
                selector: &selector,
                since: args.since,
                op: args.op,
            };
            let objects = plan.write(file, &rows)?;
            context.talk(format_args!(
                "{}: {objects} object(s) to {}; next: postern rewrap --plan {}",
                file.display(),
                args.op.name(),
                file.display()
            ));
        }
        let rows = all.iter().map(|(server, row)| line(server, row)).collect();
        context.output.rows("exposed", &COLUMNS, rows)?;
        if context.output.format == Format::Text {
            let distinct: BTreeSet<_> = all.iter().map(|(_, row)| plan::object_of(row)).collect();
            context.talk(format_args!(
                "{} release(s) of {} distinct object(s) by {} key server(s)",
                all.len(),
                distinct.len(),
                servers.len() - missing.len()
            ));
        }
        match missing.first() {
            None => Ok(()),
            Some((name, report)) => Err(Report::new(
                exit::RETRY,
                "the report is incomplete: not every key server answered",
            )
            .why(format!("{name}: {}", report.what))
            .next(if args.plan.is_some() {
                "run it again; no plan was written"
            } else {
                "run it again"
            })),
        }
    })
}

/// What one key server released, without what it withheld after all.
async fn released(
    admin: &Admin,
    keys: &ServerKeys,
    selector: &Selector,
    since: Timestamp,
) -> Result<Vec<Exposed>, Report> {
    // rule: EXP-1
    let mut remote = admin.at(keys.server());
    let (mut rows, mut withheld) = (Vec::new(), BTreeSet::<ActId>::new());
    let mut from = 0;
    loop {
        let page = remote
            .ask(&ExposureShow {
                selector: selector.clone(),
                since,
                from,
                rows: EXPOSED as u64,
            })
            .await?;
        rows.extend(page.rows);
        withheld.extend(page.withheld);
        match page.next {
            None => break,
            Some(next) if next > from => from = next,
            Some(_) => {
                return Err(Report::new(
                    exit::INTEGRITY,
                    "the key server's pages go in a circle",
                ));
            }
        }
    }
    remote.close().await;
    rows.retain(|row: &Exposed| !withheld.contains(&row.act));
    Ok(rows)
}

fn line(server: &str, row: &Exposed) -> Vec<Value> {
    let pairs = row.context.as_ref();
    vec![
        text(row.time),
        text(row.kind.name()),
        text(&row.node),
        text(&row.name),
        maybe(pairs.and_then(|pairs| pairs.get(Pairs::NAME))),
        maybe(row.dek),
        text(row.item),
        json!(pairs.map(Pairs::pairs)),
        text(row.ticket),
        text(server),
        json!(row.entry),
    ]
}

/// A row as an object has it, for JSON readers of a plan's head.
pub(crate) fn whose(selector: &Selector) -> Value {
    Value::Object(super::view::selector(selector))
}
