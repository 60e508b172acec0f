//! What the store says of a KEK version. Nothing of it is secret: the key material stands in a file of its
//! own (KEK-5).

use std::ops::RangeInclusive;

use sha2::{Digest as _, Sha256};
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{DatasetId, KekId};
use ticket_format::seal::{Kem, SealingKey};
use ticket_format::statement::{KekOrigin, KekState, Provenance};
use ticket_format::time::Timestamp;

/// Where a version's record stands in the store; also where its key material is sealed for (REST-1).
#[must_use]
pub fn path(dataset: DatasetId, kek: KekId) -> String {
    format!("kek/{dataset}/{kek}")
}

/// The dataset and version of such a path.
#[must_use]
pub fn of_path(path: &str) -> Option<(DatasetId, KekId)> {
    let (dataset, kek) = path.strip_prefix("kek/")?.split_once('/')?;
    Some((dataset.parse().ok()?, kek.parse().ok()?))
}

/// How a record names the file of a version's key material.
#[must_use]
pub fn file_digest(sealed: &[u8]) -> [u8; 32] {
    Sha256::digest(sealed).into()
}

/// One version's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekRecord {
    /// The dataset.
    pub dataset: DatasetId,
    /// The version's id, random and never reused (WRAP-1).
    pub kek: KekId,
    /// Its number, for people.
    pub version: u64,
    /// What it may be used for (KEK-1).
    pub state: KekState,
    /// Where its key material comes from.
    pub origin: KekOrigin,
    /// When it was made.
    pub created: Timestamp,
    /// When it is destroyed, or was.
    pub destroyed: Option<Timestamp>,
    /// To this key producers wrap; none once it is destroyed.
    pub public: Option<SealingKey>,
    /// SHA-256 of the file with its key material; none once it is destroyed.
    pub file: Option<[u8; 32]>,
    /// How it came, where it was imported (IMP-2).
    pub provenance: Option<Provenance>,
    /// When it is disabled by itself, or was (IMP-3).
    pub expiry: Option<Timestamp>,
    /// Its expiry disabled it, and nobody else did before or since (IMP-3).
    pub lapsed: bool,
}

impl KekRecord {
    /// The formats that are read; the newest is written.
    pub const FORMATS: RangeInclusive<u64> = 2..=4;

    /// Where it stands in the store.
    #[must_use]
    pub fn path(&self) -> String {
        path(self.dataset, self.kek)
    }

    /// The same in another state, with nothing to be destroyed.
    #[must_use]
    pub fn in_state(&self, state: KekState) -> Self {
        Self {
            state,
            destroyed: None,
            lapsed: false,
            ..self.clone()
        }
    }

    /// The same, disabled because its expiry has come.
    #[must_use]
    pub fn lapsed(&self) -> Self {
        // rule: IMP-3
        Self {
            lapsed: true,
            ..self.in_state(KekState::Disabled)
        }
    }

    /// The same, to be destroyed then.
    #[must_use]
    pub fn pending(&self, then: Timestamp) -> Self {
        Self {
            destroyed: Some(then),
            ..self.in_state(KekState::PendingDestruction)
        }
    }

    /// Whether its expiry has come: nothing is wrapped or opened under it until it is renewed (IMP-3).
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|then| then <= now)
    }

    /// Whether anything is opened under it.
    #[must_use]
    pub fn in_use(&self) -> bool {
        matches!(self.state, KekState::Enabled | KekState::DecryptOnly)
    }

    /// Whether it was made of this material (IMP-2).
    #[must_use]
    pub fn is_of(&self, commitment: &[u8; 32]) -> bool {
        let of = self.provenance.as_ref();
        of.is_some_and(|provenance| provenance.commitment == *commitment)
    }

    /// What stays of it.
    #[must_use]
    pub fn destroyed(&self, now: Timestamp) -> Self {
        Self {
            state: KekState::Destroyed,
            destroyed: Some(now),
            public: None,
            file: None,
            lapsed: false,
            ..self.clone()
        }
    }
}

impl Encode for KekRecord {
    fn encode(&self, writer: &mut Writer) {
        writer.array(13).uint(4);
        self.dataset.encode(writer);
        self.kek.encode(writer);
        writer.uint(self.version);
        self.state.encode(writer);
        self.origin.encode(writer);
        self.created.encode(writer);
        match self.destroyed {
            Some(time) => time.encode(writer),
            None => {
                writer.null();
            }
        }
        match &self.public {
            Some(key) => writer.bytes(key.as_bytes()),
            None => writer.null(),
        };
        match &self.file {
            Some(digest) => writer.bytes(digest),
            None => writer.null(),
        };
        match &self.provenance {
            Some(provenance) => provenance.encode(writer),
            None => {
                writer.null();
            }
        }
        match self.expiry {
            Some(time) => time.encode(writer),
            None => {
                writer.null();
            }
        }
        writer.bool(self.lapsed);
    }
}

