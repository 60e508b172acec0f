//! `postern-admin approve`: another admin's signature, and what follows when it was the last one.

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::{Format, Printed};
use serde_json::{Map, Value, json};
use store::files;
use ticket_format::cbor::Decode as _;
use ticket_format::ids::PolicyDigest;
use ticket_format::limits;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{
    Act, Audience, DatasetPolicySet, Denied, PolicySet, PolicyTextSet, ReceivedStatement,
    policy_digest,
};

use super::admin_set::push;
use super::config::Config;
use super::dataset::transfer;
use super::proposal::{self, Opened, Which};
use super::remote::{Admin, Sent};
use super::view::{object, text};
use super::{Context, ask, block_on, words};

/// Sign what another admin proposed.
#[derive(Debug, Args)]
pub struct Approve {
    /// The proposal's id, as `list --pending` shows it, or a file
    proposal: Which,
    /// Where the statement goes, with the signatures that it has then [default: the file itself]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where goes what an export gives, or the keys of an import [default: ID.export, ID.import]
    #[arg(long, value_name = "FILE")]
    result: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what it would do, and sign nothing
    #[arg(long)]
    dry_run: bool,
}

/// Shows it, asks, signs, and carries it out when enough admins have signed.
///
/// # Errors
/// It is not to be signed, was not confirmed, or its server refused.
pub fn run(context: &Context, args: &Approve) -> Printed {
    let (config, admin) = context.admin()?;
    block_on(async {
        let statement = proposal::fetch(&admin, &args.proposal).await?;
        let opened = proposal::open(&statement, &admin).await?;
        let own = opened.set.admin(&admin.public()).cloned();
        let own = own.ok_or_else(|| {
            Report::new(
                exit::REFUSED,
                "this key is no admin's in the set that counts here",
            )
            .why("a signature by anybody else spoils the statement")
        })?;
        // rule: PRO-3
        for line in words::of(&opened, &admin, &config)
            .await?
            .iter()
            .chain(&words::signatures(&opened))
        {
            context.talk(Printable(line));
        }
        let file = match &args.proposal {
            Which::File(file) => Some(file.clone()),
            Which::Inbox(_) => None,
        };
        if args.dry_run {
            let mut about = opened.proposed(file).json();
            about.insert("dry_run".to_owned(), json!(true));
            return context.output.object(about);
        }
        let id = opened.received.payload().id;
        let signed = opened.signers.iter().any(|signer| signer.key == own.key);
        let (statement, opened) = if signed {
            context.talk("This key has signed it already");
            (statement, opened)
        } else {
            let act = opened.received.payload().act;
            if !opened.first && !own.may(act) {
                return Err(Report::new(
                    exit::REFUSED,
                    format!("a signature by {:?} does not count for {act}", own.name),
                )
                .why("the act's role is another one")
                .next("see `postern-admin admin-set show`"));
            }
            ask::confirm_async(args.yes, id.to_string()).await?;
            let statement = admin.key().add(&opened.received)?;
            let opened = proposal::open(&statement, &admin).await?;
            (statement, opened)
        };
        if !opened.complete() {
            return hand_on(context, &admin, args, file, &statement, &opened).await;
        }
        let out = args.out.clone().or(file);
        if opened.first {
            keep(out.as_deref(), &statement)?;
            context.talk("All admins have signed: `postern-broker init` and `postern-key-server init` take the file with --admin-set, and every admin a copy");
            return report(context, &opened, &[], Map::new(), out.as_deref());
        }
        // rule: BAK-4 — it is carried out on the machine, where no server is.
        if opened.received.payload().act == Act::Restore {
            if out.is_none() {
                return Err(
                    Report::new(exit::USAGE, "where the statement goes is not said")
                        .next("give --out FILE"),
                );
            }
            keep(out.as_deref(), &statement)?;
            context.talk("On the machine: `postern-key-server restore BACKUP --statement FILE`");
            return report(context, &opened, &[], Map::new(), out.as_deref());
        }
        // The file before the server: what was carried out is never lost.
        if args.out.is_some() {
            keep(out.as_deref(), &statement)?;
        }
        let (servers, about) = deliver(
            context,
            &config,
            &admin,
            (&opened, args.result.as_deref()),
            &statement,
        )
        .await?;
        report(context, &opened, &servers, about, out.as_deref())
    })
}

