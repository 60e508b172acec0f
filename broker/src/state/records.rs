//! The smaller records.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{PolicyDigest, StatementDigest};
use ticket_format::limits;
use ticket_format::statement::{AliasSet, DatasetRecord};
use ticket_format::time::Timestamp;

/// What a registered key is for (SIG-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// One of the broker's own.
    Broker,
    /// A launch's.
    Launch,
    /// A node's: in force, previous or retired.
    Node,
    /// A key server's TLS key.
    ServerTls,
    /// A key server's signing key.
    ServerSigning,
    /// A producer's.
    Producer,
    /// An admin's, of the set in force or one before it (SET-4).
    Admin,
    /// One of the two of a key server's log (TLOG-2).
    ServerLog,
}

impl KeyRole {
    const ALL: [(u64, Self); 8] = [
        (1, Self::Broker),
        (2, Self::Launch),
        (3, Self::Node),
        (4, Self::ServerTls),
        (5, Self::ServerSigning),
        (6, Self::Producer),
        (7, Self::Admin),
        (8, Self::ServerLog),
    ];

    fn number(self) -> u64 {
        Self::ALL
            .iter()
            .find(|(_, role)| *role == self)
            .map_or(0, |(number, _)| *number)
    }
}

/// `key/<thumbprint>`: who uses a key, and what for (SIG-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// What for.
    pub role: KeyRole,
    /// Who: a node's or admin's name, a launch's or dataset's id.
    pub owner: String,
}

impl Encode for KeyUse {
    fn encode(&self, writer: &mut Writer) {
        writer
            .map(2)
            .uint(1)
            .uint(self.role.number())
            .uint(2)
            .text(&self.owner);
    }
}

impl Decode for KeyUse {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(2)?;
        let number = map.required(1, Reader::uint)?;
        let owner = map.required(2, |r| r.text(..=limits::NAME))?.to_owned();
        map.end()?;
        let role = KeyRole::ALL
            .iter()
            .find(|(known, _)| *known == number)
            .map(|(_, role)| *role);
        Ok(Self {
            role: role.ok_or(DecodeError::OutOfRange("key role"))?,
            owner,
        })
    }
}

/// `alias/<name>`: the owners' statement, kept whole (ADM-3). One that names nothing stays, so that the next is
/// known to follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasEntry {
    /// The statement.
    pub statement: Vec<u8>,
    /// What it says.
    pub body: AliasSet,
}

impl Encode for AliasEntry {
    fn encode(&self, writer: &mut Writer) {
        writer.map(2).uint(1).bytes(&self.statement);
        writer.uint(2).bytes(&self.body.to_cbor());
    }
}

impl Decode for AliasEntry {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(2)?;
        let statement = map.required(1, |r| r.bytes(1..=limits::RECORD))?.to_vec();
        let body = AliasSet::from_cbor(map.required(2, |r| r.bytes(..))?, limits::RECORD)?;
        map.end()?;
        Ok(Self { statement, body })
    }
}

/// `dataset/<id>`: the admin's statement, kept whole (ADM-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetEntry {
    /// The statement.
    pub statement: Vec<u8>,
    /// Its digest.
    pub digest: StatementDigest,
    /// What it says.
    pub record: DatasetRecord,
    /// When the broker took it.
    pub recorded: Timestamp,
}

impl Encode for DatasetEntry {
    fn encode(&self, writer: &mut Writer) {
        writer.map(4).uint(1).bytes(&self.statement);
        self.digest.encode(writer.uint(2));
        writer.uint(3).bytes(&self.record.to_cbor());
        self.recorded.encode(writer.uint(4));
    }
}

impl Decode for DatasetEntry {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(4)?;
        let statement = map
            .required(1, |r| r.bytes(1..=limits::STATEMENT))?
            .to_vec();
        let digest = map.required(2, StatementDigest::decode)?;
        let record =
            DatasetRecord::from_cbor(map.required(3, |r| r.bytes(..))?, limits::STATEMENT)?;
        let recorded = map.required(4, Timestamp::decode)?;
        map.end()?;
        Ok(Self {
            statement,
            digest,
            record,
            recorded,
        })
    }
}

/// `policy/current`: which policy is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyHead {
    /// SHA-256 of the text.
    pub policy: PolicyDigest,
    /// Digest of the statement that set it.
    pub statement: StatementDigest,
    /// When it was set.
    pub set: Timestamp,
    /// In how many parts the statement stands.
    pub parts: u64,
}

impl Encode for PolicyHead {
    fn encode(&self, writer: &mut Writer) {
        self.policy.encode(writer.map(4).uint(1));
        self.statement.encode(writer.uint(2));
        self.set.encode(writer.uint(3));
        writer.uint(4).uint(self.parts);
    }
}

impl Decode for PolicyHead {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(4)?;
        let head = Self {
            policy: map.required(1, PolicyDigest::decode)?,
            statement: map.required(2, StatementDigest::decode)?,
            set: map.required(3, Timestamp::decode)?,
            parts: map.required(4, Reader::uint)?,
        };
        map.end()?;
        Ok(head)
    }
}

/// `statement/<id>`: an id that was used, kept until the statement expires (ADM-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedStatement {
    /// Digest of the statement that used it.
    pub digest: StatementDigest,
    /// When that statement expires.
    pub expires: Timestamp,
}

impl Encode for UsedStatement {
    fn encode(&self, writer: &mut Writer) {
        self.digest.encode(writer.map(2).uint(1));
        self.expires.encode(writer.uint(2));
    }
}

impl Decode for UsedStatement {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(2)?;
        let used = Self {
            digest: map.required(1, StatementDigest::decode)?,
            expires: map.required(2, Timestamp::decode)?,
        };
        map.end()?;
        Ok(used)
    }
}
