//! What KMS calls a `CiphertextBlob` (DOOR-6).

use ticket_format::cbor::{DecodeError, Reader, Writer};
use ticket_format::ids::DatasetId;

/// The first member.
const LABEL: &str = "postern/1 kms";
/// The longest wrapped DEK.
const MAX_WRAPPED: usize = 1400;
/// The longest form.
const MAX_FORM: usize = 64;
/// The longest sealed payload, tag included.
const MAX_SEALED: usize = 4096 + 16;

/// A wrapped DEK and what the door needs to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The dataset.
    pub dataset: DatasetId,
    /// The wrapped DEK.
    pub wrapped: Vec<u8>,
    /// Value of the pair `kms` of the wrap's encryption context.
    pub form: String,
    /// A payload under the DEK.
    pub sealed: Option<Vec<u8>>,
}

impl Blob {
    /// The bytes.
    // rule: DOOR-6
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(4 + usize::from(self.sealed.is_some()));
        writer.text(LABEL).bytes(&self.dataset.0);
        writer.bytes(&self.wrapped).text(&self.form);
        if let Some(sealed) = &self.sealed {
            writer.bytes(sealed);
        }
        writer.into_bytes()
    }

    /// Reads the bytes: nothing of them is proven.
    ///
    /// # Errors
    /// They are no blob of this version.
    // rule: DOOR-6
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let members = reader.array(4..=5)?;
        if reader.text(..=LABEL.len())? != LABEL {
            return Err(DecodeError::OutOfRange("label"));
        }
        let dataset = DatasetId(reader.array_of()?);
        let wrapped = reader.bytes(1..=MAX_WRAPPED)?.to_vec();
        let form = reader.text(1..=MAX_FORM)?.to_owned();
        let sealed = match members {
            5 => Some(reader.bytes(1..=MAX_SEALED)?.to_vec()),
            _ => None,
        };
        reader.finish()?;
        Ok(Self {
            dataset,
            wrapped,
            form,
            sealed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(sealed: Option<Vec<u8>>) -> Blob {
        Blob {
            dataset: DatasetId([7; 16]),
            wrapped: vec![9; 120],
            form: "data-key/32".to_owned(),
            sealed,
        }
    }

    #[test]
    fn a_blob_reads_as_it_was_written_and_in_no_other_way() {
        // rule: DOOR-6
        for sealed in [None, Some(vec![5; 16]), Some(vec![5; MAX_SEALED])] {
            let blob = blob(sealed);
            let bytes = blob.to_bytes();
            assert_eq!(Blob::parse(&bytes), Ok(blob.clone()));
            for at in 0..bytes.len() {
                assert!(Blob::parse(&bytes[..at]).is_err(), "cut at {at}");
                // Another byte is no blob, or says something else: nothing of it is proven here.
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert_ne!(Blob::parse(&other), Ok(blob.clone()), "byte {at}");
            }
            assert!(Blob::parse(&[&bytes[..], &[0]].concat()).is_err());
        }
        let label = LABEL.len() + 2;
        let mut other = blob(None).to_bytes();
        other[label - 1] ^= 1;
        assert!(Blob::parse(&other).is_err(), "another label");
    }

    #[test]
    fn a_blob_with_too_much_of_anything_is_none() {
        // rule: DOOR-6
        let usual = blob(None);
        let long = [
            Blob {
                wrapped: vec![9; MAX_WRAPPED + 1],
                ..usual.clone()
            },
            Blob {
                wrapped: Vec::new(),
                ..usual.clone()
            },
            Blob {
                form: "x".repeat(MAX_FORM + 1),
                ..usual.clone()
            },
            Blob {
                form: String::new(),
                ..usual
            },
            blob(Some(vec![5; MAX_SEALED + 1])),
        ];
        for blob in long {
            assert!(Blob::parse(&blob.to_bytes()).is_err(), "{blob:?}");
        }
    }
}
