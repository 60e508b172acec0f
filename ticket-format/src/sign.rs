//! The one input of every signature and MAC that is not COSE's own (SIG-1), and the proofs over it.

use ed25519_dalek::{Signature, Signer};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::TicketHash;
use crate::keys::{PublicKey, Role, SecretKey, TlsKey};

/// COSE algorithm id of EdDSA (RFC 9053).
pub const ALG_EDDSA: i64 = -8;
/// COSE algorithm id of HMAC 256/256 (RFC 9053).
pub const ALG_HMAC: i64 = 5;

/// A value of the TLS exporter (TR-4): says on which connection a proof was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exporter(pub [u8; 32]);

/// What a proof is about, and where (SIG-1). CDDL `signed`.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// One of [`crate::labels`].
    pub label: &'static str,
    /// The realm.
    pub realm: &'a str,
    /// The server's TLS key; for a producer's signature the dataset id.
    pub identity: &'a [u8],
    /// The connection, or none for what others must be able to check later.
    pub exporter: Option<Exporter>,
    /// The ticket that it belongs to.
    pub ticket: Option<TicketHash>,
    /// The body, as received.
    pub body: &'a [u8],
}

impl Binding<'_> {
    /// The bytes that are signed.
    fn input(&self) -> Vec<u8> {
        // rule: SIG-1
        let mut writer = Writer::with_capacity(256);
        writer
            .array(6)
            .text(self.label)
            .text(self.realm)
            .bytes(self.identity);
        writer.optional_bytes(self.exporter.as_ref().map(|e| &e.0[..]));
        writer.optional_bytes(self.ticket.as_ref().map(|t| &t.0[..]));
        writer.bytes(&Sha256::digest(self.body));
        writer.into_bytes()
    }
}

/// One side of an exchange: what every binding on a connection has in common.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The realm.
    pub realm: String,
    /// The server's TLS key.
    pub server: TlsKey,
    /// The connection's exporter value for authenticators.
    pub exporter: Exporter,
}

impl Channel {
    /// The input of a proof on this connection.
    #[must_use]
    pub fn sign_with<R: Role>(
        &self,
        key: &SecretKey<R>,
        label: &'static str,
        ticket: Option<TicketHash>,
        body: &[u8],
    ) -> Proof {
        let identity = self.server.to_bytes();
        key.sign(&self.binding(&identity, label, ticket, body))
    }

    /// Checks a proof made on this connection.
    ///
    /// # Errors
    /// [`BadProof`].
    pub fn verify_with<R: Role>(
        &self,
        key: &PublicKey<R>,
        label: &'static str,
        ticket: Option<TicketHash>,
        body: &[u8],
        proof: &Proof,
    ) -> Result<(), BadProof> {
        let identity = self.server.to_bytes();
        key.verify(&self.binding(&identity, label, ticket, body), proof)
    }

    pub(crate) fn binding<'a>(
        &'a self,
        identity: &'a [u8; 32],
        label: &'static str,
        ticket: Option<TicketHash>,
        body: &'a [u8],
    ) -> Binding<'a> {
        Binding {
            label,
            realm: &self.realm,
            identity,
            exporter: Some(self.exporter),
            ticket,
            body,
        }
    }
}

/// A signature or MAC as it travels. CDDL `proof`. The length varies so that ML-DSA can join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// COSE algorithm id: compared, never used to choose (SIG-2).
    pub alg: i64,
    /// The value.
    pub value: Vec<u8>,
}

/// A proof that does not hold: another algorithm, another input or another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not verify")]
pub struct BadProof;

impl Encode for Proof {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2).int(self.alg).bytes(&self.value);
    }
}

impl Decode for Proof {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            alg: reader.int()?,
            value: reader.bytes(1..=8_192)?.to_vec(),
        })
    }
}

impl<R: Role> SecretKey<R> {
    /// Signs a binding with Ed25519.
    #[must_use]
    pub fn sign(&self, binding: &Binding<'_>) -> Proof {
        Proof {
            alg: ALG_EDDSA,
            value: self.sign_raw(&binding.input()),
        }
    }

    /// For COSE, whose Sig_structure is the input.
    pub(crate) fn sign_raw(&self, input: &[u8]) -> Vec<u8> {
        self.signing().sign(input).to_vec()
    }
}

impl<R: Role> PublicKey<R> {
    /// Verifies a proof over a binding, strictly.
    ///
    /// # Errors
    /// [`BadProof`].
    pub fn verify(&self, binding: &Binding<'_>, proof: &Proof) -> Result<(), BadProof> {
        // rule: SIG-2
        if proof.alg != ALG_EDDSA {
            return Err(BadProof);
        }
        self.verify_raw(&binding.input(), &proof.value)
    }

    /// For COSE, whose Sig_structure is the input.
    pub(crate) fn verify_raw(&self, input: &[u8], signature: &[u8]) -> Result<(), BadProof> {
        let signature = Signature::from_slice(signature).map_err(|_| BadProof)?;
        self.verifying()
            .verify_strict(input, &signature)
            .map_err(|_| BadProof)
    }
}

/// Key of the request MAC (SEAL-3): whoever holds it holds the ticket's sealing key. Erased on drop.
pub struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    fn mac(&self, binding: &Binding<'_>) -> Hmac<Sha256> {
        // HMAC pads a short key with zeros to its block (RFC 2104); done here, nothing can fail.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&*self.0);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        mac.update(&binding.input());
        mac
    }

    /// Makes the MAC.
    #[must_use]
    pub fn authenticate(
        &self,
        channel: &Channel,
        label: &'static str,
        ticket: TicketHash,
        body: &[u8],
    ) -> Proof {
        let identity = channel.server.to_bytes();
        let mac = self.mac(&channel.binding(&identity, label, Some(ticket), body));
        Proof {
            alg: ALG_HMAC,
            value: mac.finalize().into_bytes().to_vec(),
        }
    }

    /// Checks the MAC in constant time.
    ///
    /// # Errors
    /// [`BadProof`].
    pub fn verify(
        &self,
        channel: &Channel,
        label: &'static str,
        ticket: TicketHash,
        body: &[u8],
        proof: &Proof,
    ) -> Result<(), BadProof> {
        // rule: SIG-2
        if proof.alg != ALG_HMAC {
            return Err(BadProof);
        }
        let identity = channel.server.to_bytes();
        let mac = self.mac(&channel.binding(&identity, label, Some(ticket), body));
        mac.verify_slice(&proof.value).map_err(|_| BadProof)
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(..)")
    }
}
