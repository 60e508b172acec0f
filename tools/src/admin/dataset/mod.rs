//! `postern-admin dataset`: made at a key server, made known at the broker by an admin-signed record.

pub(crate) mod alias;
pub(crate) mod keks;
mod make;
mod options;
mod record;
mod rotate;
pub(crate) mod transfer;
pub(crate) mod wraps;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use ticket_format::keys::ProducerKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    DatasetClass, DatasetList, DatasetPolicySet, DatasetShow, DatasetView, KekRow,
};

use super::config::Config;
use super::remote::{Admin, Change};
use super::span::{Span, class, pair};
use super::view::{self, object, text};
use super::{Context, block_on, policy};

/// Datasets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a dataset at a key server and its record at the broker; safe to run again
    Create(Create),
    /// List the datasets that the broker knows
    List(At),
    /// Show one, with each KEK version as its key server has it
    Show {
        /// Its name
        name: String,
        /// Where to ask
        #[command(flatten)]
        at: At,
    },
    /// The dataset's own policy, at its key server
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Register a producer at the key server
    AddProducer(AddProducer),
    /// Sign the record of what the key server has, or fetch the one in force
    Record {
        /// The dataset's name
        name: String,
        /// The dataset's key server (its server-keys.toml)
        #[arg(long, value_name = "FILE")]
        key_server: Option<PathBuf>,
        /// Who else opens its DEKs
        #[command(flatten)]
        recipients: record::Recipient,
        /// Where the record goes, for producers [default: NAME.record]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Set budgets, lease, evidence, canary
    Set(options::Set),
    /// Set the owners: whose signatures count for the dataset
    Owners(options::Owners),
    /// Other names of datasets, swapped in one act
    #[command(subcommand)]
    Alias(alias::Command),
    /// Mark a DEK as canary: its redemption alarms
    Canary(options::MarkDek),
    /// List its KEK versions: state, last use, and how many wraps are left under each
    Keks(keks::Of),
    /// Make the next KEK version: it wraps from now on, and the one before opens only
    Rotate(keks::Rotate),
    /// List the wraps under a KEK version that its key server knows
    Wraps(wraps::Wraps),
    /// Take a KEK version out of use: it neither wraps nor opens
    DisableKek(keks::Disable),
    /// Take a KEK version back into use: the newest to wrap and open, an older one to open
    EnableKek(keks::Version),
    /// Have a KEK version destroyed after a wait, by security's quorum; shows what would be lost
    Destroy(keks::Destroy),
    /// Take a destruction back before its time: the version is disabled then
    Keep(keks::Version),
    /// Make a KEK version of one's own key material
    #[command(subcommand)]
    Import(transfer::ImportCommand),
    /// Give a KEK version's material out, where the dataset was made for it
    #[command(subcommand)]
    Export(transfer::ExportCommand),
}

/// Where a reading command asks.
#[derive(Debug, Args)]
pub struct At {
    /// Ask this key server (its server-keys.toml) instead of the broker
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Make a dataset.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// The key server that is to hold its KEK (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
    /// The dataset's own policy, Cedar text
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// A tag for policies; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Public key of a producer, in hexadecimal; may be repeated
    #[arg(long = "producer", value_name = "HEX")]
    producers: Vec<ProducerKey>,
    /// Let tickets use X25519 sealing, which a quantum computer will open
    #[arg(long)]
    allow_x25519: bool,
    /// Most distinct DEKs for one ticket
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_budget: u64,
    /// Longest life of one ticket
    #[arg(long, value_name = "TIME", default_value = "1h")]
    max_life: Span,
    /// An owner, by the admin's name; may be repeated [default: every dataset-owner]
    #[arg(long = "owner", value_name = "NAME")]
    owners: Vec<String>,
    /// For how long its key server goes on without a sign of the broker: 1s to 5m
    #[arg(long, value_name = "TIME", default_value = "5s")]
    lease: Span,
    /// Nodes must bring the identity document's proof beside the ticket
    #[arg(long)]
    evidence: bool,
    /// What a redemption of any of its keys leads to
    #[arg(long, value_enum, default_value_t)]
    canary: options::Mark,
    /// How sensitive it is, for policies: public, internal, confidential or restricted
    #[arg(long, default_value = "confidential", value_parser = class)]
    class: DatasetClass,
    /// Whether witnesses cosign what the logs of broker and key server record of it
    #[command(flatten)]
    witness: options::Witness,
    /// When its KEK is rotated by itself [default: never]
    #[command(flatten)]
    rotate: rotate::Rotate,
    /// Let its KEK versions be exported, by security's quorum; this never changes
    #[arg(long)]
    exportable: bool,
    /// Where the record goes, for producers [default: NAME.record]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The dataset's own policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Set it
    Set {
        /// The dataset's name
        name: String,
        /// Cedar text
        file: PathBuf,
        /// The dataset's key server (its server-keys.toml)
        #[arg(long, value_name = "FILE")]
        key_server: Option<PathBuf>,
    },
}

