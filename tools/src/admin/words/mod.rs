//! What a statement would do, in words, and against what stands now: who approves signs the
//! statement's bytes, and must be able to tell what they are (PRO-3).

mod imports;
mod plain;
mod sets;
mod vault;

pub use plain::describe;
pub use sets::{changes, overview, warnings};

use ticket_format::cbor::Decode as _;
use ticket_format::denial::Denial;
use ticket_format::ids::DenialDigest;
use ticket_format::keys::AdminKey;
use ticket_format::messages::feed::DENIAL;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    Act, AdminSetBody, AliasSet, Audience, DatasetOwnersSet, DatasetPolicySet, DatasetRecord,
    DatasetSet, DatasetShow, DenyList, KekDestroy, KekExport, KekImport, KekKeep, KekRotate,
    KekRow, KekSet, LogRecover, LogShow, NodeShow, NodeUnfreeze, PolicySet, PolicyShow, Rekey,
    RootShow, SealServer, StatementRefusal, TicketKeySet, Undeny, policy_digest,
};

use ticket_format::time::Timestamp;

use super::config::Config;
use super::dataset::{alias, keks, wraps};
use super::deny::said;
use super::diff::unified;
use super::now;
use super::proposal::Opened;
use super::remote::{Admin, Remote};
use super::ticket_key;

/// Who signed, and how many more must.
#[must_use]
pub fn signatures(opened: &Opened) -> Vec<String> {
    let act = opened.received.payload().act;
    let mut lines: Vec<String> = opened
        .signers
        .iter()
        .map(|signer| {
            let counts = opened.first || signer.may(act);
            let not = if counts {
                ""
            } else {
                ", which does not count for this"
            };
            format!("signed by {} (key: {}){not}", signer.name, signer.kind)
        })
        .collect();
    let expires = opened.received.payload().expires;
    let until = if expires == Timestamp::LAST {
        "it does not expire".to_owned()
    } else {
        format!("good until {expires}")
    };
    lines.push(format!(
        "{} of {} signatures; {until}",
        opened.counting, opened.needed
    ));
    lines
}

