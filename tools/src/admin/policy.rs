//! `postern-admin policy`: the broker's policy, and checking any policy without a server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use policy::{Dataset, Node, Policy, Request};
use serde_json::json;
use store::files;
use ticket_format::ids::{DatasetId, LaunchId, NodeId};
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{PolicySet, PolicyShow, policy_digest};
use ticket_format::time::Timestamp;

use super::remote::Sent;
use super::span::{instant, pair};
use super::view::{object, text};
use super::{Context, block_on, now};

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
    /// Decide a request by a policy file, without any server: exit 0 when allowed, 4 when refused
    Explain(Box<Explain>),
}

/// A request to be decided.
#[derive(Debug, Args)]
pub struct Explain {
    /// The policy: Cedar text
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The node that asks: ec2/ACCOUNT/REGION/INSTANCE
    #[arg(long)]
    node: NodeId,
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
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// The dataset's id
    #[arg(long, value_name = "ID")]
    dataset_id: Option<DatasetId>,
    /// A tag of the dataset; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// What it asks for: decrypt, encrypt or rewrap
    #[arg(long)]
    action: policy::Action,
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
        match remote.act(&PolicySet { text: text_of }).await? {
            Sent::Done(set) if set.digest != digest => return Err(other_digest()),
            Sent::Done(_) => {}
            Sent::Before => context.talk("The first answer was lost; the policy is set"),
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

fn explain(context: &Context, args: &Explain) -> Result<u8, Report> {
    let policy = parse(&args.policy, &read(&args.policy)?)?;
    let at = args.at.unwrap_or_else(now);
    let zone = || format!("{}a", args.node.region());
    let request = Request {
        node: Node {
            account: args.node.account().to_owned(),
            region: args.node.region().to_owned(),
            availability_zone: args.zone.clone().unwrap_or_else(zone),
            image: args.image.clone(),
            instance_type: args.instance_type.clone(),
            instance: args.node.instance().to_owned(),
            launch: args.launch.unwrap_or(LaunchId([0; 16])).to_string(),
            launched_at_unix: args.launched_at.unwrap_or(at).seconds(),
        },
        action: args.action,
        dataset: Dataset {
            id: args.dataset_id.unwrap_or(DatasetId([0; 16])).to_string(),
            name: args.dataset.clone(),
            tags: pairs(&args.tags),
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
