//! A dataset's record: signed for everyone, known at the broker, and in a file for producers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use ticket_format::ids::StatementDigest;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{DatasetRecord, DatasetShow, DatasetView};

use crate::admin::Context;
use crate::admin::config::ServerKeys;
use crate::admin::remote::{Admin, Remote, Sent};
use crate::admin::view::{object, text};

/// Signs the dataset's record, makes it known at the broker, and writes it for producers. Nothing is
/// signed when the file holds the very record that the broker has.
pub(super) async fn make_known(
    context: &Context,
    admin: &Admin,
    broker: &mut Remote<'_>,
    view: &DatasetView,
    keys: &ServerKeys,
    out: &Path,
) -> Result<StatementDigest, Report> {
    let record = record_of(view, keys);
    let known = broker
        .find(&DatasetShow {
            name: record.name.clone(),
        })
        .await?;
    if let Some(known) = known {
        if known.row.dataset != record.dataset {
            return Err(Report::new(
                exit::CONFLICT,
                format!(
                    "the broker knows another dataset by the name {:?}",
                    record.name
                ),
            )
            .why(format!(
                "there it is {}, at the key server {}",
                known.row.dataset, record.dataset
            ))
            .next("choose another name"));
        }
        let on_disk = fs::read(out)
            .ok()
            .filter(|bytes| bytes.len() <= limits::STATEMENT)
            .map(|bytes| StatementDigest::of(&bytes));
        let unchanged = known.row == view.row
            && (known.kek, known.kek_version, &known.producers, &known.kems)
                == (view.kek, view.kek_version, &view.producers, &view.kems)
            && (known.max_budget, known.max_life) == (view.max_budget, view.max_life);
        if let Some(digest) = known
            .record
            .filter(|digest| unchanged && on_disk == Some(*digest))
        {
            context.talk("The broker has its record already: nothing was signed");
            return Ok(digest);
        }
    }
    let statement = admin.record(&record)?;
    if let Sent::Before = broker.send::<DatasetRecord>(&statement).await? {
        context.talk("The first answer was lost; the broker has the record");
    }
    store::files::write_private(out, &statement).map_err(|error| {
        Report::new(
            exit::LOCAL,
            format!(
                "the broker has the record, but {} was not written",
                out.display()
            ),
        )
        .why(error)
        .next("run the same command again")
    })?;
    Ok(StatementDigest::of(&statement))
}

fn record_of(view: &DatasetView, keys: &ServerKeys) -> DatasetRecord {
    DatasetRecord {
        dataset: view.row.dataset,
        name: view.row.name.clone(),
        tags: view.row.tags.clone(),
        tls_key: keys.tls_key,
        server_key: keys.signing_key,
        addresses: keys.addresses.clone(),
        kek: view.kek,
        kek_version: view.kek_version,
        public_key: view.public_key.clone(),
        producers: view.producers.clone(),
        kems: view.kems.clone(),
        max_budget: view.max_budget,
        max_life: view.max_life,
    }
}

pub(super) fn made(view: &DatasetView, digest: StatementDigest, out: &Path) -> Map<String, Value> {
    object! {
        "name": view.row.name,
        "dataset": text(view.row.dataset),
        "kek": text(view.kek),
        "kek_version": view.kek_version,
        "record": text(out.display()),
        "record_digest": text(digest),
    }
}

pub(super) fn other_key(keys: &ServerKeys) -> Report {
    Report::new(
        exit::INTEGRITY,
        "the key server signs with another key than its file says",
    )
    .why(format!("expected {}", keys.signing_key))
    .next("get its server-keys.toml anew, and find out who changed it")
}

/// `NAME.record` here, unless another file is given.
pub(super) fn record_file(name: &str, out: Option<&Path>) -> Result<PathBuf, Report> {
    match out {
        Some(path) => Ok(path.to_owned()),
        None if name.contains('/') || name.starts_with('.') => Err(Report::new(
            exit::USAGE,
            "the dataset's name does not make a file name",
        )
        .next("say where its record goes: --out FILE")),
        None => Ok(PathBuf::from(format!("{name}.record"))),
    }
}
