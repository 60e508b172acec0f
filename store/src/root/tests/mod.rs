//! Root keys on disk: the two ways, generations, crashes; a real token and a real TPM.

#[cfg(feature = "pkcs11")]
mod pkcs11;
mod rekeys;
mod rig;
#[cfg(feature = "tpm2")]
mod tpm2;
mod ways;
