//! `verify-restore` and `restore`: a backup, opened on the machine that it is on.

use std::path::{Path, PathBuf};

use clap::Args;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use store::files;
use store::root::{Means, RootError, Ways};
use store::sealed::RootKey;
use ticket_format::backup::Header;
use ticket_format::limits;
use ticket_format::report::{Report, exit};

use super::{BackupError, Restored, Wanted, collect, lay, restore, verify};
use crate::cli::say;
use crate::clock::Clock as _;
use crate::config::Setup;
use crate::net::SystemClock;

/// Try whether a backup opens, wholly, and leave nothing behind.
#[derive(Debug, Args)]
pub struct Verify {
    /// The backup
    file: PathBuf,
    /// A directory to work in; it needs room for all of it
    #[arg(long)]
    scratch: PathBuf,
    #[command(flatten)]
    by: By,
}

/// What opens it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct By {
    /// The automatic way of this configuration
    #[arg(long, env = "POSTERN_KEY_SERVER_CONFIG")]
    config: Option<PathBuf>,
    /// The credential in this file
    #[arg(long)]
    credential: Option<PathBuf>,
    /// The passphrase in this file
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
    /// Shares, given into this directory: `postern-admin share-key give`
    #[arg(long, value_name = "DIR")]
    shares: Option<PathBuf>,
}

/// Put a backup where the configuration's data directory is to be; overwrites nothing.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,
    /// The key server's configuration; its data directory must not be there, or be empty
    #[arg(long, env = "POSTERN_KEY_SERVER_CONFIG")]
    config: PathBuf,
    /// The statement that security signed: `postern-admin restore`
    #[arg(long)]
    statement: PathBuf,
    /// An admin set that follows the backup's newest, as its admins signed it; may be repeated, in order
    #[arg(long = "admin-set")]
    admin_sets: Vec<PathBuf>,
    /// Open it by shares, given into this directory: `postern-admin share-key give` [default: the automatic way]
    #[arg(long, value_name = "DIR")]
    shares: Option<PathBuf>,
}

enum Way {
    Automatic(Means),
    Shares(PathBuf),
}

impl Way {
    fn open(&self, ways: &Ways, header: &Header) -> Result<RootKey, RootError> {
        match self {
            Self::Automatic(means) => ways.open_auto(means),
            Self::Shares(dir) => {
                let told = |line: &str| tracing::info!("{line}");
                collect::collect(ways, header, dir, &mut UnwrapErr(SysRng), told)
            }
        }
    }
}

/// Opens a backup wholly, and says what is in it.
///
/// # Errors
/// [`Report`]: it would not do.
pub async fn run_verify(args: Verify) -> Result<(), Report> {
    let Verify { file, scratch, by } = args;
    let way = match by {
        By {
            config: Some(config),
            ..
        } => Way::Automatic(Setup::read(&config)?.means),
        By {
            credential: Some(path),
            ..
        } => Way::Automatic(Means::Credential(path)),
        By {
            passphrase_file: Some(path),
            ..
        } => Way::Automatic(Means::Passphrase(path)),
        By {
            shares: Some(dir), ..
        } => Way::Shares(dir),
        _ => return Err(Report::new(exit::USAGE, "no way to the root key is named")),
    };
    let refused = |error| report("the backup would not do", &error);
    let (beginning, _) = lay::beginning(&file).map_err(refused)?;
    let open = |ways: &Ways| way.open(ways, &beginning.header);
    let restored = verify(&file, &scratch, open).await.map_err(refused)?;
    say(&format!("opens: {}", counts(&restored)));
    Ok(())
}

/// Puts a backup in place.
///
/// # Errors
/// [`Report`]: the data directory is as it was.
pub async fn run_restore(args: Restore) -> Result<(), Report> {
    let setup = Setup::read(&args.config)?;
    let now = SystemClock.now();
    let admin_set = setup.admin_set(now)?;
    let unread = |error| report("the backup was not restored", &BackupError::File(error));
    let statement = files::read_bounded(&args.statement, limits::STATEMENT as u64);
    let statement = statement.map_err(unread)?;
    let later: Result<Vec<_>, _> = args
        .admin_sets
        .iter()
        .map(|path| files::read_bounded(path, limits::RECORD as u64))
        .collect();
    let later = later.map_err(unread)?;
    let way = match args.shares {
        Some(dir) => Way::Shares(dir),
        None => Way::Automatic(setup.means.clone()),
    };
    let refused = |error| report("the backup was not restored", &error);
    let (beginning, _) = lay::beginning(&args.file).map_err(refused)?;
    let into = absolute(&setup.data_dir());
    let wanted = Wanted {
        file: &args.file,
        into: &into,
        realm: &setup.config.realm,
        admin_set: &admin_set,
        later: &later,
        statement: &statement,
        now,
    };
    let open = |ways: &Ways| way.open(ways, &beginning.header);
    let rng = &mut UnwrapErr(SysRng);
    let restored = restore(&wanted, open, rng, &mut |_| Ok(())).await;
    let restored = restored.map_err(refused)?;
    say(&format!("restored: {}", counts(&restored)));
    for line in after(&restored) {
        say(&line);
    }
    Ok(())
}

fn counts(restored: &Restored) -> String {
    let Restored { header, checked } = restored;
    let mut line = format!(
        "backup {} of {}, {} datasets, {} KEK versions with key material ({} destroyed), {} log entries, root key {}",
        header.id,
        header.made,
        checked.datasets,
        checked.keks,
        checked.destroyed,
        checked.entries,
        header.root
    );
    for what in &header.left_out {
        line.push_str("; not in it: ");
        line.push_str(what);
    }
    line
}

/// What is to be done after a restore.
fn after(restored: &Restored) -> Vec<String> {
    // rule: BAK-4
    let Restored { header, checked } = restored;
    let newest = checked.admin_sets.keys().next_back().copied();
    let mut lines = vec![
        format!(
            "what was done since {} is lost: send admin sets after version {} anew (`postern-admin admin-set push`); tickets issued and statements signed before now are refused here, since nobody knows which were used",
            header.made,
            newest.unwrap_or_default()
        ),
        "a KEK version destroyed since is back: destroy it again, then `postern-admin rekey`, and destroy this backup and older ones".to_owned(),
        "as a witness it has new keys: `postern-key-server witness-keys`".to_owned(),
    ];
    for (dataset, version) in &checked.pending {
        lines.push(format!(
            "version {version} of {dataset:?} waits for its destruction, as it did then"
        ));
    }
    lines
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn report(what: &str, error: &BackupError) -> Report {
    let (code, next) = match error {
        BackupError::File(_) | BackupError::Io { .. } | BackupError::Store(_) => {
            (exit::LOCAL, "look after the file, or make room")
        }
        BackupError::Busy(_) => (exit::CONFLICT, "try again when it has ended"),
        BackupError::NotEmpty(_) => (
            exit::CONFLICT,
            "move what is there away, and keep it: it may be newer than the backup",
        ),
        BackupError::Root(_) => (
            exit::CONFIG,
            "give the root key's credential, passphrase or shares of the time of the backup",
        ),
        BackupError::Statement(_) | BackupError::OtherStatement(_) => (
            exit::REFUSED,
            "let a quorum of security sign for this file: `postern-admin restore`",
        ),
        BackupError::NotABackup { .. }
        | BackupError::Key
        | BackupError::Chunk(_)
        | BackupError::Shape(_)
        | BackupError::Content(_) => (exit::INTEGRITY, "take another copy, or another backup"),
    };
    Report::new(code, what).why(error).next(next)
}
