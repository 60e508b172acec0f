//! `rewrap s3://bucket/prefix`: every object's wrap under the current KEK version.

use std::collections::BTreeMap;

use indicatif::HumanBytes;
use serde_json::{Value, json};
use ticket_format::Refusal;
use ticket_format::ids::ItemDigest;
use ticket_format::report::{Report, exit};
use ticket_format::ticket::Action;

use super::journal::Journal;
use super::{ended, failure};
use crate::Error;
use crate::cli::app::{App, Ended, now, talk};
use crate::cli::args::Rewrap;
use crate::cli::copy::{parallel, report};
use crate::cli::issue::{BUDGET, MARGIN, Need, fresh_keys, keys};
use crate::cli::plan::store_report;
use crate::cli::progress::Looking;
use crate::cli::settings::Setting;
use crate::keys::{DatasetKeys, KeyError};
use crate::object::keys::{NewWrap, WrapItem, WrapSource as _};
use crate::s3::Location;
use crate::s3::copy::prefix::{Position, Prefix, Rewrapper, Stopped, Tally, rewrap_prefix, survey};

/// Objects that get their wraps at one time, unless set: their bodies do not come here.
const PARALLEL: usize = 16;

/// `postern rewrap s3://…`.
pub async fn rewrap(app: &App, args: &Rewrap, place: &Location) -> Ended {
    let usage = |why: &str| Report::new(exit::USAGE, "nothing was rewrapped").why(why);
    let Location::S3 { bucket, key } = place else {
        return Err(usage("only what lies under s3://bucket/prefix can be"));
    };
    let dataset = match args.dataset.as_slice() {
        [] => None,
        [one] => Some(one.as_str()),
        _ => return Err(usage("with a prefix only one --dataset can be given")),
    };
    let parallel = app.settings.parse(Setting::Parallel, parallel)?;
    let stores = app.stores()?;
    let need = Need {
        dataset,
        action: Action::Rewrap,
        budget: BUDGET,
        accept_unsigned: false,
    };
    let keys = keys(app, &need).await?;
    let prefix = Prefix {
        bucket: bucket.clone(),
        prefix: key.clone(),
        dataset: keys.opened().claims.dataset,
        parallel: parallel.unwrap_or(PARALLEL),
    };
    let told = Told {
        app,
        place: place.to_string(),
        dataset: keys.opened().claims.dataset_name.clone(),
        dry: args.dry_run,
    };
    let mut looking = Looking::new(args.quiet);
    if args.dry_run {
        let recorded = keys.opened().record.kek_version;
        let tell = |tally: &Tally<KeyError>| looking.tell(tally.looked, 0);
        let tally = survey(&stores, &prefix, tell).await;
        let tally = tally.map_err(|error| store_report("nothing was looked at", &error));
        keys.close().await?;
        drop(looking);
        return told.survey(tally?, recorded);
    }
    let path = match &args.journal {
        Some(path) => path.clone(),
        None => Journal::place(&app.state_dir()?, &told.place, prefix.dataset),
    };
    let (journal, earlier) = Journal::open(path, &told.place, prefix.dataset)?;
    if let Some(after) = earlier.as_ref().and_then(|earlier| earlier.after.as_ref()) {
        talk(format!("going on after s3://{bucket}/{after}"));
    }
    let mut tickets = Tickets {
        app,
        keys: Some(keys),
        journal,
        looking,
        stop: None,
    };
    let position = earlier.unwrap_or_default();
    let (tally, stopped) = rewrap_prefix(&stores, &prefix, position, &mut tickets).await;
    let Tickets {
        keys,
        journal,
        stop,
        ..
    } = tickets;
    let closed = match keys {
        Some(keys) => keys.close().await,
        None => Ok(()),
    };
    let mut reports = Vec::new();
    reports.extend(stopped.err().map(|stopped| told.stopped(stopped)));
    reports.extend(stop);
    reports.extend(closed.err().map(|error| error.report()));
    if reports.is_empty() && tally.failed.is_empty() && !tally.unsteady {
        reports.extend(journal.end().err());
    }
    told.done(tally, reports)
}

/// The key server, by one ticket after another.
struct Tickets<'a> {
    app: &'a App,
    keys: Option<DatasetKeys>,
    journal: Journal,
    looking: Looking,
    /// Why it cannot go on, where that showed after some wraps had been made.
    stop: Option<Report>,
}

