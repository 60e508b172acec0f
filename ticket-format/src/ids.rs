//! Identifiers: random 16-byte ids, 32-byte hashes, and the node's name.

use std::fmt;

use rand_core::Rng;
use sha2::{Digest, Sha256};

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Its bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl Encode for $name {
            fn encode(&self, writer: &mut Writer) {
                writer.bytes(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array_of().map(Self)
            }
        }

        /// Lower-case hexadecimal.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotHex;

            fn from_str(text: &str) -> Result<Self, NotHex> {
                let mut out = [0; $len];
                hex_into(text, &mut out).map(|()| Self(out))
            }
        }
    };
}

macro_rules! random_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        fixed_bytes!($(#[$doc])* $name, 16);

        impl $name {
            /// A fresh one.
            #[must_use]
            pub fn random(rng: &mut impl Rng) -> Self {
                let mut id = [0; 16];
                rng.fill_bytes(&mut id);
                Self(id)
            }
        }
    )*};
}

macro_rules! hashes {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        fixed_bytes!($(#[$doc])* $name, 32);

        impl $name {
            /// SHA-256 of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::digest(bytes).into())
            }
        }
    )*};
}

/// Text that is not the hexadecimal form of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct NotHex {
    /// How many digits there should be.
    pub expected: usize,
}

fn hex_into(text: &str, out: &mut [u8]) -> Result<(), NotHex> {
    let wrong = NotHex {
        expected: out.len() * 2,
    };
    if text.len() != wrong.expected {
        return Err(wrong);
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).ok_or(wrong);
        *byte = u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).map_err(|_| wrong)?;
    }
    Ok(())
}

random_ids! {
    /// Names a launch.
    LaunchId;
    /// Drawn by a node for its first login; a retry repeats it (LOG-1).
    LoginId;
    /// A ticket's `cti`.
    TicketId;
    /// Names a dataset; never reused (WRAP-1).
    DatasetId;
    /// Names one KEK version; never reused (WRAP-1).
    KekId;
    /// Names a DEK through all its wraps.
    DekId;
    /// Names one redeem, generate or rewrap.
    RequestId;
    /// Names one act in the audit log.
    ActId;
    /// Names an admin's statement; used once (ADM-2).
    StatementId;
    /// Names a key server's root key; it tells nothing of the key (ROOT-1).
    RootId;
    /// Names one collection of shares (ROOT-4).
    AttemptId;
    /// Names a backup of a key server (BAK-1).
    BackupId;
    /// Names an import's keys (IMP-1).
    ImportId;
}

fixed_bytes! {
    /// First 16 bytes of SHA-256 of a producer's public key (WRAP-4).
    ProducerId, 16
}

hashes! {
    /// SHA-256 of a ticket's bytes.
    TicketHash;
    /// SHA-256 of a request's body (ENC-4).
    RequestHash;
    /// A link of the evidence chain (TKT-8).
    EvidenceHash;
    /// SHA-256 of a policy's text.
    PolicyDigest;
    /// SHA-256 of a statement's bytes.
    StatementDigest;
    /// SHA-256 of a dataset record: the body, whoever signed it (ADM-5).
    RecordDigest;
    /// SHA-256 of an alias record: the body, whoever signed it (ALI-1).
    AliasDigest;
    /// SHA-256 of an admin set's map (SET-3).
    AdminSetDigest;
    /// SHA-256 of a ticket-key record: the body, whoever signed it (KEY-1).
    TicketKeyDigest;
    /// SHA-256 of `[wrapped, context]`: one item of a request (AUD-3).
    ItemDigest;
    /// A link of the denial chain (DEN-1).
    ChainDigest;
    /// SHA-256 of the bytes of a denial or lifting (DEN-1).
    DenialDigest;
    /// Pairs of an entry, which stand in the side file (AUD-5).
    PairsDigest;
    /// SHA-256 of a decoded IID proof.
    ProofHash;
    /// SHA-256 of a sealing public key.
    SealingKeyHash;
    /// RFC 9679 thumbprint of an Ed25519 key.
    Thumbprint;
}

/// A node's name, from verified evidence only: account, region and instance id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    account: String,
    region: String,
    instance: String,
}

/// Text that is not a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected ec2/<12-digit account>/<region>/<instance id>")]
pub struct NotANode;

impl NodeId {
    /// Checks the three parts: 12 digits, a region name, `i-` and 8 or 17 hexadecimal digits.
    ///
    /// # Errors
    /// A part has another form, so no two nodes can share a name through odd characters.
    pub fn new(account: &str, region: &str, instance: &str) -> Result<Self, NotANode> {
        let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        let region_ok = (1..=32).contains(&region.len())
            && region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let instance_ok = instance.strip_prefix("i-").is_some_and(|hex| {
            matches!(hex.len(), 8 | 17)
                && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if account_ok && region_ok && instance_ok {
            Ok(Self {
                account: account.into(),
                region: region.into(),
                instance: instance.into(),
            })
        } else {
            Err(NotANode)
        }
    }

    /// The AWS account, 12 digits.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The AWS region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The instance id.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ec2/{}/{}/{}", self.account, self.region, self.instance)
    }
}

impl std::str::FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        let mut parts = text.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some("ec2"), Some(account), Some(region), Some(instance), None) => {
                Self::new(account, region, instance)
            }
            _ => Err(NotANode),
        }
    }
}

impl Encode for NodeId {
    fn encode(&self, writer: &mut Writer) {
        writer.text(&self.to_string());
    }
}

impl Decode for NodeId {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader
            .text(1..=crate::limits::NAME)?
            .parse()
            .map_err(|NotANode| DecodeError::OutOfRange("node"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_survives_writing_and_reading() {
        let node: NodeId = "ec2/123456789012/eu-west-1/i-0123456789abcdef0"
            .parse()
            .unwrap();
        assert_eq!(node.to_string().parse::<NodeId>().unwrap(), node);
        assert_eq!(NodeId::from_cbor(&node.to_cbor(), 200).unwrap(), node);
    }

    #[test]
    fn a_node_name_with_an_odd_part_is_refused() {
        for bad in [
            "ec2/12345678901/eu-west-1/i-01234567",
            "ec2/12345678901x/eu-west-1/i-01234567",
            "ec2/123456789012/eu-west-1/../i-01234567",
            "ec2/123456789012/EU/i-01234567",
            "ec2/123456789012//i-01234567",
            "ec2/123456789012/eu-west-1/i-0123456",
            "ec2/123456789012/eu-west-1/i-0123456G",
            "ec2/123456789012/eu-west-1/i-01234567/x",
            "gce/123456789012/eu-west-1/i-01234567",
            "",
        ] {
            assert_eq!(bad.parse::<NodeId>(), Err(NotANode), "{bad}");
        }
    }

    #[test]
    fn hexadecimal_is_read_back_and_nothing_else() {
        let id = DatasetId([7; 16]);
        assert_eq!(id.to_string().parse::<DatasetId>().unwrap(), id);
        for bad in [
            "",
            "07",
            "zz070707070707070707070707070707",
            "é70707070707070707070707070707",
        ] {
            assert!(bad.parse::<DatasetId>().is_err());
        }
    }
}
