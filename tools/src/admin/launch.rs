//! `postern-admin launch`: who may log in, how often and when.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use client::cli::output::{Format, Printed};
use serde_json::json;
use ticket_format::bootstrap::{Bootstrap, launch_secret};
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{LaunchId, StatementDigest};
use ticket_format::keys::TicketKey;
use ticket_format::report::{Report, exit};
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::{Act, AdminSet, LaunchClose, LaunchCreate, LaunchList, LaunchShow};
use ticket_format::time::Timestamp;
use zeroize::Zeroizing;

use super::config::{BrokerKeys, Config};
use super::proposal::needed;
use super::remote::Change;
use super::span::{Span, instant};
use super::ticket_key;
use super::view::{self, object, text};
use super::{Context, ask, block_on, now, rng};

/// Launches.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a launch and print its user-data, once
    Create(Box<Create>),
    /// List launches
    List,
    /// Show one
    Show {
        /// Which launch
        launch: LaunchId,
    },
    /// End a launch; with its nodes denied unless --keep-nodes
    Deny(Deny),
}

/// Register a launch.
#[derive(Debug, Args)]
pub struct Create {
    /// AWS account that may use it, 12 digits; may be repeated
    #[arg(long = "account", value_name = "ACCOUNT", required = true)]
    accounts: Vec<String>,
    /// AWS region that may; may be repeated [default: any]
    #[arg(long = "region", value_name = "REGION")]
    regions: Vec<String>,
    /// Image that may; may be repeated [default: any]
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<String>,
    /// How many nodes; more than one needs --group
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u64,
    /// Let several nodes share the secret: whoever reads it on one may try to be another
    #[arg(long)]
    group: bool,
    /// For how long from now on an instance may be launched and log in
    #[arg(long, value_name = "TIME", default_value = "1h", conflicts_with_all = ["not_before", "expires"])]
    window: Span,
    /// From when on, instead of now
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    not_before: Option<Timestamp>,
    /// Until when, instead of --window
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    expires: Option<Timestamp>,
    /// Oldest identity document, measured from the instance's launch
    #[arg(long, value_name = "TIME", default_value = "15m")]
    max_age: Span,
    /// For how long a node may renew
    #[arg(long, value_name = "TIME", default_value = "7d")]
    node_life: Span,
    /// For people, at most 128 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Print a whole #cloud-config file instead of the one line
    #[arg(long)]
    cloud_init: bool,
    /// Write the user-data to a new file (mode 0600) instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// In the JSON formats: let the secret stand in the output
    #[arg(long)]
    reveal: bool,
    /// Say what would be registered, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// End a launch.
#[derive(Debug, Args)]
pub struct Deny {
    /// Which launch
    launch: LaunchId,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Leave the nodes that logged in with it as they are
    #[arg(long)]
    keep_nodes: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::Create(args) => create(context, &args),
        Command::List => list(context),
        Command::Show { launch } => show(context, launch),
        Command::Deny(args) => deny(context, args),
    }
}

fn wanted(args: &Create, secret: &BootstrapSecret) -> Result<LaunchCreate, Report> {
    let launch = LaunchId::random(&mut rng());
    let from = args.not_before.unwrap_or_else(now);
    let create = LaunchCreate {
        launch,
        key: launch_secret(secret, launch).public(),
        accounts: args.accounts.clone(),
        regions: args.regions.clone(),
        images: args.images.clone(),
        uses: args.uses,
        group: args.group,
        from,
        until: args.expires.unwrap_or_else(|| from.plus(args.window.0)),
        max_age: args.max_age.0,
        node_life: args.node_life.0,
        comment: args.comment.clone(),
    };
    let wrong = |why: &str| Report::new(exit::USAGE, "such a launch cannot be registered").why(why);
    create.check().map_err(wrong)?;
    let short = |list: &[String]| list.iter().all(|text| (1..=32).contains(&text.len()));
    let fits = create.uses >= 1
        && create.accounts.iter().all(|account| account.len() == 12)
        && (create.accounts.len() <= 16 && create.regions.len() <= 64 && create.images.len() <= 64)
        && (short(&create.regions) && short(&create.images) && create.comment.len() <= 128);
    if fits {
        Ok(create)
    } else {
        Err(wrong(
            "accounts are 12 digits (at most 16 of them), regions and images have at most 32 bytes (64 of each), the comment 128, uses are at least 1",
        ))
    }
}

