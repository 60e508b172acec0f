//! `rewrap`: wraps what lies under a prefix anew, or carries out an exposure plan, object by object;
//! either goes on where it was cut off.

pub mod done;
pub mod journal;
pub mod plan;
pub mod prefix;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::stream::{self, StreamExt as _};
use indicatif::HumanBytes;
use serde_json::{Value, json};
use ticket_format::report::{Report, exit};
use ticket_format::ticket::Action;

use super::app::{App, Ended, talk};
use super::args::Rewrap;
use super::copy::{options, report};
use super::issue::{Need, keys};
use super::progress::progress;
use crate::keys::{DatasetKeys, KeyError};
use crate::s3::Stores;
use crate::s3::copy::{
    CopyError, Job, Look, Progress, Skipped, Summary, Wanted, look, reencrypt_many, rewrap_many,
};
use done::{Done, Noting};
use plan::{Mark, Op, Plan};

/// Metadata of this many objects is read at one time where nothing else is done.
const LOOKS: usize = 16;
/// Failures and skipped objects that are told one by one; of more only their number.
const TOLD: usize = 20;

/// `postern rewrap`.
pub async fn rewrap(app: &App, args: &Rewrap) -> Ended {
    match (&args.place, &args.plan) {
        (Some(place), _) => prefix::rewrap(app, args, place).await,
        (None, Some(plan)) => carry_out(app, args, plan).await,
        (None, None) => Err(Report::new(exit::USAGE, "nothing was rewrapped")
            .why("neither s3://bucket/prefix nor --plan was given")),
    }
}

async fn carry_out(app: &App, args: &Rewrap, plan: &Path) -> Ended {
    let (plan, done) = (Plan::read(plan, &args.dataset)?, Done::open(plan)?);
    let stores = app.stores()?;
    let mut result = Outcome {
        unplaced: plan.unplaced.clone(),
        ..Outcome::default()
    };
    let mut parts = Vec::new();
    for ((dataset, op), part) in plan.parts {
        let (earlier, left): (Vec<_>, Vec<_>) = part
            .objects
            .into_iter()
            .partition(|(mark, _)| done.has(mark));
        result.earlier += earlier.len() as u64;
        parts.push((dataset, op, left));
    }
    if args.dry_run {
        for (dataset, op, left) in parts {
            dry_run(&stores, &dataset, op, left, &mut result).await;
        }
        return result.told(app, true);
    }
    let objects = parts.iter().map(|(.., left)| left.len() as u64).sum();
    let progress = progress(objects, args.quiet);
    let done = Arc::new(Mutex::new(done));
    for (dataset, op, left) in parts {
        if left.is_empty() {
            continue;
        }
        let marks: HashMap<String, Mark> = left
            .iter()
            .map(|(mark, wanted)| (wanted.job.to.to_string(), *mark))
            .collect();
        let noting = Arc::new(Noting::new(Arc::clone(&progress), marks, Arc::clone(&done)));
        let wanted = left.into_iter().map(|(_, wanted)| wanted).collect();
        let told: Arc<dyn Progress> = Arc::clone(&noting) as _;
        let part = Work {
            app,
            args,
            stores: &stores,
            dataset: &dataset,
            op,
        };
        match part.carry_out(wanted, &told).await {
            Ok((summary, skipped)) => result.add(summary, skipped),
            // The other datasets do not depend on this one.
            Err(report) => result.aborted.push(report),
        }
        if let Some(report) = noting.failure() {
            result.aborted.push(report);
            break;
        }
    }
    drop(progress);
    result.told(app, false)
}

/// One dataset's part of the plan.
struct Work<'a> {
    app: &'a App,
    args: &'a Rewrap,
    stores: &'a Stores,
    dataset: &'a str,
    op: Op,
}

impl Work<'_> {
    async fn carry_out(
        &self,
        wanted: Vec<Wanted>,
        progress: &Arc<dyn Progress>,
    ) -> Result<(Summary<KeyError>, Vec<(Job, Skipped)>), Report> {
        let options = options(self.app)?;
        let budget = wanted.len() as u64;
        let stores = self.stores;
        match self.op {
            Op::ReEncrypt => {
                let reader = self.keys(Action::Decrypt, budget).await?;
                let writer = self.keys(Action::Encrypt, budget).await?;
                let both = (&reader, &writer);
                let ended = reencrypt_many(stores, both, wanted, options, progress).await;
                let closed = (reader.close().await, writer.close().await);
                closed.0.and(closed.1)?;
                Ok(ended)
            }
            Op::Rewrap => {
                let source = self.keys(Action::Rewrap, budget).await?;
                let ended = rewrap_many(stores, &source, wanted, options, progress).await;
                source.close().await?;
                Ok(ended)
            }
        }
    }

    async fn keys(&self, action: Action, budget: u64) -> Result<DatasetKeys, Report> {
        let need = Need {
            dataset: Some(self.dataset),
            action,
            budget,
            accept_unsigned: self.args.accept_unsigned,
        };
        keys(self.app, &need).await
    }
}

