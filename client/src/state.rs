//! What a node keeps on disk: its node key and what it needs to come back after a crash.
//!
//! The file is written before anything is sent (LOG-1, REN-1), so a lost answer can be asked for
//! again. It holds no bootstrap secret. The wallet is sealed under a key kept here: tickets copied
//! to another machine without this file open nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use store::files;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{EvidenceHash, LaunchId, LoginId, NodeId, StatementDigest};
use ticket_format::keys::{NodeSecret, TlsKey};
use ticket_format::limits::{NAME, RECORD};
use ticket_format::statement::AdminSet;
use ticket_format::ticket::TicketKeys;
use ticket_format::time::Timestamp;
use ticket_format::tlog::LogKey;
use zeroize::Zeroizing;

use crate::chain::Chain;
use crate::error::Error;
use crate::link::Server;
use crate::lock::Lock;

/// Largest state file, in bytes: the most chains, each with an identity proof of its own, and the
/// longest one.
const LIMIT: u64 = 256 * 1024;
const FORMAT: u64 = 1;
/// Most evidence chains that are remembered; a login that got no answer adds one with each try.
const CHAINS: usize = 16;
/// Most aliases whose latest record is remembered.
const ALIASES: usize = 32;

/// The keys that the bootstrap pinned, kept for renewals when user-data is not read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Pins {
    /// The broker.
    pub broker: Server,
    /// Its ticket-signing keys: the bootstrap's, and those that followed it and that an answer brought
    /// (KEY-3).
    pub ticket_keys: TicketKeys,
    /// Its log's keys: receipts are believed by them (TLOG-5).
    pub log_key: LogKey,
    /// The admin set by which dataset records are believed: the bootstrap's, or the last of those
    /// that followed it and that an issue brought (ISS-6).
    pub admins: AdminSet,
    /// The latest records of aliases that an issue brought (ALI-2).
    pub aliases: Aliases,
}

/// The time of the latest record that a node has seen of each alias (ALI-2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(BTreeMap<String, Timestamp>);

impl Aliases {
    /// Takes a record's time, unless a later one was seen; says whether it did. When there are many, the
    /// alias whose record is the oldest is forgotten.
    pub fn take(&mut self, alias: &str, of: Timestamp) -> bool {
        // rule: ALI-2
        if self.0.get(alias).is_some_and(|known| of < *known) {
            return false;
        }
        if self.0.len() == ALIASES && !self.0.contains_key(alias) {
            let oldest = self.0.iter().min_by_key(|(_, of)| **of);
            if let Some(oldest) = oldest.map(|(alias, _)| alias.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(alias.to_owned(), of);
        true
    }

    /// Takes what others have seen; says whether anything is new.
    fn join(&mut self, others: &Self) -> bool {
        let before = self.clone();
        for (alias, of) in &others.0 {
            self.take(alias, *of);
        }
        *self != before
    }
}

impl Encode for Aliases {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.0.len());
        for (alias, of) in &self.0 {
            writer.array(2).text(alias);
            of.encode(writer);
        }
    }
}

impl Decode for Aliases {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rows = reader.list(0..=ALIASES, |r| {
            r.array(2..=2)?;
            Ok((r.text(1..=NAME)?.to_owned(), Timestamp::decode(r)?))
        })?;
        Ok(Self(rows.into_iter().collect()))
    }
}

/// A node's state.
#[derive(Debug)]
pub struct NodeState {
    /// What the bootstrap pinned.
    pub pins: Pins,
    /// The launch that it logs in with.
    pub launch: LaunchId,
    /// The launch's digest, as the bootstrap has it.
    pub launch_digest: StatementDigest,
    /// The launch itself, an admins' statement, once the broker has brought it (EVD-3).
    pub launch_statement: Option<Vec<u8>>,
    /// Sent again with every retry of the login (LOG-1).
    pub login: LoginId,
    /// The node key in force.
    pub key: NodeSecret,
    /// The node key that a renewal under way brings (REN-1).
    pub next: Option<NodeSecret>,
    /// The node's name, as the identity document has it.
    pub node: NodeId,
    /// Key of the wallet.
    pub wallet_key: Zeroizing<[u8; 32]>,
    /// The evidence chains that the broker may know for the node key in force, the latest last. Kept
    /// here because the wallet may not outlive a reboot, a renewal names the end of one (REN-6), and
    /// datasets may want to see the whole (EVD-3).
    pub chains: Vec<Chain>,
    /// Whether the broker has answered a login. From then on only renewals are sent: the node key
    /// may have changed since, and a login with another key would freeze the node (LOG-8).
    pub known: bool,
    /// Another launch's state of this node is in force: this one is kept beside it until the broker
    /// has answered, because the node has nothing else to come back with when it refuses.
    beside: bool,
}

