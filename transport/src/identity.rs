//! A server's TLS identity, and the check of it by pin (TR-2).
//!
//! A server is whoever holds one Ed25519 key, used for TLS and for nothing else (PROTOCOL 1.3).
//! The key travels in a self-signed X.509 certificate only because every QUIC stack can speak
//! that; the client looks at nothing in it but the public key:
//! - no name: the pin came with the bootstrap secret or an admin-signed record, which says which
//!   server this is; a name would be a second, weaker answer to the same question;
//! - no expiry: a pin is replaced by replacing what it came with. A date inside a certificate that
//!   the server signs for itself protects nobody, and would lock everybody out when a clock is wrong;
//! - no chain: there is no authority to lead to, so exactly one certificate is accepted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};

use crate::error::IdentityError;

/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410 section 4).
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The Ed25519 key by which clients know a server, ready for TLS.
///
/// Cheap to clone. `Debug` shows the public key only.
#[derive(Clone)]
pub struct ServerIdentity {
    certified: Arc<CertifiedKey>,
    public_key: [u8; 32],
}

impl ServerIdentity {
    /// Wraps `key`, which must serve TLS and nothing else (PROTOCOL 1.3), in a certificate that it
    /// signs for itself.
    pub fn new(key: &SigningKey) -> Result<Self, IdentityError> {
        let certificate = rcgen::CertificateParams::new(Vec::new())
            .and_then(|params| params.self_signed(&CertificateKey::new(key)))
            .map_err(|error| IdentityError(error.to_string()))?;
        // The document erases itself; the TLS library keeps the one lasting copy.
        let secret = key
            .to_pkcs8_der()
            .map_err(|error| IdentityError(error.to_string()))?;
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(secret.as_bytes()))
            .map_err(|error| IdentityError(error.to_string()))?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signer);
        Ok(Self {
            certified: Arc::new(certified),
            public_key: key.verifying_key().to_bytes(),
        })
    }

    /// The 32 bytes that clients pin.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    pub(crate) fn certified(&self) -> CertifiedKey {
        (*self.certified).clone()
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity")
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

/// Lets the certificate be signed where the key already is, without another copy of the secret.
struct CertificateKey<'a> {
    key: &'a SigningKey,
    public_key: [u8; 32],
}

impl<'a> CertificateKey<'a> {
    fn new(key: &'a SigningKey) -> Self {
        Self {
            key,
            public_key: key.verifying_key().to_bytes(),
        }
    }
}

impl rcgen::PublicKeyData for CertificateKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl rcgen::SigningKey for CertificateKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message).to_bytes().to_vec())
    }
}

/// Accepts the holder of one Ed25519 key, whatever else its certificate says.
///
/// One verifier serves one connection attempt, so that `presented_another` tells about that one.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pin: VerifyingKey,
    presented_another: Mutex<bool>,
}

impl PinVerifier {
    /// `None` if the pin is not a point of the curve, or of small order: nobody holds such a key.
    pub(crate) fn new(pin: &[u8; 32]) -> Option<Self> {
        let pin = VerifyingKey::from_bytes(pin)
            .ok()
            .filter(|key| !key.is_weak())?;
        Some(Self {
            pin,
            presented_another: Mutex::new(false),
        })
    }

    /// Whether the server showed another key than the pinned one, or failed to prove it.
    pub(crate) fn presented_another(&self) -> bool {
        *self
            .presented_another
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse<T>(&self, error: Error) -> Result<T, Error> {
        *self
            .presented_another
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        Err(error)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unwanted = || CertificateError::ApplicationVerificationFailure.into();
        if !intermediates.is_empty() {
            return self.refuse(unwanted());
        }
        let spki = match ParsedCertificate::try_from(end_entity) {
            Ok(certificate) => certificate.subject_public_key_info(),
            Err(error) => return self.refuse(error),
        };
        let key = spki.as_ref().strip_prefix(&ED25519_SPKI_PREFIX);
        if key != Some(self.pin.as_bytes().as_slice()) {
            return self.refuse(unwanted());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    /// Checks the handshake's signature by the pin itself, not by what the certificate holds.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return self.refuse(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let proven = Signature::from_slice(signed.signature())
            .and_then(|signature| self.pin.verify_strict(message, &signature));
        match proven {
            Ok(()) => Ok(HandshakeSignatureValid::assertion()),
            Err(_) => self.refuse(CertificateError::BadSignature.into()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verifier: &PinVerifier, chain: &[CertificateDer<'_>]) -> bool {
        let name = ServerName::try_from("a.name.that.means.nothing").expect("a valid name");
        // Long before the certificate could be valid, and long after: no date means anything.
        [0, u64::MAX / 2].into_iter().all(|seconds| {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            verifier
                .verify_server_cert(&chain[0], &chain[1..], &name, &[], now)
                .is_ok()
        })
    }

    #[test]
    fn the_pin_accepts_its_own_key_at_any_time_and_no_other() {
        let (own, other) = (
            SigningKey::from_bytes(&[1; 32]),
            SigningKey::from_bytes(&[2; 32]),
        );
        let verifier = PinVerifier::new(own.verifying_key().as_bytes()).expect("a sound pin");
        let identity = ServerIdentity::new(&own).expect("an identity");
        assert!(check(&verifier, &identity.certified().cert));
        assert!(!verifier.presented_another());
        let stranger = ServerIdentity::new(&other).expect("an identity");
        assert!(!check(&verifier, &stranger.certified().cert));
        assert!(verifier.presented_another());
    }

    #[test]
    fn the_pin_accepts_exactly_one_certificate() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let verifier = PinVerifier::new(key.verifying_key().as_bytes()).expect("a sound pin");
        let certificate = ServerIdentity::new(&key)
            .expect("an identity")
            .certified()
            .cert[0]
            .clone();
        assert!(!check(
            &verifier,
            &[certificate.clone(), certificate.clone()]
        ));
        let mut longer = certificate.to_vec();
        longer.push(0);
        assert!(!check(&verifier, &[CertificateDer::from(longer)]));
        assert!(!check(&verifier, &[CertificateDer::from(Vec::new())]));
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let verifier = PinVerifier::new(key.verifying_key().as_bytes()).expect("a sound pin");
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = rcgen::CertificateParams::new(Vec::new())
            .and_then(|params| params.self_signed(&other))
            .expect("a certificate");
        assert!(!check(&verifier, &[certificate.der().clone()]));
    }

    #[test]
    fn a_pin_that_nobody_can_hold_is_refused() {
        assert!(PinVerifier::new(&[0; 32]).is_none(), "small order");
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(PinVerifier::new(&neutral).is_none(), "the neutral element");
    }

    #[test]
    fn the_debug_form_shows_no_secret() {
        let identity = ServerIdentity::new(&SigningKey::from_bytes(&[7; 32])).expect("an identity");
        assert!(!format!("{identity:?}").contains("7, 7, 7, 7"));
    }
}