fn create(context: &Context, args: &Create) -> Printed {
    let json = context.output.format != Format::Text;
    if json && args.out.is_none() && !args.reveal && !args.dry_run {
        return Err(Report::new(
            exit::USAGE,
            "the user-data holds a secret, and JSON is often kept",
        )
        .next("give --out FILE, or --reveal if that is what you want"));
    }
    if args
        .out
        .as_ref()
        .is_some_and(|file| std::fs::symlink_metadata(file).is_ok())
    {
        return Err(
            Report::new(exit::CONFLICT, "the file for the user-data exists already")
                .next("give another --out"),
        );
    }
    let secret = BootstrapSecret::random(&mut rng());
    let create = wanted(args, &secret)?;
    if args.dry_run {
        return context.output.object(described(&create, None));
    }
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let set = admin.set().await?;
        let need = needed(set, Act::LaunchCreate)?;
        if need > 1 {
            // The user-data names the launch's statement with all its signatures, and its secret must
            // not wait in an inbox for them.
            return Err(Report::new(exit::REFUSED, "a launch cannot be proposed")
                .why(format!("the admin set wants {need} signatures for launch-create, and user-data is made by who signs last"))
                .next("let security set its number to 1: postern-admin admin-set change --rule launch-create=1"));
        }
        let mut remote = admin.at(broker.server());
        let (view, digest) = match remote.change_record(&create).await? {
            Change::Done(view, digest) => (view, digest),
            Change::Proposed(_) => {
                return Err(Report::new(exit::REFUSED, "this admin's signature does not count for a launch")
                    .why("launch-create wants the role operator; the proposal that was left is of no use")
                    .next("let an operator create it"));
            }
            Change::Before(digest) => {
                context.talk("The first answer was lost; the launch is registered");
                let shown = remote
                    .ask(&LaunchShow {
                        launch: create.launch,
                    })
                    .await?;
                (shown, digest)
            }
        };
        let (keys, _) = ticket_key::followed(&admin, &mut remote, broker.ticket_key).await?;
        remote.close().await;
        if view.digest != digest || view.launch != create {
            return Err(Report::new(
                exit::INTEGRITY,
                "the broker registered another launch than was signed",
            )
            .next("close it with `postern-admin launch deny`, and find out why"));
        }
        let bootstrap = bootstrap(
            &config,
            &broker,
            set,
            *keys.at(now()).0,
            &create,
            secret,
            digest,
        );
        hand_out(context, args, &create, digest, &bootstrap)
    })
}

fn bootstrap(
    config: &Config,
    broker: &BrokerKeys,
    set: &AdminSet,
    ticket_key: TicketKey,
    create: &LaunchCreate,
    secret: BootstrapSecret,
    digest: StatementDigest,
) -> Bootstrap {
    Bootstrap {
        realm: config.realm.clone(),
        launch: create.launch,
        secret,
        brokers: broker.addresses.clone(),
        broker_key: broker.tls_key,
        admin_set: set.body().to_cbor(),
        launch_digest: digest,
        ticket_key,
        log_key: broker.log_key.clone(),
    }
}

