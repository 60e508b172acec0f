//! `postern-admin dataset`: made at a key server, made known at the broker by an admin-signed record.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value};
use ticket_format::ids::{ProducerId, StatementDigest};
use ticket_format::keys::ProducerKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::seal::Kem;
use ticket_format::statement::{
    DatasetCreate, DatasetList, DatasetPolicySet, DatasetRecord, DatasetShow, DatasetView,
    ProducerAdd,
};

use super::config::{BrokerKeys, Config, ServerKeys};
use super::remote::{Admin, Remote, Sent};
use super::span::{Span, pair};
use super::view::{self, object, text};
use super::{Context, block_on, policy};

/// Datasets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a dataset at a key server and its record at the broker; safe to run again
    Create(Create),
    /// List the datasets that the broker knows
    List(At),
    /// Show one
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
    /// Register a producer, and put it into the dataset's record
    AddProducer(AddProducer),
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
    /// Where the new record goes [default: NAME.record]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Create(args) => create(context, &args),
        Command::List(at) => list(context, &at),
        Command::Show { name, at } => show(context, &name, &at),
        Command::Policy(PolicyCommand::Set {
            name,
            file,
            key_server,
        }) => set_policy(context, &name, &file, key_server.as_deref()),
        Command::AddProducer(args) => add_producer(context, &args),
    }
}

fn create(context: &Context, args: &Create) -> Printed {
    let body = wanted(args)?;
    let out = record_file(&args.name, args.out.as_deref())?;
    let (config, admin) = context.admin()?;
    let (broker, keys) = (
        config.broker()?,
        config.key_server(args.key_server.as_deref())?,
    );
    one_role(&body.producers, &config, &admin, &broker, &keys)?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let there = server
            .find(&DatasetShow {
                name: body.name.clone(),
            })
            .await?;
        let view = if let Some(view) = there {
            same(&body, &view)?;
            context.talk(format_args!(
                "The key server has {} already, made so before: nothing was made again",
                body.name
            ));
            view
        } else {
            match server.act(&body).await? {
                Sent::Done(created) if created.server_key != keys.signing_key => {
                    return Err(other_key(&keys));
                }
                Sent::Done(_) => {}
                Sent::Before => context.talk("The first answer was lost; the dataset was made"),
            }
            server
                .ask(&DatasetShow {
                    name: body.name.clone(),
                })
                .await?
        };
        server.close().await;
        let mut broker = admin.at(broker.server());
        let digest = make_known(context, &admin, &mut broker, &view, &keys, &out).await?;
        broker.close().await;
        context.output.object(made(&view, digest, &out))
    })
}

fn wanted(args: &Create) -> Result<DatasetCreate, Report> {
    name_fits(&args.name)?;
    let text = policy::read(&args.policy)?;
    policy::parse(&args.policy, &text)?;
    let mut tags = BTreeMap::new();
    for (key, value) in &args.tags {
        if key.len() > limits::PAIR_KEY || value.len() > 256 {
            return Err(Report::new(exit::USAGE, format!("tag {key:?} is too long"))
                .why("a key has at most 64 bytes, a value 256"));
        }
        if tags.insert(key.clone(), value.clone()).is_some() {
            return Err(Report::new(
                exit::USAGE,
                format!("tag {key:?} is given twice"),
            ));
        }
    }
    let mut producers: Vec<ProducerKey> = Vec::new();
    for producer in &args.producers {
        if !producers.contains(producer) {
            producers.push(*producer);
        }
    }
    if tags.len() > limits::PAIRS || producers.len() > 64 {
        return Err(Report::new(exit::USAGE, "too many tags or producers")
            .why("a dataset has at most 16 tags and 64 producers"));
    }
    if args.max_life.0 == 0 || args.max_life.0 > limits::LONGEST_TICKET_LIFE || args.max_budget == 0
    {
        return Err(Report::new(exit::USAGE, "no ticket could be issued so")
            .why("--max-life is 1s to 24h, --max-budget at least 1"));
    }
    let kems = if args.allow_x25519 {
        vec![Kem::X25519, Kem::XWing]
    } else {
        vec![Kem::XWing]
    };
    Ok(DatasetCreate {
        name: args.name.clone(),
        tags,
        policy: text,
        producers,
        kems,
        max_budget: args.max_budget,
        max_life: args.max_life.0,
    })
}

/// A dataset that is there already may be gone on with only when it is the one that is asked for.
fn same(wanted: &DatasetCreate, view: &DatasetView) -> Result<(), Report> {
    let differs = |member: &str| {
        Err(Report::new(exit::CONFLICT, format!("dataset {:?} exists, with another {member}", wanted.name))
            .next("choose another name, or look at it with `postern-admin dataset show --key-server FILE`"))
    };
    let producers = |list: &[ProducerKey]| {
        list.iter()
            .map(ProducerKey::to_string)
            .collect::<std::collections::BTreeSet<_>>()
    };
    if view.row.tags != wanted.tags {
        differs("set of tags")
    } else if view.policy.as_deref() != Some(wanted.policy.as_str()) {
        differs("policy")
    } else if producers(&view.producers) != producers(&wanted.producers) {
        differs("set of producers")
    } else if view.kems != wanted.kems {
        differs("set of KEMs")
    } else if (view.max_budget, view.max_life) != (wanted.max_budget, wanted.max_life) {
        differs("budget or ticket life")
    } else {
        Ok(())
    }
}

