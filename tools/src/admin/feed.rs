//! The feed as an admin sees it: who has applied which denial, by each subscriber's own signature and
//! not by the broker's word (DEN-10).

mod records;
mod told;

use clap::Subcommand;
use client::cli::output::Printed;
use serde_json::{Value, json};
use ticket_format::cbor::Decode as _;
use ticket_format::denial::{Denial, Link};
use ticket_format::ids::{ChainDigest, DenialDigest, StatementDigest};
use ticket_format::limits;
use ticket_format::messages::feed::DENIAL;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Denied, DenyBody, FeedShow, FeedView, StatusShow};
use ticket_format::time::Timestamp;

use super::config::BrokerKeys;
use super::remote::{Admin, Remote};
use super::span::Span;
use super::view::text;
use super::{Context, block_on};

use records::{Expected, Unproven};
pub use told::{Silent, Told, print};

/// The feed.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Each subscriber's epoch, lag and lease
    Status,
}

/// A denial that was made, proven to be the one that was signed.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Its epoch.
    pub epoch: u64,
    /// The chain digest with it.
    pub chain: ChainDigest,
}

impl Mark {
    /// Takes the broker's answer for what it is: a denial of this body, by this statement, made since it
    /// was `signed`, kept for as long as it must be, and the link of the chain at its epoch.
    ///
    /// # Errors
    /// It is another denial, or not that link.
    pub fn of(
        denied: &Denied,
        body: &DenyBody,
        statement: StatementDigest,
        signed: Timestamp,
    ) -> Result<Self, Report> {
        // rule: DEN-10
        let other = |why: &str| {
            Report::new(
                exit::INTEGRITY,
                "the broker made another denial than was signed",
            )
            .why(why)
            .next("the denial may not stand: find out why, and deny again")
        };
        let denial =
            Denial::from_cbor(&denied.record, DENIAL).map_err(|error| other(&error.to_string()))?;
        if denial.selector != body.selector {
            return Err(other("it hits others"));
        }
        if denial.statement != statement {
            return Err(other("it names another statement"));
        }
        // rule: DEN-7 — a broker could name a time at which everybody forgets it.
        let since = signed.since(denial.made) <= limits::SKEW;
        if !denial.is_kept() || !since {
            return Err(other(
                "it would be forgotten before the tickets that it hits expire",
            ));
        }
        let link = Link {
            forget: denial.forget,
            record: DenialDigest::of(&denied.record),
        };
        if link.after(denied.before) != denied.chain {
            return Err(other("it is not the link of the chain at its epoch"));
        }
        Ok(Self {
            epoch: denied.epoch,
            chain: denied.chain,
        })
    }
}

/// The chain's digests from a known epoch on, each by its link.
#[derive(Debug)]
struct Chain {
    from: u64,
    digests: Vec<ChainDigest>,
}

impl Chain {
    /// From the mark to the head that the broker shows.
    ///
    /// # Errors
    /// The links do not lead there.
    fn walk(mark: &Mark, view: &FeedView) -> Result<Self, Report> {
        // rule: DEN-10
        let forked = |why: String| {
            Report::new(
                exit::INTEGRITY,
                "the broker's feed does not contain the denial",
            )
            .why(why)
            .next("the broker may show others another feed: ask who runs it, now")
        };
        let mut digests = vec![mark.chain];
        for link in &view.links {
            let last = digests.last().copied().unwrap_or(mark.chain);
            digests.push(link.after(last));
        }
        let head = mark.epoch.saturating_add(view.links.len() as u64);
        // More than a page has followed: where the head stands is then not seen yet.
        let all = view.links.len() < limits::EPOCHS;
        if all && (view.epoch != head || digests.last() != Some(&view.chain)) {
            return Err(forked(format!(
                "its links lead to epoch {head}, its head is {}",
                view.epoch
            )));
        }
        Ok(Self {
            from: mark.epoch,
            digests,
        })
    }

    /// The digest at an epoch; none before the mark, and none that is not seen yet.
    fn at(&self, epoch: u64) -> Option<ChainDigest> {
        let index = usize::try_from(epoch.checked_sub(self.from)?).ok()?;
        self.digests.get(index).copied()
    }
}

/// Whether one subscriber has proven that it applied the mark.
#[derive(Debug)]
enum Proof {
    Applied,
    Not(String),
}

fn proof(
    view: &FeedView,
    expected: &Expected,
    realm: &str,
    broker: &BrokerKeys,
    chain: &Chain,
) -> Result<Proof, Report> {
    // rule: DEN-10
    let Some(subscriber) = view.subscribers.iter().find(|one| one.key == expected.key) else {
        return Ok(Proof::Not("the broker does not name it".to_owned()));
    };
    let Some(last) = &subscriber.last else {
        return Ok(Proof::Not("not heard since the broker started".to_owned()));
    };
    let body = match last.verify(realm, &broker.tls_key, &expected.key) {
        Ok(body) => body,
        Err(error) => {
            return Err(Report::new(
                exit::INTEGRITY,
                format!(
                    "the acknowledgement shown for {} proves nothing",
                    expected.name
                ),
            )
            .why(error)
            .next("the broker made it up, or the record names another key: find out which"));
        }
    };
    if body.epoch < chain.from {
        return Ok(Proof::Not(format!("it has applied epoch {}", body.epoch)));
    }
    match chain.at(body.epoch) {
        Some(digest) if digest == body.chain => Ok(Proof::Applied),
        Some(_) => Err(Report::new(
            exit::INTEGRITY,
            format!(
                "{} follows another feed than the broker shows",
                expected.name
            ),
        )
        .why(format!(
            "its chain digest at epoch {} is another one",
            body.epoch
        ))
        .next("the broker shows different servers different denials: stop it")),
        None => Ok(Proof::Not(format!(
            "it has applied epoch {}, which is not shown yet",
            body.epoch
        ))),
    }
}

