//! `postern-admin init`: the admin's key and configuration, and the card that others need of it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use client::cli::output::Printed;
use store::files;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::AdminSigner;

use super::agent::{self, AgentKey};
use super::card::{Card, name_fits};
use super::config::{ADMIN_SET, agent_key};
use super::passphrase::{self, Whose};
use super::view::{object, text};
use super::{Context, key, rng, share_key};

/// The share key's file, beside the configuration.
const SHARE_KEY: &str = "share-key";
/// Most bytes of a .pub file that are read.
const PUBLIC_KEY: u64 = 4_096;

/// Make the admin's key, sealed by a passphrase or in an OpenSSH agent, and a configuration that names it.
#[derive(Debug, Args)]
pub struct Init {
    /// The realm to administer
    #[arg(long, value_name = "REALM")]
    realm: String,
    /// The admin's name, as sets and records have it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The key is in an OpenSSH agent (ed25519 or sk-ssh-ed25519); no key file is made
    #[arg(long)]
    agent: bool,
    /// Which of the agent's keys: a line of `ssh-add -L`, or a .pub file [default: its only one]
    #[arg(long, value_name = "KEY", requires = "agent")]
    agent_key: Option<String>,
    /// Directory for admin-key and admin.toml; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A key server's server-keys.toml, to be named in the configuration
    #[arg(long = "key-server", value_name = "FILE")]
    key_servers: Vec<PathBuf>,
    /// Make a share key too, under the same passphrase: DIR/share-key, and DIR/share-key.pub for whoever
    /// sets up key servers
    #[arg(long)]
    share_key: bool,
}

/// Holds that a realm may be called so.
///
/// # Errors
/// It may not.
pub fn realm_fits(realm: &str) -> Result<(), Report> {
    let fits = (1..=limits::NAME).contains(&realm.len())
        && !realm.chars().any(ticket_format::report::hides);
    if fits {
        return Ok(());
    }
    Err(Report::new(exit::USAGE, "that cannot be a realm's name")
        .why("it has 1 to 128 bytes and no control characters"))
}

/// Makes the files; none may exist.
///
/// # Errors
/// The realm's name does not fit, a file exists, or cannot be written.
pub fn run(context: &Context, args: &Init) -> Printed {
    realm_fits(&args.realm)?;
    if !name_fits(&args.name) {
        return Err(Report::new(exit::USAGE, "that cannot be an admin's name")
            .why("it has 1 to 64 bytes, no control characters, and none of : = ,"));
    }
    let (key_file, config_file) = (args.out.join("admin-key"), args.out.join("admin.toml"));
    let share_file = args.share_key.then(|| args.out.join(SHARE_KEY));
    let share_public = share_file.as_deref().map(share_key::file::public_file);
    // Looked at before anybody types a passphrase; creating them looks again.
    let wanted = [
        Some(&key_file),
        Some(&config_file),
        share_file.as_ref(),
        share_public.as_ref(),
    ];
    for file in wanted.into_iter().flatten() {
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
    let agent = args.agent.then(|| chosen(args)).transpose()?;
    let config = configuration(args, broker, agent.as_ref())?;
    let given = context.global.passphrase_file.as_deref();
    let passphrase = match (&agent, args.share_key) {
        (None, _) => Some(passphrase::read(given, true)?),
        (Some(_), true) => Some(passphrase::of(Whose::ShareKey, given, true)?),
        (Some(_), false) => None,
    };
    let passphrase = passphrase
        .as_ref()
        .map_or(&[][..], |bytes| bytes.as_slice());
    files::private_dir(&args.out).map_err(|error| {
        Report::new(
            exit::LOCAL,
            format!("{} cannot hold an admin's key", args.out.display()),
        )
        .why(error)
        .next("give a directory of yours with mode 0700, or one that is not there yet")
    })?;
    let signer = match &agent {
        Some(agent) => agent.signer(),
        None => AdminSigner::file(key::create(&key_file, &args.realm, passphrase, &mut rng())?),
    };
    let shares = share_file
        .as_deref()
        .map(|file| share_key::file::create(file, &args.realm, passphrase, &mut rng()))
        .transpose()?;
    let public = signer.key;
    let card = Card {
        name: args.name.clone(),
        signer,
    };
    files::create_private(&config_file, config.as_bytes()).map_err(|error| {
        Report::new(exit::LOCAL, "the configuration was not written").why(error)
    })?;
    context.talk(format_args!(
        "The next line is this admin's card, nothing secret: `postern-admin admin-set draft` takes one of each admin"
    ));
    context.talk(format_args!(
        "Commands find the key with --config {}",
        config_file.display()
    ));
    if let (Some(key), Some(file)) = (&shares, &share_public) {
        context.talk(format_args!(
            "Whoever sets up key servers needs {}: shares of their root keys are sealed to it (share key {})",
            file.display(),
            key.hash()
        ));
    }
    match context.output.format {
        client::cli::output::Format::Text => context.output.line(card),
        _ => {
            let mut made = object! {
                "card": text(&card),
                "name": args.name,
                "public_key": text(public),
                "realm": args.realm,
                "admin_key": agent.is_none().then(|| text(key_file.display())),
                "config": text(config_file.display()),
            };
            if let (Some(key), Some(file)) = (&shares, &share_public) {
                made.insert("share_key".to_owned(), text(file.display()));
                made.insert("share_key_hash".to_owned(), text(key.hash()));
            }
            context.output.object(made)
        }
    }
}

/// The agent's key that is to be the admin's.
fn chosen(args: &Init) -> Result<AgentKey, Report> {
    let Some(given) = &args.agent_key else {
        return agent::only_key();
    };
    if given.starts_with("ssh-") || given.starts_with("sk-ssh-") {
        return agent_key(given);
    }
    let file = Path::new(given);
    let bytes = files::read_bounded(file, PUBLIC_KEY).map_err(|error| {
        Report::new(exit::USAGE, "the agent's key cannot be read")
            .why(error)
            .next("give one line of `ssh-add -L`, or a .pub file")
    })?;
    agent_key(&String::from_utf8_lossy(&bytes))
}

fn configuration(args: &Init, broker: &Path, agent: Option<&AgentKey>) -> Result<String, Report> {
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
    let key = match agent {
        None => "admin-key = \"admin-key\"".to_owned(),
        Some(agent) => format!(
            "# In the OpenSSH agent behind SSH_AUTH_SOCK.\nagent-key = {}",
            quoted(&agent.to_text()?)
        ),
    };
    let share_key = match args.share_key {
        true => format!(
            "# Opens this admin's shares of key servers' root keys.\nshare-key = {SHARE_KEY:?}\n"
        ),
        false => String::new(),
    };
    Ok(format!(
        "# postern-admin, admin {}; relative paths are relative to this file.\n\
         realm = {}\n\
         # Written by `broker init`.\n\
         broker = {}\n\
         # Written by `key-server init`, one file for each.\n\
         key-servers = {}\n\
         {key}\n\
         # The first admin set of the realm, signed by all its admins; later ones are followed from it.\n\
         admin-set = {}\n\
         {share_key}",
        args.name,
        quoted(&args.realm),
        quoted(&absolute(broker)?),
        toml::Value::Array(servers),
        quoted(ADMIN_SET),
    ))
}
