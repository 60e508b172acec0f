//! The automatic wrap's file.
//!
//! ```cddl
//! auto = { 1: 1, 2: id16, 3: 1, 4: [sealed-root] }                                ; credential
//!      / { 1: 1, 2: id16, 3: 2, 4: [bstr .size 16, sealed-root] }                 ; passphrase: salt
//!      / { 1: 1, 2: id16, 3: 3, 4: [bstr .size 12, bstr .size 48] }               ; pkcs11: nonce, AES-GCM
//!      / { 1: 1, 2: id16, 3: 4, 4: [bstr .size (1..1024), bstr .size (1..1024), tstr .size (1..128), sealed-root] }
//!                                                                ; tpm2: public and private part, registers
//! sealed-root = bstr .size 73                                     ; REST-1: format, nonce, ciphertext, tag
//! ```

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::RootId;
use ticket_format::statement::AutoKind;

use crate::sealed::SALT_BYTES;

/// Format of the file.
const FORMAT: u64 = 1;
/// Most bytes of the file.
pub(in crate::root) const LIMIT: usize = 4_096;
/// Bytes of a root key sealed as REST-1 says.
pub(in crate::root) const SEALED: usize = 1 + 24 + 32 + 16;
/// Nonce of AES-GCM.
pub(in crate::root) const GCM_NONCE: usize = 12;
/// A root key under AES-GCM.
pub(in crate::root) const GCM_SEALED: usize = 32 + 16;
/// Most bytes of one part of a TPM's object.
pub(in crate::root) const TPM_PART: usize = 1_024;
/// Most bytes of a list of registers.
pub(in crate::root) const TPM_PCRS: usize = 128;

/// A root key's automatic wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::root) struct AutoWrap {
    /// Which root key.
    pub(in crate::root) root: RootId,
    /// The wrap.
    pub(in crate::root) wrapped: Wrapped,
}

/// The wrap, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::root) enum Wrapped {
    Credential {
        sealed: Vec<u8>,
    },
    Passphrase {
        salt: [u8; SALT_BYTES],
        sealed: Vec<u8>,
    },
    Pkcs11 {
        nonce: [u8; GCM_NONCE],
        sealed: Vec<u8>,
    },
    Tpm2 {
        object: TpmObject,
        sealed: Vec<u8>,
    },
}

/// A TPM's sealed object, and the registers of its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::root) struct TpmObject {
    pub(in crate::root) public: Vec<u8>,
    pub(in crate::root) private: Vec<u8>,
    pub(in crate::root) pcrs: String,
}

impl AutoWrap {
    pub(in crate::root) fn kind(&self) -> AutoKind {
        match self.wrapped {
            Wrapped::Credential { .. } => AutoKind::Credential,
            Wrapped::Passphrase { .. } => AutoKind::Passphrase,
            Wrapped::Pkcs11 { .. } => AutoKind::Pkcs11,
            Wrapped::Tpm2 { .. } => AutoKind::Tpm2,
        }
    }
}

impl Encode for AutoWrap {
    fn encode(&self, writer: &mut Writer) {
        writer.map(4).uint(1).uint(FORMAT).uint(2);
        self.root.encode(writer);
        writer.uint(3);
        self.kind().encode(writer);
        writer.uint(4);
        match &self.wrapped {
            Wrapped::Credential { sealed } => writer.array(1).bytes(sealed),
            Wrapped::Passphrase { salt, sealed } => writer.array(2).bytes(salt).bytes(sealed),
            Wrapped::Pkcs11 { nonce, sealed } => writer.array(2).bytes(nonce).bytes(sealed),
            Wrapped::Tpm2 { object, sealed } => writer
                .array(4)
                .bytes(&object.public)
                .bytes(&object.private)
                .text(&object.pcrs)
                .bytes(sealed),
        };
    }
}

impl Decode for AutoWrap {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = reader.map(4)?;
        if map.required(1, |reader| reader.uint())? != FORMAT {
            return Err(DecodeError::OutOfRange("format"));
        }
        let root = map.required(2, RootId::decode)?;
        let kind = map.required(3, AutoKind::decode)?;
        let wrapped = map.required(4, |reader| wrapped(kind, reader))?;
        map.end()?;
        Ok(Self { root, wrapped })
    }
}

fn wrapped(kind: AutoKind, reader: &mut Reader<'_>) -> Result<Wrapped, DecodeError> {
    let items = match kind {
        AutoKind::Credential => 1,
        AutoKind::Passphrase | AutoKind::Pkcs11 => 2,
        AutoKind::Tpm2 => 4,
    };
    reader.array(items..=items)?;
    Ok(match kind {
        AutoKind::Credential => Wrapped::Credential {
            sealed: reader.bytes(SEALED..=SEALED)?.to_vec(),
        },
        AutoKind::Passphrase => Wrapped::Passphrase {
            salt: reader.array_of()?,
            sealed: reader.bytes(SEALED..=SEALED)?.to_vec(),
        },
        AutoKind::Pkcs11 => Wrapped::Pkcs11 {
            nonce: reader.array_of()?,
            sealed: reader.bytes(GCM_SEALED..=GCM_SEALED)?.to_vec(),
        },
        AutoKind::Tpm2 => Wrapped::Tpm2 {
            object: TpmObject {
                public: reader.bytes(1..=TPM_PART)?.to_vec(),
                private: reader.bytes(1..=TPM_PART)?.to_vec(),
                pcrs: reader.text(1..=TPM_PCRS)?.to_owned(),
            },
            sealed: reader.bytes(SEALED..=SEALED)?.to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_automatic_wraps_file_reads_back_and_nothing_else_does() {
        let sealed = vec![9; SEALED];
        let all = [
            Wrapped::Credential {
                sealed: sealed.clone(),
            },
            Wrapped::Passphrase {
                salt: [1; SALT_BYTES],
                sealed: sealed.clone(),
            },
            Wrapped::Pkcs11 {
                nonce: [2; GCM_NONCE],
                sealed: vec![3; GCM_SEALED],
            },
            Wrapped::Tpm2 {
                object: TpmObject {
                    public: vec![4; 80],
                    private: vec![5; 160],
                    pcrs: "sha256:7".to_owned(),
                },
                sealed,
            },
        ];
        for wrapped in all {
            let root = RootId([7; 16]);
            let wrap = AutoWrap { root, wrapped };
            let bytes = wrap.to_cbor();
            assert_eq!(AutoWrap::from_cbor(&bytes, LIMIT), Ok(wrap));
            for cut in 0..bytes.len() {
                assert!(AutoWrap::from_cbor(&bytes[..cut], LIMIT).is_err());
            }
            let mut newer = bytes.clone();
            newer[2] = 2;
            assert_eq!(
                AutoWrap::from_cbor(&newer, LIMIT),
                Err(DecodeError::OutOfRange("format"))
            );
        }
    }
}
