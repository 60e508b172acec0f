//! `postern-admin policy`: the broker's policy, and checking any policy without a server.

mod replay;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use policy::{Dataset, Node, Policy, Request};
use serde_json::json;
use store::files;
use ticket_format::Refusal;
use ticket_format::ids::{DatasetId, LaunchId, NodeId};
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{DatasetClass, EntryShow, PolicySet, PolicyShow, policy_digest};
use ticket_format::time::Timestamp;

use super::diff::unified;
use super::remote::Change;
use super::span::{class, instant, pair, since};
use super::view::{self, object, text};
use super::{Context, block_on, now};

use replay::Replayed;
use ticket_format::statement::WhatIf as Replay;

/// Policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set the broker's policy
    Set {
        /// Cedar text
        file: PathBuf,
    },
    /// Show the broker's policy
    Show,
    /// Check a policy without any server: where is the first fault?
    Check {
        /// Cedar text
        file: PathBuf,
    },
    /// Try a draft on what was decided: who would gain, and who would lose
    WhatIf(WhatIf),
    /// Name the policies that decide: of a recorded entry (--entry), or of a request by a policy file,
    /// without any server: exit 0 when allowed, 4 when refused
    Explain(Box<Explain>),
}

/// Try a draft on what was decided.
#[derive(Debug, Args)]
pub struct WhatIf {
    /// The draft: Cedar text
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
    /// The dataset whose policy it would be [default: the broker's policy]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Decisions from when on: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = since, default_value = "7d")]
    since: Timestamp,
}

/// A request to be decided.
#[derive(Debug, Args)]
pub struct Explain {
    /// An entry of a server's audit log, by its index: who decided it
    #[arg(long, value_name = "INDEX", conflicts_with_all = ["policy", "node", "dataset", "action"])]
    entry: Option<u64>,
    /// The key server whose entry it is (its server-keys.toml) [default: the broker's]
    #[arg(long, value_name = "FILE", requires = "entry")]
    server: Option<PathBuf>,
    /// The policy: Cedar text
    #[arg(long, value_name = "FILE", required_unless_present = "entry")]
    policy: Option<PathBuf>,
    /// The node that asks: ec2/ACCOUNT/REGION/INSTANCE
    #[arg(long, required_unless_present = "entry")]
    node: Option<NodeId>,
    /// Its availability zone [default: the region's first]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Its image
    #[arg(long, default_value = "")]
    image: String,
    /// Its instance type
    #[arg(long, default_value = "")]
    instance_type: String,
    /// The launch that it came in by
    #[arg(long, value_name = "ID")]
    launch: Option<LaunchId>,
    /// When it was launched [default: --at]
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    launched_at: Option<Timestamp>,
    /// The dataset's name
    #[arg(long, value_name = "NAME", required_unless_present = "entry")]
    dataset: Option<String>,
    /// The dataset's id
    #[arg(long, value_name = "ID")]
    dataset_id: Option<DatasetId>,
    /// A tag of the dataset; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// How sensitive the dataset is: public, internal, confidential or restricted
    #[arg(long, default_value = "confidential", value_parser = class)]
    class: DatasetClass,
    /// Another name of the dataset; may be repeated
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// What it asks for: decrypt, encrypt or rewrap
    #[arg(long, required_unless_present = "entry")]
    action: Option<policy::Action>,
    /// Where it connects from [default: unknown]
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// A pair of the encryption context; may be repeated
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// When [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    at: Option<Timestamp>,
}

/// Runs one of them; the exit code of `explain` is the decision.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Result<u8, Report> {
    match command {
        Command::Set { file } => set(context, &file).map(|()| exit::DONE),
        Command::Show => show(context).map(|()| exit::DONE),
        Command::Check { file } => check(context, &file).map(|()| exit::DONE),
        Command::WhatIf(args) => what_if(context, &args).map(|()| exit::DONE),
        Command::Explain(args) => explain(context, &args),
    }
}

