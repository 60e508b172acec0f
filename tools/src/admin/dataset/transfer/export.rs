//! `postern-admin dataset export`: a KEK version's material for recipients, by security's quorum (IMP-4).

use std::path::PathBuf;

use clap::{Args, Subcommand};
use client::cli::output::Printed;
use store::root::{Share, join};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingKey, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::statement::{KekExport, KekExported, KekState};
use ticket_format::transfer::ExportPlace;
use zeroize::Zeroizing;

use super::files::{ExportFile, ShareFile, create, free};
use crate::admin::dataset::keks::{numbered, versions};
use crate::admin::dataset::name_fits;
use crate::admin::remote::Change;
use crate::admin::root::{Holder, holders};
use crate::admin::share_key::ShareKey;
use crate::admin::view::{object, text};
use crate::admin::{Context, ask, block_on};

/// Give a KEK version's material out, and open what was given.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Have the key server seal a version's material to recipients; the dataset must be exportable
    Make(Make),
    /// Open your share of an export where several are needed, for whoever opens it
    Share(OpenShare),
    /// Open an export: the symmetric key and the X-Wing seed, 64 bytes, in a file
    Open(Open),
}

/// Export a version.
#[derive(Debug, Args)]
pub struct Make {
    /// The dataset's name
    name: String,
    /// The dataset's key server (its server-keys.toml)
    #[arg(long, value_name = "FILE")]
    key_server: Option<PathBuf>,
    /// The version's number, as `dataset keks` shows it
    #[arg(long, value_name = "N")]
    version: u64,
    /// A recipient: a name, and his share key (the .pub file); once for each
    #[arg(long = "to", value_name = "NAME=FILE", required = true)]
    to: Vec<Holder>,
    /// So many recipients open it together
    #[arg(long, value_name = "K", default_value_t = 1)]
    threshold: u64,
    /// Where it goes: a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Open one's share.
#[derive(Debug, Args)]
pub struct OpenShare {
    /// The export
    export: PathBuf,
    /// Whose share
    #[command(flatten)]
    share_key: ShareKey,
    /// Where the share goes: a new file; it is a secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Open an export.
#[derive(Debug, Args)]
pub struct Open {
    /// The export
    export: PathBuf,
    /// Whose share
    #[command(flatten)]
    share_key: ShareKey,
    /// Another recipient's share, as `export share` wrote it; once for each
    #[arg(long = "share", value_name = "FILE")]
    shares: Vec<PathBuf>,
    /// Where the material goes: a new file; it is a secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs one of them.
///
/// # Errors
/// Whatever stopped it.
pub(in crate::admin::dataset) fn run(context: &Context, command: &ExportCommand) -> Printed {
    match command {
        ExportCommand::Make(args) => make(context, args),
        ExportCommand::Share(args) => share(context, args),
        ExportCommand::Open(args) => open(context, args),
    }
}

fn make(context: &Context, args: &Make) -> Printed {
    // rule: IMP-4
    name_fits(&args.name)?;
    free(&args.out)?;
    let holders = holders(&args.to, args.threshold)?;
    let (config, admin) = context.admin()?;
    let keys = config.key_server(args.key_server.as_deref())?;
    block_on(async {
        let mut server = admin.at(keys.server());
        let rows = versions(&mut server, &args.name).await?;
        let row = numbered(&rows, args.version)?;
        if matches!(
            row.state,
            KekState::PendingDestruction | KekState::Destroyed
        ) {
            return Err(Report::new(
                exit::CONFLICT,
                format!(
                    "version {} is {}: it cannot be exported",
                    row.version, row.state
                ),
            ));
        }
        context.talk(format_args!(
            "{} of {} recipients open together everything under version {}, without the key server, for ever; nothing takes that back",
            args.threshold,
            holders.len(),
            row.version
        ));
        ask::confirm_async(args.yes, args.name.clone()).await?;
        let export = KekExport {
            name: args.name.clone(),
            kek: row.kek,
            threshold: args.threshold,
            holders,
        };
        let changed = server.change(&export).await?;
        server.close().await;
        let exported = match changed {
            Change::Proposed(proposed) => {
                context.talk(
                    "Who approves it last gets the export in a file of his, named by the proposal; only its recipients open it",
                );
                return proposed.print(context);
            }
            Change::Done(exported, _) => exported,
            Change::Before(_) => {
                return Err(Report::new(exit::RETRY, "the key server's answer was lost")
                    .next("export once more"));
            }
        };
        if (exported.kek, exported.version) != (row.kek, row.version) {
            return Err(Report::new(
                exit::INTEGRITY,
                "the key server exported another version than was asked",
            ));
        }
        let file = ExportFile {
            realm: config.realm.clone(),
            server: keys.tls_key,
            exported,
        };
        file.create(&args.out)?;
        context.output.object(object! {
            "name": args.name,
            "version": row.version,
            "kek": text(row.kek),
            "threshold": args.threshold,
            "recipients": export.holders.len(),
            "export": text(args.out.display()),
        })
    })
}

impl ExportFile {
    fn place(&self) -> ExportPlace<'_> {
        ExportPlace {
            realm: &self.realm,
            server: self.server,
            dataset: self.exported.dataset,
            kek: self.exported.kek,
        }
    }

