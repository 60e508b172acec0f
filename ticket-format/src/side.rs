//! Records of the side file (AUD-5): what stands behind the hashes of entries.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{DekId, ItemDigest, PairsDigest};
use crate::pairs::Context;
use crate::secret::PairsKey;

/// What is behind one digest: a released item's context and DEK id, or required pairs.
///
/// `[digest, DEK id / null, pairs]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideRecord {
    /// The item's digest, or that of the pairs.
    pub hash: [u8; 32],
    /// The DEK, through all its wraps; of an item only.
    pub dek: Option<DekId>,
    /// The pairs.
    pub pairs: Context,
}

impl SideRecord {
    /// Required pairs, by their digest.
    #[must_use]
    pub fn of_pairs(key: &PairsKey, pairs: &Context) -> Self {
        Self {
            hash: pairs_digest(key, pairs).0,
            dek: None,
            pairs: pairs.clone(),
        }
    }

    /// The bytes of an item's record; `context` is the map's bytes as they were received.
    #[must_use]
    pub fn of_item(item: ItemDigest, dek: DekId, context: &[u8]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(64 + context.len());
        writer.array(3).bytes(&item.0);
        dek.encode(&mut writer);
        writer.raw(context);
        writer.into_bytes()
    }
}

/// HMAC-SHA256 of the pairs' bytes under the log's key: how an entry names them. Pairs can be guessed, so
/// a hash would tell them to whoever reads the log.
#[must_use]
pub fn pairs_digest(key: &PairsKey, pairs: &Context) -> PairsDigest {
    // rule: AUD-5
    let mac = Hmac::<Sha256>::new_from_slice(key.expose());
    let mut mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(&pairs.to_cbor());
    PairsDigest(mac.finalize().into_bytes().into())
}

impl Encode for SideRecord {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3).bytes(&self.hash);
        match &self.dek {
            Some(dek) => dek.encode(writer),
            None => {
                writer.null();
            }
        }
        self.pairs.encode(writer);
    }
}

impl Decode for SideRecord {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        Ok(Self {
            hash: reader.array_of()?,
            dek: reader.optional(DekId::decode)?,
            pairs: Context::decode(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_side_file_is_read_as_it_was_written() {
        // rule: AUD-5
        let pairs = Context::named("faces/1").unwrap();
        let key = PairsKey::from_bytes([3; 32]);
        let record = SideRecord::of_pairs(&key, &pairs);
        assert_ne!(
            record.hash,
            SideRecord::of_pairs(&PairsKey::from_bytes([4; 32]), &pairs).hash
        );
        assert_eq!(SideRecord::from_cbor(&record.to_cbor(), 1_000), Ok(record));
        let bytes = SideRecord::of_item(ItemDigest([1; 32]), DekId([2; 16]), &pairs.to_cbor());
        let item = SideRecord::from_cbor(&bytes, 1_000).unwrap();
        assert_eq!(item.to_cbor(), bytes);
        assert_eq!((item.hash, item.dek), ([1; 32], Some(DekId([2; 16]))));
        assert_eq!(item.pairs, pairs);
    }
}
