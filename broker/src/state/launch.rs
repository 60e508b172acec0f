//! `launch/<id>`: what an admin allowed, and how much of it is used.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{LaunchId, StatementDigest};
use ticket_format::keys::LaunchKey;
use ticket_format::limits;
use ticket_format::statement::LaunchCreate;
use ticket_format::time::Timestamp;

/// A launch. The statement is kept whole, so that others can verify it again (ADM-3); the uses
/// stand beside it, one key each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchRecord {
    /// The admin's statement.
    pub statement: Vec<u8>,
    /// Its digest, which login evidence names.
    pub digest: StatementDigest,
    /// What it allows.
    pub terms: LaunchCreate,
    /// When it was registered.
    pub created: Timestamp,
    /// When an admin closed it before its window ended.
    pub closed: Option<Timestamp>,
    /// How many nodes have used it.
    pub used: u64,
}

impl LaunchRecord {
    /// A record of nobody's launch, as long as most: what is read where there is none, so that reading takes
    /// the same time (LOG-2).
    #[must_use]
    pub fn stand_in(key: LaunchKey) -> Self {
        let text = |of: &str| vec![of.to_owned()];
        Self {
            statement: vec![0; 512],
            digest: StatementDigest([0; 32]),
            terms: LaunchCreate {
                launch: LaunchId([0; 16]),
                key,
                accounts: text("000000000000"),
                regions: text("eu-central-1"),
                images: text("ami-00000000000000000"),
                uses: 1,
                group: false,
                from: Timestamp::default(),
                until: Timestamp::default(),
                max_age: 900,
                node_life: 86_400,
                comment: String::new(),
            },
            created: Timestamp::default(),
            closed: None,
            used: 0,
        }
    }
}

impl Encode for LaunchRecord {
    fn encode(&self, writer: &mut Writer) {
        writer.map(5 + usize::from(self.closed.is_some()));
        writer.uint(1).bytes(&self.statement);
        self.digest.encode(writer.uint(2));
        writer.uint(3).bytes(&self.terms.to_cbor());
        self.created.encode(writer.uint(4));
        if let Some(closed) = &self.closed {
            closed.encode(writer.uint(5));
        }
        writer.uint(6).uint(self.used);
    }
}

impl Decode for LaunchRecord {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(6)?;
        let statement = map
            .required(1, |r| r.bytes(1..=limits::STATEMENT))?
            .to_vec();
        let digest = map.required(2, StatementDigest::decode)?;
        let terms = LaunchCreate::from_cbor(map.required(3, |r| r.bytes(..))?, limits::STATEMENT)?;
        let created = map.required(4, Timestamp::decode)?;
        let closed = map.optional(5, Timestamp::decode)?;
        let used = map.required(6, Reader::uint)?;
        map.end()?;
        Ok(Self {
            statement,
            digest,
            terms,
            created,
            closed,
            used,
        })
    }
}