/// The user-data, the one time that it is to be had.
fn hand_out(
    context: &Context,
    args: &Create,
    create: &LaunchCreate,
    digest: StatementDigest,
    bootstrap: &Bootstrap,
) -> Printed {
    let user_data = if args.cloud_init {
        bootstrap.to_cloud_config()
    } else {
        let mut line = Zeroizing::new(String::with_capacity(32 * 1_024));
        line.push_str(&bootstrap.to_user_data_line());
        line.push('\n');
        line
    };
    let mut about = described(create, Some(digest));
    if let Some(file) = &args.out {
        store::files::create_private(file, user_data.as_bytes()).map_err(|error| {
            Report::new(exit::LOCAL, format!("launch {} is registered, but its user-data was not written", create.launch))
                .why(error)
                .next("the secret is gone: close the launch with `postern-admin launch deny` and create another")
        })?;
        about.insert("user_data_file".to_owned(), text(file.display()));
        return context.output.object(about);
    }
    if context.output.format == Format::Text {
        context.talk(format_args!(
            "Launch {}: {} until {}. The user-data follows on stdout, this once; it holds the launch's secret.",
            create.launch,
            if create.uses == 1 { "one node".to_owned() } else { format!("{} nodes", create.uses) },
            create.until,
        ));
        return context.output.line(user_data.trim_end_matches('\n'));
    }
    about.insert("user_data".to_owned(), json!(user_data.as_str()));
    context.output.object(about)
}

fn described(
    create: &LaunchCreate,
    digest: Option<StatementDigest>,
) -> serde_json::Map<String, serde_json::Value> {
    object! {
        "launch": text(create.launch),
        "accounts": create.accounts,
        "regions": create.regions,
        "images": create.images,
        "uses": create.uses,
        "group": create.group,
        "from": text(create.from),
        "until": text(create.until),
        "max_age": text(Span(create.max_age)),
        "node_life": text(Span(create.node_life)),
        "comment": create.comment,
        "digest": view::maybe(digest),
    }
}

fn list(context: &Context) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let (mut remote, mut rows) = (admin.at(broker.server()), Vec::new());
        let mut page = LaunchList::first();
        loop {
            let answer = remote.ask(&page).await?;
            let Some(last) = answer.rows.last() else {
                break;
            };
            page = LaunchList::after(last.launch.launch);
            rows.extend(answer.rows.iter().map(|view| {
                let launch = &view.launch;
                let state = if view.closed {
                    "closed"
                } else if now() >= launch.until {
                    "over"
                } else {
                    "open"
                };
                vec![
                    text(launch.launch),
                    text(state),
                    json!(view.used),
                    json!(launch.uses),
                    json!(launch.accounts),
                    json!(launch.regions),
                    text(launch.until),
                    text(&launch.comment),
                ]
            }));
            if !answer.more {
                break;
            }
        }
        remote.close().await;
        context.output.rows(
            "launches",
            &[
                "launch", "state", "used", "uses", "accounts", "regions", "until", "comment",
            ],
            rows,
        )
    })
}

fn show(context: &Context, launch: LaunchId) -> Printed {
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let view = remote.ask(&LaunchShow { launch }).await?;
        remote.close().await;
        context.output.object(view::launch(&view))
    })
}

fn deny(context: &Context, args: Deny) -> Printed {
    super::deny::reason_fits(&args.reason)?;
    let (config, admin) = context.admin()?;
    let broker = config.broker()?;
    block_on(async {
        let mut remote = admin.at(broker.server());
        let view = remote
            .ask(&LaunchShow {
                launch: args.launch,
            })
            .await?;
        let nodes = if args.keep_nodes {
            "its nodes stay as they are".to_owned()
        } else {
            format!(
                "{} node(s) that logged in with it are refused from now on",
                view.used
            )
        };
        context.talk(format_args!(
            "Launch {} lets nobody in any more; {nodes}",
            args.launch
        ));
        if args.dry_run {
            remote.close().await;
            return context.output.object(
                object! { "launch": text(args.launch), "nodes": view.used, "dry_run": true },
            );
        }
        let (yes, name) = (args.yes, args.launch.to_string());
        ask::confirm_async(yes, name).await?;
        let body = LaunchClose {
            launch: args.launch,
            deny: !args.keep_nodes,
            reason: args.reason,
        };
        let epoch = match remote.change(&body).await? {
            Change::Done(denied, _) => json!(denied.epoch),
            Change::Before(_) => json!(null),
            Change::Proposed(proposed) => return proposed.print(context),
        };
        remote.close().await;
        context
            .output
            .object(object! { "launch": text(args.launch), "nodes": view.used, "epoch": epoch })
    })
}