impl Tickets<'_> {
    /// Lets go of the ticket, and gets the next.
    async fn next_ticket(&mut self) -> Result<(), Report> {
        let Some(keys) = self.keys.take() else {
            return Err(Error::NoTicket("there is no dataset ticket to use").report());
        };
        let dataset = keys.opened().claims.dataset_name.clone();
        keys.close().await?;
        let need = Need {
            dataset: Some(&dataset),
            action: Action::Rewrap,
            budget: BUDGET,
            accept_unsigned: false,
        };
        self.keys = Some(fresh_keys(self.app, &need, &dataset).await?);
        tracing::info!("the ticket was used up, or about to end: got another");
        Ok(())
    }

    async fn ask(&self, items: Vec<WrapItem>) -> Result<Vec<Result<NewWrap, KeyError>>, KeyError> {
        let Some(keys) = &self.keys else {
            return Err(Error::NoTicket("there is no dataset ticket to use").into());
        };
        let asked = items.len();
        let answers = keys.wrap_anew(items).await?;
        if answers.len() != asked {
            let why = "it answered for another number of objects than it was asked for";
            return Err(Error::answer("key server", why).into());
        }
        Ok(answers)
    }

    fn about_to_end(&self) -> bool {
        let soon = now().plus(MARGIN);
        let ends = |keys: &DatasetKeys| keys.opened().claims.common.expires <= soon;
        self.keys.as_ref().is_none_or(ends)
    }
}

/// Whether another ticket would do.
fn over(error: &Error) -> bool {
    matches!(
        error.refusal(),
        Some(Refusal::Budget | Refusal::TicketExpired)
    )
}

impl Rewrapper for Tickets<'_> {
    type Error = KeyError;
    type Stop = Report;

    async fn confirm(&mut self, placed: Vec<ItemDigest>) -> Result<(), Report> {
        let fresh = self.about_to_end();
        if fresh {
            self.next_ticket().await?;
        }
        let told = match &self.keys {
            Some(keys) => keys.confirm(placed.clone()).await,
            None => return Err(Error::NoTicket("there is no dataset ticket to use").report()),
        };
        match told {
            Err(KeyError::Exchange(error)) if over(&error) && !fresh => {
                self.next_ticket().await?;
                let Some(keys) = &self.keys else {
                    return Ok(());
                };
                keys.confirm(placed).await.map_err(|error| error.report())
            }
            told => told.map_err(|error| error.report()),
        }
    }

    /// A ticket that is used up, or ends, is followed by another; one that is refused at once is not.
    async fn wrap_anew(
        &mut self,
        items: Vec<WrapItem>,
    ) -> Result<Vec<Result<NewWrap, KeyError>>, Report> {
        if let Some(stop) = self.stop.take() {
            return Err(stop);
        }
        let mut answers: Vec<Option<NewWrap>> = vec![None; items.len()];
        let mut refused: BTreeMap<usize, KeyError> = BTreeMap::new();
        let mut open: Vec<usize> = (0..items.len()).collect();
        let mut fresh = self.about_to_end();
        if fresh {
            self.next_ticket().await?;
        }
        while !open.is_empty() {
            let asked: Vec<WrapItem> = open.iter().map(|at| items[*at].clone()).collect();
            let left = match self.ask(asked).await {
                Ok(given) => {
                    let mut left = Vec::new();
                    for (at, answer) in open.iter().copied().zip(given) {
                        match answer {
                            Ok(wrap) => answers[at] = Some(wrap),
                            Err(KeyError::Refused(Refusal::Budget)) => left.push(at),
                            Err(error) => {
                                refused.insert(at, error);
                            }
                        }
                    }
                    left
                }
                Err(KeyError::Exchange(error)) if over(&error) && !fresh => open.clone(),
                Err(error) => {
                    self.stop = Some(error.report());
                    break;
                }
            };
            if left.is_empty() {
                break;
            }
            if fresh && left.len() == open.len() {
                self.stop = Some(KeyError::Refused(Refusal::Budget).report());
                break;
            }
            open = left;
            if let Err(report) = self.next_ticket().await {
                self.stop = Some(report);
                break;
            }
            fresh = true;
        }
        // Wraps that were made are not let go of: the run stops at the next exchange.
        if answers.iter().all(Option::is_none)
            && let Some(stop) = self.stop.take()
        {
            return Err(stop);
        }
        let answers = answers.into_iter().enumerate();
        let answer = |(at, answer): (usize, Option<NewWrap>)| match answer {
            Some(wrap) => Ok(wrap),
            None => Err(refused
                .remove(&at)
                .unwrap_or(KeyError::Refused(Refusal::Budget))),
        };
        Ok(answers.map(answer).collect())
    }

    fn keep(&mut self, position: &Position) -> Result<(), Report> {
        self.journal.keep(position)
    }

    fn tell(&mut self, tally: &Tally<KeyError>) {
        self.looking.tell(tally.looked, tally.done.objects);
    }
}

