//! `postern-admin deny`: refuse tickets, nodes, launches and more from now on.

use clap::{Args, Subcommand};
use client::cli::output::Printed;
use serde_json::{Map, Value, json};
use ticket_format::cbor::Decode;
use ticket_format::denial::{Denial, Members, REASON, Selector};
use ticket_format::ids::DenialDigest;
use ticket_format::ids::{DatasetId, LaunchId, NodeId, TicketId};
use ticket_format::messages::feed::{DENIAL, Numbered};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{DatasetShow, DenyBody, DenyList, NodeView};
use ticket_format::time::Timestamp;

use super::feed::{self, Mark};
use super::remote::{Change, Remote};
use super::span::{Span, instant};
use super::view::{self, object, text};
use super::words::author;
use super::{Context, ask, block_on, node};

/// Denies. All members that are given must match; what matches is refused from now on.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Deny {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    whom: Whom,
    /// Why, for people: at most 256 bytes
    #[arg(long, value_name = "TEXT", required = true)]
    reason: Option<String>,
    /// Wait until every key server has proven that it has applied it
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "10s")]
    wait: Option<Span>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the denials in force
    List,
}

#[derive(Clone, Debug, Default, Args)]
struct Whom {
    /// A ticket, by its id; a node ticket's takes its dataset tickets along
    #[arg(long, value_name = "ID")]
    ticket: Option<TicketId>,
    /// A node: ec2/ACCOUNT/REGION/INSTANCE
    #[arg(long, value_name = "NODE")]
    node: Option<NodeId>,
    /// A launch, and every node that it let in
    #[arg(long, value_name = "ID")]
    launch: Option<LaunchId>,
    /// An AWS account, 12 digits
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// An AWS region
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// An image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A dataset, by name or id
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,
    /// Only what was issued before this time; `now` is allowed
    #[arg(long, value_name = "RFC3339", value_parser = now_or_instant)]
    issued_before: Option<Timestamp>,
}

fn now_or_instant(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        Ok(super::now())
    } else {
        instant(text)
    }
}

/// Denies, or lists denials.
///
/// # Errors
/// Whatever stopped it; with `--wait` also that a key server has not applied it in time.
pub fn run(context: &Context, args: Deny) -> Printed {
    if let Some(Command::List) = args.command {
        return list(context);
    }
    let reason = args.reason.clone().unwrap_or_default();
    reason_fits(&reason)?;
    shape_fits(&args.whom)?;
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let selector = select(&mut remote, &args.whom).await?;
        let nodes = node::all(&mut remote).await?;
        let hit = nodes.iter().filter(|node| hits(&selector, node)).count();
        context.talk(format_args!("Refused from now on: {}", said(&selector)));
        context.talk(format_args!(
            "{hit} of {} known nodes may hold such tickets",
            nodes.len()
        ));
        let mut about =
            object! { "selector": view::selector(&selector), "nodes": hit, "reason": reason };
        if args.dry_run {
            remote.close().await;
            about.insert("dry_run".to_owned(), json!(true));
            return context.output.object(about);
        }
        let (yes, name) = (args.yes, name_of(&selector));
        ask::confirm_async(yes, name).await?;
        let body = DenyBody { selector, reason };
        let mut signed = super::now();
        let mut change = remote.change(&body).await?;
        if matches!(change, Change::Before(_)) {
            // What the first one came to is not known, and so not what it can be proven by.
            context.talk("The first answer was lost; it is denied once more, to know its epoch");
            signed = super::now();
            change = remote.change(&body).await?;
        }
        let mark = match change {
            Change::Proposed(proposed) => return proposed.print(context),
            Change::Done(denied, digest) => Mark::of(&denied, &body, digest, signed)?,
            Change::Before(_) => {
                return Err(Report::new(
                    exit::RETRY,
                    "it is denied, but no answer came back twice",
                )
                .next("see `postern-admin deny list` and `postern-admin feed status`"));
            }
        };
        about.insert("epoch".to_owned(), json!(mark.epoch));
        let told = match args.wait {
            Some(limit) => feed::wait(context, &admin, &mut remote, &broker, &mark, limit).await,
            None => Ok(None),
        };
        remote.close().await;
        feed::print(context, about, mark.epoch, told)
    })
}

/// Whether a reason has the length that a denial takes.
///
/// # Errors
/// It is longer.
pub fn reason_fits(reason: &str) -> Result<(), Report> {
    if reason.len() <= REASON {
        return Ok(());
    }
    Err(
        Report::new(exit::USAGE, "the reason is too long").why(format!(
            "it has {} bytes, at most {REASON} are kept",
            reason.len()
        )),
    )
}

