//! What a wallet holds: tickets, each with the session secrets that make it worth something.

use rand_core::CryptoRng;
use ticket_format::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use ticket_format::keys::ProofSecret;
use ticket_format::limits;
use ticket_format::messages::Receipt;
use ticket_format::messages::present::Evidence;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;
use zeroize::Zeroizing;

/// The secrets of one ticket: the proof key and the sealing key. Erased on drop.
#[derive(Debug)]
pub struct SessionSecrets {
    /// Signs proofs of possession.
    pub proof: ProofSecret,
    /// Opens what is sealed to the ticket.
    pub sealing: SealingSecret,
}

impl SessionSecrets {
    /// Fresh ones.
    #[must_use]
    pub fn generate(kem: Kem, rng: &mut impl CryptoRng) -> Self {
        Self {
            proof: ProofSecret::generate(rng),
            sealing: SealingSecret::generate(kem, rng),
        }
    }
}

/// A copy with its own life; it too erases itself.
impl Clone for SessionSecrets {
    fn clone(&self) -> Self {
        let (kem, seed) = (self.sealing.kem(), self.sealing.seed().clone());
        Self {
            proof: ProofSecret::from_seed(&self.proof.seed()),
            sealing: SealingSecret::from_seed(kem, seed),
        }
    }
}

impl Encode for SessionSecrets {
    fn encode(&self, writer: &mut Writer) {
        writer.array(3).bytes(&*self.proof.seed());
        self.sealing.kem().encode(writer);
        writer.bytes(self.sealing.seed().expose());
    }
}

impl Decode for SessionSecrets {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(3..=3)?;
        let proof = Zeroizing::new(reader.array_of::<32>()?);
        let kem = Kem::decode(reader)?;
        let sealing = Zeroizing::new(reader.array_of::<32>()?);
        Ok(Self {
            proof: ProofSecret::from_seed(&proof),
            sealing: SealingSecret::from_seed(kem, SealingSeed::from_bytes(*sealing)),
        })
    }
}

/// A node ticket with its secrets.
#[derive(Debug)]
pub struct NodeSession {
    /// The ticket's bytes.
    pub ticket: Vec<u8>,
    /// Its secrets.
    pub secrets: SessionSecrets,
}

/// A dataset ticket with its secrets and what is needed to believe its key server.
#[derive(Clone, Debug)]
pub struct DatasetSession {
    /// The dataset's name, or its alias, as it was asked for.
    pub dataset: String,
    /// Where it was an alias: what says so, a statement of the dataset's owners (ALI-2).
    pub alias: Option<Vec<u8>>,
    /// The ticket's bytes.
    pub ticket: Vec<u8>,
    /// Its secrets.
    pub secrets: SessionSecrets,
    /// The receipt of its issue.
    pub receipt: Receipt,
    /// The dataset record: a statement of its owners.
    pub record: Vec<u8>,
    /// What the key server is shown, where the dataset wants evidence (EVD-3).
    pub evidence: Option<Evidence>,
}

impl Encode for NodeSession {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2).bytes(&self.ticket);
        self.secrets.encode(writer);
    }
}

impl Decode for NodeSession {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            ticket: reader.bytes(1..=limits::TICKET)?.to_vec(),
            secrets: SessionSecrets::decode(reader)?,
        })
    }
}

impl Encode for DatasetSession {
    fn encode(&self, writer: &mut Writer) {
        writer.array(7).text(&self.dataset).bytes(&self.ticket);
        self.secrets.encode(writer);
        self.receipt.encode(writer);
        writer.bytes(&self.record);
        match &self.evidence {
            Some(evidence) => evidence.encode(writer),
            None => {
                writer.null();
            }
        }
        match &self.alias {
            Some(statement) => writer.bytes(statement),
            None => writer.null(),
        };
    }
}

impl Decode for DatasetSession {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(7..=7)?;
        Ok(Self {
            dataset: reader.text(1..=limits::NAME)?.to_owned(),
            ticket: reader.bytes(1..=limits::TICKET)?.to_vec(),
            secrets: SessionSecrets::decode(reader)?,
            receipt: Receipt::decode(reader)?,
            record: reader.bytes(1..=limits::STATEMENT)?.to_vec(),
            evidence: reader.optional(Evidence::decode)?,
            alias: reader
                .optional(|reader| reader.bytes(1..=limits::RECORD).map(<[u8]>::to_vec))?,
        })
    }
}
