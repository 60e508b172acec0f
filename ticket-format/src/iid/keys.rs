//! The keys with which AWS signs identity documents, pinned by region.

use core::fmt;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::OnceLock;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use const_oid::ObjectIdentifier;
use der::asn1::UintRef;
use der::{Decode, Document, Sequence};
use thiserror::Error;
use x509_cert::Certificate;

use super::builtin::BUILT_IN;
use super::document::is_region;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// Largest certificate text that is read, in bytes; real ones have about 1,500.
const MAX_PEM_BYTES: usize = 16 * 1024;
/// 2,048 bits.
const MIN_MODULUS_BYTES: usize = 256;
/// Most regions in one table; AWS has about 40.
const MAX_REGIONS: usize = 256;

/// One region's RSA public key.
#[derive(Clone)]
pub struct RegionKey(ParsedPublicKey);

impl RegionKey {
    /// Has this key signed `message` (RSA PKCS#1 v1.5, SHA-256)?
    #[must_use]
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

/// Region name to the key that signs that region's documents.
///
/// A certificate here is only a wrapping for the key: neither its own signature, nor its dates,
/// nor its issuer and serial are looked at. AWS publishes these certificates without a chain, has
/// let one run out while its key stayed in use, and renews others with the same key; refusing on
/// `notAfter` would shut out honest nodes and keep out nobody. A key goes out of use by being
/// taken out of the table.
#[derive(Clone)]
pub struct RegionKeys(BTreeMap<String, RegionKey>);

impl RegionKeys {
    /// The table that Postern is built with: 39 regions (see `certs/rsa2048/SOURCES.md`).
    pub fn built_in() -> Self {
        static TABLE: OnceLock<RegionKeys> = OnceLock::new();
        TABLE
            .get_or_init(|| {
                // Compiled-in constants; a test reads every one of them.
                #[allow(clippy::expect_used)]
                Self::from_pems(BUILT_IN.iter().copied()).expect("the built-in table can be read")
            })
            .clone()
    }

    /// Makes a table of its own, in place of the built-in one, from pairs of region name and the
    /// PEM text of that region's `rsa2048` certificate.
    ///
    /// # Errors
    /// [`RegionKeysError`], which names the region.
    pub fn from_pems<R, P>(pems: impl IntoIterator<Item = (R, P)>) -> Result<Self, RegionKeysError>
    where
        R: AsRef<str>,
        P: AsRef<str>,
    {
        let mut table = BTreeMap::new();
        for (region, pem) in pems {
            let region = region.as_ref();
            if !is_region(region) {
                return Err(RegionKeysError::BadRegionName(
                    region.escape_default().take(64).collect(),
                ));
            }
            let key = key_of(pem.as_ref()).map_err(|fault| RegionKeysError::BadCertificate {
                region: region.to_owned(),
                fault,
            })?;
            match table.entry(region.to_owned()) {
                Entry::Vacant(place) => place.insert(key),
                Entry::Occupied(_) => return Err(RegionKeysError::Twice(region.to_owned())),
            };
            if table.len() > MAX_REGIONS {
                return Err(RegionKeysError::TooMany);
            }
        }
        if table.is_empty() {
            return Err(RegionKeysError::Empty);
        }
        Ok(Self(table))
    }

    /// The key pinned for a region.
    pub fn get(&self, region: &str) -> Option<&RegionKey> {
        self.0.get(region)
    }

    /// The regions in the table, in order.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for RegionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.regions()).finish()
    }
}

/// RSAPublicKey, RFC 8017 appendix A.1.1.
#[derive(Sequence)]
struct RsaNumbers<'a> {
    modulus: UintRef<'a>,
    #[allow(dead_code)] // part of the structure; the verifying library checks it
    exponent: UintRef<'a>,
}

/// Takes the RSA key out of one certificate in PEM.
fn key_of(pem: &str) -> Result<RegionKey, CertificateFault> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(CertificateFault::TooLarge);
    }
    if pem.matches("-----BEGIN ").count() > 1 {
        return Err(CertificateFault::SeveralBlocks);
    }
    let (label, certificate) =
        Document::from_pem(pem.trim_ascii()).map_err(|_| CertificateFault::NotPem)?;
    if label != "CERTIFICATE" {
        return Err(CertificateFault::NotPem);
    }
    let certificate = Certificate::from_der(certificate.as_bytes())
        .map_err(|_| CertificateFault::NotACertificate)?;
    // rule: IID-5
    let key = certificate.tbs_certificate().subject_public_key_info();
    if key.algorithm.oid != RSA_ENCRYPTION {
        return Err(CertificateFault::NotRsa);
    }
    let pkcs1 = key
        .subject_public_key
        .as_bytes()
        .ok_or(CertificateFault::NotRsa)?;
    let numbers = RsaNumbers::from_der(pkcs1).map_err(|_| CertificateFault::NotRsa)?;
    if numbers.modulus.as_bytes().len() < MIN_MODULUS_BYTES {
        return Err(CertificateFault::TooShort);
    }
    ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pkcs1)
        .map(RegionKey)
        .map_err(|_| CertificateFault::NotRsa)
}

/// Why a table of region keys cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegionKeysError {
    /// No certificates were given: an empty table would refuse every node without saying why.
    #[error("no region certificates found; expected files named <region>.pem")]
    Empty,
    /// More entries than AWS could have regions.
    #[error("more than {MAX_REGIONS} region certificates; expected one file per region")]
    TooMany,
    /// The name is not one that a region can have (the text is escaped and cut short).
    #[error("{0:?} is not a region name; expected files named like us-east-1.pem")]
    BadRegionName(String),
    /// Two certificates for one region.
    #[error("region {0} is given twice; expected one certificate per region")]
    Twice(String),
    /// The certificate of this region cannot be used.
    #[error("certificate of region {region}: {fault}")]
    BadCertificate {
        /// Whose certificate.
        region: String,
        /// What is wrong with it.
        fault: CertificateFault,
    },
}

/// What is wrong with one region certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateFault {
    /// Over the size bound.
    #[error("over {MAX_PEM_BYTES} bytes; expected one certificate")]
    TooLarge,
    /// More than one PEM block.
    #[error("more than one PEM block; expected one certificate")]
    SeveralBlocks,
    /// No PEM block labelled CERTIFICATE.
    #[error("not a PEM block labelled CERTIFICATE")]
    NotPem,
    /// The block holds no X.509 certificate.
    #[error("not an X.509 certificate in DER")]
    NotACertificate,
    /// The key is not RSA, as with the certificates for the pkcs7 proof.
    #[error("the key is not RSA; expected the region's rsa2048 certificate")]
    NotRsa,
    /// The key is shorter than 2,048 bits, as with the certificates for the bare signature.
    #[error("the key has less than 2048 bits; expected the region's rsa2048 certificate")]
    TooShort,
}
