//! A dataset's options, owners and canaries, at its key server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use client::cli::output::Printed;
use ticket_format::ids::DekId;
use ticket_format::keys::AdminKey;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::seal::Kem;
use ticket_format::statement::datasets::LONGEST_LEASE;
use ticket_format::statement::{
    AdminRole, AdminSet, Canary, CanarySet, DatasetClass, DatasetOwnersSet, DatasetSet,
    DatasetShow, DatasetView, WitnessMode, Witnessing, WitnessingError,
};

use super::name_fits;
use super::rotate::Rotate;
use crate::admin::audit::which::witness_policy;
use crate::admin::remote::Change;
use crate::admin::span::{Span, class};
use crate::admin::view::{self, object, text};
use crate::admin::{Context, block_on};

/// What a redemption of a canary leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Mark {
    /// It is none.
    #[default]
    No,
    /// An alarm.
    Alarm,
    /// An alarm, and the node is denied: nothing is released.
    Deny,
}

impl From<Mark> for Canary {
    fn from(mark: Mark) -> Self {
        match mark {
            Mark::No => Self::No,
            Mark::Alarm => Self::Alarm,
            Mark::Deny => Self::Deny,
        }
    }
}

/// What a dataset wants of witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Nothing.
    None,
    /// Cosignatures follow; their silence alarms.
    Watch,
    /// No key leaves, and no ticket is taken, before enough have cosigned.
    Require,
}

/// How a dataset is witnessed.
#[derive(Clone, Debug, Args)]
pub(super) struct Witness {
    /// What is wanted of witnesses: with `watch` their cosignatures follow and silence alarms, with `require`
    /// no key leaves before enough have cosigned
    #[arg(long = "witness", value_name = "MODE", value_enum)]
    mode: Option<Mode>,
    /// Which witnesses are enough (c2sp.org/tlog-policy without log lines)
    #[arg(long, value_name = "FILE")]
    witness_policy: Option<PathBuf>,
}

impl Witness {
    /// What is wanted; what is not said stays as it stands.
    ///
    /// # Errors
    /// Mode and policy do not go together, or the policy cannot be read.
    pub(super) fn wanted(&self, standing: &Witnessing) -> Result<Witnessing, Report> {
        let mode = match self.mode {
            None => standing.mode,
            Some(Mode::None) => WitnessMode::None,
            Some(Mode::Watch) => WitnessMode::Watch,
            Some(Mode::Require) => WitnessMode::Require,
        };
        let policy = match (&self.witness_policy, mode) {
            (Some(path), _) => witness_policy(path)?.1,
            (None, WitnessMode::None) => String::new(),
            (None, _) => standing.policy.clone(),
        };
        let wanted = Witnessing { mode, policy };
        let wrong = |why: &dyn std::fmt::Display, next: &str| {
            Report::new(exit::USAGE, "a dataset cannot be witnessed so")
                .why(why)
                .next(next)
        };
        if mode != WitnessMode::None && wanted.policy.is_empty() {
            let why = format!("mode {mode} without a witness policy");
            return Err(wrong(
                &why,
                "say which witnesses are enough: --witness-policy FILE",
            ));
        }
        match wanted.read() {
            Ok(_) => Ok(wanted),
            Err(error @ WitnessingError::Unused) => Err(wrong(
                &error,
                "give --witness watch or --witness require with it",
            )),
            Err(error) => Err(wrong(&error, "mend the policy")),
        }
    }
}