/// Looks at each object, and counts what would be done.
async fn dry_run(
    stores: &Stores,
    dataset: &str,
    op: Op,
    objects: Vec<(Mark, Wanted)>,
    result: &mut Outcome,
) {
    let mut looks = stream::iter(objects)
        .map(|(_, wanted)| async move {
            let looked = look::<KeyError>(stores, &wanted).await;
            (wanted.job, looked)
        })
        .buffered(LOOKS);
    while let Some((job, looked)) = looks.next().await {
        match looked {
            Ok(Look::Found(source, _)) => {
                result.done += 1;
                result.bytes += source.body_len().unwrap_or_default();
                let place = job.to.to_string();
                result.would.push((op, dataset.to_owned(), place));
            }
            Ok(Look::Skipped(why)) => result.skipped.push((job, why)),
            Err(error) => result.failed.push((job, error)),
        }
    }
}

/// What came of a plan.
#[derive(Default)]
struct Outcome {
    done: u64,
    bytes: u64,
    /// Done by an earlier run.
    earlier: u64,
    /// Of a dry run: what would be done.
    would: Vec<(Op, String, String)>,
    skipped: Vec<(Job, Skipped)>,
    failed: Vec<(Job, CopyError<KeyError>)>,
    /// Data keys whose object has no place: dataset, name, data key.
    unplaced: Vec<(String, Option<String>, String)>,
    aborted: Vec<Report>,
}

impl Outcome {
    fn add(&mut self, summary: Summary<KeyError>, skipped: Vec<(Job, Skipped)>) {
        self.done += summary.done;
        self.bytes += summary.bytes;
        self.failed.extend(summary.failed);
        self.skipped.extend(skipped);
        self.aborted
            .extend(summary.aborted.map(|error| error.report()));
    }

    /// Prints it; the worst failure ends the command.
    fn told(self, app: &App, dry: bool) -> Ended {
        let left: Vec<(String, String)> = self
            .skipped
            .iter()
            .map(|(job, why)| (job.to.to_string(), why.to_string()))
            .collect();
        let would: Vec<Value> = self
            .would
            .iter()
            .map(|(op, dataset, object)| {
                json!({ "op": op.name(), "dataset": dataset, "object": object })
            })
            .collect();
        for (op, dataset, object) in &self.would {
            app.out
                .line(format!("would {} {object} ({dataset})", op.name()))?;
        }
        let verb = if dry { "to do" } else { "done" };
        let text = format!(
            "{} {verb}, {}; {} done before, {} skipped, {} failed, {} without a place",
            self.done,
            HumanBytes(self.bytes),
            self.earlier,
            left.len(),
            self.failed.len(),
            self.unplaced.len(),
        );
        let skipped: Vec<Value> = left
            .iter()
            .map(|(object, why)| json!({ "object": object, "why": why }))
            .collect();
        let failed: Vec<Value> = self.failed.iter().map(failure).collect();
        let unplaced: Vec<Value> = self
            .unplaced
            .iter()
            .map(|(dataset, name, key)| json!({ "dataset": dataset, "name": name, "key": key }))
            .collect();
        let object = json!({
            "dry_run": dry, "done": self.done, "bytes": self.bytes, "earlier": self.earlier,
            "would": would, "skipped": skipped, "failed": failed, "unplaced": unplaced,
        });
        app.done(text, object)?;
        tell(
            left.iter()
                .map(|(object, why)| format!("skipped {object}: {why}")),
        );
        tell(self.unplaced.iter().map(|(dataset, name, key)| {
            let name = name.as_deref().unwrap_or("an object of unknown name");
            format!("left: {name} ({dataset}, {key}): its place is not known")
        }));
        self.ended(app)
    }

    fn ended(self, app: &App) -> Ended {
        let mut reports: Vec<Report> = self.aborted;
        reports.extend(self.failed.iter().map(|(_, error)| report(error)));
        if !self.unplaced.is_empty() {
            let what = format!("{} data keys are left as they are", self.unplaced.len());
            let report = Report::new(exit::NOT_FOUND, what)
                .why("the plan does not know their objects' places in S3")
                .next("find them, and encrypt them anew");
            reports.push(report);
        }
        ended(app, reports)
    }
}

/// Tells failures; the worst ends the command.
fn ended(app: &App, reports: Vec<Report>) -> Ended {
    let worst = reports
        .iter()
        .position(|report| report.exit == exit::INTEGRITY)
        .unwrap_or(0);
    let others = reports.iter().enumerate().filter(|(at, _)| *at != worst);
    for (_, report) in others.take(TOLD) {
        let _ = app.out.error(report);
    }
    if reports.len() > TOLD + 1 {
        talk(format!(
            "and {} more; --format json lists them all",
            reports.len() - TOLD - 1
        ));
    }
    let last = reports.into_iter().nth(worst);
    last.map_or(Ok(exit::DONE), Err)
}

/// One failed object in JSON.
fn failure((job, error): &(Job, CopyError<KeyError>)) -> Value {
    let report = report(error);
    json!({ "object": job.to.to_string(), "exit": report.exit, "why": report.why })
}

/// Says the first of many lines, and how many there are beside them.
fn tell(lines: impl ExactSizeIterator<Item = String>) {
    let more = lines.len().saturating_sub(TOLD);
    lines.take(TOLD).for_each(talk);
    if more > 0 {
        talk(format!("and {more} more; --format json lists them all"));
    }
}
