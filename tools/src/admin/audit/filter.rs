//! Which entries are wanted: the same for a query of the index and for entries as they are read.

use std::path::Path;

use clap::Args;
use ticket_format::Refusal;
use ticket_format::cbor::Decode as _;
use ticket_format::entry::{Entry, Kind, Outcome};
use ticket_format::ids::DatasetId;
use ticket_format::limits;
use ticket_format::statement::{BODY, DatasetRecord, ReceivedStatement};
use ticket_format::time::Timestamp;

use crate::admin::span::{instant, since};

/// Which entries.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which entries")]
pub struct Filter {
    /// Of this node, subscriber or admin: as the entry's subject, or among those who signed
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// About this dataset: its id, or the file of its record (a NAME stands for NAME.record here)
    #[arg(long, value_name = "ID|NAME|FILE", value_parser = dataset)]
    pub dataset: Option<DatasetId>,
    /// From when on: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Timestamp>,
    /// Before when: a time
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub until: Option<Timestamp>,
    /// How it ended: done, refused, or one refusal by number or name
    #[arg(long, value_name = "OUTCOME", value_parser = ended)]
    pub outcome: Option<Ended>,
    /// Of this kind (login, renew, issue, present, redeem, denial, statement, alarm, ...); may be repeated
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<Kind>,
}

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Done,
    /// Not.
    Refused,
    /// By this refusal.
    By(Refusal),
}

fn ended(text: &str) -> Result<Ended, String> {
    match text {
        "done" => return Ok(Ended::Done),
        "refused" => return Ok(Ended::Refused),
        _ => {}
    }
    let refusal = match text.parse() {
        Ok(number) => Refusal::from_number(number),
        Err(_) => (1..=99)
            .filter_map(Refusal::from_number)
            .find(|refusal| refusal.name() == text),
    };
    refusal.map(Ended::By).ok_or_else(|| {
        "expected done, refused, or a refusal (`postern-admin help refusals`)".to_owned()
    })
}

/// A kind by its name.
///
/// # Errors
/// The names that there are.
pub fn kind(text: &str) -> Result<Kind, String> {
    let find = Kind::ALL.iter().copied().find(|kind| kind.name() == text);
    find.ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// A dataset by its id, or by the record that names it.
fn dataset(text: &str) -> Result<DatasetId, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let beside = format!("{text}.record");
    let path = [text, beside.as_str()]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_file());
    let path =
        path.ok_or("expected a dataset's id (32 hexadecimal digits), or its record's file")?;
    let bytes = store::files::read_bounded(path, limits::STATEMENT as u64)
        .map_err(|error| error.to_string())?;
    let received = ReceivedStatement::parse(&bytes).map_err(|error| error.to_string())?;
    let record = DatasetRecord::from_cbor(&received.payload().body, BODY);
    record
        .map(|record| record.dataset)
        .map_err(|error| format!("{} is no dataset record: {error}", path.display()))
}

impl Ended {
    /// Whether an act ended so.
    #[must_use]
    pub fn is(self, outcome: Outcome) -> bool {
        match self {
            Self::Done => outcome.is_ok(),
            Self::Refused => outcome.is_err(),
            Self::By(refusal) => outcome == Err(refusal),
        }
    }
}

impl Filter {
    /// Whether an entry is wanted.
    #[must_use]
    pub fn wants(&self, entry: &Entry) -> bool {
        let who = |who: &String| {
            entry.subject.as_ref() == Some(who)
                || entry.signers.iter().flatten().any(|signer| signer == who)
        };
        self.who.as_ref().is_none_or(who)
            && self
                .dataset
                .is_none_or(|dataset| entry.dataset == Some(dataset))
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && self.outcome.is_none_or(|ended| ended.is(entry.outcome))
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
    }

    /// Whether every entry is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.who.is_none()
            && self.dataset.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.outcome.is_none()
            && self.kinds.is_empty()
    }
}
