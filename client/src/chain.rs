//! The chain of evidence that a node's tickets name the end of, and its parts, which a key server is
//! shown where the dataset wants it (EVD-3).

use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::ids::EvidenceHash;
use ticket_format::limits;
use ticket_format::messages::present::{Evidence, LINKS, Link};
use ticket_format::sign::Proof;
use ticket_format::time::Timestamp;

/// One end that the broker may know, with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The hash that a ticket names (TKT-8).
    pub end: EvidenceHash,
    /// What is shown of it. None when it has more renewals than a key server takes: it is a chain
    /// still, and its tickets do for datasets that want no evidence.
    pub parts: Option<Parts>,
}

/// What of a chain is neither in the ticket nor in the launch's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The identity proof that the login was signed over. The metadata service may serve another one
    /// the next time.
    pub iid_proof: Vec<u8>,
    /// The login.
    pub login: Link,
    /// The renewals, in order.
    pub renewals: Vec<Link>,
}

impl Chain {
    /// A chain that a login begins.
    #[must_use]
    pub fn begin(end: EvidenceHash, iid_proof: Vec<u8>, login: Link) -> Self {
        let parts = Parts {
            iid_proof,
            login,
            renewals: Vec::new(),
        };
        Self {
            end,
            parts: Some(parts),
        }
    }

    /// The chain after one renewal more.
    #[must_use]
    pub fn renewed(&self, end: EvidenceHash, link: Link) -> Self {
        let room = |parts: &&Parts| parts.renewals.len() < LINKS;
        let parts = self.parts.as_ref().filter(room).map(|parts| {
            let mut parts = parts.clone();
            parts.renewals.push(link);
            parts
        });
        Self { end, parts }
    }

    /// What a key server is shown of a ticket that was issued on this chain's end. None when the
    /// chain is too long.
    #[must_use]
    pub fn evidence(&self, launch: &[u8], issue: (Timestamp, Proof)) -> Option<Evidence> {
        // rule: EVD-3
        let parts = self.parts.clone()?;
        Some(Evidence {
            launch: launch.to_vec(),
            iid_proof: parts.iid_proof,
            login: parts.login,
            renewals: parts.renewals,
            issue,
        })
    }
}

impl Encode for Chain {
    fn encode(&self, writer: &mut Writer) {
        self.end.encode(writer.array(2));
        match &self.parts {
            None => {
                writer.null();
            }
            Some(parts) => {
                writer.array(3).bytes(&parts.iid_proof);
                parts.login.encode(writer);
                writer.array(parts.renewals.len());
                parts.renewals.iter().for_each(|link| link.encode(writer));
            }
        }
    }
}

impl Decode for Chain {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        let end = EvidenceHash::decode(reader)?;
        let parts = reader.optional(|reader| {
            reader.array(3..=3)?;
            Ok(Parts {
                iid_proof: reader.bytes(0..=limits::IID_TEXT)?.to_vec(),
                login: Link::decode(reader)?,
                renewals: reader.list(0..=LINKS, Link::decode)?,
            })
        })?;
        Ok(Self { end, parts })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ticket_format::ids::SealingKeyHash;
    use ticket_format::keys::{NodeSecret, ProofSecret};
    use ticket_format::sign::ALG_EDDSA;

    use super::*;

    pub(crate) fn link(byte: u8) -> Link {
        Link {
            node_key: NodeSecret::from_seed(&[byte; 32]).public(),
            proof_key: ProofSecret::from_seed(&[byte; 32]).public(),
            sealing_key: SealingKeyHash([byte; 32]),
            proof: Proof {
                alg: ALG_EDDSA,
                value: vec![byte; 64],
            },
        }
    }

    fn proof() -> Proof {
        link(9).proof
    }

    #[test]
    fn a_chain_grows_link_by_link_and_comes_back_from_disk() {
        // rule: EVD-3
        let begun = Chain::begin(EvidenceHash([1; 32]), b"MA==".to_vec(), link(1));
        let chain = begun
            .renewed(EvidenceHash([2; 32]), link(2))
            .renewed(EvidenceHash([3; 32]), link(3));
        assert_eq!(chain.end, EvidenceHash([3; 32]));
        let evidence = chain
            .evidence(b"launch", (Timestamp::from_seconds(5), proof()))
            .unwrap();
        assert_eq!(evidence.login, link(1));
        assert_eq!(evidence.renewals, [link(2), link(3)]);
        assert_eq!(evidence.iid_proof, b"MA==");
        assert_eq!(evidence.launch, b"launch");
        let bytes = chain.to_cbor();
        assert_eq!(Chain::from_cbor(&bytes, bytes.len()), Ok(chain));
    }

    #[test]
    fn a_chain_that_is_too_long_to_be_shown_goes_on_without_its_parts() {
        // rule: EVD-3
        let mut chain = Chain::begin(EvidenceHash([0; 32]), Vec::new(), link(1));
        for _ in 0..LINKS {
            chain = chain.renewed(EvidenceHash([1; 32]), link(2));
        }
        let at = Timestamp::from_seconds(5);
        assert!(chain.evidence(b"launch", (at, proof())).is_some());
        for _ in 0..2 {
            chain = chain.renewed(EvidenceHash([2; 32]), link(3));
            assert!(chain.evidence(b"launch", (at, proof())).is_none());
            let bytes = chain.to_cbor();
            assert_eq!(Chain::from_cbor(&bytes, bytes.len()), Ok(chain.clone()));
        }
        assert_eq!(chain.end, EvidenceHash([2; 32]));
    }
}