/// Waits until every subscriber that a dataset record names has proven that it applied the denial.
///
/// # Errors
/// Something that was shown does not hold.
pub async fn wait(
    context: &Context,
    admin: &Admin,
    remote: &mut Remote<'_>,
    broker: &BrokerKeys,
    mark: &Mark,
    limit: Span,
) -> Result<Option<Told>, Report> {
    let until = tokio::time::Instant::now() + std::time::Duration::from(limit);
    let set = admin.set().await?;
    let (expected, unproven) = records::expected(remote, set, admin.realm()).await?;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        // Half of the patience with a server, so that the answer comes before that ends.
        let most = (context.global.timeout() / 2).min(std::time::Duration::from_secs(30));
        let hold = u64::try_from(left.min(most).as_millis()).unwrap_or(limits::FEED_HOLD_MS);
        let view = remote
            .ask(&FeedShow {
                epoch: mark.epoch,
                hold_ms: hold.min(limits::FEED_HOLD_MS),
            })
            .await?;
        let chain = Chain::walk(mark, &view)?;
        let (mut applied, mut silent, mut slowest) = (0_u64, Vec::new(), None);
        for one in &expected {
            let shown = view.subscribers.iter().find(|shown| shown.key == one.key);
            match proof(&view, one, admin.realm(), broker, &chain)? {
                Proof::Applied => {
                    applied += 1;
                    slowest = slowest.max(shown.and_then(|shown| shown.applied_ms));
                }
                Proof::Not(why) => silent.push(Silent {
                    name: one.name.clone(),
                    key: Some(one.key),
                    datasets: one.datasets.clone(),
                    why,
                    lease_ms: shown.map_or(Some(one.lease.saturating_mul(1_000)), |shown| {
                        shown.lease_ms
                    }),
                }),
            }
        }
        if silent.is_empty() || left.is_zero() {
            silent.extend(unproven.iter().map(Silent::unproven));
            return Ok(Some(Told {
                applied,
                all: (expected.len() + unproven.len()) as u64,
                slowest,
                silent,
            }));
        }
    }
}

const COLUMNS: [&str; 8] = [
    "subscriber",
    "state",
    "epoch",
    "lag",
    "silent_ms",
    "lease_ms",
    "proven",
    "datasets",
];

/// Shows each subscriber's epoch, lag and lease.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: &Command) -> Printed {
    let Command::Status = command;
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.broker()?;
        let set = admin.set().await?;
        let (expected, unproven) = records::expected(&mut remote, set, admin.realm()).await?;
        let epoch = remote.ask(&StatusShow {}).await?.epoch;
        let view = remote.ask(&FeedShow { epoch, hold_ms: 0 }).await?;
        remote.close().await;
        let mut rows = Vec::new();
        for one in &expected {
            rows.push(row(&view, one, admin.realm(), &broker));
        }
        rows.extend(unproven.iter().map(|one| {
            let mut row = vec![Value::Null; COLUMNS.len()];
            row[0] = text(format!("the key server of {}", one.dataset));
            row[1] = text("unproven");
            row[6] = text(format!("NO: {}", one.why));
            row[7] = json!([one.dataset]);
            row
        }));
        context.output.rows("subscribers", &COLUMNS, rows)
    })
}

fn row(view: &FeedView, expected: &Expected, realm: &str, broker: &BrokerKeys) -> Vec<Value> {
    let shown = view.subscribers.iter().find(|one| one.key == expected.key);
    let last = shown.and_then(|shown| shown.last.as_ref());
    let said = last.map(|last| last.verify(realm, &broker.tls_key, &expected.key));
    let epoch = said
        .as_ref()
        .and_then(|said| said.as_ref().ok())
        .map(|body| body.epoch);
    let lag = epoch.map(|epoch| view.epoch.saturating_sub(epoch));
    let lease = shown.and_then(|shown| shown.lease_ms);
    let (state, proven) = match &said {
        None => ("unheard", "no"),
        Some(Err(_)) => ("false", "NO: the signature does not hold"),
        // The digest at the head is known; at an earlier epoch the signature alone speaks.
        Some(Ok(body)) if body.epoch == view.epoch && body.chain != view.chain => {
            ("forked", "NO: another feed")
        }
        Some(Ok(_)) if lease == Some(0) => ("no-lease", "yes"),
        Some(Ok(body)) if body.epoch < view.epoch => ("behind", "yes"),
        Some(Ok(_)) => ("current", "yes"),
    };
    vec![
        text(&expected.name),
        text(state),
        json!(epoch),
        json!(lag),
        json!(shown.and_then(|shown| shown.silent_ms)),
        json!(lease),
        text(proven),
        json!(expected.datasets),
    ]
}

#[cfg(test)]
mod tests;