/// Register a producer.
#[derive(Debug, Args)]
pub struct AddProducer {
    /// The dataset's name
    name: String,
    /// The producer's public key, in hexadecimal
    producer: ProducerKey,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Create(args) => make::create(context, &args),
        Command::List(at) => list(context, &at),
        Command::Alias(command) => alias::run(context, &command),
        Command::Show { name, at } => show(context, &name, &at),
        Command::Policy(PolicyCommand::Set {
            name,
            file,
            key_server,
        }) => set_policy(context, &name, &file, key_server.as_deref()),
        Command::AddProducer(args) => make::add_producer(context, &args),
        Command::Record {
            name,
            key_server,
            recipients,
            out,
        } => record::run(
            context,
            &name,
            key_server.as_deref(),
            &recipients,
            out.as_deref(),
        ),
        Command::Set(args) => options::set(context, &args),
        Command::Owners(args) => options::set_owners(context, &args),
        Command::Canary(args) => options::mark(context, &args),
        Command::Keks(of) => keks::list(context, &of),
        Command::Rotate(args) => keks::rotate(context, &args),
        Command::Wraps(args) => wraps::list(context, &args),
        Command::DisableKek(args) => keks::disable(context, &args),
        Command::EnableKek(which) => keks::enable(context, &which),
        Command::Destroy(args) => keks::destroy(context, &args),
        Command::Keep(which) => keks::keep(context, &which),
        Command::Import(command) => transfer::import(context, &command),
        Command::Export(command) => transfer::export(context, &command),
    }
}

fn name_fits(name: &str) -> Result<(), Report> {
    if (1..=limits::NAME).contains(&name.len()) && !name.chars().any(ticket_format::report::hides) {
        return Ok(());
    }
    Err(Report::new(exit::USAGE, "that cannot be a dataset's name")
        .why("it has 1 to 128 bytes and no control characters"))
}

fn list(context: &Context, at: &At) -> Printed {
    let (config, admin) = context.admin()?;
    let server = match &at.key_server {
        Some(file) => config.key_server(Some(file))?.server(),
        None => config.broker()?.server(),
    };
    block_on(async {
        let (mut remote, mut rows) = (admin.at(server), Vec::new());
        let mut page = DatasetList::first();
        loop {
            let answer = remote.ask(&page).await?;
            let Some(last) = answer.rows.last() else {
                break;
            };
            page = DatasetList::after(&last.name);
            rows.extend(answer.rows.into_iter().map(|row| {
                vec![
                    text(&row.name),
                    text(row.dataset),
                    serde_json::json!(row.tags),
                ]
            }));
            if !answer.more {
                break;
            }
        }
        remote.close().await;
        context
            .output
            .rows("datasets", &["name", "dataset", "tags"], rows)
    })
}

fn show(context: &Context, name: &str, at: &At) -> Printed {
    name_fits(name)?;
    let (config, admin) = context.admin()?;
    let server = match &at.key_server {
        Some(file) => config.key_server(Some(file))?.server(),
        None => config.broker()?.server(),
    };
    block_on(async {
        let mut remote = admin.at(server);
        let view = remote
            .ask(&DatasetShow {
                name: name.to_owned(),
            })
            .await?;
        let keks = match &at.key_server {
            Some(_) => Some(keks::versions(&mut remote, name).await?),
            None => None,
        };
        remote.close().await;
        let keks = match keks {
            Some(keks) => Some(keks),
            None => keks_beside(context, &config, &admin, &view).await?,
        };
        let mut object = view::dataset(&view);
        if context.output.format == Format::Text {
            // 1,621 characters that nobody reads; its hash stands beside it.
            object.remove("public_key");
            context.output.object(object)?;
            let mut lines = keks.iter().flat_map(|keks| keks::sentences(keks));
            return lines.try_for_each(|line| context.output.line(line));
        }
        let keks = keks.map(|keks| keks::jsons(&keks).collect::<Vec<_>>());
        object.insert("keks".to_owned(), serde_json::json!(keks));
        context.output.object(object)
    })
}

/// The KEK versions of a dataset that the broker showed: only its key server knows of them. None where
/// that cannot be asked, which is said.
async fn keks_beside(
    context: &Context,
    config: &Config,
    admin: &Admin,
    view: &DatasetView,
) -> Result<Option<Vec<KekRow>>, Report> {
    let asked = async {
        let record = record::said(view).ok_or_else(|| {
            Report::new(
                exit::NOT_FOUND,
                "the broker has no record that names its key server",
            )
        })?;
        let mut server = admin.at(config.server_of(&record.tls_key)?);
        let keks = keks::versions(&mut server, &view.row.name).await;
        server.close().await;
        keks
    };
    match asked.await {
        Ok(keks) => Ok(Some(keks)),
        // What is wrong with a server is no small print.
        Err(report) if report.exit == exit::INTEGRITY => Err(report),
        Err(report) => {
            context.talk(format_args!(
                "Its KEK versions are not shown: {}",
                report.what
            ));
            Ok(None)
        }
    }
}

fn set_policy(context: &Context, name: &str, file: &Path, key_server: Option<&Path>) -> Printed {
    name_fits(name)?;
    let text_of = policy::read(file)?;
    policy::parse(file, &text_of)?;
    let digest = ticket_format::statement::policy_digest(&text_of);
    let (config, admin) = context.admin()?;
    let keys = config.key_server(key_server)?;
    block_on(async {
        let mut remote = admin.at(keys.server());
        let name = name.to_owned();
        let view = remote.ask(&DatasetShow { name: name.clone() }).await?;
        let standing = view.policy.unwrap_or_default();
        policy::say_change(context, &standing, &text_of);
        // rule: ADM-5
        let body = DatasetPolicySet {
            name: name.clone(),
            text: text_of,
            replaces: ticket_format::statement::policy_digest(&standing),
        };
        match remote.change(&body).await? {
            Change::Done(set, _) if set.digest != digest => return Err(policy::other_digest()),
            Change::Done(..) => {}
            Change::Before(_) => context.talk("The first answer was lost; the policy is set"),
            Change::Proposed(proposed) => return proposed.print(context),
        }
        remote.close().await;
        context
            .output
            .object(object! { "dataset": name, "policy": text(digest) })
    })
}