/// How the result is told.
struct Told<'a> {
    app: &'a App,
    place: String,
    dataset: String,
    dry: bool,
}

impl Told<'_> {
    fn stopped(&self, stopped: Stopped<Report>) -> Report {
        match stopped {
            Stopped::List(error) => {
                store_report(&format!("{} cannot be listed", self.place), &error)
            }
            Stopped::Rewrapper(report) => report,
            Stopped::TooManyFailed => Report::new(exit::LOCAL, "too many objects failed")
                .why("something is wrong with all of them; the first are told of")
                .next("mend it, and run it again: what is done stays done"),
        }
    }

    /// Of a dry run: versions before the newest that is known.
    fn survey(&self, tally: Tally<KeyError>, recorded: u64) -> Ended {
        let newest = tally.versions.keys().map(|(version, _)| *version).max();
        let newest = newest.unwrap_or_default().max(recorded);
        self.tell(tally, Some(newest), Vec::new())
    }

    fn done(&self, tally: Tally<KeyError>, reports: Vec<Report>) -> Ended {
        self.tell(tally, None, reports)
    }

    fn tell(&self, tally: Tally<KeyError>, newest: Option<u64>, mut reports: Vec<Report>) -> Ended {
        let older = |version: u64| newest.is_some_and(|newest| version < newest);
        let would = tally
            .versions
            .iter()
            .filter(|((version, _), _)| older(*version));
        let (objects, bytes) = would.fold((0, 0), |(objects, bytes), (_, count)| {
            (objects + count.objects, bytes + count.bytes)
        });
        let done = if self.dry {
            (objects, bytes)
        } else {
            (tally.done.objects, tally.done.bytes)
        };
        let rows: Vec<Value> = tally
            .versions
            .iter()
            .map(|((version, kek), count)| {
                json!({
                    "version": version, "kek": kek.to_string(),
                    "objects": count.objects, "bytes": count.bytes,
                })
            })
            .collect();
        for ((version, _), count) in &tally.versions {
            let would = if older(*version) {
                ", would be rewrapped"
            } else {
                ""
            };
            self.app.out.line(format!(
                "v{version}: {} objects, {}{would}",
                count.objects,
                HumanBytes(count.bytes)
            ))?;
        }
        let verb = if self.dry { "to do" } else { "rewrapped" };
        let under = match (tally.kek, newest) {
            (Some((version, _)), _) | (None, Some(version)) => format!(" under v{version}"),
            (None, None) => String::new(),
        };
        let text = format!(
            "{} {verb}{under}, {}; {} looked at: {} current, {} plain, {} recoveries, \
             {} of other datasets, {} gone, \
             {} failed",
            done.0,
            HumanBytes(done.1),
            tally.looked,
            if self.dry {
                tally
                    .versions
                    .values()
                    .map(|count| count.objects)
                    .sum::<u64>()
                    - objects
            } else {
                tally.current
            },
            tally.plain,
            tally.recoveries,
            tally.others,
            tally.gone,
            tally.failed.len(),
        );
        let failed: Vec<Value> = tally.failed.iter().map(failure).collect();
        let kek = tally
            .kek
            .map(|(version, kek)| json!({ "version": version, "kek": kek.to_string() }));
        let object = json!({
            "dry_run": self.dry, "place": self.place, "dataset": self.dataset, "kek": kek,
            "newest": newest, "done": done.0, "bytes": done.1, "looked": tally.looked,
            "current": tally.current, "plain": tally.plain,
            "recoveries": tally.recoveries, "others": tally.others,
            "gone": tally.gone, "versions": rows, "failed": failed,
        });
        self.app.done(text, object)?;
        reports.extend(tally.failed.iter().map(|(_, error)| report(error)));
        if tally.unsteady {
            let what = "there may be more to do";
            let report = Report::new(exit::RETRY, what)
                .why("the dataset got new KEK versions all the while")
                .next("run it again");
            reports.push(report);
        }
        if tally.looked == 0 && tally.done.objects == 0 && reports.is_empty() {
            let what = format!("there is no object under {}", self.place);
            reports.push(Report::new(exit::NOT_FOUND, what));
        }
        ended(self.app, reports)
    }
}
