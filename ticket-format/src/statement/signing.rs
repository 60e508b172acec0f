//! Making statements: the signatures of one or several admins, in one go or one after the other.

use coset::CoseSignature;

use crate::ids::Thumbprint;
use crate::keys::{AdminKey, AdminSecret};
use crate::sign::BadProof;

use super::admins::AdminKeyKind;
use super::cose::{self, ReceivedStatement};
use super::{Payload, StatementRefusal, sshsig};

/// How an admin's signatures are made and verified (SET-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSigner {
    /// The public key.
    pub key: AdminKey,
    /// Where the key is.
    pub kind: AdminKeyKind,
    /// A security key's application.
    pub application: Option<String>,
}

impl AdminSigner {
    /// A key in a file.
    #[must_use]
    pub fn file(key: AdminKey) -> Self {
        Self {
            key,
            kind: AdminKeyKind::File,
            application: None,
        }
    }

    /// An agent's `ssh-ed25519` key.
    #[must_use]
    pub fn agent(key: AdminKey) -> Self {
        Self {
            key,
            kind: AdminKeyKind::Agent,
            application: None,
        }
    }

    /// A security key with its application.
    #[must_use]
    pub fn security_key(key: AdminKey, application: &str) -> Self {
        Self {
            key,
            kind: AdminKeyKind::SecurityKey,
            application: Some(application.to_owned()),
        }
    }

    /// Verifies a signature over COSE's Sig_structure, in the form of this key's kind.
    pub(crate) fn verify(&self, structure: &[u8], value: &[u8]) -> Result<(), BadProof> {
        // rule: SET-7, SIG-2
        match (self.kind, &self.application) {
            (AdminKeyKind::File, _) => self.key.verify_raw(structure, value),
            (AdminKeyKind::Agent, _) => sshsig::verify(&self.key, structure, value),
            (AdminKeyKind::SecurityKey, Some(application)) => {
                sshsig::verify_security_key(&self.key, application, structure, value)
            }
            (AdminKeyKind::SecurityKey, None) => Err(BadProof),
        }
    }

    /// The bytes that the key signs: the structure itself, or what an agent is given for it.
    fn input(&self, structure: Vec<u8>) -> Vec<u8> {
        match self.kind {
            AdminKeyKind::File => structure,
            AdminKeyKind::Agent | AdminKeyKind::SecurityKey => sshsig::blob(&structure),
        }
    }

    fn thumbprint(&self) -> Thumbprint {
        self.key.thumbprint()
    }
}

impl Payload {
    /// What this admin's key has to sign so that [`Payload::signed`] takes the signature: for a key in
    /// a file COSE's Sig_structure, for an agent's key the data of its sign request.
    #[must_use]
    pub fn signature_input(&self, signer: &AdminSigner) -> Vec<u8> {
        let sign = cose::unsigned(self);
        let signature = cose::signature_of(signer.thumbprint(), signer.kind, Vec::new());
        signer.input(sign.tbs_data(&[], &signature))
    }

    /// The statement's bytes with this one signature. `value` is 64 bytes; of a security key the 64
    /// bytes, the flags and the counter, big-endian.
    ///
    /// # Errors
    /// [`StatementRefusal`]: the signature does not verify, the span is too long, the body too large.
    pub fn signed(&self, signer: &AdminSigner, value: &[u8]) -> Result<Vec<u8>, StatementRefusal> {
        let mut sign = cose::unsigned(self);
        let signature = cose::signature_of(signer.thumbprint(), signer.kind, value.to_vec());
        signer
            .verify(&sign.tbs_data(&[], &signature), value)
            .map_err(|BadProof| StatementRefusal::BadSignature)?;
        sign.signatures.push(signature);
        cose::bytes_of(sign)
    }

    /// The statement's bytes, signed by each of these keys, which are in files.
    ///
    /// # Errors
    /// [`StatementRefusal`]: the result would not be accepted: no or too many signers, one twice, a
    /// span that is too long, a body that is too large.
    pub fn sign(&self, admins: &[&AdminSecret]) -> Result<Vec<u8>, StatementRefusal> {
        let mut sign = cose::unsigned(self);
        for admin in admins {
            let signature = by_file(&sign, admin);
            sign.signatures.push(signature);
        }
        cose::bytes_of(sign)
    }
}

fn by_file(sign: &coset::CoseSign, admin: &AdminSecret) -> CoseSignature {
    let mut signature =
        cose::signature_of(admin.public().thumbprint(), AdminKeyKind::File, Vec::new());
    signature.signature = admin.sign_raw(&sign.tbs_data(&[], &signature));
    signature
}

impl ReceivedStatement {
    /// What this admin's key has to sign so that [`ReceivedStatement::add`] takes the signature.
    #[must_use]
    pub fn signature_input(&self, signer: &AdminSigner) -> Vec<u8> {
        let signature = cose::signature_of(signer.thumbprint(), signer.kind, Vec::new());
        signer.input(self.cose().tbs_data(&[], &signature))
    }

    /// The statement's bytes with one more signature, over the payload as it was received.
    ///
    /// # Errors
    /// The signature does not verify, the key signed already, or there are too many.
    pub fn add(&self, signer: &AdminSigner, value: &[u8]) -> Result<Vec<u8>, StatementRefusal> {
        let mut sign = self.cose().clone();
        let signature = cose::signature_of(signer.thumbprint(), signer.kind, value.to_vec());
        signer
            .verify(&sign.tbs_data(&[], &signature), value)
            .map_err(|BadProof| StatementRefusal::BadSignature)?;
        sign.signatures.push(signature);
        cose::bytes_of(sign)
    }

    /// As [`ReceivedStatement::add`], by a key in a file.
    ///
    /// # Errors
    /// The key signed already, or there are too many signatures.
    pub fn add_by(&self, admin: &AdminSecret) -> Result<Vec<u8>, StatementRefusal> {
        let mut sign = self.cose().clone();
        let signature = by_file(&sign, admin);
        sign.signatures.push(signature);
        cose::bytes_of(sign)
    }

    /// The statement's bytes with the signatures of both; of a key that signed both, this one's
    /// (PRO-1). Verify both before: a signature that does not hold would spoil the other.
    ///
    /// # Errors
    /// Another payload, or too many signatures.
    pub fn join(&self, other: &Self) -> Result<Vec<u8>, StatementRefusal> {
        // rule: PRO-1
        if self.cose().payload != other.cose().payload {
            return Err(StatementRefusal::OtherPayload);
        }
        let mut sign = self.cose().clone();
        let known = |signature: &&CoseSignature| {
            let key = &signature.protected.header.key_id;
            !sign
                .signatures
                .iter()
                .any(|own| own.protected.header.key_id == *key)
        };
        let new: Vec<CoseSignature> = other
            .cose()
            .signatures
            .iter()
            .filter(known)
            .cloned()
            .collect();
        sign.signatures.extend(new);
        cose::bytes_of(sign)
    }
}
