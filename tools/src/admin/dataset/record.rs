//! A dataset's record: signed for everyone by its owners, known at the broker, and in a file for
//! producers.

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value};
use ticket_format::cbor::Decode as _;
use ticket_format::ids::StatementDigest;
use ticket_format::limits;
use ticket_format::recovery;
use ticket_format::report::{Report, exit};
use ticket_format::statement::datasets::Recipients;
use ticket_format::statement::{
    Act, AdminSet, BODY, DatasetRecord, DatasetShow, DatasetView, ReceivedStatement,
};

use super::name_fits;
use crate::admin::config::ServerKeys;
use crate::admin::proposal::Proposed;
use crate::admin::remote::{Admin, Change, Remote};
use crate::admin::view::{object, text};
use crate::admin::{Context, block_on, now};

/// Who else opens the dataset's DEKs (RCP-1).
#[derive(Debug, Args)]
pub struct Recipient {
    /// Another dataset that can open what is encrypted from now on, by its record file; repeated. Those that are
    /// not named here are none any more [default: as it stands]
    #[arg(
        long = "recipient",
        value_name = "FILE",
        conflicts_with = "no_recipients"
    )]
    recipients: Vec<PathBuf>,
    /// Nobody else opens what is encrypted from now on
    #[arg(long)]
    no_recipients: bool,
}

impl Recipient {
    /// The recipients; none where they stay as they are.
    fn wanted(&self) -> Result<Option<Recipients>, Report> {
        if self.no_recipients {
            return Ok(Some(Recipients::default()));
        }
        if self.recipients.is_empty() {
            return Ok(None);
        }
        let all = self.recipients.iter().map(|file| recipient(file));
        let all = Recipients::new(all.collect::<Result<_, _>>()?);
        all.map(Some)
            .map_err(|error| Report::new(exit::USAGE, "nothing was signed").why(error))
    }
}

/// A recipient by its record. Who signed it cannot be told here: it may be another realm's. What it says is shown
/// to who signs this dataset's record.
fn recipient(file: &Path) -> Result<recovery::Recipient, Report> {
    let bytes = store::files::read_bounded(file, limits::STATEMENT as u64)
        .map_err(|error| Report::new(exit::LOCAL, "nothing was signed").why(error))?;
    let none = || {
        Report::new(exit::USAGE, "nothing was signed")
            .why(format!("{} is no dataset's record", file.display()))
            .next("give the file that `postern-admin dataset record` wrote")
    };
    let received = ReceivedStatement::parse(&bytes).map_err(|_| none())?;
    let payload = received.payload();
    if payload.act != Act::DatasetRecord {
        return Err(none());
    }
    let record = DatasetRecord::from_cbor(&payload.body, BODY).map_err(|_| none())?;
    Ok(recovery::Recipient {
        realm: payload.realm.clone(),
        name: record.name,
        dataset: record.dataset,
        kek: record.kek,
        kek_version: record.kek_version,
        public_key: record.public_key,
    })
}

/// Where a dataset's record stands.
#[derive(Debug)]
pub(super) enum Known {
    /// The broker has it, and so has the file.
    InForce(StatementDigest),
    /// It waits for other owners.
    Proposed(Proposed),
}

/// Makes what the key server has of a dataset known at the broker. Where the broker's record says just
/// that, it is fetched into the file and nothing is signed.
pub(super) async fn make_known(
    context: &Context,
    admin: &Admin,
    broker: &mut Remote<'_>,
    view: &DatasetView,
    keys: &ServerKeys,
    recipients: Option<Recipients>,
    out: &Path,
) -> Result<Known, Report> {
    let mut record = record_of(view, keys);
    if let Some(recipients) = &recipients {
        record.recipients = recipients.clone();
    }
    let set = admin.set().await?;
    if let Some(known) = standing(broker, &record.name).await? {
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
        if let Some(stands) = said(&known) {
            if recipients.is_none() {
                record.recipients = stands.recipients.clone();
            }
            // As it stands, or else as the one that replaces it (ADM-5).
            record.follows = stands.follows;
            if let Some(digest) = fetch(&known, &record, set, admin.realm(), out)? {
                context.talk("The broker has its record already: nothing was signed");
                return Ok(Known::InForce(digest));
            }
            record.follows = stands.digest();
        }
    }
    match broker.change_record(&record).await? {
        Change::Proposed(proposed) => return Ok(Known::Proposed(proposed)),
        Change::Done(..) => {}
        Change::Before(_) => context.talk("The first answer was lost; the broker has the record"),
    }
    let known = standing(broker, &record.name).await?;
    let fetched = known
        .map(|known| fetch(&known, &record, set, admin.realm(), out))
        .transpose()?;
    fetched.flatten().map(Known::InForce).ok_or_else(|| {
        Report::new(
            exit::INTEGRITY,
            "the broker took the record and shows another",
        )
        .next("look at it with `postern-admin dataset show`, and find out why")
    })
}