/// Reads a policy text within its bound (POL-1).
///
/// # Errors
/// The file cannot be read, is too large, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, Report> {
    let unusable = |why: String| {
        Report::new(
            exit::LOCAL,
            format!("the policy {} cannot be used", path.display()),
        )
        .why(why)
    };
    let bytes = files::read_bounded(path, limits::POLICY as u64)
        .map_err(|error| unusable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        unusable(format!(
            "byte {} is not UTF-8",
            error.utf8_error().valid_up_to()
        ))
    })
}

/// Parses and validates it; the error names file, line and column.
///
/// # Errors
/// The text's first fault.
pub fn parse(path: &Path, text: &str) -> Result<Policy, Report> {
    Policy::parse(text).map_err(|error| {
        Report::new(
            exit::LOCAL,
            format!("the policy {} does not hold", path.display()),
        )
        .why(error)
        .next("mend it and run `postern-admin policy check` on it")
    })
}

/// The server says that it set another text than was signed.
#[must_use]
pub fn other_digest() -> Report {
    Report::new(
        exit::INTEGRITY,
        "the server set another policy than was signed",
    )
    .next("look at it with `show`, and find out why")
}

fn check(context: &Context, file: &Path) -> Printed {
    let text_of = read(file)?;
    let policy = parse(file, &text_of)?;
    let ids: Vec<&str> = policy.ids().iter().map(AsRef::as_ref).collect();
    context.output.object(object! { "file": text(file.display()), "policies": ids, "digest": text(policy_digest(&text_of)) })
}

fn set(context: &Context, file: &Path) -> Printed {
    let text_of = read(file)?;
    parse(file, &text_of)?;
    let digest = policy_digest(&text_of);
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let standing = remote.ask(&PolicyShow {}).await?.text;
        // rule: ADM-5
        let replaces = (!standing.is_empty()).then(|| policy_digest(&standing));
        say_change(context, &standing, &text_of);
        let body = PolicySet {
            text: text_of,
            replaces,
        };
        match remote.change(&body).await? {
            Change::Done(set, _) if set.digest != digest => return Err(other_digest()),
            Change::Done(..) => {}
            Change::Before(_) => context.talk("The first answer was lost; the policy is set"),
            Change::Proposed(proposed) => return proposed.print(context),
        }
        remote.close().await;
        context.output.object(object! { "policy": text(digest) })
    })
}

fn show(context: &Context) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let policy = remote.ask(&PolicyShow {}).await?;
        remote.close().await;
        if policy_digest(&policy.text) != policy.digest {
            return Err(Report::new(
                exit::INTEGRITY,
                "the broker's policy and its digest do not fit",
            ));
        }
        if context.output.format != Format::Text {
            return context
                .output
                .object(object! { "text": policy.text, "digest": text(policy.digest) });
        }
        if policy.text.is_empty() {
            context.talk("No policy is set: the broker permits nothing");
            return Ok(());
        }
        // Line by line, so that what a server sends cannot move the cursor.
        policy
            .text
            .lines()
            .try_for_each(|line| context.output.line(ticket_format::report::Printable(line)))
    })
}

/// Shows what is about to change, as who approves it will see it.
pub(crate) fn say_change(context: &Context, standing: &str, wanted: &str) {
    for line in unified(standing, wanted) {
        context.talk(ticket_format::report::Printable(&line));
    }
}

fn what_if(context: &Context, args: &WhatIf) -> Printed {
    let draft = read(&args.draft)?;
    parse(&args.draft, &draft)?;
    let (_, admin) = context.admin()?;
    block_on(async {
        let mut remote = admin.broker()?;
        let mut replayed = Replayed::default();
        let mut from = 0;
        loop {
            let page = remote
                .ask(&Replay {
                    draft: draft.clone(),
                    dataset: args.dataset.clone(),
                    since: args.since,
                    from,
                })
                .await?;
            replayed.decisions = replayed.decisions.saturating_add(page.decisions);
            page.changed.into_iter().for_each(|one| replayed.add(one));
            match page.next {
                None => break,
                Some(next) if next > from => from = next,
                Some(_) => {
                    return Err(Report::new(
                        exit::INTEGRITY,
                        "the server's pages go in a circle",
                    ));
                }
            }
        }
        remote.close().await;
        context.talk(format_args!(
            "{} decision(s) since {} tried on the draft",
            replayed.decisions, args.since
        ));
        replayed.print(context)
    })
}

