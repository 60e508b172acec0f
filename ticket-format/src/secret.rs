//! Secret bytes: erased on drop, never printed, compared in constant time.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Zeroizing<[u8; 32]>);

        impl $name {
            /// Takes the bytes over; the caller's copy is the caller's to erase.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(Zeroizing::new(bytes))
            }

            /// A fresh one.
            #[must_use]
            pub fn random(rng: &mut impl CryptoRng) -> Self {
                let mut secret = Self::from_bytes([0; 32]);
                rng.fill_bytes(secret.0.as_mut());
                secret
            }

            /// The bytes, for the one who uses them.
            #[must_use]
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.as_slice().ct_eq(other.0.as_slice()).into()
            }
        }
        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

secrets! {
    /// A data key: 32 bytes that encrypt one object.
    Dek;
    /// The symmetric half of a KEK version. Lives in the key server's vault only.
    Kek;
    /// The secret that user-data carries to a node (BOOT-2).
    BootstrapSecret;
    /// Keys the digests of required pairs in one log's entries (AUD-5).
    PairsKey;
    /// The seed of an X-Wing or X25519 decapsulation key.
    SealingSeed;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        assert_eq!(format!("{:?}", Dek::from_bytes([0xa5; 32])), "Dek(..)");
    }

    #[test]
    fn secrets_compare_by_value() {
        assert_eq!(Dek::from_bytes([1; 32]), Dek::from_bytes([1; 32]));
        assert_ne!(Dek::from_bytes([1; 32]), Dek::from_bytes([2; 32]));
    }
}
