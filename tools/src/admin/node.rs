//! `postern-admin node` and `postern-admin ticket`: who logged in, and with what they go about.

use clap::{Args, Subcommand};
use client::cli::output::Printed;
use serde_json::json;
use ticket_format::ids::{NodeId, TicketId};
use ticket_format::keys::NodeKey;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{NodeList, NodeShow, NodeState, NodeUnfreeze, NodeView, TicketShow};

use super::remote::{Change, Remote};
use super::view::{self, text};
use super::{Context, ask, block_on};

/// Nodes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the nodes that logged in
    List,
    /// Show one
    Show {
        /// Which one: ec2/ACCOUNT/REGION/INSTANCE
        node: NodeId,
    },
    /// Decide which key a frozen node goes on with
    Unfreeze(Box<Unfreeze>),
}

/// Decide for a frozen node.
#[derive(Debug, Args)]
pub struct Unfreeze {
    /// Which one: ec2/ACCOUNT/REGION/INSTANCE
    node: NodeId,
    /// The node key that you know to be on the instance [default: the one that the broker has]
    #[arg(long, value_name = "HEX")]
    node_key: Option<NodeKey>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Tickets that the broker issued.
#[derive(Debug, Subcommand)]
pub enum TicketCommand {
    /// Show one
    Show {
        /// Its id (`cti`), in hexadecimal
        ticket: TicketId,
    },
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::List => list(context),
        Command::Show { node } => show(context, node),
        Command::Unfreeze(args) => unfreeze(context, *args),
    }
}

/// Every node that the broker knows.
pub(crate) async fn all(remote: &mut Remote<'_>) -> Result<Vec<NodeView>, Report> {
    let (mut all, mut page) = (Vec::new(), NodeList::first());
    loop {
        let answer = remote.ask(&page).await?;
        let Some(last) = answer.rows.last() else {
            break;
        };
        page = NodeList::after(&last.attributes.node);
        all.extend(answer.rows);
        if !answer.more {
            break;
        }
    }
    Ok(all)
}

fn list(context: &Context) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let nodes = all(&mut remote).await?;
        remote.close().await;
        let row = |view: &NodeView| {
            vec![
                text(&view.attributes.node),
                text(view.state.name()),
                text(view.launch),
                text(&view.attributes.image),
                text(view.logged_in),
                text(view.renewed),
                text(view.until),
                text(&view.reason),
            ]
        };
        let columns = [
            "node",
            "state",
            "launch",
            "image",
            "logged_in",
            "renewed",
            "until",
            "reason",
        ];
        context
            .output
            .rows("nodes", &columns, nodes.iter().map(row).collect())
    })
}

fn show(context: &Context, node: NodeId) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let view = remote.ask(&NodeShow { node }).await?;
        remote.close().await;
        context.output.object(view::node(&view))
    })
}

fn unfreeze(context: &Context, args: Unfreeze) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let view = remote
            .ask(&NodeShow {
                node: args.node.clone(),
            })
            .await?;
        if view.state != NodeState::Frozen {
            return Err(
                Report::new(exit::CONFLICT, format!("{} is not frozen", args.node))
                    .why(format!("it is {}", view.state.name())),
            );
        }
        let node_key = args.node_key.unwrap_or(view.node_key);
        context.talk(format_args!(
            "{} was frozen: {}",
            args.node,
            ticket_format::report::Printable(&view.reason)
        ));
        context.talk(format_args!(
            "It goes on with node key {node_key}; whoever holds another key of it stays out"
        ));
        if args.dry_run {
            remote.close().await;
            let mut object = view::node(&view);
            object.insert("dry_run".to_owned(), json!(true));
            return context.output.object(object);
        }
        let (yes, name) = (args.yes, args.node.to_string());
        ask::confirm_async(yes, name).await?;
        let body = NodeUnfreeze {
            node: args.node.clone(),
            node_key,
        };
        let view = match remote.change(&body).await? {
            Change::Done(view, _) => view,
            Change::Before(_) => remote.ask(&NodeShow { node: args.node }).await?,
            Change::Proposed(proposed) => return proposed.print(context),
        };
        remote.close().await;
        context.output.object(view::node(&view))
    })
}

/// `postern-admin ticket`.
///
/// # Errors
/// Whatever stopped it.
pub fn ticket(context: &Context, command: TicketCommand) -> Printed {
    let TicketCommand::Show { ticket } = command;
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let view = remote.ask(&TicketShow { ticket }).await?;
        remote.close().await;
        context.output.object(view::ticket(&view))
    })
}
