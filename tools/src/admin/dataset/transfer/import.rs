//! `postern-admin dataset import`: one's own key material for the next KEK version (IMP-1 to IMP-3).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::cli::output::Printed;
use serde_json::json;
use store::files as disk;
use ticket_format::ids::{DatasetId, ProofHash};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{ImportBegin, ImportHow, KekImport};
use ticket_format::transfer::{self, ImportPlace, MATERIAL};
use zeroize::Zeroizing;

use super::files::{ImportFile, WrappedFile, free};
use crate::admin::dataset::keks::{row_json, versions};
use crate::admin::dataset::{name_fits, options, record};
use crate::admin::remote::Change;
use crate::admin::span::Span;
use crate::admin::view::{object, text};
use crate::admin::{Context, block_on, now, rng};

/// Import one's own key material.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Have the key server make keys that material is wrapped to; they are good for 24 hours
    Begin(Begin),
    /// Wrap 32 bytes of material to them, offline; an HSM or openssl does it too (FILE.der)
    Wrap(Wrap),
    /// Make the next KEK version of wrapped material, or renew the version that was made of the same
    Finish(Finish),
}

/// Begin an import.
#[derive(Debug, Args)]
pub struct Begin {
    /// The dataset's name
    name: String,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
    /// Where the keys go: a new file; its RSA key, for openssl, goes to FILE.der
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Wrap material.
#[derive(Debug, Args)]
pub struct Wrap {
    /// The import's keys, as `import begin` wrote them
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The material: a file of exactly 32 random bytes (mode 0600)
    #[arg(long, value_name = "FILE")]
    material: PathBuf,
    /// Where it goes, wrapped: a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Wrap by RSA-OAEP, as an HSM would, and not by HPKE with X-Wing
    #[arg(long)]
    rsa: bool,
}

/// Finish an import.
#[derive(Debug, Args)]
pub struct Finish {
    /// The dataset's name
    name: String,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
    /// The import's keys, as `import begin` wrote them
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The material, wrapped: by `import wrap`, or the 512 bytes of RSA-OAEP by another tool
    #[arg(long, value_name = "FILE")]
    wrapped: PathBuf,
    /// SHA-256 of the material, where another tool wrapped it
    #[arg(long, value_name = "HEX")]
    commitment: Option<ProofHash>,
    /// Disable the version after so long [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Span>,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub(in crate::admin::dataset) fn run(context: &Context, command: &ImportCommand) -> Printed {
    match command {
        ImportCommand::Begin(args) => begin(context, args),
        ImportCommand::Wrap(args) => wrap(context, args),
        ImportCommand::Finish(args) => finish(context, args),
    }
}

fn begin(context: &Context, args: &Begin) -> Printed {
    // rule: IMP-1
    name_fits(&args.name)?;
    free(&args.out)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let name = args.name.clone();
        let changed = server.change(&ImportBegin { name }).await?;
        server.close().await;
        let begun = match changed {
            Change::Done(begun, _) => begun,
            Change::Proposed(proposed) => {
                context.talk(
                    "Who approves it last gets the keys in a file of his, named by the proposal",
                );
                return proposed.print(context);
            }
            Change::Before(_) => {
                return Err(Report::new(exit::RETRY, "the key server's answer was lost")
                    .next("begin again"));
            }
        };
        let file = ImportFile {
            realm: config.realm.clone(),
            server: keys.tls_key,
            begun,
        };
        let der = file.create(&args.out)?;
        context.talk(
            "Compare the digest with whoever wraps: what is wrapped to other keys, others open",
        );
        context.output.object(object! {
            "name": args.name,
            "import": text(file.begun.import),
            "expires": text(file.begun.expires),
            "keys": text(args.out.display()),
            "rsa_key": text(der.display()),
            "digest": text(file.digest()),
        })
    })
}

/// The material of a file: nothing of it is printed.
fn material(path: &Path) -> Result<Zeroizing<[u8; MATERIAL]>, Report> {
    let wrong = |why: String| {
        Report::new(
            exit::CONFIG,
            format!("{} holds no material", path.display()),
        )
        .why(why)
        .next("give a file of exactly 32 random bytes, mode 0600: openssl rand -out FILE 32")
    };
    let read = disk::read_private(path, MATERIAL as u64 + 1);
    let bytes = Zeroizing::new(read.map_err(|error| wrong(error.to_string()))?);
    let mut material = Zeroizing::new([0; MATERIAL]);
    if bytes.len() != MATERIAL {
        return Err(wrong(format!("it has {} bytes", bytes.len())));
    }
    material.copy_from_slice(&bytes);
    // rule: IMP-2
    if transfer::guessable(&material) {
        return Err(wrong("it is one byte, 32 times".to_owned()));
    }
    Ok(material)
}