/// What it would do, line by line, asking servers for what stands now.
///
/// # Errors
/// The body is none of the act's, a server cannot be reached, or what it would replace is not what
/// stands now.
pub async fn of(opened: &Opened, admin: &Admin, config: &Config) -> Result<Vec<String>, Report> {
    let payload = opened.received.payload();
    let set = &opened.set;
    let mut lines = describe(payload, Some(set)).map_err(unreadable)?;
    let body = |error: StatementRefusal| unreadable(error);
    match payload.act {
        Act::AdminSet => {
            let new: AdminSetBody = opened.received.body().map_err(body)?;
            if opened.first {
                lines.extend(overview(&new));
            } else {
                if new.follows != set.digest() {
                    return Err(stale("admin set"));
                }
                lines.extend(changes(set.body(), &new));
            }
            lines.extend(warnings(&new));
        }
        Act::PolicySet => {
            let new: PolicySet = opened.received.body().map_err(body)?;
            let mut broker = admin.broker()?;
            let old = broker.ask(&PolicyShow {}).await?;
            broker.close().await;
            let standing = (!old.text.is_empty()).then(|| policy_digest(&old.text));
            if new.replaces != standing {
                return Err(stale("policy"));
            }
            lines.extend(unified(&old.text, &new.text));
        }
        Act::DatasetPolicySet => {
            let new: DatasetPolicySet = opened.received.body().map_err(body)?;
            let old = shown(admin, config, payload.audience, &new.name).await?;
            let old = old.policy.unwrap_or_default();
            if policy_digest(&old) != new.replaces {
                return Err(stale("policy"));
            }
            lines.extend(unified(&old, &new.text));
        }
        Act::DatasetSet => {
            let new: DatasetSet = opened.received.body().map_err(body)?;
            let old = shown(admin, config, payload.audience, &new.name).await?;
            lines.extend(plain::options(&old, &new));
            lines.extend(plain::witness_policies(&old.witnessing, &new.witnessing));
        }
        Act::DatasetOwnersSet => {
            let new: DatasetOwnersSet = opened.received.body().map_err(body)?;
            let old = shown(admin, config, payload.audience, &new.name).await?;
            lines.extend(plain::owners(&old.owners, &new.owners, Some(set)));
        }
        Act::DatasetRecord => {
            let new: DatasetRecord = opened.received.body().map_err(body)?;
            let mut broker = admin.broker()?;
            let old = broker
                .find(&DatasetShow {
                    name: new.name.clone(),
                })
                .await?;
            broker.close().await;
            match old.and_then(|view| view.record) {
                None => lines.push("the broker has no record of it yet".to_owned()),
                Some(old) => {
                    let old = ticket_format::statement::ReceivedStatement::parse(&old)
                        .and_then(|old| old.body::<DatasetRecord>());
                    let old = old.map_err(|error| {
                        Report::new(exit::INTEGRITY, "the broker shows a record that is none")
                            .why(error)
                    })?;
                    lines.extend(plain::records(&old, &new, Some(set)));
                }
            }
        }
        Act::AliasSet => {
            let one: AliasSet = opened.received.body().map_err(body)?;
            let mut broker = admin.broker()?;
            let standing = alias::standing(&mut broker, &one.alias).await?;
            broker.close().await;
            // rule: ADM-5
            if one.follows != alias::follows(standing.as_ref()) {
                return Err(stale("record of that alias"));
            }
            let names = standing.and_then(|row| row.target);
            lines.push(plain::until_now(&one, names.as_ref()));
        }
        Act::LogRecover => {
            let body: LogRecover = opened.received.body().map_err(body)?;
            lines.extend(recovery(admin, config, payload.audience, &body).await?);
        }
        Act::Undeny => {
            let lifted: Undeny = opened.received.body().map_err(body)?;
            let mut broker = admin.broker()?;
            for (epoch, digest) in &lifted.denials {
                lines.push(lifting(&mut broker, *epoch, Some(*digest)).await?.0);
            }
            broker.close().await;
        }
        Act::NodeUnfreeze => {
            let one: NodeUnfreeze = opened.received.body().map_err(body)?;
            let mut broker = admin.broker()?;
            let view = broker
                .ask(&NodeShow {
                    node: one.node.clone(),
                })
                .await?;
            broker.close().await;
            lines.push(format!("it is {} now: {}", view.state.name(), view.reason));
            let same = view.node_key == one.node_key;
            lines.push(format!(
                "the key that it goes on with is {} the broker has",
                if same { "the one that" } else { "ANOTHER than" }
            ));
        }
        Act::KekRotate => {
            let one: KekRotate = opened.received.body().map_err(body)?;
            let rows = keks_at(admin, config, payload.audience, &one.name).await?;
            lines.extend(vault::rotated(&one, &rows)?);
        }
        Act::KekSet => {
            let one: KekSet = opened.received.body().map_err(body)?;
            let rows = keks_at(admin, config, payload.audience, &one.name).await?;
            lines.extend(vault::was_set(&one, &rows)?);
        }
        Act::KekImport => {
            let one: KekImport = opened.received.body().map_err(body)?;
            let rows = keks_at(admin, config, payload.audience, &one.name).await?;
            lines.extend(imports::imported(&one, &rows)?);
        }
        Act::KekExport => {
            let one: KekExport = opened.received.body().map_err(body)?;
            let rows = keks_at(admin, config, payload.audience, &one.name).await?;
            lines.extend(imports::exported(&one, &rows)?);
        }
        Act::KekKeep => {
            let one: KekKeep = opened.received.body().map_err(body)?;
            let rows = keks_at(admin, config, payload.audience, &one.name).await?;
            lines.extend(vault::kept(&one, &rows)?);
        }
        Act::KekDestroy => {
            let one: KekDestroy = opened.received.body().map_err(body)?;
            let mut server = named(admin, config, payload.audience)?;
            let rows = keks::versions(&mut server, &one.name).await?;
            let row = vault::seen(&one, &rows)?;
            let first = wraps::first(&mut server, &one.name, row).await?;
            server.close().await;
            lines.extend(vault::destroyed(&one, row, &first, now()));
        }
        Act::TicketKeySet => {
            let one: TicketKeySet = opened.received.body().map_err(body)?;
            let mut broker = admin.broker()?;
            let configured = config.broker()?.ticket_key;
            let (keys, rows) = ticket_key::followed(admin, &mut broker, configured).await?;
            broker.close().await;
            if keys.succeeds(&one).is_err() {
                return Err(stale("ticket key"));
            }
            let made = rows
                .rows
                .iter()
                .any(|row| row.number == 0 && row.key == one.key);
            lines.push(format!(
                "the new key is {} the broker says it made",
                if made { "one that" } else { "NOT one that" }
            ));
        }
        Act::SealServer => {
            let one: SealServer = opened.received.body().map_err(body)?;
            let mut server = named(admin, config, payload.audience)?;
            let view = server.ask(&RootShow {}).await?;
            server.close().await;
            lines.extend(vault::sealed(&one, &view)?);
        }
        Act::Rekey => {
            let one: Rekey = opened.received.body().map_err(body)?;
            let mut server = named(admin, config, payload.audience)?;
            let view = server.ask(&RootShow {}).await?;
            server.close().await;
            lines.extend(vault::rekeyed(&one, &view)?);
        }
        _ => {}
    }
    Ok(lines)
}

