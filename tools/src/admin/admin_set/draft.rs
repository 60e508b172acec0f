//! The first set of a realm: drafted by one admin, signed by all (SET-3).

use std::path::PathBuf;

use clap::Args;
use client::cli::output::{Format, Printed};
use ticket_format::ids::StatementId;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{Admin, AdminSet, AdminSetBody, Payload};

use super::Rule;
use crate::admin::card::Member;
use crate::admin::proposal::{self, write_new};
use crate::admin::words::{overview, warnings};
use crate::admin::{Context, block_on, now, rng};

/// Write a realm's first set.
#[derive(Debug, Args)]
pub struct Draft {
    /// The realm [default: the configuration's; it must be the same]
    #[arg(long, value_name = "REALM")]
    realm: Option<String>,
    /// An admin's card, and the roles: CARD=ROLE[,ROLE] of operator, dataset-owner, security; repeated
    #[arg(long = "admin", value_name = "CARD=ROLES", required = true)]
    admins: Vec<Member>,
    /// How many must sign what could widen who reads
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(2..=16))]
    quorum: u64,
    /// Another number for one act: ACT=K, or ACT=none; may be repeated
    #[arg(long = "rule", value_name = "ACT=K")]
    rules: Vec<Rule>,
    /// Where the proposal goes, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A set's admins are in the order of their keys.
pub(super) fn in_order(mut admins: Vec<Admin>) -> Vec<Admin> {
    admins.sort_by_key(|admin| admin.key.to_bytes());
    admins
}

pub(super) fn checked(body: AdminSetBody) -> Result<AdminSet, Report> {
    AdminSet::new(body).map_err(|fault| {
        Report::new(exit::USAGE, "such an admin set cannot stand")
            .why(fault)
            .next("see `postern-admin help admin-set draft`")
    })
}

pub(super) fn run(context: &Context, args: Draft) -> Printed {
    let mut body = AdminSetBody {
        version: 1,
        follows: AdminSetBody::NOTHING,
        admins: in_order(args.admins.into_iter().map(Member::admin).collect()),
        quorums: AdminSetBody::usual_quorums(args.quorum),
    };
    Rule::apply(&args.rules, &mut body);
    let set = checked(body)?;
    let (config, admin) = context.admin()?;
    if args
        .realm
        .as_ref()
        .is_some_and(|realm| *realm != config.realm)
    {
        return Err(Report::new(
            exit::USAGE,
            format!("realm {:?} is administered here", config.realm),
        )
        .next("give the --config of an admin of the other realm"));
    }
    if set.admin(&admin.public()).is_none() {
        return Err(Report::new(exit::USAGE, "who drafts the set is not in it")
            .why("the first signature is the drafter's, and all signatures are the admins' own")
            .next("give this admin's own card too, or let an admin of the set draft it"));
    }
    for line in overview(set.body()).iter().chain(&warnings(set.body())) {
        context.talk(Printable(line));
    }
    let id = StatementId::random(&mut rng());
    let payload = Payload::record(id, &config.realm, now(), set.body());
    let statement = admin.key().sign(&payload)?;
    write_new(&args.out, &statement)?;
    block_on(async {
        let opened = proposal::open(&statement, &admin).await?;
        let proposed = opened.proposed(Some(args.out.clone()));
        if context.output.format == Format::Text {
            return context.output.line(format_args!(
                "drafted {}: {} of {} signatures; next, each other admin: postern-admin approve {}",
                proposed.id,
                proposed.counting,
                proposed.needed,
                args.out.display()
            ));
        }
        proposed.print(context)
    })
}
