//! `postern-admin undeny`: denials are lifted by a quorum's statement, and by nothing else (DEN-9).

use clap::Args;
use client::cli::output::Printed;
use serde_json::json;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::Undeny as Body;
use ticket_format::statement::denials::LIFTED;

use super::remote::Change;
use super::view::{object, text};
use super::{Context, ask, block_on, deny, words};

/// Lift denials.
#[derive(Debug, Args)]
pub struct Undeny {
    /// The denials' epochs, as `deny list` shows them
    #[arg(required = true, value_name = "EPOCH")]
    epochs: Vec<u64>,
    /// Why, for people: at most 256 bytes
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Proposes it, or lifts them where one signature is enough.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, args: Undeny) -> Printed {
    deny::reason_fits(&args.reason)?;
    let mut epochs = args.epochs.clone();
    epochs.sort_unstable();
    epochs.dedup();
    if epochs.len() > LIFTED {
        return Err(
            Report::new(exit::USAGE, "too many denials for one statement")
                .why(format!("at most {LIFTED} are lifted at once")),
        );
    }
    let (_, admin) = context.admin()?;
    block_on(async {
        let mut broker = admin.broker()?;
        let (mut denials, mut lines) = (Vec::new(), Vec::new());
        for epoch in &epochs {
            let (line, digest) = words::lifting(&mut broker, *epoch, None).await?;
            lines.push(line);
            denials.push((*epoch, digest));
        }
        context.talk("Whom these denials hit is let in again:");
        for line in &lines {
            context.talk(Printable(line));
        }
        if args.dry_run {
            broker.close().await;
            return context
                .output
                .object(object! { "denials": lines, "dry_run": true });
        }
        let first = epochs.first().map_or_else(String::new, u64::to_string);
        ask::confirm_async(args.yes, first).await?;
        let body = Body {
            denials,
            reason: args.reason.clone(),
        };
        let change = broker.change_record(&body).await?;
        broker.close().await;
        match change {
            Change::Proposed(proposed) => proposed.print(context),
            Change::Done(denied, digest) => context.output.object(object! {
                "lifted": epochs, "epoch": denied.epoch, "statement": text(digest),
            }),
            Change::Before(digest) => context.output.object(object! {
                "lifted": epochs, "epoch": json!(null), "statement": text(digest),
            }),
        }
    })
}