/// What was recorded of an entry, and the policies that decided it (POL-5).
fn explain_entry(context: &Context, index: u64, server: Option<&Path>) -> Result<u8, Report> {
    let (config, admin) = context.admin()?;
    let server = match server {
        Some(file) => config.key_server(Some(file))?.server(),
        None => config.broker()?.server(),
    };
    block_on(async {
        let mut remote = admin.at(server);
        let shown = remote.ask(&EntryShow { index }).await?;
        let entry = remote.logged(&shown.receipt)?.entry;
        remote.close().await;
        let reason = match (&entry.policies, entry.outcome) {
            (Some(names), _) if !names.is_empty() => format!("decided by {}", names.join(", ")),
            (_, Err(Refusal::Policy)) => "no policy permits it".to_owned(),
            _ => "no policy was asked".to_owned(),
        };
        let mut object = object! { "index": index, "reason": reason };
        object.extend(view::entry(&entry));
        context.output.object(object)
    })?;
    Ok(exit::DONE)
}

fn explain(context: &Context, args: &Explain) -> Result<u8, Report> {
    if let Some(index) = args.entry {
        return explain_entry(context, index, args.server.as_deref());
    }
    let (Some(file), Some(node), Some(dataset), Some(action)) =
        (&args.policy, &args.node, &args.dataset, args.action)
    else {
        return Err(Report::new(exit::USAGE, "which request is not said")
            .next("give --policy, --node, --dataset and --action, or --entry"));
    };
    let policy = parse(file, &read(file)?)?;
    let at = args.at.unwrap_or_else(now);
    let zone = || format!("{}a", node.region());
    let request = Request {
        node: Node {
            account: node.account().to_owned(),
            region: node.region().to_owned(),
            availability_zone: args.zone.clone().unwrap_or_else(zone),
            image: args.image.clone(),
            instance_type: args.instance_type.clone(),
            instance: node.instance().to_owned(),
            launch: args.launch.unwrap_or(LaunchId([0; 16])).to_string(),
            launched_at_unix: args.launched_at.unwrap_or(at).seconds(),
        },
        action,
        dataset: Dataset {
            id: args.dataset_id.unwrap_or(DatasetId([0; 16])).to_string(),
            name: dataset.clone(),
            tags: pairs(&args.tags),
            class: args.class.number(),
            aliases: Some(args.aliases.iter().cloned().collect()),
        },
        time_unix: at.seconds(),
        source: args.source,
        pairs: pairs(&args.context),
    };
    let explained = policy.explain(&request);
    let decision = explained.decision;
    context.output.object(object! {
        "allowed": decision.allowed,
        "deciding": decision.deciding,
        "errors": decision.errors,
        "reason": explained.reason,
        "at": text(at),
        "unknown": json!(unknown(args)),
    })?;
    Ok(if decision.allowed {
        exit::DONE
    } else {
        exit::REFUSED
    })
}

/// Attributes that were not given and stand in the request as made up: a decision by them means nothing.
fn unknown(args: &Explain) -> Vec<&'static str> {
    let given = [
        ("availability_zone", args.zone.is_some()),
        ("image", !args.image.is_empty()),
        ("instance_type", !args.instance_type.is_empty()),
        ("launch", args.launch.is_some()),
        ("launched_at", args.launched_at.is_some()),
        ("dataset_id", args.dataset_id.is_some()),
    ];
    given
        .into_iter()
        .filter(|(_, given)| !given)
        .map(|(name, _)| name)
        .collect()
}

fn pairs(given: &[(String, String)]) -> BTreeMap<String, String> {
    given.iter().cloned().collect()
}
