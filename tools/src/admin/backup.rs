//! `backup` and `restore`: a key server's backup fetched, and the statement that puts one back
//! (`spec/vault.md`, section 5). What is in a backup opens on a key server's machine only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use client::cli::output::Printed;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use ticket_format::backup::{Beginning, Header};
use ticket_format::ids::ProofHash;
use ticket_format::report::{Printable, Report, exit};
use ticket_format::statement::{BACKUP_PART, BackupBegin, BackupMade, BackupPart, Restore as Body};

use super::config::ServerKeys;
use super::remote::Remote;
use super::view::{object, text};
use super::{Context, block_on, proposal};

/// How long a key server is waited for that writes its backup.
const PATIENCE: Duration = Duration::from_secs(120);

/// Fetch a backup of a key server.
#[derive(Debug, Args)]
pub struct Backup {
    /// Its server-keys.toml, as `key-server init` wrote it [default: the only one that is configured]
    #[arg(value_name = "KEY-SERVER")]
    key_server: Option<PathBuf>,
    /// Where to: a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Sign that a backup may be put in its key server's place.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    backup: PathBuf,
    /// Why; it goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Where the statement goes, for the others to approve: a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Has a key server make a backup, fetches it, and holds it against what the server said of it.
///
/// # Errors
/// The file exists or cannot be written, the server refused, or what came is something else.
pub fn run(context: &Context, args: &Backup) -> Printed {
    if args.out.symlink_metadata().is_ok() {
        return Err(exists(&args.out));
    }
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    let admin = admin.patient(PATIENCE);
    block_on(async {
        let mut server = admin.at(keys.server());
        let fetched = fetch(context, &mut server, &keys, &args.out).await;
        server.close().await;
        let (made, header) = fetched?;
        let mut about = object! {
            "file": text(args.out.display()),
            "size": made.size,
            "digest": text(ProofHash(made.digest)),
        };
        about.extend(said(&header));
        context.output.object(about)
    })
}

async fn fetch(
    context: &Context,
    server: &mut Remote<'_>,
    keys: &ServerKeys,
    out: &Path,
) -> Result<(BackupMade, Header), Report> {
    // rule: BAK-1
    let made = server.ask(&BackupBegin {}).await?;
    context.talk(format_args!(
        "Backup {}: {} bytes in {} parts",
        made.id, made.size, made.parts
    ));
    let partial = partial(out);
    let fetched = parts(server, &made, &partial).await;
    let fetched = fetched.and_then(|()| {
        let header = header(&partial)?;
        let of_it =
            (header.id, header.server, &header.realm) == (made.id, keys.tls_key, &keys.realm);
        if !of_it {
            return Err(other("its header is of another backup or key server"));
        }
        // Never over a file that came there meanwhile.
        std::fs::hard_link(&partial, out).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(out),
            _ => unwritten(out, error),
        })?;
        Ok(header)
    });
    let _ = std::fs::remove_file(&partial);
    Ok((made, fetched?))
}

async fn parts(server: &mut Remote<'_>, made: &BackupMade, to: &Path) -> Result<(), Report> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| unwritten(to, error))?;
    let (mut digest, mut size) = (Sha256::new(), 0);
    for number in 0..made.parts {
        let part = BackupPart {
            id: made.id,
            number,
        };
        let bytes = server.ask(&part).await?.bytes;
        let short = bytes.len() < BACKUP_PART && number + 1 < made.parts;
        size += bytes.len() as u64;
        if short || size > made.size {
            return Err(other("a part of it has another size"));
        }
        digest.update(&bytes);
        file.write_all(&bytes)
            .map_err(|error| unwritten(to, error))?;
    }
    file.sync_all().map_err(|error| unwritten(to, error))?;
    if size != made.size || <[u8; 32]>::from(digest.finalize()) != made.digest {
        return Err(other("its SHA-256 is another"));
    }
    Ok(())
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Signs for a backup, and leaves the statement in a file.
///
/// # Errors
/// The file is no backup, of another realm, or the statement's file exists.
pub fn restore(context: &Context, args: &Restore) -> Printed {
    // rule: BAK-4
    let header = header(&args.backup)?;
    let body = Body {
        id: header.id,
        digest: digest(&args.backup)?,
        reason: args.reason.clone(),
    };
    if !(1..=256).contains(&body.reason.len()) {
        return Err(Report::new(exit::USAGE, "a reason has 1 to 256 bytes"));
    }
    let (config, admin) = context.admin()?;
    if header.realm != config.realm {
        return Err(Report::new(exit::CONFIG, "the backup is of another realm")
            .why(format!(
                "it is of {:?}, and {:?} is administered here",
                header.realm, config.realm
            ))
            .next("take another configuration"));
    }
    for (name, value) in said(&header) {
        context.talk(Printable(&format!("{name}: {value}")));
    }
    block_on(async {
        let statement = admin.for_later(header.server, &body)?;
        let proposed = proposal::leave(&admin, &statement, Some(&args.out)).await?;
        proposed.print(context)
    })
}

/// What a backup says of itself.
///
/// # Errors
/// It cannot be read, or is none.
pub fn header(path: &Path) -> Result<Header, Report> {
    let file = File::open(path).map_err(|error| unread(path, error))?;
    let beginning = Beginning::read(&mut io::BufReader::new(file));
    Ok(beginning.map_err(|error| unread(path, error))?.header)
}

fn digest(path: &Path) -> Result<[u8; 32], Report> {
    let mut file = File::open(path).map_err(|error| unread(path, error))?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file
            .read(&mut buffer)
            .map_err(|error| unread(path, error))?
        {
            0 => return Ok(digest.finalize().into()),
            read => digest.update(&buffer[..read]),
        }
    }
}

fn said(header: &Header) -> Map<String, Value> {
    object! {
        "backup": text(header.id),
        "made": text(header.made),
        "server": text(header.server),
        "root": text(header.root),
        "datasets": header.datasets,
        "kek_versions": header.keks,
        "log_entries": header.entries,
        "not_in_it": json!(header.left_out),
    }
}

fn exists(path: &Path) -> Report {
    Report::new(exit::CONFLICT, format!("{} exists already", path.display()))
        .why("a backup is never overwritten")
        .next("give another --out")
}

fn unwritten(path: &Path, error: impl std::fmt::Display) -> Report {
    Report::new(exit::LOCAL, format!("{} was not written", path.display()))
        .why(error)
        .next("make room, or give another --out")
}

fn unread(path: &Path, error: impl std::fmt::Display) -> Report {
    Report::new(
        exit::CONFIG,
        format!("{} is no backup of a key server", path.display()),
    )
    .why(error)
    .next("give a file as `postern-admin backup` wrote it")
}

fn other(why: &str) -> Report {
    Report::new(
        exit::INTEGRITY,
        "what came is not the backup that was announced",
    )
    .why(why)
    .next("fetch it again")
}