/// What the broker's record says, whoever signed it.
pub(super) fn said(known: &DatasetView) -> Option<DatasetRecord> {
    let received = ReceivedStatement::parse(known.record.as_deref()?).ok()?;
    DatasetRecord::from_cbor(&received.payload().body, BODY).ok()
}

async fn standing(broker: &mut Remote<'_>, name: &str) -> Result<Option<DatasetView>, Report> {
    broker
        .find(&DatasetShow {
            name: name.to_owned(),
        })
        .await
}

/// Writes the broker's record into the file, if it is authorised and says just what is wanted.
fn fetch(
    known: &DatasetView,
    wanted: &DatasetRecord,
    set: &AdminSet,
    realm: &str,
    out: &Path,
) -> Result<Option<StatementDigest>, Report> {
    let Some(statement) = &known.record else {
        return Ok(None);
    };
    let said = ReceivedStatement::parse(statement)
        .and_then(|received| received.verify(set, realm, None, now()))
        .and_then(|verified| verified.body::<DatasetRecord>());
    // One that the set in force does not authorise any more is signed anew.
    if said.ok().as_ref() != Some(wanted) {
        return Ok(None);
    }
    store::files::write_private(out, statement).map_err(|error| {
        Report::new(
            exit::LOCAL,
            format!(
                "the broker has the record, but {} was not written",
                out.display()
            ),
        )
        .why(error)
        .next("run `postern-admin dataset record` with another --out")
    })?;
    Ok(Some(StatementDigest::of(statement)))
}

fn record_of(view: &DatasetView, keys: &ServerKeys) -> DatasetRecord {
    DatasetRecord {
        recipients: Default::default(),
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
        owners: view.owners.clone(),
        lease: view.lease,
        evidence: view.evidence,
        class: view.class,
        follows: DatasetRecord::FIRST,
        log_key: keys.log_key.clone(),
        witnessing: view.witnessing.clone(),
    }
}

/// `dataset record`: what the key server has, made known.
pub(super) fn run(
    context: &Context,
    name: &str,
    key_server: Option<&Path>,
    recipients: &Recipient,
    out: Option<&Path>,
) -> Printed {
    name_fits(name)?;
    let recipients = recipients.wanted()?;
    let out = record_file(name, out)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(key_server)?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let view = server
            .ask(&DatasetShow {
                name: name.to_owned(),
            })
            .await?;
        server.close().await;
        let mut broker = admin.broker()?;
        let known =
            make_known(context, &admin, &mut broker, &view, &keys, recipients, &out).await?;
        broker.close().await;
        print(context, &view, &known, &out)
    })
}

/// Tells of a dataset and where its record stands.
pub(super) fn print(context: &Context, view: &DatasetView, known: &Known, out: &Path) -> Printed {
    let mut object: Map<String, Value> = object! {
        "name": view.row.name,
        "dataset": text(view.row.dataset),
        "kek": text(view.kek),
        "kek_version": view.kek_version,
    };
    match known {
        Known::InForce(digest) => {
            object.extend(object! { "record": text(out.display()), "record_digest": text(digest) });
            context.output.object(object)
        }
        Known::Proposed(proposed) if context.output.format == Format::Text => {
            context.output.object(object)?;
            proposed.print(context)?;
            context.talk(format_args!(
                "Whoever approves it last can write it for producers: --out {}",
                out.display()
            ));
            Ok(())
        }
        Known::Proposed(proposed) => {
            object.extend(proposed.json());
            context.output.object(object)
        }
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