/// Set a dataset's options; those that are not given stay as they are.
#[derive(Debug, Args)]
pub struct Set {
    /// The dataset's name
    name: String,
    /// Most distinct DEKs for one ticket
    #[arg(long, value_name = "N")]
    max_budget: Option<u64>,
    /// Longest life of one ticket
    #[arg(long, value_name = "TIME")]
    max_life: Option<Span>,
    /// For how long its key server goes on without a sign of the broker: 1s to 5m
    #[arg(long, value_name = "TIME")]
    lease: Option<Span>,
    /// Whether nodes must bring the identity document's proof beside the ticket
    #[arg(long, value_name = "BOOL")]
    evidence: Option<bool>,
    /// What a redemption of any of its keys leads to
    #[arg(long, value_enum)]
    canary: Option<Mark>,
    /// Whether tickets may use X25519 sealing, which a quantum computer will open
    #[arg(long, value_name = "BOOL")]
    allow_x25519: Option<bool>,
    /// How sensitive it is, for policies: public, internal, confidential or restricted
    #[arg(long, value_parser = class)]
    class: Option<DatasetClass>,
    /// Whether witnesses cosign what the logs of broker and key server record of it
    #[command(flatten)]
    witness: Witness,
    /// When its KEK is rotated by itself
    #[command(flatten)]
    rotate: Rotate,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Set a dataset's owners, by security's quorum.
#[derive(Debug, Args)]
pub struct Owners {
    /// The dataset's name
    name: String,
    /// An owner from now on, by name; repeated
    #[arg(long = "owner", value_name = "NAME", required = true)]
    owners: Vec<String>,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Mark a DEK as canary, or take the mark away.
#[derive(Debug, Args)]
pub struct MarkDek {
    /// The dataset's name
    name: String,
    /// The DEK, by its id (`inspect wrapped` shows it)
    dek: DekId,
    /// What a redemption of it leads to
    #[arg(value_enum)]
    canary: Mark,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
}

/// Whether a dataset may have such a lease.
pub(super) fn lease_fits(lease: Span) -> Result<u64, Report> {
    if (1..=LONGEST_LEASE).contains(&lease.0) {
        return Ok(lease.0);
    }
    Err(Report::new(exit::USAGE, "that cannot be a lease").why("it is from 1s to 5m"))
}

/// Admins by name, as owners: each must hold the role. None is given: all who hold it.
pub(super) fn owners(set: &AdminSet, names: &[String]) -> Result<Vec<AdminKey>, Report> {
    let mut keys = Vec::new();
    if names.is_empty() {
        let all = set.admins().iter();
        keys.extend(
            all.filter(|admin| admin.roles.contains(&AdminRole::DatasetOwner))
                .map(|admin| admin.key),
        );
    }
    for name in names {
        let admin = set
            .by_name(name)
            .filter(|admin| admin.roles.contains(&AdminRole::DatasetOwner));
        let admin = admin.ok_or_else(|| {
            Report::new(exit::USAGE, format!("{name:?} cannot own a dataset"))
                .why("no admin of that name holds the role dataset-owner")
                .next("see `postern-admin admin-set show`")
        })?;
        keys.push(admin.key);
    }
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Err(Report::new(exit::USAGE, "nobody can own the dataset")
            .why("no admin holds the role dataset-owner"));
    }
    Ok(keys)
}

fn kems(old: &[Kem], weak: Option<bool>) -> Vec<Kem> {
    match weak {
        None => old.to_vec(),
        Some(true) => vec![Kem::X25519, Kem::XWing],
        Some(false) => vec![Kem::XWing],
    }
}

fn wanted(args: &Set, view: &DatasetView) -> Result<DatasetSet, Report> {
    let set = DatasetSet {
        rotation: args.rotate.wanted(&view.rotation.unwrap_or_default())?,
        name: args.name.clone(),
        max_budget: args.max_budget.unwrap_or(view.max_budget),
        max_life: args.max_life.map_or(view.max_life, |span| span.0),
        kems: kems(&view.kems, args.allow_x25519),
        lease: args.lease.map_or(Ok(view.lease), lease_fits)?,
        evidence: args.evidence.unwrap_or(view.evidence),
        canary: match (args.canary, view.canary) {
            (Some(mark), _) => mark.into(),
            (None, standing) => standing.unwrap_or(Canary::No),
        },
        witnessing: args.witness.wanted(&view.witnessing)?,
        class: args.class.unwrap_or(view.class),
    };
    if set.max_budget == 0 || set.max_life == 0 || set.max_life > limits::LONGEST_TICKET_LIFE {
        return Err(Report::new(exit::USAGE, "no ticket could be issued so")
            .why("--max-life is 1s to 24h, --max-budget at least 1"));
    }
    let same = (set.max_budget, set.max_life, set.lease, set.evidence)
        == (view.max_budget, view.max_life, view.lease, view.evidence)
        && set.kems == view.kems
        && set.witnessing == view.witnessing
        && Some(set.rotation) == view.rotation
        && set.class == view.class
        && Some(set.canary) == view.canary;
    if same {
        return Err(Report::new(exit::USAGE, "that changes nothing")
            .next("give an option that is to be another"));
    }
    Ok(set)
}

/// The record of the dataset says the same as its key server only when it is signed anew.
pub(super) fn then_record(context: &Context, name: &str) {
    context.talk(format_args!(
        "When it is carried out, let the dataset's record say so: postern-admin dataset record {name}"
    ));
}

pub(super) fn set(context: &Context, args: &Set) -> Printed {
    name_fits(&args.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let show = DatasetShow {
            name: args.name.clone(),
        };
        let body = wanted(args, &server.ask(&show).await?)?;
        let change = server.change(&body).await?;
        let view = match change {
            Change::Proposed(proposed) => {
                proposed.print(context)?;
                then_record(context, &args.name);
                return Ok(());
            }
            Change::Done(view, _) => view,
            Change::Before(_) => server.ask(&show).await?,
        };
        server.close().await;
        then_record(context, &args.name);
        context.output.object(view::dataset(&view))
    })
}

pub(super) fn set_owners(context: &Context, args: &Owners) -> Printed {
    name_fits(&args.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    block_on(async {
        let body = DatasetOwnersSet {
            name: args.name.clone(),
            owners: owners(admin.set().await?, &args.owners)?,
        };
        let mut server = admin.at(keys.server());
        let change = server.change(&body).await?;
        let show = DatasetShow { name: body.name };
        let view = match change {
            Change::Proposed(proposed) => {
                proposed.print(context)?;
                then_record(context, &args.name);
                return Ok(());
            }
            Change::Done(view, _) => view,
            Change::Before(_) => server.ask(&show).await?,
        };
        server.close().await;
        then_record(context, &args.name);
        context.output.object(view::dataset(&view))
    })
}

pub(super) fn mark(context: &Context, args: &MarkDek) -> Printed {
    name_fits(&args.name)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let body = CanarySet {
            name: args.name.clone(),
            dek: args.dek,
            canary: args.canary.into(),
        };
        if let Change::Proposed(proposed) = server.change(&body).await? {
            return proposed.print(context);
        }
        server.close().await;
        context.output.object(object! {
            "dataset": args.name, "dek": text(args.dek), "canary": text(body.canary),
        })
    })
}
