//! `admin-set-head` and `proposals`: who may sign, and what waits for signatures.

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::{AdminSetDigest, StatementId};
use ticket_format::keys::AdminKey;
use ticket_format::time::Timestamp;

/// `admin-set-head`: the set in force. Every act is committed only if it still stands (SET-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminSetHead {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: AdminSetDigest,
}

impl Encode for AdminSetHead {
    fn encode(&self, writer: &mut Writer) {
        self.digest
            .encode(writer.map(2).uint(1).uint(self.version).uint(2));
    }
}

impl Decode for AdminSetHead {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(2)?;
        let head = Self {
            version: map.required(1, Reader::uint)?,
            digest: map.required(2, AdminSetDigest::decode)?,
        };
        map.end()?;
        Ok(head)
    }
}

/// Most proposals in the inbox (PRO-2).
pub const PROPOSALS: usize = 64;

/// A proposal: its statement stands beside, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The statement's id.
    pub id: StatementId,
    /// Who left it first.
    pub by: AdminKey,
    /// Until when it is kept.
    pub until: Timestamp,
    /// In how many parts the statement stands.
    pub parts: u64,
}

/// `proposals`: all that wait, ascending by id. One record, so that the bounds hold in every race.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    /// At most [`PROPOSALS`].
    pub rows: Vec<Proposed>,
}

impl Proposals {
    /// The proposal of this id.
    #[must_use]
    pub fn get(&self, id: StatementId) -> Option<&Proposed> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// Puts a proposal in the place of the one with its id, or among the others.
    pub fn put(&mut self, proposed: Proposed) {
        match self.rows.binary_search_by_key(&proposed.id, |row| row.id) {
            Ok(at) => self.rows[at] = proposed,
            Err(at) => self.rows.insert(at, proposed),
        }
    }

    /// Takes a proposal out.
    pub fn take(&mut self, id: StatementId) -> Option<Proposed> {
        let at = self.rows.iter().position(|row| row.id == id)?;
        Some(self.rows.remove(at))
    }
}

impl Encode for Proposed {
    fn encode(&self, writer: &mut Writer) {
        self.id.encode(writer.array(4));
        self.by.encode(writer);
        self.until.encode(writer);
        writer.uint(self.parts);
    }
}

impl Decode for Proposed {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(4..=4)?;
        Ok(Self {
            id: StatementId::decode(reader)?,
            by: AdminKey::decode(reader)?,
            until: Timestamp::decode(reader)?,
            parts: reader.uint()?,
        })
    }
}

impl Encode for Proposals {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.rows.len());
        self.rows.iter().for_each(|row| row.encode(writer));
    }
}

impl Decode for Proposals {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rows = reader.list(0..=PROPOSALS, Proposed::decode)?;
        if rows.is_sorted_by(|a, b| a.id < b.id) {
            Ok(Self { rows })
        } else {
            Err(DecodeError::NotDeterministic)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ticket_format::keys::AdminSecret;

    #[test]
    fn what_waits_is_read_as_it_was_written() {
        let by = AdminSecret::from_seed(&[7; 32]).public();
        let mut all = Proposals::default();
        for id in [3, 1, 2] {
            all.put(Proposed {
                id: StatementId([id; 16]),
                by,
                until: Timestamp::from_seconds(9),
                parts: 2,
            });
        }
        assert!(all.rows.is_sorted_by_key(|row| row.id));
        assert_eq!(
            Proposals::from_cbor(&all.to_cbor(), store_value()),
            Ok(all.clone())
        );
        assert!(all.take(StatementId([2; 16])).is_some());
        assert!(all.take(StatementId([2; 16])).is_none());
        assert!(all.get(StatementId([3; 16])).is_some());
    }

    #[test]
    fn the_fullest_inbox_fits_a_record() {
        let by = AdminSecret::from_seed(&[7; 32]).public();
        let mut all = Proposals::default();
        for id in 0..PROPOSALS {
            let mut bytes = [0; 16];
            bytes[15] = u8::try_from(id).unwrap();
            all.put(Proposed {
                id: StatementId(bytes),
                by,
                until: Timestamp::from_seconds(u64::MAX),
                parts: u64::MAX,
            });
        }
        assert!(all.to_cbor().len() <= store_value());
    }

    /// Largest value of the store.
    fn store_value() -> usize {
        64 * 1024
    }
}
