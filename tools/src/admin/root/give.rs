//! Giving shares: to open a sealed key server, or to prove that they would (ROOT-4, ROOT-6).

use client::cli::output::{Format, Printed};
use serde_json::json;
use store::root::{Given as To, Place};
use ticket_format::Refusal;
use ticket_format::ids::AttemptId;
use ticket_format::keys::TlsKey;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::seal::SealingSecret;
use ticket_format::statement::{RootShow, RootView, SharePurpose, ShareRow};

use super::door::{self, Reached};
use super::{Drill, Unseal, share, show};
use crate::admin::config::ServerKeys;
use crate::admin::view::{object, text};
use crate::admin::{Context, block_on};

/// How often a share is given when others begin attempts meanwhile.
const TRIES: u32 = 3;

/// Gives this admin's share to a sealed key server, and says how many more it takes.
///
/// # Errors
/// No share is for this share key, it does not open, or the server does not take it.
pub fn unseal(context: &Context, args: &Unseal) -> Printed {
    let (config, admin, passphrase) = context.admin_and_passphrase()?;
    let keys = config.key_server(args.at.key_server.as_deref())?;
    if args.status {
        return block_on(async {
            let mut server = door::reach(&admin, &keys).await?;
            let view = server.ask(&RootShow {}).await?;
            server.close().await;
            context.output.object(show::view(&keys, &view))
        });
    }
    let secret = args.share_key.open(context, &config, passphrase.as_ref())?;
    block_on(async {
        let mut server = door::reach(&admin, &keys).await?;
        let taker = match &server {
            Reached::Sealed(door) => *door.key(),
            Reached::Open(_) => keys.tls_key,
        };
        let giver = Giver {
            keys: &keys,
            secret: &secret,
            taker,
            purpose: SharePurpose::Unseal,
        };
        let given = giver.give(context, &mut server).await;
        server.close().await;
        let Some(given) = given? else {
            // Others' shares were enough.
            context.talk("It is open: no share is needed");
            return context.output.object(object! {
                "server": text(show::address(&keys)),
                "state": "open",
            });
        };
        let after = &given.after;
        let progress = match &after.unseal {
            Some(attempt) if after.sealed => {
                show::progress(attempt.shares, after.threshold, "open")
            }
            _ => {
                door::opened(&keys, admin.timeout()).await?;
                format!("{0} of {0} shares; it is open", after.threshold)
            }
        };
        said(context, &keys, &given, &progress)
    })
}

/// Gives this admin's share to an open key server, that compares what enough of them give with what it has.
///
/// # Errors
/// As [`unseal`]; also that the ways open something else.
pub fn drill(context: &Context, args: &Drill) -> Printed {
    let (config, admin, passphrase) = context.admin_and_passphrase()?;
    let keys = config.key_server(args.at.key_server.as_deref())?;
    let secret = args.share_key.open(context, &config, passphrase.as_ref())?;
    block_on(async {
        let mut server = door::reach(&admin, &keys).await?;
        if matches!(server, Reached::Sealed(_)) {
            server.close().await;
            return Err(Report::refused("key server", Refusal::Sealed, None));
        }
        let giver = Giver {
            keys: &keys,
            secret: &secret,
            taker: keys.tls_key,
            purpose: SharePurpose::Drill,
        };
        let given = giver.give(context, &mut server).await;
        server.close().await;
        let given = given?.ok_or_else(|| {
            Report::new(exit::RETRY, "the key server collects no shares now").next("try again")
        })?;
        // What is collected belongs to an attempt: another one stands there once it is over.
        let after = &given.after;
        let progress = match &after.drill {
            Some(now) if now.id == given.attempt => {
                show::progress(now.shares, after.threshold, "complete")
            }
            _ => format!(
                "{0} of {0} shares; both ways open root key {1}",
                after.threshold, after.root
            ),
        };
        said(context, &keys, &given, &progress)
    })
}

/// The share that is for this share key; no two are (ROOT-3).
fn own<'a>(view: &'a RootView, secret: &SealingSecret) -> Result<&'a ShareRow, Report> {
    let public = secret.public();
    view.shares
        .iter()
        .find(|row| row.key == public)
        .ok_or_else(|| {
            Report::new(
                exit::NOT_FOUND,
                "the key server has no share for this share key",
            )
            .why(format!(
                "it is {}, and shares of root key {} are for {}",
                public.hash(),
                view.root,
                show::holders(view)
            ))
            .next("give the share key that was handed over for this key server: --share-key FILE")
        })
}

/// A holder, and where the share goes.
struct Giver<'a> {
    keys: &'a ServerKeys,
    secret: &'a SealingSecret,
    /// The key under which the server answers now.
    taker: TlsKey,
    purpose: SharePurpose,
}

/// A share that was given.
struct Given {
    number: u64,
    /// To this attempt.
    attempt: AttemptId,
    after: RootView,
}

impl Giver<'_> {
    /// Asks where shares go, opens the own one here, and seals it to there; none where none are collected.
    async fn give(
        &self,
        context: &Context,
        server: &mut Reached<'_>,
    ) -> Result<Option<Given>, Report> {
        let mut tries = TRIES;
        loop {
            let view = server.ask(&RootShow {}).await?;
            let attempt = match self.purpose {
                SharePurpose::Unseal => &view.unseal,
                SharePurpose::Drill => &view.drill,
                // Shares of a backup go into files.
                SharePurpose::Restore => &None,
            };
            let Some(attempt) = attempt else {
                return Ok(None);
            };
            if view.sealed && tries == TRIES {
                context.talk(format_args!(
                    "{} is sealed: {} (automatic way: {})",
                    show::address(self.keys),
                    Printable(&view.wrong),
                    view.auto.name(),
                ));
            }
            let row = own(&view, self.secret)?;
            let place = Place {
                realm: self.keys.realm.clone(),
                server: self.keys.tls_key,
            };
            let to = To {
                realm: self.keys.realm.clone(),
                server: self.taker,
                root: view.root,
                purpose: self.purpose,
            };
            let body = share::sealed(row, self.secret, &place, attempt, &to)?;
            tries -= 1;
            match server.ask(&body).await {
                Ok(after) => {
                    return Ok(Some(Given {
                        number: row.number,
                        attempt: attempt.id,
                        after,
                    }));
                }
                // Another attempt has begun since: shares go there.
                Err(report) if report.refusal == Some(Refusal::Stale) && tries > 0 => {}
                Err(report) => return Err(unfit(report)),
            }
        }
    }
}

/// A share that does not fit ends the attempt: what was given before is gone.
fn unfit(report: Report) -> Report {
    if report.refusal != Some(Refusal::Invalid) {
        return report;
    }
    report.next("another attempt has begun, and the shares given so far are erased: every holder gives anew; the key server's alarm bad-shares says when it was")
}

/// Says what was given and how far it is.
fn said(context: &Context, keys: &ServerKeys, given: &Given, progress: &str) -> Printed {
    if context.output.format == Format::Text {
        return context.output.line(Printable(progress));
    }
    let mut object = show::view(keys, &given.after);
    object.insert("given".to_owned(), json!(given.number));
    object.insert("said".to_owned(), json!(progress));
    context.output.object(object)
}
