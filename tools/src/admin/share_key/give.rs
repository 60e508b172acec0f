//! `share-key give`: a share for a backup, into a file (BAK-2).

use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::Printed;
use store::files;
use store::root::{Given, Kept, Place};
use ticket_format::cbor::{Decode as _, Encode as _};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{Attempt, SharePurpose};

use super::ShareKey;
use crate::admin::root::share;
use crate::admin::view::{object, text};
use crate::admin::{Context, ask, backup};

/// Most bytes of an attempt.
const ATTEMPT: u64 = 4_096;

/// Give your share of a backup's root key to the machine that opens the backup.
#[derive(Debug, Args)]
pub struct Give {
    /// The backup
    backup: PathBuf,
    /// The `attempt` file of the directory that the machine collects shares in
    #[arg(long, value_name = "FILE")]
    attempt: PathBuf,
    /// Where to: a file of that directory whose name ends in .share
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Whose share
    #[command(flatten)]
    share_key: ShareKey,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Opens the own share here, and seals it to the attempt's key.
///
/// # Errors
/// The files cannot be used, no share is for this share key, or nobody confirmed.
pub(super) fn run(context: &Context, args: &Give) -> Printed {
    // rule: BAK-2, ROOT-3
    if args.out.extension().is_none_or(|end| end != "share") {
        return Err(Report::new(
            exit::USAGE,
            "the file's name must end in .share",
        ));
    }
    let header = backup::header(&args.backup)?;
    let attempt = attempt(&args.attempt)?;
    let kept = Kept {
        auto: header.auto.clone(),
        shares: header.shares.clone(),
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Report::new(exit::INTEGRITY, "the backup's shares cannot be used")
            .why(error)
            .next("take another copy of it")
    };
    let rows = kept.rows().map_err(|error| wrong(&error))?;
    let (config, _, passphrase) = context.admin_and_passphrase()?;
    let secret = args.share_key.open(context, &config, passphrase.as_ref())?;
    let public = secret.public();
    let row = rows.iter().find(|row| row.key == public);
    let row = row.ok_or_else(|| {
        Report::new(
            exit::NOT_FOUND,
            "the backup has no share for this share key",
        )
        .why(format!("it is {}", public.hash()))
        .next("give the share key that was handed over for this key server: --share-key FILE")
    })?;
    context.talk(format_args!(
        "Your share of backup {} is sealed to key {}: the machine's terminal must show the same, or somebody else gets it",
        header.id,
        attempt.key.hash()
    ));
    ask::confirm(args.yes, &attempt.key.hash().to_string())?;
    let place = Place {
        realm: header.realm.clone(),
        server: header.server,
    };
    let to = Given {
        realm: header.realm.clone(),
        server: header.server,
        root: header.root,
        purpose: SharePurpose::Restore,
    };
    let given = share::sealed(row, &secret, &place, &attempt, &to)?;
    files::write_private(&args.out, &given.to_cbor()).map_err(|error| {
        Report::new(
            exit::LOCAL,
            format!("{} was not written", args.out.display()),
        )
        .why(error)
    })?;
    context.output.object(object! {
        "file": text(args.out.display()),
        "backup": text(header.id),
        "given": given.number,
        "attempt": text(attempt.id),
    })
}

fn attempt(path: &Path) -> Result<Attempt, Report> {
    let unusable = |error: &dyn std::fmt::Display| {
        Report::new(exit::CONFIG, format!("{} is no attempt", path.display()))
            .why(error)
            .next("give the file `attempt` that `postern-key-server restore --shares DIR` made")
    };
    let bytes = files::read_bounded(path, ATTEMPT).map_err(|error| unusable(&error))?;
    Attempt::from_cbor(&bytes, bytes.len()).map_err(|error| unusable(&error))
}