fn wrap(context: &Context, args: &Wrap) -> Printed {
    // rule: IMP-1
    let file = ImportFile::open(&args.key)?;
    let begun = &file.begun;
    if begun.expires <= now() {
        return Err(Report::new(exit::CONFLICT, "the import is over")
            .why(format!("its keys were good until {}", begun.expires))
            .next("begin again: postern-admin dataset import begin"));
    }
    let material = material(&args.material)?;
    let unfit = |error: String| {
        Report::new(exit::INTEGRITY, "nothing can be wrapped to these keys")
            .why(error)
            .next("begin again, and find out who changed the file")
    };
    let (how, wrapped) = if args.rsa {
        let wrapped = transfer::rsa_wrap(&begun.rsa, &material);
        let wrapped = wrapped.map_err(|error| unfit(error.to_string()))?;
        (ImportHow::RsaOaep, wrapped)
    } else {
        let place = ImportPlace {
            realm: &file.realm,
            server: file.server,
            dataset: begun.dataset,
            import: begun.import,
        };
        let wrapped = place.wrap(&begun.key, &material, &mut rng());
        (
            ImportHow::Hpke,
            wrapped.map_err(|error| unfit(error.to_string()))?,
        )
    };
    let commitment = transfer::commitment(&material);
    WrappedFile {
        import: begun.import,
        how,
        commitment,
        wrapped,
    }
    .create(&args.out)?;
    context.talk("Keep the material where you keep your keys: with it everything under the version opens, and the version is renewed");
    context.output.object(object! {
        "import": text(begun.import),
        "how": how.name(),
        "wrapped": text(args.out.display()),
        "commitment": text(ProofHash(commitment)),
        "digest": text(file.digest()),
    })
}

/// What is brought, and how; what `--commitment` says must fit.
fn brought(args: &Finish, keys: &ImportFile) -> Result<WrappedFile, Report> {
    let usage = |why: &str, next: &str| {
        Err(
            Report::new(exit::USAGE, "the wrapped material cannot be brought so")
                .why(why)
                .next(next),
        )
    };
    match WrappedFile::open(&args.wrapped)? {
        Ok(file) if file.import != keys.begun.import => usage(
            "it was wrapped for another import",
            "wrap it to the keys that --key names",
        ),
        Ok(file)
            if args
                .commitment
                .is_some_and(|given| given.0 != file.commitment) =>
        {
            usage(
                "it says another SHA-256 of the material than --commitment",
                "find out which is right; leave --commitment out where `import wrap` wrapped it",
            )
        }
        Ok(file) => Ok(file),
        Err(wrapped) => match args.commitment {
            Some(commitment) => Ok(WrappedFile {
                import: keys.begun.import,
                how: ImportHow::RsaOaep,
                commitment: commitment.0,
                wrapped,
            }),
            None => usage(
                "another tool wrapped it, and its signers agree on the material by its SHA-256",
                "give --commitment HEX: sha256sum of the 32 bytes, or what the HSM says of the key",
            ),
        },
    }
}

fn finish(context: &Context, args: &Finish) -> Printed {
    // rule: IMP-2, IMP-3
    name_fits(&args.name)?;
    let file = ImportFile::open(&args.key)?;
    let brought = brought(args, &file)?;
    if args.expires == Some(Span(0)) {
        return Err(Report::new(exit::USAGE, "a version cannot expire at once"));
    }
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    if (keys.tls_key, &config.realm) != (file.server, &file.realm) {
        return Err(
            Report::new(exit::USAGE, "the import is another key server's")
                .next("give --key-server FILE, the one that began it"),
        );
    }
    let commitment = brought.commitment;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &args.name).await?;
        let newest = &rows[0];
        let body = KekImport {
            name: args.name.clone(),
            import: brought.import,
            how: brought.how,
            wrapped: brought.wrapped,
            replaces: newest.kek,
            expiry: args.expires.map(|after| now().plus(after.0)),
            commitment,
        };
        let expiry = body.expiry;
        match server.change(&body).await? {
            Change::Proposed(proposed) => {
                server.close().await;
                proposed.print(context)?;
                options::then_record(context, &args.name);
                return Ok(());
            }
            Change::Done(made, _) => {
                if made.server_key != keys.signing_key || made.log_key != keys.log_key {
                    return Err(record::other_key(&keys));
                }
                other_dataset(made.dataset, &file)?;
            }
            Change::Before(_) => context.talk("The first answer was lost; it is done"),
        }
        let after = versions(&mut server, &args.name).await?;
        server.close().await;
        let of = after.iter().enumerate().find(|(_, row)| {
            let of = row.provenance.as_ref();
            of.is_some_and(|of| of.commitment == commitment) && row.expiry == expiry
        });
        let Some((place, row)) = of else {
            return Err(Report::new(
                exit::INTEGRITY,
                "the key server says that it imported, and shows no version of this material",
            )
            .next("look with `postern-admin dataset keks`, and find out why"));
        };
        options::then_record(context, &args.name);
        let mut about = row_json(row, place == 0);
        about.insert("dataset".to_owned(), json!(args.name));
        context.output.object(about)
    })
}

fn other_dataset(made: DatasetId, file: &ImportFile) -> Result<(), Report> {
    if made == file.begun.dataset {
        return Ok(());
    }
    Err(Report::new(
        exit::INTEGRITY,
        "the key server made a version of another dataset than the import's",
    )
    .next("use nothing of this server; find out who changed what"))
}
