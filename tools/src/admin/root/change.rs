//! Acts that change what opens a key server: `seal` and `rekey` (ROOT-5, ROOT-7).

use std::collections::BTreeSet;

use client::cli::output::Printed;
use serde_json::{Value, json};
use ticket_format::Refusal;
use ticket_format::limits;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{Rekey as Body, RootShow, RootView, SealServer, ShareHolder};

use super::door;
use super::{Holder, Rekey, Seal, show};
use crate::admin::config::ServerKeys;
use crate::admin::remote::{Admin, Change, Remote};
use crate::admin::share_key::file;
use crate::admin::view::{object, text};
use crate::admin::{Context, ask, block_on};

/// What an open key server says of its root key.
///
/// # Errors
/// It is sealed, or cannot be reached.
async fn shown<'a>(admin: &'a Admin, keys: &ServerKeys) -> Result<(Remote<'a>, RootView), Report> {
    let mut server = admin.at(keys.server());
    match server.ask(&RootShow {}).await {
        Ok(view) => Ok((server, view)),
        Err(report) => {
            server.close().await;
            // Under its door key it is the same machine, and no attack.
            if report.exit == exit::INTEGRITY && door::is_sealed(keys, admin.timeout()).await {
                return Err(Report::refused("key server", Refusal::Sealed, None));
            }
            Err(report)
        }
    }
}

/// Makes a key server forget its root key.
///
/// # Errors
/// It cannot be reached, nobody confirmed, or it refused.
pub fn seal(context: &Context, args: &Seal) -> Printed {
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.at.key_server.as_deref())?;
    block_on(async {
        let (mut server, view) = match shown(&admin, &keys).await {
            Err(report) if report.refusal == Some(Refusal::Sealed) => {
                context.talk("It is sealed already");
                return context.output.object(sealed(&keys, None));
            }
            shown => shown?,
        };
        context.talk(format_args!(
            "Sealing {} ends all its connections, and nobody gets a key from it until {} of these give their shares, or it is started anew: {}",
            show::address(&keys),
            view.threshold,
            Printable(&show::holders(&view))
        ));
        if args.dry_run {
            server.close().await;
            let mut would = sealed(&keys, Some(&view));
            would.insert("dry_run".to_owned(), json!(true));
            return context.output.object(would);
        }
        ask::confirm_async(args.yes, show::address(&keys)).await?;
        let changed = server.change(&SealServer { root: view.root }).await;
        server.close().await;
        match changed {
            Ok(Change::Proposed(proposed)) => proposed.print(context),
            Ok(Change::Done(..) | Change::Before(_)) => {
                context.output.object(sealed(&keys, Some(&view)))
            }
            // It ends its connections, the one that its answer comes by too.
            Err(report)
                if report.exit == exit::RETRY && door::is_sealed(&keys, admin.timeout()).await =>
            {
                context.output.object(sealed(&keys, Some(&view)))
            }
            Err(report) => Err(report),
        }
    })
}

fn sealed(keys: &ServerKeys, view: Option<&RootView>) -> serde_json::Map<String, Value> {
    object! {
        "server": text(show::address(keys)),
        "state": "sealed",
        "root": view.map(|view| text(view.root)),
        "threshold": view.map(|view| view.threshold),
        "holders": view.map(show::holders),
    }
}

/// The new holders, with their share keys read.
///
/// # Errors
/// A share key cannot be used, or they cannot be holders together.
pub(in crate::admin) fn holders(
    shares: &[Holder],
    threshold: u64,
) -> Result<Vec<ShareHolder>, Report> {
    let wrong = |why: String| {
        Report::new(exit::USAGE, "the shares cannot be given out so")
            .why(why)
            .next("name each holder once, as NAME=FILE, and give --threshold between 1 and their number")
    };
    if shares.len() > limits::ADMINS {
        return Err(wrong(format!(
            "they are {}, and at most {} have one",
            shares.len(),
            limits::ADMINS
        )));
    }
    if !(1..=shares.len() as u64).contains(&threshold) {
        return Err(wrong(format!(
            "{threshold} of {} shares is none that can be",
            shares.len()
        )));
    }
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let mut holders = Vec::with_capacity(shares.len());
    for one in shares {
        let key = file::public(&one.file)?;
        if !names.insert(one.name.as_str()) {
            return Err(wrong(format!("{} stands there twice", one.name)));
        }
        // Who holds two shares is one person less that it takes.
        if !keys.insert(key.hash().0) {
            return Err(wrong(format!(
                "{} has the same share key as another holder",
                one.name
            )));
        }
        holders.push(ShareHolder {
            name: one.name.clone(),
            key,
        });
    }
    Ok(holders)
}

/// Has a key server make a new root key and new shares; the old ones open nothing any more.
///
/// # Errors
/// A share key cannot be used, nobody confirmed, or the server cannot be reached or refused.
pub fn rekey(context: &Context, args: &Rekey) -> Printed {
    // rule: ROOT-7
    let holders = holders(&args.shares, args.threshold)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.at.key_server.as_deref())?;
    block_on(async {
        let (mut server, view) = shown(&admin, &keys).await?;
        context.talk(format_args!(
            "{} makes a new root key in place of {}; {} of {} shares open it then, those of {} open nothing any more:",
            show::address(&keys),
            view.root,
            args.threshold,
            holders.len(),
            Printable(&show::holders(&view))
        ));
        for holder in &holders {
            let before = view.shares.iter().find(|row| row.name == holder.name);
            let change = match before {
                Some(row) if row.key == holder.key => "as before",
                Some(_) => "ANOTHER share key than before",
                None => "new",
            };
            context.talk(format_args!(
                "a share for {}: share key {} ({change})",
                holder.name,
                holder.key.hash()
            ));
        }
        for row in &view.shares {
            if !holders.iter().any(|holder| holder.name == row.name) {
                context.talk(format_args!(
                    "no share for {} any more",
                    Printable(&row.name)
                ));
            }
        }
        let body = Body {
            replaces: view.root,
            threshold: args.threshold,
            holders,
        };
        if args.dry_run {
            server.close().await;
            return context.output.object(object! {
                "server": text(show::address(&keys)),
                "replaces": text(body.replaces),
                "threshold": body.threshold,
                "shares": body.holders.iter().map(|holder| json!({
                    "name": holder.name,
                    "key_hash": text(holder.key.hash()),
                })).collect::<Value>(),
                "dry_run": true,
            });
        }
        ask::confirm_async(args.yes, show::address(&keys)).await?;
        let changed = server.change(&body).await?;
        let after = match changed {
            Change::Proposed(proposed) => {
                server.close().await;
                return proposed.print(context);
            }
            Change::Done(after, _) => after,
            Change::Before(_) => server.ask(&RootShow {}).await?,
        };
        server.close().await;
        holds(&body, &after)?;
        context.output.object(show::view(&keys, &after))
    })
}

/// What the server says that it did must be what was signed.
fn holds(body: &Body, after: &RootView) -> Result<(), Report> {
    let same = after.root != body.replaces
        && after.threshold == body.threshold
        && after.shares.len() == body.holders.len()
        && body.holders.iter().all(|holder| {
            let mut rows = after.shares.iter();
            rows.any(|row| row.name == holder.name && row.key == holder.key)
        });
    if same {
        return Ok(());
    }
    Err(Report::new(
        exit::INTEGRITY,
        "the key server shows other shares than were signed for",
    )
    .why(format!(
        "{} shares of root key {}",
        after.shares.len(),
        after.root
    ))
    .next("find out why: `postern-admin unseal --status`, `postern-admin audit query`"))
}
