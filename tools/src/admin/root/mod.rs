//! A key server's root key: `unseal`, `seal`, `rekey` and `drill` (`spec/vault.md`, section 3).

mod change;
pub mod door;
mod give;
pub(super) mod share;
mod show;

use std::path::PathBuf;

use clap::Args;

use super::share_key::ShareKey;

pub(super) use change::holders;
pub use change::{rekey, seal};
pub use give::{drill, unseal};

/// Which key server.
#[derive(Debug, Args)]
pub struct At {
    /// Its server-keys.toml, as `key-server init` wrote it [default: the only one that is configured]
    #[arg(value_name = "KEY-SERVER")]
    key_server: Option<PathBuf>,
}

/// Give your share of a sealed key server's root key.
#[derive(Debug, Args)]
pub struct Unseal {
    /// Which
    #[command(flatten)]
    at: At,
    /// Whose share
    #[command(flatten)]
    share_key: ShareKey,
    /// Only say how it is: sealed or open, and how many shares have been given; opens no share key
    #[arg(long)]
    status: bool,
}

/// Make a key server forget its root key.
#[derive(Debug, Args)]
pub struct Seal {
    /// Which
    #[command(flatten)]
    at: At,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Make a new root key, with new shares.
#[derive(Debug, Args)]
pub struct Rekey {
    /// Which
    #[command(flatten)]
    at: At,
    /// So many shares open it
    #[arg(long, value_name = "K")]
    threshold: u64,
    /// Who gets a share: a name, and the holder's share key (the .pub file); once for each
    #[arg(long = "share", value_name = "NAME=FILE", required = true)]
    shares: Vec<Holder>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Give your share of an open key server's root key, to prove that it fits.
#[derive(Debug, Args)]
pub struct Drill {
    /// Which
    #[command(flatten)]
    at: At,
    /// Whose share
    #[command(flatten)]
    share_key: ShareKey,
}

/// Who is to get a share: `NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The name.
    name: String,
    /// The public file of the holder's share key.
    file: PathBuf,
}

impl std::str::FromStr for Holder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text
            .split_once('=')
            .ok_or("expected NAME=FILE: a holder, and the holder's share key (.pub)")?;
        if !super::card::name_fits(name) {
            return Err(
                "a name has 1 to 64 bytes, no control characters and none of : = ,".to_owned(),
            );
        }
        if file.is_empty() {
            return Err(format!("no share key is named for {name}"));
        }
        Ok(Self {
            name: name.to_owned(),
            file: file.into(),
        })
    }
}