impl NodeState {
    /// A fresh state for a first login.
    #[must_use]
    pub fn new(
        pins: Pins,
        launch: LaunchId,
        launch_digest: StatementDigest,
        node: NodeId,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let mut wallet_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(wallet_key.as_mut());
        Self {
            pins,
            launch,
            launch_digest,
            launch_statement: None,
            login: LoginId::random(rng),
            key: NodeSecret::generate(rng),
            next: None,
            node,
            wallet_key,
            chains: Vec::new(),
            known: false,
            beside: false,
        }
    }

    /// The same, kept beside the state in force until it is `known`: the first [`save`](Self::save)
    /// after that puts it in force.
    #[must_use]
    pub fn waiting(self) -> Self {
        Self {
            beside: true,
            ..self
        }
    }

    /// Takes the lock of the state in a directory: login and renew hold it from end to end.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process holds it, or the file system refused.
    pub fn lock(dir: &Path) -> Result<Lock, Error> {
        Lock::take(&Self::path(dir))
    }

    /// Remembers the chain that a login is about to begin. When there are many, the earliest but
    /// one goes: the broker keeps the very first as well.
    pub fn add_chain(&mut self, chain: Chain) {
        self.chains.retain(|known| known.end != chain.end);
        if self.chains.len() == CHAINS {
            self.chains.remove(1);
        }
        self.chains.push(chain);
    }

    /// The chain that a ticket names the end of.
    #[must_use]
    pub fn chain(&self, end: EvidenceHash) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.end == end)
    }

    /// Keeps the admin set, the ticket keys and the aliases that an issue brought, in the state that is in force in a
    /// directory, unless that has later ones by now. Held under the state's [`lock`](Self::lock).
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub fn keep_followed(dir: &Path, pins: &Pins) -> Result<(), Error> {
        // rule: ISS-6, KEY-3, ALI-2
        let Some(mut state) = Self::load(dir)? else {
            return Ok(());
        };
        let ours = &mut state.pins;
        let sets = ours.admins.version() < pins.admins.version();
        if sets {
            ours.admins = pins.admins.clone();
        }
        let keys = ours.ticket_keys.origin() == pins.ticket_keys.origin()
            && ours.ticket_keys.number() < pins.ticket_keys.number();
        if keys {
            ours.ticket_keys = pins.ticket_keys.clone();
        }
        let aliases = ours.aliases.join(&pins.aliases);
        match sets || keys || aliases {
            true => state.save(dir),
            false => Ok(()),
        }
    }

    /// The state file in a directory.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("node")
    }

    /// Where a state waits whose login has no answer yet, while another is in force.
    #[must_use]
    pub fn waiting_path(dir: &Path) -> PathBuf {
        dir.join("node.next")
    }

    /// Reads the state in force, if there is one.
    ///
    /// # Errors
    /// The file is not private, too large or damaged.
    pub fn load(dir: &Path) -> Result<Option<Self>, Error> {
        Self::read(Self::path(dir))
    }

    /// Reads the state that waits beside the one in force, if there is one.
    ///
    /// # Errors
    /// As [`NodeState::load`].
    pub fn load_waiting(dir: &Path) -> Result<Option<Self>, Error> {
        Ok(Self::read(Self::waiting_path(dir))?.map(Self::waiting))
    }

    fn read(path: PathBuf) -> Result<Option<Self>, Error> {
        let bytes = match files::read_private(&path, LIMIT) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(files::FileError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state = Self::from_cbor(&bytes, bytes.len());
        state.map(Some).map_err(|_| Error::Damaged {
            path,
            reason: "it is not a node's state",
        })
    }

    /// Writes the state durably, in one step. One that waits goes beside the state in force; once
    /// the broker knows it, it takes that one's place.
    ///
    /// # Errors
    /// The file system refused; the old state is as it was, or the new one is in force already.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        files::private_dir(dir)?;
        // Room for all of it at once: a vector that grows leaves copies of secrets behind.
        let mut writer = Writer::with_capacity(LIMIT as usize);
        self.encode(&mut writer);
        let bytes = Zeroizing::new(writer.into_bytes());
        if self.beside && !self.known {
            files::write_private(&Self::waiting_path(dir), &bytes)?;
            return Ok(());
        }
        files::write_private(&Self::path(dir), &bytes)?;
        if self.beside {
            Self::remove_waiting(dir)?;
        }
        Ok(())
    }

    /// Removes the state, and one that waits beside it first, so that
    /// after a crash the one in force still shows that there is something to remove.
    ///
    /// # Errors
    /// The file system refused.
    pub fn remove(dir: &Path) -> Result<(), Error> {
        Self::remove_waiting(dir)?;
        remove_file(Self::path(dir))
    }

    /// Removes the state that waits beside the one in force.
    ///
    /// # Errors
    /// The file system refused.
    pub fn remove_waiting(dir: &Path) -> Result<(), Error> {
        remove_file(Self::waiting_path(dir))
    }
}