fn shape_fits(whom: &Whom) -> Result<(), Report> {
    let wrong = |why: &str| Err(Report::new(exit::USAGE, "that is nobody").why(why));
    let short = |text: &Option<String>| {
        text.as_ref()
            .is_none_or(|text| (1..=32).contains(&text.len()))
    };
    if whom.account.as_ref().is_some_and(|account| {
        account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit())
    }) {
        return wrong("an account is 12 digits");
    }
    if !short(&whom.region) || !short(&whom.image) {
        return wrong("a region or image has 1 to 32 bytes");
    }
    let none = [&whom.account, &whom.region, &whom.image, &whom.dataset]
        .iter()
        .all(|member| member.is_none())
        && whom.ticket.is_none()
        && whom.node.is_none()
        && whom.launch.is_none()
        && whom.issued_before.is_none();
    if none {
        wrong(
            "give at least one of --ticket, --node, --launch, --account, --region, --image, --dataset, --issued-before",
        )
    } else {
        Ok(())
    }
}

/// The selector; a dataset's name becomes its id, which is never reused.
async fn select(remote: &mut Remote<'_>, whom: &Whom) -> Result<Selector, Report> {
    let dataset: Option<DatasetId> = match &whom.dataset {
        None => None,
        Some(id_or_name) => Some(match id_or_name.parse() {
            Ok(id) => id,
            Err(_) => {
                remote
                    .ask(&DatasetShow {
                        name: id_or_name.clone(),
                    })
                    .await?
                    .row
                    .dataset
            }
        }),
    };
    let members = Members {
        ticket: whom.ticket,
        node: whom.node.clone(),
        launch: whom.launch,
        account: whom.account.clone(),
        region: whom.region.clone(),
        image: whom.image.clone(),
        dataset,
        issued_before: whom.issued_before,
    };
    Selector::new(members).map_err(|error| Report::new(exit::USAGE, "that is nobody").why(error))
}

/// Whether tickets of this node can match; ticket, dataset and time are not a node's to tell.
fn hits(selector: &Selector, view: &NodeView) -> bool {
    let (members, node) = (selector.members(), &view.attributes.node);
    members.node.as_ref().is_none_or(|wanted| wanted == node)
        && members.launch.is_none_or(|wanted| wanted == view.launch)
        && members
            .account
            .as_deref()
            .is_none_or(|wanted| wanted == node.account())
        && members
            .region
            .as_deref()
            .is_none_or(|wanted| wanted == node.region())
        && members
            .image
            .as_deref()
            .is_none_or(|wanted| wanted == view.attributes.image)
}

/// In words: `tickets of node ec2/… and issued before …`.
pub(crate) fn said(selector: &Selector) -> String {
    let parts: Vec<String> = view::selector(selector)
        .into_iter()
        .map(|(name, value)| {
            let name = name.replace('_', " ");
            format!("{name} {}", value.as_str().unwrap_or_default())
        })
        .collect();
    format!("every ticket of {}", parts.join(" and of "))
}

/// What is to be typed: the first member's value.
fn name_of(selector: &Selector) -> String {
    let first: Option<(String, Value)> = view::selector(selector).into_iter().next();
    first
        .and_then(|(_, value)| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn list(context: &Context) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let (mut remote, mut rows) = (admin.at(broker.server()), Vec::new());
        let mut page = DenyList {
            after: 0,
            rows: 500,
        };
        loop {
            let answer = remote.ask(&page).await?;
            let Some(last) = answer.rows.last() else {
                break;
            };
            page.after = last.epoch;
            for numbered in &answer.rows {
                let denial = Denial::from_cbor(&numbered.denial, DENIAL).map_err(|error| {
                    Report::new(
                        exit::INTEGRITY,
                        format!("denial {} cannot be read", numbered.epoch),
                    )
                    .why(error)
                })?;
                rows.push(row(numbered, &denial));
            }
            if !answer.more {
                break;
            }
        }
        remote.close().await;
        context.output.rows(
            "denials",
            &[
                "epoch",
                "selector",
                "made",
                "forget",
                "by",
                "reason",
                "statement",
                "digest",
            ],
            rows,
        )
    })
}

fn row(numbered: &Numbered, denial: &Denial) -> Vec<Value> {
    let selector: Map<String, Value> = view::selector(&denial.selector);
    let statement = (denial.statement.0 != [0; 32]).then(|| text(denial.statement));
    vec![
        json!(numbered.epoch),
        json!(selector),
        text(denial.made),
        // A denial that hits tickets of the future is kept for good.
        text(if denial.forget == Timestamp::LAST {
            "never".to_owned()
        } else {
            denial.forget.to_string()
        }),
        text(author(denial)),
        text(&denial.reason),
        json!(statement),
        text(DenialDigest::of(&numbered.denial)),
    ]
}
