//! `inspect bootstrap`: never the secret.

use std::path::PathBuf;

use clap::Args;
use client::cli::output::Printed;
use ticket_format::bootstrap;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use zeroize::Zeroizing;

use crate::admin::view::{self, object, text};
use crate::admin::{Context, admin_set};

/// The bootstrap in user-data.
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// User-data of any kind; `-` for stdin
    file: PathBuf,
}

pub(super) fn run(context: &Context, args: &Bootstrap) -> Printed {
    let user_data = Zeroizing::new(super::read(&args.file, limits::USER_DATA)?);
    let found = bootstrap::Bootstrap::find(&user_data);
    let found = found.map_err(|error| {
        Report::new(
            exit::CONFIG,
            format!("{} holds no usable bootstrap", args.file.display()),
        )
        .why(error)
    })?;
    super::print(
        context,
        object! {
            "realm": found.realm,
            "launch": text(found.launch),
            "launch_key": text(found.launch_secret().public()),
            "launch_digest": text(found.launch_digest),
            "brokers": found.brokers,
            "broker_key": text(found.broker_key),
            "ticket_key": text(found.ticket_key),
            "log": text(&found.log_key.origin),
            "log_keys": view::log_key(&found.log_key),
            "admin_set": admin_set::read(&found.admin_set).ok().map(|set| admin_set::json_of(&set)),
        },
    )
}