fn remove_file(path: PathBuf) -> Result<(), Error> {
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(files::FileError::Io { path, source }.into())
        }
        _ => Ok(()),
    }
}

impl Encode for NodeState {
    fn encode(&self, writer: &mut Writer) {
        writer
            .map(17)
            .uint(0)
            .uint(FORMAT)
            .uint(1)
            .text(&self.pins.broker.realm);
        writer.uint(2).array(self.pins.broker.addresses.len());
        for address in &self.pins.broker.addresses {
            writer.text(address);
        }
        writer
            .uint(3)
            .bytes(&self.pins.broker.tls_key.to_bytes())
            .uint(4);
        self.pins.ticket_keys.encode(writer);
        writer.uint(5).bytes(&self.pins.admins.body().to_cbor());
        self.launch.encode(writer.uint(6));
        self.login.encode(writer.uint(7));
        writer
            .uint(8)
            .bytes(&*self.key.seed())
            .uint(9)
            .optional_bytes(
                self.next
                    .as_ref()
                    .map(NodeSecret::seed)
                    .as_ref()
                    .map(|s| &s[..]),
            );
        writer.uint(10).array(2);
        self.node.encode(writer);
        writer.bytes(&*self.wallet_key);
        writer.uint(11).array(self.chains.len());
        for chain in &self.chains {
            chain.encode(writer);
        }
        writer.uint(12).bool(self.known);
        self.launch_digest.encode(writer.uint(13));
        writer
            .uint(14)
            .optional_bytes(self.launch_statement.as_deref());
        self.pins.log_key.encode(writer.uint(15));
        self.pins.aliases.encode(writer.uint(16));
    }
}

impl Decode for NodeState {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(17)?;
        if map.required(0, Reader::uint)? != FORMAT {
            return Err(DecodeError::OutOfRange("format"));
        }
        let realm = map.required(1, |r| r.text(1..=NAME))?.to_owned();
        let addresses =
            map.required(2, |r| r.list(1..=8, |r| r.text(1..=255).map(str::to_owned)))?;
        let tls_key = map.required(3, TlsKey::decode)?;
        let ticket_keys = map.required(4, TicketKeys::decode)?;
        let admins = map.required(5, |r| {
            AdminSet::pinned(r.bytes(1..=RECORD)?).map_err(|_| DecodeError::OutOfRange("admin set"))
        })?;
        let launch = map.required(6, LaunchId::decode)?;
        let login = map.required(7, LoginId::decode)?;
        let seed = |r: &mut Reader<'_>| r.array_of::<32>().map(Zeroizing::new);
        let key = map.required(8, seed)?;
        let next = map.required(9, |r| r.optional(seed))?;
        let (node, wallet_key) = map.required(10, |r| {
            r.array(2..=2)?;
            Ok((NodeId::decode(r)?, seed(r)?))
        })?;
        let chains = map.required(11, |r| r.list(0..=CHAINS, Chain::decode))?;
        let known = map.required(12, Reader::bool)?;
        let launch_digest = map.required(13, StatementDigest::decode)?;
        let launch_statement = map.required(14, |r| {
            r.optional(|r| r.bytes(1..=RECORD).map(<[u8]>::to_vec))
        })?;
        let log_key = map.required(15, LogKey::decode)?;
        let aliases = map.optional(16, Aliases::decode)?.unwrap_or_default();
        map.end()?;
        Ok(Self {
            pins: Pins {
                broker: Server {
                    word: "broker",
                    realm,
                    addresses,
                    tls_key,
                },
                ticket_keys,
                log_key,
                admins,
                aliases,
            },
            launch,
            launch_digest,
            launch_statement,
            login,
            key: NodeSecret::from_seed(&key),
            next: next.map(|seed| NodeSecret::from_seed(&seed)),
            node,
            wallet_key,
            chains,
            known,
            beside: false,
        })
    }
}

#[cfg(test)]
mod tests;
