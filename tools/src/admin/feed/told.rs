//! What is told of a denial that was waited for.

use client::cli::output::{Format, Printed};
use serde_json::{Map, Value, json};
use ticket_format::keys::ServerKey;
use ticket_format::report::{Printable, Report, exit};

use super::Unproven;
use crate::admin::Context;

/// A subscriber that has not proven that it applied the denial.
#[derive(Clone, Debug)]
pub struct Silent {
    /// Its addresses.
    pub name: String,
    /// Its signing key; none when no record that is believed names it.
    pub key: Option<ServerKey>,
    /// Its datasets.
    pub datasets: Vec<String>,
    /// What is known of it.
    pub why: String,
    /// Milliseconds until its lease has ended at the latest; none where that is not known.
    pub lease_ms: Option<u64>,
}

impl Silent {
    /// The key server of a dataset whose record proves nothing.
    pub(super) fn unproven(of: &Unproven) -> Self {
        Self {
            name: format!("the key server of {}", of.dataset),
            key: None,
            datasets: vec![of.dataset.clone()],
            why: format!(
                "its record proves nothing: {}; let its owners sign it anew with `postern-admin dataset record`",
                of.why
            ),
            lease_ms: None,
        }
    }

    fn line(&self) -> String {
        let lease = match self.lease_ms {
            Some(0) => "its lease has ended: it refuses everything".to_owned(),
            Some(left) => format!(
                "its lease ends in {:.1} s at the latest",
                left as f64 / 1_000.0
            ),
            None => "when its lease ends is not known".to_owned(),
        };
        format!("silent: {} ({}; {lease})", self.name, self.why)
    }
}

/// Who has applied a denial.
#[derive(Clone, Debug)]
pub struct Told {
    /// How many have proven it.
    pub applied: u64,
    /// How many must.
    pub all: u64,
    /// How long the slowest of them took, in milliseconds, by the broker's clock.
    pub slowest: Option<u64>,
    /// Those that have not.
    pub silent: Vec<Silent>,
}

impl Told {
    fn line(&self) -> String {
        let time = match self.slowest {
            Some(ms) if self.silent.is_empty() => format!(" in {ms} ms"),
            _ => String::new(),
        };
        format!(
            "applied by {} of {} key servers{time}",
            self.applied, self.all
        )
    }

    fn json(&self) -> Map<String, Value> {
        let silent: Vec<Value> = self
            .silent
            .iter()
            .map(|one| {
                json!({
                    "subscriber": one.name,
                    "key": one.key.map(|key| key.to_string()),
                    "datasets": one.datasets,
                    "why": one.why,
                    "lease_ends_ms": one.lease_ms,
                })
            })
            .collect();
        Map::from_iter([
            ("applied".to_owned(), json!(self.applied)),
            ("subscribers".to_owned(), json!(self.all)),
            ("applied_ms".to_owned(), json!(self.slowest)),
            ("silent".to_owned(), json!(silent)),
        ])
    }
}

/// Prints a denial that stands, and who has applied it. Silent key servers end the command with 8.
///
/// # Errors
/// Not everyone has applied it, or waiting failed.
pub fn print(
    context: &Context,
    mut about: Map<String, Value>,
    epoch: u64,
    told: Result<Option<Told>, Report>,
) -> Printed {
    // The denial stands, whatever came after it.
    let told = match told {
        Ok(told) => told,
        Err(report) => {
            context.output.object(about)?;
            return Err(report);
        }
    };
    let Some(told) = told else {
        return context.output.object(about);
    };
    if context.output.format == Format::Text {
        context.output.object(about)?;
        context.output.line(told.line())?;
        for one in &told.silent {
            context.output.line(Printable(&one.line()))?;
        }
    } else {
        about.extend(told.json());
        context.output.object(about)?;
    }
    if told.silent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = told.silent.iter().map(|one| one.name.as_str()).collect();
    Err(Report::new(
        exit::RETRY,
        format!("the denial stands (epoch {epoch}), but not every key server has applied it"),
    )
    .why(format!("no proof of it from {}", names.join(", ")))
    .next("see `postern-admin feed status`; a key server without a lease refuses everything"))
}
