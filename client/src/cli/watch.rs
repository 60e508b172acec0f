//! `watch`, and the watch over a long copy: on a denial the ticket, its keys and the data keys held by
//! it are erased, and only then is the server told (WIP-2).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use ticket_format::ids::TicketHash;
use ticket_format::report::{Report, exit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::app::{App, Ended, Patience, now, rng, talk};
use super::args::Watch;
use super::output::{Format, Output, Printed};
use crate::Error;
use crate::issue::Opened;
use crate::keys::DatasetKeys;
use crate::s3::copy::{Job, Progress};
use crate::state::NodeState;
use crate::watch::{self, Denied, Watched};

/// Between two looks into the wallet for tickets that came meanwhile. Denials need no look: one
/// request is always open for each ticket.
const LOOK: Duration = Duration::from_secs(15);
/// How long the server is tried to be told of a wipe.
const WAIT: Duration = Duration::from_secs(30);
/// A copy that takes longer than this watches its ticket.
const SHORT: Duration = Duration::from_secs(2);

/// What one watch came to.
type Outcome = (Watched, Result<watch::Ended, Error>);

/// `postern watch`.
pub async fn watch(app: &App, args: &Watch) -> Ended {
    let mut watching = Watching {
        app,
        args,
        patience: app.patience(WAIT)?.left(),
        seen: HashSet::new(),
        tasks: JoinSet::new(),
        denied: 0,
        failed: None,
    };
    watching.look()?;
    if watching.tasks.is_empty() {
        let why = match args.dataset.as_slice() {
            [] => "the wallet holds no live ticket",
            _ => "the wallet holds no live ticket to these datasets",
        };
        return Err(Error::NoTicket(why).report());
    }
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => watching.look_again(),
            ended = watching.tasks.join_next() => match ended {
                Some(Ok(outcome)) => watching.ended(outcome).await?,
                Some(Err(error)) if error.is_panic() => {
                    std::panic::resume_unwind(error.into_panic())
                }
                Some(Err(_)) => {}
                None => {
                    // Nothing is watched any more; perhaps a renewed ticket is there by now.
                    watching.look_again();
                    if watching.tasks.is_empty() {
                        return watching.over();
                    }
                }
            }
        }
    }
}

struct Watching<'a> {
    app: &'a App,
    args: &'a Watch,
    patience: Duration,
    seen: HashSet<TicketHash>,
    tasks: JoinSet<Outcome>,
    denied: u64,
    failed: Option<Report>,
}

impl Watching<'_> {
    /// Begins to watch what the wallet holds and is not watched yet.
    fn look(&mut self) -> Printed {
        for ticket in tickets(self.app, &self.args.dataset)? {
            if self.seen.insert(ticket.hash()) {
                event(self.app, "watching", &ticket, Map::new())?;
                self.tasks.spawn(async move {
                    let ended = ticket.until_denied(now).await;
                    (ticket, ended)
                });
            }
        }
        Ok(())
    }

    fn look_again(&mut self) {
        // Without state or wallet there is nothing new; what is watched is watched on.
        if let Err(report) = self.look() {
            tracing::info!(%report, "the wallet was not looked into");
        }
    }

    async fn ended(&mut self, (ticket, ended): Outcome) -> Printed {
        match ended {
            Ok(watch::Ended::Expired) => event(self.app, "expired", &ticket, Map::new()),
            Ok(watch::Ended::Denied(denied)) => {
                self.denied += 1;
                let more = Map::from_iter([
                    ("epoch".to_owned(), json!(denied.epoch)),
                    ("reason".to_owned(), json!(denied.reason)),
                ]);
                // rule: WIP-2 — erased first: a reader of events that is gone must not keep a key alive.
                let node = ticket.dataset_name().is_none();
                let patience = Patience::of(self.patience);
                let mut erased = erase(self.app, patience, &ticket).await?;
                event(self.app, "denied", &ticket, more)?;
                if node && self.args.forget {
                    let dir = self.app.state_dir()?;
                    let _lock = patience.lock(|| NodeState::lock(&dir)).await?;
                    NodeState::remove(&dir)?;
                    erased += 1;
                }
                self.tell(ticket, &denied, erased).await
            }
            Err(error) => {
                let mut report = error.report();
                report.what = format!("{} is not watched any more: {}", name(&ticket), report.what);
                let _ = self.app.out.error(&report);
                self.failed = Some(report);
                Ok(())
            }
        }
    }

    async fn tell(&self, ticket: Watched, denied: &Denied, erased: u64) -> Printed {
        let said = Said::of(&ticket);
        match ticket.wipe(denied, erased, now(), self.patience).await {
            Ok(logged) => {
                let shard = &logged.checkpoint.checkpoint().shard;
                let more = Map::from_iter([
                    ("erased".to_owned(), json!(erased)),
                    ("entry".to_owned(), json!(logged.index)),
                    ("shard".to_owned(), json!(shard.to_string())),
                ]);
                said.event(self.app, "wiped", more)
            }
            Err(error) => {
                let more = Map::from_iter([
                    ("erased".to_owned(), json!(erased)),
                    ("not_told".to_owned(), json!(error.to_string())),
                ]);
                said.event(self.app, "erased", more)
            }
        }
    }

    fn over(self) -> Ended {
        match self.failed {
            _ if self.denied > 0 => Ok(exit::DENIED),
            Some(report) => Ok(report.exit),
            None => Ok(exit::NO_TICKET),
        }
    }
}

