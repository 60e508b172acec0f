//! What signs tickets: a key in memory, or one that something else keeps (KEY-4).

use std::fmt;

use crate::keys::{TicketKey, TicketSecret};

/// A ticket key, or what keeps one and gives nothing but signatures.
pub trait TicketSigner: Send + Sync + fmt::Debug {
    /// Its public key: tickets name it as `kid`.
    fn public(&self) -> TicketKey;

    /// Signs the `Sig_structure` of a ticket (RFC 9052, 4.4) with Ed25519 (RFC 8032): 64 bytes. May wait
    /// for a device.
    ///
    /// # Errors
    /// Why there is no signature.
    fn sign(&self, input: &[u8]) -> Result<Vec<u8>, String>;
}

impl TicketSigner for TicketSecret {
    fn public(&self) -> TicketKey {
        self.public()
    }

    fn sign(&self, input: &[u8]) -> Result<Vec<u8>, String> {
        Ok(self.sign_raw(input))
    }
}

/// Why a ticket was not signed.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    /// The signer gave none.
    #[error("{0}")]
    Signer(String),
    /// What it gave is no signature by its key.
    #[error("what signs for the ticket key {0} gave a signature that is not by it")]
    Signature(Box<TicketKey>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::tests::dataset_claims;
    use crate::ticket::{prove, sign, sign_by};

    /// Says that it is one key and signs by another, or not at all.
    #[derive(Debug)]
    struct Feigned(TicketKey, Option<TicketSecret>);

    impl TicketSigner for Feigned {
        fn public(&self) -> TicketKey {
            self.0
        }

        fn sign(&self, input: &[u8]) -> Result<Vec<u8>, String> {
            let key = self.1.as_ref().ok_or("the token is away")?;
            Ok(key.sign_raw(input))
        }
    }

    fn secret(seed: u8) -> TicketSecret {
        TicketSecret::from_seed(&[seed; 32])
    }

    #[test]
    fn rustsec_2022_0093_a_signature_that_is_not_by_the_named_key_never_leaves() {
        // rule: KEY-4
        let claims = dataset_claims();
        let key = secret(1).public();
        let good = Feigned(key, Some(secret(1)));
        assert_eq!(sign_by(&claims, &good).unwrap(), sign(&claims, &secret(1)));
        prove(&good).unwrap();
        let other = Feigned(key, Some(secret(2)));
        assert!(matches!(
            sign_by(&claims, &other),
            Err(NotSigned::Signature(named)) if *named == key
        ));
        assert!(matches!(prove(&other), Err(NotSigned::Signature(_))));
        let away = Feigned(key, None);
        let error = sign_by(&claims, &away).unwrap_err();
        assert_eq!(error.to_string(), "the token is away");
        assert!(prove(&away).is_err());
    }
}
