//! `postern-admin share-key`: the keys that shares of key servers' root keys are sealed to.

pub mod file;
mod give;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::Printed;
use ticket_format::report::{Report, exit};
use ticket_format::seal::SealingSecret;
use zeroize::Zeroizing;

use super::config::Config;
use super::passphrase::{self, Whose};
use super::view::{object, text};
use super::{Context, init, rng};
use file::Locked;

/// Share keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a share key: a file for yourself, and beside it FILE.pub to hand over
    New(New),
    /// Say which share key a file holds; no passphrase is needed
    Show {
        /// The file, or its .pub file
        file: PathBuf,
    },
    /// Give your share of a backup's root key to the machine that opens the backup
    Give(give::Give),
}

/// Make one.
#[derive(Debug, Args)]
pub struct New {
    /// Where to: a new file; FILE.pub is made beside it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The realm whose key servers it is for [default: the configuration's]
    #[arg(long, value_name = "REALM")]
    realm: Option<String>,
    /// Its passphrase
    #[command(flatten)]
    passphrase: PassphraseFile,
}

/// Where a share key's passphrase is.
#[derive(Debug, Args)]
pub struct PassphraseFile {
    /// File with the share key's passphrase (mode 0600; `-` for stdin) [default: the admin key's]
    #[arg(
        long = "share-passphrase-file",
        value_name = "FILE",
        env = "POSTERN_SHARE_PASSPHRASE_FILE"
    )]
    file: Option<PathBuf>,
}

/// Which share key opens shares.
#[derive(Debug, Args)]
pub struct ShareKey {
    /// The share key, as `share-key new` wrote it [default: the configuration's share-key]
    #[arg(long, value_name = "FILE", env = "POSTERN_SHARE_KEY")]
    share_key: Option<PathBuf>,
    /// Its passphrase
    #[command(flatten)]
    passphrase: PassphraseFile,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub fn run(context: &Context, command: Command) -> Printed {
    match command {
        Command::New(args) => new(context, args),
        Command::Show { file } => show(context, &file),
        Command::Give(args) => give::run(context, &args),
    }
}

fn new(context: &Context, args: New) -> Printed {
    let realm = match args.realm {
        Some(realm) => realm,
        None => context.config()?.realm,
    };
    init::realm_fits(&realm)?;
    for file in [&args.out, &file::public_file(&args.out)] {
        if file.symlink_metadata().is_ok() {
            return Err(
                Report::new(exit::CONFLICT, format!("{} exists already", file.display()))
                    .why("a share key is never overwritten")
                    .next("give another --out, or use what is there"),
            );
        }
    }
    let given = args.passphrase.file.as_deref();
    let given = given.or(context.global.passphrase_file.as_deref());
    let passphrase = passphrase::of(Whose::ShareKey, given, true)?;
    let key = file::create(&args.out, &realm, &passphrase, &mut rng())?;
    context.talk(
        "Hand the .pub file over in a way that its reader can trust; nothing of it is secret",
    );
    context.output.object(object! {
        "share_key": text(args.out.display()),
        "public": text(file::public_file(&args.out).display()),
        "realm": realm,
        "key_hash": text(key.hash()),
    })
}

fn show(context: &Context, path: &Path) -> Printed {
    // A secret file is private and TOML; what is neither is read as the line that is handed over.
    let (realm, hash) = match file::public(path) {
        Ok(key) => (None, key.hash()),
        Err(no_line) => match file::look(path) {
            Ok((realm, hash)) => (Some(realm), hash),
            Err(_) if path.extension().is_some_and(|end| end == "pub") => return Err(no_line),
            Err(report) => return Err(report),
        },
    };
    context.output.object(object! {
        "file": text(path.display()),
        "holds": if realm.is_some() { "a share key" } else { "a share key's public half" },
        "realm": realm,
        "key_hash": text(hash),
    })
}

impl ShareKey {
    /// Opens it where no key server is asked: with the passphrase file that is given for it, or by asking.
    ///
    /// # Errors
    /// No share key is named, its file cannot be used, is of another realm, or does not open.
    pub fn open_offline(&self, context: &Context, realm: &str) -> Result<SealingSecret, Report> {
        let configured = || context.config().ok()?.share_key;
        let path = self.share_key.clone().or_else(configured);
        let path = path.ok_or_else(|| {
            Report::new(exit::CONFIG, "which share key is not said").next("give --share-key FILE")
        })?;
        let locked = Locked::read(&path, realm)?;
        let own = self.passphrase.file.as_deref();
        let given = own.or(context.global.passphrase_file.as_deref());
        let passphrase = passphrase::of(Whose::ShareKey, given, false)?;
        locked.open(&passphrase)?.ok_or_else(|| locked.wrong())
    }

    /// Opens it: with the passphrase file that is given for it; else with the admin key's passphrase, which
    /// `init --share-key` gave both; else with what is typed.
    ///
    /// # Errors
    /// No share key is named, its file cannot be used, or it does not open.
    pub fn open(
        &self,
        context: &Context,
        config: &Config,
        admins: Option<&Zeroizing<Vec<u8>>>,
    ) -> Result<SealingSecret, Report> {
        let path = self.share_key.as_deref().or(config.share_key.as_deref());
        let path = path.ok_or_else(|| {
            Report::new(exit::CONFIG, "which share key is not said").next(
                "give --share-key FILE, or name it in the configuration: share-key = \"FILE\"",
            )
        })?;
        let locked = Locked::read(path, &config.realm)?;
        let own = self.passphrase.file.as_deref();
        if let (None, Some(passphrase)) = (own, admins) {
            if let Some(secret) = locked.open(passphrase)? {
                return Ok(secret);
            }
            // Whoever gave a file, or is no person, cannot be asked.
            if context.global.passphrase_file.is_some() || !passphrase::can_ask() {
                return Err(locked.wrong());
            }
        }
        let given = match admins {
            // The admin's key is in an agent: the one passphrase that is given is the share key's.
            None => own.or(context.global.passphrase_file.as_deref()),
            Some(_) => own,
        };
        let passphrase = passphrase::of(Whose::ShareKey, given, false)?;
        locked.open(&passphrase)?.ok_or_else(|| locked.wrong())
    }
}