/// Writes the statement over what the file held.
fn keep(out: Option<&Path>, statement: &[u8]) -> Result<(), Report> {
    let Some(out) = out else { return Ok(()) };
    files::write_private(out, statement).map_err(|error| {
        Report::new(exit::LOCAL, format!("{} was not written", out.display()))
            .why(error)
            .next("give another --out")
    })
}

/// It needs more signatures yet: back to where it came from.
async fn hand_on(
    context: &Context,
    admin: &Admin,
    args: &Approve,
    file: Option<PathBuf>,
    statement: &[u8],
    opened: &Opened,
) -> Printed {
    let proposed = match args.out.clone().or(file) {
        Some(out) => {
            keep(Some(&out), statement)?;
            opened.proposed(Some(out))
        }
        None => proposal::leave(admin, statement, None).await?,
    };
    proposed.print(context)
}

/// Sends a complete statement to the server that it is for; those for everyone to all who need them.
async fn deliver(
    context: &Context,
    config: &Config,
    admin: &Admin,
    (opened, out): (&Opened, Option<&Path>),
    statement: &[u8],
) -> Result<(Vec<String>, Map<String, Value>), Report> {
    if let Some(out) = out {
        transfer::free(out)?;
    }
    let payload = opened.received.payload();
    if payload.act == Act::AdminSet {
        let mut known = admin.known().await?.clone();
        known.later.push(statement.to_vec());
        let told = push::all(config, admin, &known.later, known.base).await?;
        let servers = push::report(context, &told)?;
        return Ok((servers, Map::new()));
    }
    let server = match payload.audience {
        Audience::Everyone => config.broker()?.server(),
        Audience::Server(key) => config.server_of(&key)?,
    };
    let name = server.server.addresses.join(",");
    let mut remote = admin.at(server);
    let sent = remote.deliver(statement).await?;
    remote.close().await;
    let mut about = Map::new();
    match (sent, payload.act) {
        (Sent::Done(result), Act::Undeny | Act::Deny | Act::LaunchClose) => {
            if let Ok(denied) = Denied::from_cbor(&result, limits::MESSAGE) {
                about.insert("epoch".to_owned(), json!(denied.epoch));
            }
        }
        (Sent::Done(result), Act::PolicySet | Act::DatasetPolicySet) => {
            let set = PolicyTextSet::from_cbor(&result, limits::MESSAGE).ok();
            if set.map(|set| set.digest) != wanted_policy(&opened.received) {
                return Err(super::policy::other_digest());
            }
        }
        (Sent::Done(result), act) => {
            if let Audience::Server(key) = payload.audience {
                let which = (act, payload.id);
                let kept = transfer::keep_result(admin.realm(), key, which, out, &result)?;
                if let Some(file) = kept {
                    about.insert("file".to_owned(), text(file.display()));
                }
            }
        }
        (Sent::Before, _) => context.talk("The first answer was lost; it is done"),
    }
    Ok((vec![name], about))
}

/// The digest of the policy that a statement sets.
fn wanted_policy(received: &ReceivedStatement) -> Option<PolicyDigest> {
    let broker = received.body::<PolicySet>().map(|set| set.text);
    let dataset = || received.body::<DatasetPolicySet>().map(|set| set.text);
    broker
        .or_else(|_| dataset())
        .ok()
        .map(|text| policy_digest(&text))
}

fn report(
    context: &Context,
    opened: &Opened,
    servers: &[String],
    about: Map<String, Value>,
    out: Option<&Path>,
) -> Printed {
    let payload = opened.received.payload();
    let names: Vec<&str> = opened.signers.iter().map(|one| one.name.as_str()).collect();
    if context.output.format == Format::Text {
        let done = if servers.is_empty() {
            "is complete".to_owned()
        } else {
            format!("done at {}", servers.join(", "))
        };
        return context.output.line(format_args!(
            "{} {} by {} of {} signatures ({}): {done}",
            payload.act,
            payload.id,
            opened.counting,
            opened.needed,
            names.join(", "),
        ));
    }
    let mut object = object! {
        "done": text(payload.id),
        "act": payload.act.name(),
        "signers": names,
        "servers": servers,
        "file": out.map(|out| text(out.display())),
    };
    object.extend(about);
    context.output.object(object)
}
