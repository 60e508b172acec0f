//! The next set: proposed as a change of the one in force.

use clap::Args;
use client::cli::output::Printed;
use serde_json::json;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{Admin, AdminRole, AdminSetBody};

use super::Rule;
use super::draft::{checked, in_order};
use super::push;
use crate::admin::card::{self, Member};
use crate::admin::remote::Change as Changed;
use crate::admin::view::object;
use crate::admin::words::{changes, warnings};
use crate::admin::{Context, ask, block_on};

/// Propose the next set.
#[derive(Debug, Args)]
#[group(required = false, multiple = true)]
pub struct Change {
    /// A new admin's card, and the roles: CARD=ROLE[,ROLE]; may be repeated
    #[arg(long, value_name = "CARD=ROLES")]
    add: Vec<Member>,
    /// An admin who goes, by name; may be repeated
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Other roles for an admin: NAME=ROLE[,ROLE]; may be repeated
    #[arg(long = "role", value_name = "NAME=ROLES", value_parser = roles)]
    roles: Vec<(String, Vec<AdminRole>)>,
    /// How many must sign what could widen who reads
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(2..=16))]
    quorum: Option<u64>,
    /// Another number for one act: ACT=K, or ACT=none; may be repeated
    #[arg(long = "rule", value_name = "ACT=K")]
    rules: Vec<Rule>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would change, and do nothing
    #[arg(long)]
    dry_run: bool,
}

fn roles(text: &str) -> Result<(String, Vec<AdminRole>), String> {
    let (name, roles) = text.split_once('=').ok_or("expected NAME=ROLE[,ROLE]")?;
    Ok((name.to_owned(), card::roles(roles)?))
}

fn find<'a>(admins: &'a mut [Admin], name: &str) -> Result<&'a mut Admin, Report> {
    admins
        .iter_mut()
        .find(|admin| admin.name == name)
        .ok_or_else(|| {
            Report::new(exit::USAGE, format!("the set has no admin {name:?}"))
                .next("see `postern-admin admin-set show`")
        })
}

/// The set that follows, with the changes of the command line.
fn wanted(
    old: &AdminSetBody,
    digest: ticket_format::ids::AdminSetDigest,
    args: &Change,
) -> Result<AdminSetBody, Report> {
    let mut admins = old.admins.clone();
    for name in &args.remove {
        find(&mut admins, name)?;
        admins.retain(|admin| admin.name != *name);
    }
    for (name, roles) in &args.roles {
        find(&mut admins, name)?.roles.clone_from(roles);
    }
    admins.extend(args.add.iter().cloned().map(Member::admin));
    let mut body = AdminSetBody {
        version: old.version.saturating_add(1),
        follows: digest,
        admins: in_order(admins),
        quorums: match args.quorum {
            Some(quorum) => AdminSetBody::usual_quorums(quorum),
            None => old.quorums.clone(),
        },
    };
    Rule::apply(&args.rules, &mut body);
    if body.admins == old.admins && body.quorums == old.quorums {
        return Err(Report::new(exit::USAGE, "that changes nothing")
            .next("give --add, --remove, --role, --quorum or --rule"));
    }
    Ok(body)
}

pub(super) fn run(context: &Context, args: Change) -> Printed {
    let (config, admin) = context.admin()?;
    block_on(async {
        let known = admin.known().await?;
        let (old, digest) = (known.set.body(), known.set.digest());
        let set = checked(wanted(old, digest, &args)?)?;
        let words = changes(old, set.body());
        for line in words.iter().chain(&warnings(set.body())) {
            context.talk(Printable(line));
        }
        if args.dry_run {
            return context
                .output
                .object(object! { "version": set.version(), "changes": words, "dry_run": true });
        }
        ask::confirm_async(args.yes, config.realm.clone()).await?;
        let mut broker = admin.broker()?;
        let change = broker.change_record(set.body()).await?;
        broker.close().await;
        match change {
            Changed::Proposed(proposed) => proposed.print(context),
            // A set always wants two (SET-4); should one be enough all the same, all servers get it.
            Changed::Done(..) | Changed::Before(_) => {
                let told = push::from_broker(&config, &admin).await?;
                push::report(context, &told)?;
                context
                    .output
                    .object(object! { "version": json!(set.version()) })
            }
        }
    })
}
