//! `postern-admin ticket-key`: the broker's ticket-signing keys, one after the other (KEY-1).

use clap::{Args, Subcommand};
use client::cli::output::Printed;
use serde_json::{Map, Value, json};
use ticket_format::keys::TicketKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{TicketKeyList, TicketKeyMake, TicketKeyRows, TicketKeySet};
use ticket_format::ticket::TicketKeys;

use super::remote::{Admin, Change, Remote};
use super::span::Span;
use super::view::{object, text};
use super::{Context, ask, block_on, now};

/// The broker's ticket-signing keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Have the broker make its next key; it signs nothing before `set`
    Make {
        /// Say what would happen, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say from when on the broker signs with the key that it has made
    Set(Box<Set>),
    /// List the keys: which one signs, and until when the others count
    List,
}

/// Put the next key in force.
#[derive(Debug, Args)]
pub struct Set {
    /// The new key, in hexadecimal [default: the only one that was made and is not in use]
    #[arg(value_name = "KEY")]
    key: Option<TicketKey>,
    /// How long from now until it signs: everybody whose signature it takes must have signed by then
    #[arg(long = "in", value_name = "TIME", default_value = "1h")]
    after: Span,
    /// How long tickets under the old key count from then on [default: as long as the longest ticket lives]
    #[arg(long, value_name = "TIME")]
    overlap: Option<Span>,
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
        Command::Make { dry_run } => make(context, dry_run),
        Command::Set(args) => set(context, &args),
        Command::List => list(context),
    }
}

/// The broker's keys as it tells of them, and the chain that its records prove: begun with the key that is
/// configured here.
///
/// # Errors
/// The broker cannot be reached, or what it shows does not hold.
pub(crate) async fn followed(
    admin: &Admin,
    broker: &mut Remote<'_>,
    configured: TicketKey,
) -> Result<(TicketKeys, TicketKeyRows), Report> {
    // rule: KEY-3
    let rows = broker.ask(&TicketKeyList {}).await?;
    let sets = admin.known().await?.sets();
    let mut keys = TicketKeys::of(configured);
    for record in &rows.records {
        let followed = keys.follow(record, &sets, admin.realm(), now());
        followed.map_err(|error| {
            Report::new(
                exit::INTEGRITY,
                "the broker shows a ticket key's record that does not hold",
            )
            .why(error)
            .next("give no node its user-data; find out who made the record")
        })?;
    }
    let newest = rows.rows.iter().map(|row| row.number).max();
    if newest.is_some_and(|newest| newest != keys.number()) {
        return Err(Report::new(
            exit::CONFIG,
            "the broker's ticket key cannot be followed from the one that is configured here",
        )
        .why("it is none of the last sixteen, or of another broker")
        .next(
            "put a newer ticket-key into broker-keys.toml, after asking the other admins for it",
        ));
    }
    Ok((keys, rows))
}

fn make(context: &Context, dry_run: bool) -> Printed {
    let (_, admin) = context.admin()?;
    context.talk("The broker makes a key; tickets are signed with it only after `ticket-key set`");
    if dry_run {
        return context.output.object(object! { "dry_run": true });
    }
    block_on(async {
        let mut broker = admin.broker()?;
        let change = broker.change(&TicketKeyMake {}).await?;
        broker.close().await;
        match change {
            Change::Proposed(proposed) => proposed.print(context),
            Change::Done(made, digest) => context.output.object(object! {
                "key": text(made.key), "statement": text(digest),
            }),
            Change::Before(digest) => context.output.object(object! {
                "key": json!(null), "statement": text(digest),
            }),
        }
    })
}

/// The key that is meant.
fn wanted(rows: &TicketKeyRows, given: Option<TicketKey>) -> Result<TicketKey, Report> {
    let made: Vec<TicketKey> = rows
        .rows
        .iter()
        .filter(|row| row.number == 0)
        .map(|row| row.key)
        .collect();
    let wrong = |why: &str, next: &str| {
        Err(
            Report::new(exit::CONFLICT, "there is no next key to be set")
                .why(why)
                .next(next),
        )
    };
    match (given, made.as_slice()) {
        (Some(key), made) if made.contains(&key) => Ok(key),
        (Some(_), _) => wrong(
            "the broker has made no such key, or it is in use already",
            "look at `postern-admin ticket-key list`",
        ),
        (None, [key]) => Ok(*key),
        (None, []) => wrong(
            "the broker has made none",
            "have it make one: `postern-admin ticket-key make`",
        ),
        (None, _) => wrong(
            "the broker has made several",
            "name one of them: `postern-admin ticket-key list`",
        ),
    }
}

fn set(context: &Context, args: &Set) -> Printed {
    let (config, admin) = context.admin()?;
    let configured = config.broker()?.ticket_key;
    block_on(async {
        let mut broker = admin.broker()?;
        let (keys, rows) = followed(&admin, &mut broker, configured).await?;
        let key = wanted(&rows, args.key)?;
        // What it takes to get here is not to make the least too little.
        let spare = limits::SKEW;
        let overlap = args.overlap.map_or(rows.overlap + spare, |given| given.0);
        let from = now().plus(args.after.0);
        let body = TicketKeySet {
            number: keys.number().saturating_add(1),
            follows: keys.digest(),
            key,
            old: *keys.newest(),
            from,
            until: from.plus(overlap),
        };
        context.talk(format_args!(
            "From {} on the broker signs tickets with {}; those under {} count until {}, and then that key is erased",
            body.from, body.key, body.old, body.until
        ));
        if args.dry_run {
            broker.close().await;
            let mut would = said(&body);
            would.insert("dry_run".to_owned(), json!(true));
            return context.output.object(would);
        }
        ask::confirm_async(args.yes, body.number.to_string()).await?;
        let change = broker.change_record(&body).await?;
        broker.close().await;
        match change {
            Change::Proposed(proposed) => proposed.print(context),
            Change::Done(_, digest) | Change::Before(digest) => {
                let mut done = said(&body);
                done.insert("statement".to_owned(), text(digest));
                context.output.object(done)
            }
        }
    })
}

/// A record in JSON.
pub(crate) fn said(body: &TicketKeySet) -> Map<String, Value> {
    object! {
        "number": body.number,
        "key": text(body.key),
        "old": text(body.old),
        "from": text(body.from),
        "until": text(body.until),
    }
}

fn list(context: &Context) -> Printed {
    let (config, admin) = context.admin()?;
    let configured = config.broker()?.ticket_key;
    block_on(async {
        let mut broker = admin.broker()?;
        let (_, listed) = followed(&admin, &mut broker, configured).await?;
        broker.close().await;
        let rows = listed.rows.iter().map(|row| {
            let state = match (row.signs, row.until, row.number) {
                (_, _, 0) => "made",
                (true, ..) => "signs",
                (false, Some(until), _) if until <= now() => "over",
                (false, Some(_), _) if row.to.is_some_and(|to| to <= now()) => "counts",
                _ => "next",
            };
            vec![
                json!((row.number > 0).then_some(row.number)),
                text(state),
                text(row.key),
                text(row.key.thumbprint()),
                super::view::maybe(row.from),
                super::view::maybe(row.until),
                json!(row.held),
            ]
        });
        let columns = ["number", "state", "key", "kid", "from", "until", "held"];
        context.output.rows("ticket_keys", &columns, rows.collect())
    })
}
