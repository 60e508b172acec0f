//! `postern-admin audit monitor`: follows logs, and holds them to what was seen before, to their
//! witnesses, and to each other.

mod book;
mod laws;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use client::cli::output::{Format, Output, Printed};
use serde_json::{Map, Value, json};
use store::hooks::{Hook, HookLimits};
use ticket_format::report::{Report, exit};
use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, SignedCheckpoint, WitnessPolicy};

use super::cursor::{Cursor, Record, Stopped, Visit};
use super::links::{self, Before, Order};
use super::published::{Fault, Finding, Published, What};
use super::which::{Which, Witnessed};
use crate::admin::Context;
use crate::admin::span::Span;
use crate::admin::view::{object, text};

use book::{Book, Followed, Round};
use laws::{Breach, Said};

/// How long a log's tiles may lag behind what was answered (TLOG-11), with room.
const LAG: Duration = Duration::from_secs(3);
/// How many rounds a newest checkpoint may lack witnesses: they follow it.
const UNWITNESSED: u32 = 3;

/// Follow logs and raise alarms.
#[derive(Debug, Args)]
pub struct Monitor {
    /// Which logs; --log may be repeated
    #[command(flatten)]
    which: Which,
    /// Whether witnesses must have cosigned
    #[command(flatten)]
    witnessed: Witnessed,
    /// What was seen, kept between runs [default: nothing is kept]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Look once, and end: exit 0, or 9 when there was an alarm
    #[arg(long)]
    once: bool,
    /// How long between two looks
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: Span,
    /// A program that is told of each alarm by a JSON line on its stdin; with its arguments, after `--`
    #[arg(last = true, value_name = "HOOK")]
    hook: Vec<String>,
}

/// Where alarms go.
struct Alarms {
    output: Output,
    hook: Hook,
    raised: u64,
}

impl Alarms {
    fn raise(&mut self, alarm: Map<String, Value>) -> Printed {
        self.raised += 1;
        let mut line = Map::from_iter([("v".to_owned(), json!(1))]);
        line.extend(alarm.clone());
        self.hook.tell(Value::Object(line).to_string());
        self.output.object(alarm)
    }
}

/// A log, as it is followed.
struct Log {
    log: Published,
    broker: bool,
    /// Rounds in which its newest checkpoint lacked witnesses.
    unwitnessed: u32,
}

