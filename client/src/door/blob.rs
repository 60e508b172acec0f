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
