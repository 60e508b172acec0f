//! `postern-admin init`: the admin's key and configuration.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::Printed;
use store::files;
use ticket_format::limits;
use ticket_format::report::{Report, exit};

use super::view::{object, text};
use super::{Context, key, passphrase, rng};

/// Make the admin's key, sealed by a passphrase, and a configuration that names it.
#[derive(Debug, Args)]
pub struct Init {
    /// The realm to administer
    #[arg(long, value_name = "REALM")]
    realm: String,
    /// Directory for admin-key and admin.toml; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A key server's server-keys.toml, to be named in the configuration
    #[arg(long = "key-server", value_name = "FILE")]
    key_servers: Vec<PathBuf>,
}

/// Makes both files; neither may exist.
///
/// # Errors
/// The realm's name does not fit, a file exists, or cannot be written.
pub fn run(context: &Context, args: &Init) -> Printed {
    if args.realm.is_empty()
        || args.realm.len() > limits::NAME
        || args.realm.chars().any(char::is_control)
    {
        return Err(Report::new(exit::USAGE, "that cannot be a realm's name")
            .why("it has 1 to 128 bytes and no control characters"));
    }
    let (key_file, config_file) = (args.out.join("admin-key"), args.out.join("admin.toml"));
    // Looked at before anybody types a passphrase; creating them looks again.
    for file in [&key_file, &config_file] {
        if fs::symlink_metadata(file).is_ok() {
            return Err(
                Report::new(exit::CONFLICT, format!("{} exists already", file.display()))
                    .why("an admin's key is never overwritten")
                    .next("give another --out, or use what is there"),
            );
        }
    }
    let broker = context
        .global
        .broker
        .as_deref()
        .unwrap_or(Path::new("broker-keys.toml"));
    let config = configuration(args, broker)?;
    let passphrase = passphrase::read(context.global.passphrase_file.as_deref(), true)?;
    files::private_dir(&args.out).map_err(|error| {
        Report::new(
            exit::LOCAL,
            format!("{} cannot hold an admin's key", args.out.display()),
        )
        .why(error)
        .next("give a directory of yours with mode 0700, or one that is not there yet")
    })?;
    let public = key::create(&key_file, &args.realm, &passphrase, &mut rng())?;
    files::create_private(&config_file, config.as_bytes()).map_err(|error| {
        Report::new(exit::LOCAL, "the configuration was not written").why(error)
    })?;
    context.talk(format_args!("The broker and the key servers take this key as the admin's; commands find it with --config {}", config_file.display()));
    match context.output.format {
        client::cli::output::Format::Text => context.output.line(public),
        _ => context.output.object(object! {
            "public_key": text(public),
            "realm": args.realm,
            "admin_key": text(key_file.display()),
            "config": text(config_file.display()),
        }),
    }
}

fn configuration(args: &Init, broker: &Path) -> Result<String, Report> {
    // A path that was given is relative to here; one in the file is relative to the file.
    let absolute = |path: &Path| {
        let path = if path == Path::new("broker-keys.toml") {
            path.to_owned()
        } else {
            std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
        };
        path.into_os_string()
            .into_string()
            .map_err(|_| Report::new(exit::USAGE, "a path is not UTF-8 text"))
    };
    let servers = args
        .key_servers
        .iter()
        .map(|path| absolute(path).map(toml::Value::String))
        .collect::<Result<Vec<_>, _>>()?;
    let quoted = |text: &str| toml::Value::String(text.to_owned());
    Ok(format!(
        "# postern-admin; relative paths are relative to this file.\n\
         realm = {}\n\
         # Written by `broker init`.\n\
         broker = {}\n\
         # Written by `key-server init`, one file for each.\n\
         key-servers = {}\n\
         admin-key = \"admin-key\"\n\
         # Public keys of other admins, by whom nodes are to believe dataset records too.\n\
         admins = []\n",
        quoted(&args.realm),
        quoted(&absolute(broker)?),
        toml::Value::Array(servers),
    ))
}
