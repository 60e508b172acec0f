//! `inspect admin-set`.

use std::path::PathBuf;

use clap::Args;
use client::cli::output::Printed;
use ticket_format::limits;
use ticket_format::report::{Report, exit};

use crate::admin::{Context, admin_set};

/// An admin set.
#[derive(Debug, Args)]
pub struct File {
    /// Its statement, or its body as a bootstrap has it; `-` for stdin
    file: PathBuf,
}

pub(super) fn run(context: &Context, args: &File) -> Printed {
    let bytes = super::read(&args.file, limits::STATEMENT)?;
    let set = admin_set::read(&bytes).map_err(|why| {
        Report::new(
            exit::INTEGRITY,
            format!("{} is not an admin set", args.file.display()),
        )
        .why(why)
    })?;
    super::print(context, admin_set::json_of(&set))
}
