//! The wallet: one private file with the node's tickets and their session secrets.
//!
//! It is sealed under a key that lives beside the node key (`crate::state`), so a copy of the wallet
//! without the node's state is noise. It is replaced in one step, and changed under a lock.

mod session;

use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use store::files::{self, FileError};
use store::sealed::RootKey;
use ticket_format::cbor::{Decode, Encode, Reader, Writer};
use ticket_format::ids::TicketHash;
use zeroize::Zeroizing;

pub use session::{DatasetSession, NodeSession, SessionSecrets};

use crate::error::Error;
use crate::lock::Lock;

/// Largest wallet, in bytes: 64 dataset sessions with records of ordinary size.
const LIMIT: u64 = 8 * 1024 * 1024;
/// Most dataset sessions.
const SESSIONS: usize = 64;
const FORMAT: u64 = 1;
/// Associated data of the seal.
const SEAL_PATH: &str = "wallet";

/// A wallet in memory.
#[derive(Debug, Default)]
pub struct Wallet {
    /// The node ticket, once there is one.
    pub node: Option<NodeSession>,
    /// Dataset tickets, one for each dataset.
    pub datasets: Vec<DatasetSession>,
}

/// Where a wallet is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletFile {
    path: PathBuf,
}

/// Held while a wallet is changed; the lock goes with it.
#[derive(Debug)]
pub struct WalletLock {
    _lock: Lock,
}

impl WalletFile {
    /// Reads `FILE:PATH` or a plain path.
    ///
    /// # Errors
    /// Another type of wallet.
    pub fn from_spec(spec: &str) -> Result<Self, String> {
        match spec.split_once(':') {
            Some(("FILE", path)) if !path.is_empty() => Ok(Self { path: path.into() }),
            Some((kind @ ("KEYRING" | "MEMORY"), _)) => Err(format!(
                "{kind}: wallets are not supported yet; use FILE:PATH"
            )),
            _ if spec.starts_with('/') || spec.starts_with('.') => Ok(Self { path: spec.into() }),
            _ => Err(format!("expected FILE:PATH, not {spec:?}")),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock for a change.
    ///
    /// # Errors
    /// Another process holds it, or the file system refused.
    pub fn lock(&self) -> Result<WalletLock, Error> {
        let lock = Lock::take(&self.path)?;
        Ok(WalletLock { _lock: lock })
    }

    /// Reads the wallet; an absent one is empty.
    ///
    /// # Errors
    /// Not private, damaged, or sealed for another node.
    pub fn load(&self, key: &[u8; 32]) -> Result<Wallet, Error> {
        let sealed = match files::read_private(&self.path, LIMIT) {
            Ok(sealed) => sealed,
            Err(FileError::Missing(_)) => return Ok(Wallet::default()),
            Err(error) => return Err(error.into()),
        };
        let damaged = |reason| Error::Damaged {
            path: self.path.clone(),
            reason,
        };
        let opened = root(key)
            .open(SEAL_PATH, &sealed)
            .map_err(|_| damaged("it was not sealed by this node"))?;
        Wallet::from_bytes(&opened).ok_or_else(|| damaged("it is not a wallet"))
    }

    /// Replaces the wallet in one step.
    ///
    /// # Errors
    /// The file system refused; the old wallet is as it was.
    pub fn save(
        &self,
        _lock: &WalletLock,
        wallet: &Wallet,
        key: &[u8; 32],
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let bytes = Zeroizing::new(wallet.to_bytes());
        files::write_private(&self.path, &root(key).seal(SEAL_PATH, &bytes, rng))?;
        Ok(())
    }

    /// Removes the wallet; true if there was one.
    ///
    /// # Errors
    /// The file system refused.
    pub fn remove(&self, _lock: &WalletLock) -> Result<bool, Error> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(FileError::Io {
                path: self.path.clone(),
                source,
            }
            .into()),
        }
    }
}

fn root(key: &[u8; 32]) -> RootKey {
    RootKey::from_bytes(*key)
}

impl Wallet {
    fn to_bytes(&self) -> Vec<u8> {
        // Room for all of it at once: a vector that grows leaves copies of secrets behind.
        let mut writer = Writer::with_capacity(self.room());
        writer.array(3).uint(FORMAT);
        match &self.node {
            Some(node) => node.encode(&mut writer),
            None => {
                writer.null();
            }
        }
        writer.array(self.datasets.len());
        for session in &self.datasets {
            session.encode(&mut writer);
        }
        writer.into_bytes()
    }

    /// A bound of the encoded length.
    fn room(&self) -> usize {
        let node = self.node.as_ref().map_or(0, |node| node.ticket.len());
        let sessions = self.datasets.iter().map(|session| {
            session.dataset.len()
                + session.ticket.len()
                + session.receipt.to_cbor().len()
                + session.record.len()
                + session.alias.as_ref().map_or(1, Vec::len)
                + session
                    .evidence
                    .as_ref()
                    .map_or(1, |evidence| evidence.to_cbor().len())
        });
        // 32 bytes for each of two secrets and the heads of at most 16 items.
        256 + node + sessions.map(|len| len + 256).sum::<usize>()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.array(3..=3).ok()?;
        if reader.uint().ok()? != FORMAT {
            return None;
        }
        let node = reader.optional(NodeSession::decode).ok()?;
        let datasets = reader.list(0..=SESSIONS, DatasetSession::decode).ok()?;
        reader.finish().ok()?;
        Some(Self { node, datasets })
    }

    /// The session of a dataset.
    #[must_use]
    pub fn dataset(&self, name: &str) -> Option<&DatasetSession> {
        self.datasets.iter().find(|session| session.dataset == name)
    }

    /// Takes the session of one ticket out; true if there was one. Its keys erase themselves.
    pub fn erase(&mut self, ticket: TicketHash) -> bool {
        // rule: WIP-2
        let is = |bytes: &[u8]| TicketHash::of(bytes) == ticket;
        let node = self.node.take_if(|session| is(&session.ticket)).is_some();
        let before = self.datasets.len();
        self.datasets.retain(|session| !is(&session.ticket));
        node || self.datasets.len() < before
    }

    /// Whether it holds no ticket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.node.is_none() && self.datasets.is_empty()
    }

    /// Puts a dataset session in, in place of an earlier one of the same dataset; when full, the
    /// oldest goes.
    pub fn put(&mut self, session: DatasetSession) {
        self.datasets
            .retain(|other| other.dataset != session.dataset);
        if self.datasets.len() == SESSIONS {
            self.datasets.remove(0);
        }
        self.datasets.push(session);
    }
}

#[cfg(test)]
mod tests;