pub(super) fn run(context: &Context, args: &Monitor) -> Printed {
    let policy = args.witnessed.policy()?;
    let logs = args.which.all(context)?;
    let role = |log: &Published| log.key().origin.as_str().rsplit('/').nth(1) == Some("broker");
    let mut logs: Vec<Log> = logs
        .into_iter()
        .map(|log| Log {
            broker: role(&log),
            log,
            unwitnessed: 0,
        })
        .collect();
    // What a key server's log says rests on a broker's: that one is read after it.
    logs.sort_by_key(|log| log.broker);
    store::hooks::check(&args.hook)
        .map_err(|error| Report::new(exit::USAGE, "the hook cannot be used").why(error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Report::new(exit::LOCAL, "cannot start").why(error))?;
    let hook = {
        let _inside = runtime.enter();
        Hook::new(args.hook.clone(), HookLimits::default())
            .map_err(|error| Report::new(exit::USAGE, "the hook cannot be used").why(error))?
    };
    let mut alarms = Alarms {
        output: Output {
            format: Format::Jsonl,
            ..context.output
        },
        hook: hook.clone(),
        raised: 0,
    };
    let mut book = Book::open(args.state.as_deref())?;
    let result = rounds(
        context,
        args,
        &mut logs,
        policy.as_ref(),
        &mut book,
        &mut alarms,
    );
    if args.once {
        // What was told last is still on its way to the hook.
        let told = alarms.raised;
        for _ in 0..100 {
            let counts = hook.counts();
            if args.hook.is_empty() || counts.run + counts.failed + counts.dropped >= told {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    runtime.block_on(hook.shutdown());
    result
}

fn rounds(
    context: &Context,
    args: &Monitor,
    logs: &mut [Log],
    policy: Option<&WitnessPolicy>,
    book: &mut Book,
    alarms: &mut Alarms,
) -> Printed {
    let brokers = logs.iter().filter(|log| log.broker).count();
    if brokers == 0 {
        context.talk("No broker's log is among them: whether tickets were issued is not checked");
    }
    context.talk("Not checked, because no log tells it: what policies would decide on a node's attributes and on contexts; which denial hits whom; a dataset policy's digest");
    let mut done = Done::default();
    loop {
        let mut retry = None;
        for pass in 0..2 {
            for log in logs.iter_mut() {
                match look(log, policy, book, alarms, args.once) {
                    Ok(seen) => done.add(&log.log, seen),
                    Err(report) if report.exit == exit::RETRY => {
                        tracing::warn!(%report, "a log cannot be read; it is tried again");
                        retry = Some(report);
                    }
                    Err(report) => return Err(report),
                }
            }
            // An issue may be published a moment after the redemption that rests on it.
            let late = book.judge(brokers > 0, pass > 0, |breach| {
                alarms.raise(breach.object())
            })?;
            let waits = late > 0 || logs.iter().any(|log| log.unwitnessed > 0);
            if !waits || pass > 0 {
                break;
            }
            thread::sleep(LAG);
        }
        if args.once {
            if let Some(report) = retry {
                return Err(report);
            }
            context.talk(done.words());
            return match alarms.raised {
                0 => Ok(()),
                many => Err(Report::new(exit::INTEGRITY, format!("{many} alarm(s)"))
                    .why("the logs do not bear each other out, or are not what they were")
                    .next("look at the entries by `postern-admin audit query --index`, and keep copies of the logs")),
            };
        }
        thread::sleep(args.interval.into());
    }
}

/// What was looked at.
#[derive(Default)]
struct Done(BTreeMap<String, (u64, u64)>);

impl Done {
    fn add(&mut self, log: &Published, (entries, end): (u64, u64)) {
        let one = self.0.entry(log.key().origin.to_string()).or_default();
        *one = (one.0 + entries, end);
    }

    fn words(&self) -> String {
        let logs = self.0.iter().map(|(origin, (entries, end))| {
            format!("{origin}: {entries} new entries, {end} in all")
        });
        logs.collect::<Vec<_>>().join("; ")
    }
}

/// Reads what is new of a log. How many entries that were, and how many it has.
fn look(
    log: &mut Log,
    policy: Option<&WitnessPolicy>,
    book: &mut Book,
    alarms: &mut Alarms,
    once: bool,
) -> Result<(u64, u64), Report> {
    let origin = log.log.key().origin.to_string();
    let place = log.log.place();
    let mut round = book.round()?;
    let mut followed = match round.followed(&log.log)? {
        Some(followed) => followed,
        None => match Cursor::start(&log.log) {
            Ok(cursor) => {
                // What happened before the part that is still there cannot be known.
                round.begins(&origin, cursor.index() == 0)?;
                Followed::new(cursor)
            }
            Err(Fault::Found(finding)) => {
                found(&origin, &finding, &mut round, alarms)?;
                round.commit()?;
                return Ok((0, 0));
            }
            Err(fault) => return Err(fault.report(&place)),
        },
    };
    let from = followed.cursor.index();
    let mut cursor = followed.cursor.clone();
    let mut reading = Reading {
        origin: &origin,
        broker: log.broker,
        policy,
        round: &mut round,
        alarms,
        order: followed.order.clone(),
        before: None,
        signed: Timestamp::default(),
        unwitnessed: None,
    };
    let stopped = match cursor.advance(&log.log, &mut reading) {
        Ok(()) => None,
        Err(Stopped::Log(Fault::Found(finding))) => Some(finding),
        Err(stopped) => return Err(stopped.report(&place)),
    };
    let (order, unwitnessed) = (reading.order, reading.unwitnessed);
    log.unwitnessed = match (&unwitnessed, &stopped) {
        (Some(_), None) => log.unwitnessed + 1,
        _ => 0,
    };
    let rounds = if once { 2 } else { UNWITNESSED };
    let impatient = log.unwitnessed >= rounds;
    for finding in stopped
        .iter()
        .chain(unwitnessed.iter().filter(|_| impatient))
    {
        found(&origin, finding, &mut round, alarms)?;
    }
    let end = cursor.index();
    if stopped.is_none() {
        // Else it is held against what was seen of it before, again and again.
        followed = Followed { cursor, order };
    }
    round.keep(&origin, &followed)?;
    round.commit()?;
    Ok((end.saturating_sub(from), end))
}

/// A log's new entries, as they are read.
struct Reading<'r, 'b> {
    origin: &'r str,
    broker: bool,
    policy: Option<&'r WitnessPolicy>,
    round: &'r mut Round<'b>,
    alarms: &'r mut Alarms,
    order: Order,
    /// The shard that was left for the one that is read.
    before: Option<Before>,
    /// When the checkpoint over the entries was signed.
    signed: Timestamp,
    unwitnessed: Option<Finding>,
}

impl Visit for Reading<'_, '_> {
    type Error = Stopped;

    fn checkpoint(
        &mut self,
        signed: &SignedCheckpoint,
        left: Option<&Checkpoint>,
    ) -> Result<(), Stopped> {
        self.signed = signed.time();
        if let Some(left) = left {
            self.before = Some(Before {
                checkpoint: left.clone(),
                entries: 0,
                closed: Some(self.order.closed()),
            });
            self.order = Order::after(self.order.latest());
        }
        // rule: TLOG-8
        let checked = self.policy.map_or(Ok(()), |policy| policy.check(signed));
        let shard = signed.checkpoint().shard.number;
        self.unwitnessed = checked
            .err()
            .map(|error| Finding::new(What::Unwitnessed, shard, error.to_string()));
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), Stopped> {
        let mut findings = Vec::new();
        if let Some(entry) = &record.entry {
            if record.place == 0 {
                let mut before = self.before.take();
                if let Some(before) = &mut before {
                    before.entries = record.index;
                }
                links::opened(record.shard, entry, before.as_ref(), &mut findings);
            }
            let next = self
                .order
                .next(record.shard, record.place, entry, self.signed);
            findings.extend(next);
        } else {
            let why = "it is no audit entry";
            findings.push(Finding::new(What::Malformed, record.shard, why).at(record.place));
        }
        for finding in &findings {
            found(self.origin, finding, self.round, self.alarms)?;
        }
        let Some(entry) = &record.entry else {
            return Ok(());
        };
        let said = Said {
            log: self.origin,
            index: record.index,
            entry,
        };
        if self.broker {
            for breach in self.round.of_broker(&said)? {
                self.alarms.raise(breach.object())?;
            }
        } else {
            self.round.of_key_server(&said, &record.bytes)?;
        }
        Ok(())
    }
}

/// Raises the alarm of something that is wrong with a log itself, once.
fn found(origin: &str, finding: &Finding, round: &mut Round<'_>, alarms: &mut Alarms) -> Printed {
    if !round.first(&format!("{origin} {finding}"))? {
        return Ok(());
    }
    alarms.raise(object! {
        "alarm": finding.what.name(),
        "log": origin,
        "shard": finding.shard,
        "shard_index": finding.entry,
        "why": finding.why,
    })
}

impl Breach {
    /// As a line.
    fn object(&self) -> Map<String, Value> {
        object! {
            "alarm": self.alarm,
            "log": self.log,
            "index": self.index,
            "act": text(self.act),
            "time": text(self.time),
            "why": self.why,
        }
    }
}