/// The server that a statement is for.
fn named<'a>(admin: &'a Admin, config: &Config, audience: Audience) -> Result<Remote<'a>, Report> {
    let Audience::Server(key) = audience else {
        return Err(Report::new(
            exit::INTEGRITY,
            "a statement about one key server's keys is for everyone",
        ));
    };
    Ok(admin.at(config.server_of(&key)?))
}

/// A dataset's KEK versions as they stand.
async fn keks_at(
    admin: &Admin,
    config: &Config,
    audience: Audience,
    name: &str,
) -> Result<Vec<KekRow>, Report> {
    let mut server = named(admin, config, audience)?;
    let rows = keks::versions(&mut server, name).await?;
    server.close().await;
    Ok(rows)
}

/// A denial that is to be lifted, in words, with its digest; when one is given, it must be that.
pub(crate) async fn lifting(
    broker: &mut Remote<'_>,
    epoch: u64,
    expected: Option<DenialDigest>,
) -> Result<(String, DenialDigest), Report> {
    let page = broker
        .ask(&DenyList {
            after: epoch.saturating_sub(1),
            rows: 1,
        })
        .await?;
    let row = page.rows.into_iter().find(|row| row.epoch == epoch);
    let row = row.ok_or_else(|| {
        Report::new(
            exit::NOT_FOUND,
            format!("there is no denial in force at epoch {epoch}"),
        )
        .next("see `postern-admin deny list`")
    })?;
    let digest = DenialDigest::of(&row.denial);
    if expected.is_some_and(|expected| expected != digest) {
        return Err(stale("denial"));
    }
    let denial = Denial::from_cbor(&row.denial, DENIAL).map_err(|error| {
        Report::new(exit::INTEGRITY, format!("denial {epoch} cannot be read")).why(error)
    })?;
    let line = format!(
        "epoch {epoch}, made {} by {}: {} ({})",
        denial.made,
        author(&denial),
        said(&denial.selector),
        denial.reason
    );
    Ok((line, digest))
}

/// Who made a denial.
pub(crate) fn author(denial: &Denial) -> &str {
    if denial.author.is_empty() {
        "the broker"
    } else {
        &denial.author
    }
}

/// How a log that is to go on stands now.
async fn recovery(
    admin: &Admin,
    config: &Config,
    audience: Audience,
    body: &LogRecover,
) -> Result<Vec<String>, Report> {
    let Audience::Server(key) = audience else {
        return Err(Report::new(
            exit::INTEGRITY,
            "a recovery for everyone is none",
        ));
    };
    let mut server = admin.at(config.server_of(&key)?);
    let view = server.ask(&LogShow {}).await?;
    server.close().await;
    let mut lines = vec![format!("the server says that its state is {}", view.state)];
    if !view.wrong.is_empty() {
        lines.push(format!("what is wrong: {}", view.wrong));
    }
    for witness in &view.witnesses {
        if let Some(size) = witness.size.filter(|size| *size > body.size) {
            lines.push(format!(
                "LOST: {} entries that witness {} has cosigned",
                size - body.size,
                witness.name
            ));
        }
    }
    Ok(lines)
}

async fn shown(
    admin: &Admin,
    config: &Config,
    audience: Audience,
    name: &str,
) -> Result<ticket_format::statement::DatasetView, Report> {
    let Audience::Server(key) = audience else {
        return Err(Report::new(
            exit::INTEGRITY,
            "a statement about a dataset's own key server is for everyone",
        ));
    };
    let mut server = admin.at(config.server_of(&key)?);
    let view = server
        .ask(&DatasetShow {
            name: name.to_owned(),
        })
        .await?;
    server.close().await;
    Ok(view)
}

fn unreadable(error: impl std::fmt::Display) -> Report {
    Report::new(
        exit::INTEGRITY,
        "the statement is not to be signed: what it would do cannot be read",
    )
    .why(error)
}

fn stale(what: &str) -> Report {
    Report::new(
        exit::CONFLICT,
        format!("it would replace another {what} than stands now"),
    )
    .why("something changed since it was proposed (refusal 79: stale)")
    .next("withdraw it and propose the change anew")
}

/// An admin by name, where the set names it.
pub(crate) fn who(key: &AdminKey, set: Option<&ticket_format::statement::AdminSet>) -> String {
    set.and_then(|set| set.admin(key))
        .map_or_else(|| key.to_string(), |admin| admin.name.clone())
}