impl Decode for KekRecord {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let members = reader.array(10..=13)?;
        // What an earlier format did not have yet is as it was then.
        let format = match (reader.uint()?, members) {
            (format @ 2, 10) | (format @ 3, 12) | (format @ 4, 13) => format,
            _ => return Err(DecodeError::OutOfRange("version of a KEK record")),
        };
        let mut record = Self {
            dataset: DatasetId::decode(reader)?,
            kek: KekId::decode(reader)?,
            version: reader.uint()?,
            state: KekState::decode(reader)?,
            origin: KekOrigin::decode(reader)?,
            created: Timestamp::decode(reader)?,
            destroyed: reader.optional(Timestamp::decode)?,
            public: reader.optional(|reader| SealingKey::decode_as(Kem::XWing, reader))?,
            file: reader.optional(Reader::array_of)?,
            provenance: match format {
                3.. => reader.optional(Provenance::decode)?,
                _ => None,
            },
            expiry: match format {
                3.. => reader.optional(Timestamp::decode)?,
                _ => None,
            },
            lapsed: false,
        };
        record.lapsed = match format {
            4.. => reader.bool()?,
            // The third format did not say who had disabled a version with an expiry.
            _ => record.state == KekState::Disabled && record.expiry.is_some(),
        };
        if record.lapsed && (record.state != KekState::Disabled || record.expiry.is_none()) {
            return Err(DecodeError::OutOfRange("expiry of a KEK record"));
        }
        let gone = record.state == KekState::Destroyed;
        if record.public.is_none() != gone || record.file.is_none() != gone {
            return Err(DecodeError::OutOfRange("state of a KEK record"));
        }
        // rule: IMP-2
        if record.provenance.is_some() != (record.origin == KekOrigin::Imported) {
            return Err(DecodeError::OutOfRange("origin of a KEK record"));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::ids::StatementDigest;
    use ticket_format::statement::ImportHow;

    #[test]
    fn a_record_is_read_as_it_was_written_and_holds_together() {
        // rule: KEK-1
        let key = ticket_format::seal::SealingSecret::from_seed(
            Kem::XWing,
            ticket_format::secret::SealingSeed::from_bytes([1; 32]),
        );
        let record = KekRecord {
            dataset: DatasetId([1; 16]),
            kek: KekId([2; 16]),
            version: 3,
            state: KekState::Enabled,
            origin: KekOrigin::Generated,
            created: Timestamp::default(),
            destroyed: None,
            public: Some(key.public()),
            file: Some([4; 32]),
            provenance: None,
            expiry: None,
            lapsed: false,
        };
        let then = Timestamp::default().plus(9);
        for record in [record.clone(), record.pending(then), record.destroyed(then)] {
            assert_eq!(KekRecord::from_cbor(&record.to_cbor(), 2_000), Ok(record));
        }
        let imported = KekRecord {
            origin: KekOrigin::Imported,
            provenance: Some(Provenance {
                how: ImportHow::RsaOaep,
                statement: StatementDigest([5; 32]),
                commitment: [6; 32],
            }),
            expiry: Some(then),
            ..record.clone()
        };
        let read = KekRecord::from_cbor(&imported.to_cbor(), 2_000);
        assert_eq!(read, Ok(imported.clone()));
        assert!(imported.expired(then) && !imported.expired(Timestamp::default()));
        // The format before had neither provenance nor expiry.
        let mut earlier = record.to_cbor();
        earlier.truncate(earlier.len() - 3);
        earlier[..2].copy_from_slice(&[0x8a, 2]);
        let read = KekRecord::from_cbor(&earlier, 2_000);
        assert_eq!(read, Ok(record.clone()));
        earlier[1] = 3;
        assert!(KekRecord::from_cbor(&earlier, 2_000).is_err());
        // The one after that did not say whether it was its expiry that disabled a version.
        let lapsed = imported.lapsed();
        assert!(lapsed.lapsed && !lapsed.in_state(KekState::Disabled).lapsed);
        let mut third = imported.in_state(KekState::Disabled).to_cbor();
        third.truncate(third.len() - 1);
        third[..2].copy_from_slice(&[0x8c, 3]);
        assert_eq!(KekRecord::from_cbor(&third, 2_000), Ok(lapsed.clone()));
        let used = KekRecord {
            state: KekState::Enabled,
            ..lapsed
        };
        assert!(KekRecord::from_cbor(&used.to_cbor(), 2_000).is_err());
        let nobodys = KekRecord {
            provenance: None,
            ..imported
        };
        assert!(KekRecord::from_cbor(&nobodys.to_cbor(), 2_000).is_err());
        let half = KekRecord {
            state: KekState::Destroyed,
            ..record.clone()
        };
        assert!(KekRecord::from_cbor(&half.to_cbor(), 2_000).is_err());
        assert_eq!(of_path(&record.path()), Some((record.dataset, record.kek)));
        assert_eq!(of_path("kek/x/y"), None);
    }
}