/// Signs the dataset's record, makes it known at the broker, and writes it for producers. Nothing is
/// signed when the file holds the very record that the broker has.
async fn make_known(
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

fn made(view: &DatasetView, digest: StatementDigest, out: &Path) -> Map<String, Value> {
    object! {
        "name": view.row.name,
        "dataset": text(view.row.dataset),
        "kek": text(view.kek),
        "kek_version": view.kek_version,
        "record": text(out.display()),
        "record_digest": text(digest),
    }
}

fn other_key(keys: &ServerKeys) -> Report {
    Report::new(
        exit::INTEGRITY,
        "the key server signs with another key than its file says",
    )
    .why(format!("expected {}", keys.signing_key))
    .next("get its server-keys.toml anew, and find out who changed it")
}

fn name_fits(name: &str) -> Result<(), Report> {
    if (1..=limits::NAME).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Report::new(exit::USAGE, "that cannot be a dataset's name")
        .why("it has 1 to 128 bytes and no control characters"))
}

/// `NAME.record` here, unless another file is given.
fn record_file(name: &str, out: Option<&Path>) -> Result<PathBuf, Report> {
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
        remote.close().await;
        let mut object = view::dataset(&view);
        if context.output.format == Format::Text {
            // 1,621 characters that nobody reads; its hash stands beside it.
            object.remove("public_key");
        }
        context.output.object(object)
    })
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
        match remote
            .act(&DatasetPolicySet {
                name: name.to_owned(),
                text: text_of,
            })
            .await?
        {
            Sent::Done(set) if set.digest != digest => return Err(policy::other_digest()),
            Sent::Done(_) => {}
            Sent::Before => context.talk("The first answer was lost; the policy is set"),
        }
        remote.close().await;
        context
            .output
            .object(object! { "dataset": name, "policy": text(digest) })
    })
}

fn add_producer(context: &Context, args: &AddProducer) -> Printed {
    name_fits(&args.name)?;
    let out = record_file(&args.name, args.out.as_deref())?;
    let (config, admin) = context.admin()?;
    let (broker, keys) = (
        config.broker()?,
        config.key_server(args.key_server.as_deref())?,
    );
    one_role(&[args.producer], &config, &admin, &broker, &keys)?;
    let id: ProducerId = args.producer.id();
    block_on(async {
        let mut server = admin.at(keys.server());
        let mut view = server
            .ask(&DatasetShow {
                name: args.name.clone(),
            })
            .await?;
        let there = view.producers.contains(&args.producer);
        if there {
            context.talk("The key server has this producer already");
        } else {
            view.producers.push(args.producer);
        }
        // The broker first: it knows every key of the realm and refuses one that has another role,
        // while nothing has changed yet. Whatever is cut short, running it again makes it whole.
        let mut broker = admin.at(broker.server());
        let digest = make_known(context, &admin, &mut broker, &view, &keys, &out).await?;
        broker.close().await;
        if !there {
            let add = ProducerAdd {
                name: args.name.clone(),
                producer: args.producer,
            };
            match server.act(&add).await? {
                Sent::Done(added) if added.producer != id => return Err(other_key(&keys)),
                Sent::Done(_) => {}
                Sent::Before => {
                    context.talk("The first answer was lost; the producer is registered");
                }
            }
        }
        server.close().await;
        let mut object = made(&view, digest, &out);
        object.insert("producer".to_owned(), text(id));
        context.output.object(object)
    })
}

/// One key, one purpose (SIG-5): a producer's key must not be one that is known here in another role.
/// The broker knows more of them and refuses those; then the dataset would stand at the key server
/// without a record.
fn one_role(
    producers: &[ProducerKey],
    config: &Config,
    admin: &Admin,
    broker: &BrokerKeys,
    keys: &ServerKeys,
) -> Result<(), Report> {
    let mut others = vec![
        admin.public().to_bytes(),
        broker.tls_key.to_bytes(),
        broker.ticket_key.to_bytes(),
        broker.feed_key.to_bytes(),
        keys.tls_key.to_bytes(),
        keys.signing_key.to_bytes(),
    ];
    others.extend(config.admins.iter().map(|key| key.to_bytes()));
    match producers
        .iter()
        .find(|producer| others.contains(&producer.to_bytes()))
    {
        None => Ok(()),
        Some(key) => Err(
            Report::new(exit::USAGE, format!("{key} cannot be a producer's key"))
                .why("it is an admin's or a server's")
                .next("a producer has a key of its own: `postern producer init`"),
        ),
    }
}