/// The wallet's live tickets: all, or those to these datasets.
fn tickets(app: &App, datasets: &[String]) -> Result<Vec<Watched>, Report> {
    let (state, wallet) = app.open()?;
    let mut found = Vec::new();
    if let (Some(session), []) = (&wallet.node, datasets) {
        found.push(Watched::node(session, &state.pins, app.logs()?)?);
    }
    for session in &wallet.datasets {
        let wanted = datasets.is_empty() || datasets.contains(&session.dataset);
        // One that has expired is not watched; one that does not hold is not used either.
        if let (true, Ok(opened)) = (wanted, Opened::check(session, &state.pins, now())) {
            found.push(Watched::dataset(session, &opened, app.logs()?));
        }
    }
    found.retain(|ticket| now() < ticket.expires());
    Ok(found)
}

/// Takes a ticket and its session keys out of the wallet, and the wallet away with the last one. How
/// many keys there were.
async fn erase(app: &App, patience: Patience, ticket: &Watched) -> Result<u64, Report> {
    // rule: WIP-2
    let state = app.state()?;
    let file = app.wallet_file()?;
    let lock = patience.lock(|| file.lock()).await?;
    let mut wallet = file.load(&state.wallet_key)?;
    let found = wallet.erase(ticket.hash());
    if wallet.is_empty() {
        file.remove(&lock)?;
    } else if found {
        file.save(&lock, &wallet, &state.wallet_key, &mut rng())?;
    }
    // Its proof and sealing key; or, where another ticket has taken its place already, the copy of
    // the proof key that the watch holds.
    Ok(if found { 2 } else { 1 })
}

fn name(ticket: &Watched) -> String {
    match ticket.dataset_name() {
        Some(dataset) => format!("the ticket to {dataset}"),
        None => "the node ticket".to_owned(),
    }
}

fn event(app: &App, word: &str, ticket: &Watched, more: Map<String, Value>) -> Printed {
    Said::of(ticket).event(app, word, more)
}

/// What every event says of its ticket.
struct Said {
    name: String,
    object: Map<String, Value>,
}

impl Said {
    fn of(ticket: &Watched) -> Self {
        let object = Map::from_iter([
            ("ticket".to_owned(), json!(ticket.id().to_string())),
            ("dataset".to_owned(), json!(ticket.dataset_name())),
            ("expires".to_owned(), json!(ticket.expires().to_string())),
        ]);
        Self {
            name: name(ticket),
            object,
        }
    }

    /// One line: for people, or one JSON object.
    fn event(self, app: &App, word: &str, more: Map<String, Value>) -> Printed {
        let mut text = format!("{word}: {}", self.name);
        let id = self.object.get("ticket").and_then(Value::as_str);
        text += &format!(" ({})", id.unwrap_or_default());
        for (name, value) in &more {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => continue,
                other => other.to_string(),
            };
            text += &format!(", {} {value}", name.replace('_', " "));
        }
        if app.out.format == Format::Text {
            return app.out.line(ticket_format::report::Printable(&text));
        }
        let mut object = Map::from_iter([("event".to_owned(), json!(word))]);
        object.extend(self.object);
        object.extend(more);
        let lines = Output {
            format: Format::Jsonl,
            ..app.out
        };
        lines.object(object)
    }
}

/// Tells when the last task of a copy is gone, and with it the data keys that it held.
struct Alive {
    inner: Arc<dyn Progress>,
    _alive: mpsc::Sender<()>,
}

impl Progress for Alive {
    fn begin(&self, job: &Job, len: Option<u64>) {
        self.inner.begin(job, len);
    }

    fn advance(&self, bytes: u64) {
        self.inner.advance(bytes);
    }

    fn end(&self, job: &Job, failure: Option<&dyn std::error::Error>) {
        self.inner.end(job, failure);
    }
}

/// Does work with the data keys of a ticket, and ends the connection after it. When it takes long
/// the ticket is watched: on its denial the work is dropped where it stands, ticket and keys are
/// erased, and the key server is told.
///
/// # Errors
/// The ticket was denied meanwhile.
pub async fn unless_denied<T>(
    app: &App,
    keys: DatasetKeys,
    progress: Arc<dyn Progress>,
    work: impl AsyncFnOnce(&DatasetKeys, &Arc<dyn Progress>) -> T,
) -> Result<T, Report> {
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let progress: Arc<dyn Progress> = Arc::new(Alive {
        inner: progress,
        _alive: alive,
    });
    let ticket = keys.watched();
    let denial = async {
        tokio::time::sleep(SHORT).await;
        match ticket.until_denied(now).await {
            Ok(watch::Ended::Denied(denied)) => return denied,
            Ok(watch::Ended::Expired) => {}
            // The work goes on: the key server checks every request itself.
            Err(error) => tracing::warn!(%error, "the ticket is not watched"),
        }
        std::future::pending().await
    };
    let denied = tokio::select! {
        biased;
        done = work(&keys, &progress) => Err(done),
        denied = denial => Ok(denied),
    };
    let denied = match denied {
        Err(done) => {
            // What was decrypted is not to be used where the log turns out to be two.
            keys.close().await?;
            return Ok(done);
        }
        Ok(denied) => denied,
    };
    // The work is dropped. Its tasks end at their next step.
    drop(progress);
    let _ = gone.recv().await;
    let deks = keys.released();
    if let Err(error) = keys.close().await {
        talk(error);
    }
    let patience = app.patience(WAIT)?;
    let erased = erase(app, patience, &ticket).await? + deks;
    let report = Report::new(exit::DENIED, format!("{} was denied", name(&ticket)))
        .why(denied.reason.as_deref().unwrap_or("no reason is given"))
        .next("ask an admin; ticket and keys are erased here");
    match ticket.wipe(&denied, erased, now(), patience.left()).await {
        Ok(logged) => talk(format!(
            "{erased} keys are erased, entry {} of {}",
            logged.index,
            logged.checkpoint.checkpoint().shard
        )),
        Err(error) => talk(format!("{erased} keys are erased; not told: {error}")),
    }
    Err(report)
}