    /// The share that this key opens.
    fn share(&self, secret: &SealingSecret) -> Result<Share, Report> {
        // rule: IMP-4
        let public = secret.public();
        let own = self.exported.shares.iter().find(|row| row.key == public);
        let own = own.ok_or_else(|| {
            Report::new(exit::REFUSED, "the export has no share for this share key")
                .next("give the share key of one of its recipients: --share-key FILE")
        })?;
        Share::open_for(own, secret, &self.place().info(own.number)).map_err(|error| {
            Report::new(exit::INTEGRITY, "the share does not open")
                .why(error)
                .next("get the export anew: this one was changed")
        })
    }
}

fn share(context: &Context, args: &OpenShare) -> Printed {
    free(&args.out)?;
    let file = ExportFile::open(&args.export)?;
    let secret = args.share_key.open_offline(context, &file.realm)?;
    let share = file.share(&secret)?;
    let opened = ShareFile {
        kek: file.exported.kek,
        share: Zeroizing::new(*share.expose()),
    };
    opened.create(&args.out)?;
    context.output.object(object! {
        "kek": text(file.exported.kek),
        "share": share.number(),
        "file": text(args.out.display()),
    })
}

/// The material that these shares open, and the public key that it has.
fn material(
    file: &ExportFile,
    shares: &[Share],
) -> Result<(Zeroizing<[u8; 64]>, SealingKey), Report> {
    // rule: IMP-4
    let KekExported {
        threshold, sealed, ..
    } = &file.exported;
    let secret = join(shares, *threshold).map_err(|error| {
        Report::new(exit::REFUSED, "the export does not open")
            .why(error)
            .next("have its other recipients open theirs: postern-admin dataset export share")
    })?;
    let both = file.place().open(&secret, sealed).ok_or_else(|| {
        Report::new(exit::INTEGRITY, "the export does not open")
            .why("a share is another export's, or the file was changed")
            .next("get the export and the shares anew")
    })?;
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&both[32..]);
    let seed = SealingSeed::from_bytes(*seed);
    let public = SealingSecret::from_seed(Kem::XWing, seed).public();
    Ok((both, public))
}

fn open(context: &Context, args: &Open) -> Printed {
    free(&args.out)?;
    let file = ExportFile::open(&args.export)?;
    let mut shares = Vec::with_capacity(1 + args.shares.len());
    for path in &args.shares {
        let one = ShareFile::open(path)?;
        if one.kek != file.exported.kek {
            return Err(Report::new(
                exit::USAGE,
                format!("{} is a share of another version's export", path.display()),
            ));
        }
        shares.push(Share::from_bytes(&one.share));
    }
    let secret = args.share_key.open_offline(context, &file.realm)?;
    shares.push(file.share(&secret)?);
    let (both, public) = material(&file, &shares)?;
    create(&args.out, &both[..])?;
    context.talk("The symmetric key is its first 32 bytes, the X-Wing seed the others; `dataset keks --json` shows the public key's hash");
    context.output.object(object! {
        "kek": text(file.exported.kek),
        "version": file.exported.version,
        "material": text(args.out.display()),
        "public_key_hash": text(public.hash()),
    })
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use rand_core::UnwrapErr;
    use store::root::{Holders, deal_for};
    use ticket_format::ids::{DatasetId, KekId};
    use ticket_format::keys::TlsSecret;
    use ticket_format::statement::ShareHolder;

    use super::*;

    #[test]
    fn an_export_opens_with_the_shares_of_enough_recipients() {
        // rule: IMP-4
        let secrets = [1, 2, 3]
            .map(|byte| SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([byte; 32])));
        let holders = secrets.iter().enumerate().map(|(n, secret)| ShareHolder {
            name: format!("holder-{n}"),
            key: secret.public(),
        });
        let holders = Holders::new(2, holders.collect()).unwrap();
        let mut file = ExportFile {
            realm: "test".to_owned(),
            server: TlsSecret::from_seed(&[1; 32]).public(),
            exported: KekExported {
                dataset: DatasetId([1; 16]),
                kek: KekId([2; 16]),
                version: 3,
                sealed: Vec::new(),
                threshold: 2,
                shares: Vec::new(),
            },
        };
        let sealed = file.place().seal(&[9; 32], &[4; 32], &[5; 32]).unwrap();
        let info = |number| file.place().info(number);
        let shares = deal_for(&[9; 32], &holders, info, &mut UnwrapErr(SysRng)).unwrap();
        (file.exported.sealed, file.exported.shares) = (sealed, shares);
        let of = |n: usize| file.share(&secrets[n]).unwrap();
        let (both, public) = material(&file, &[of(2), of(0)]).unwrap();
        assert_eq!((&both[..32], &both[32..]), (&[4; 32][..], &[5; 32][..]));
        let seed = SealingSeed::from_bytes([5; 32]);
        assert_eq!(public, SealingSecret::from_seed(Kem::XWing, seed).public());
        assert_eq!(material(&file, &[of(1)]).unwrap_err().exit, exit::REFUSED);
        let strange = Share::from_bytes(&[7; 33]);
        let refused = material(&file, &[of(1), strange]).unwrap_err();
        assert_eq!(refused.exit, exit::INTEGRITY);
        let other = SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([8; 32]));
        assert_eq!(file.share(&other).unwrap_err().exit, exit::REFUSED);
    }
}
