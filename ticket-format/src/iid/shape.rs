//! The one CMS shape that is accepted, and the step from "received" to "verified" content.
//!
//! The metadata service sends SignedData (RFC 5652 section 5) in BER, with indefinite lengths.
//! Every loose end of CMS has been an attack on somebody's verifier, so the shape is closed:
//!
//! - SignedData version 1, digest algorithms exactly {SHA-256}, content type `data`, content
//!   present, no certificates, no CRLs;
//! - exactly one SignerInfo, version 1, named by issuer and serial, SHA-256, RSA PKCS#1 v1.5
//!   (`rsaEncryption` or `sha256WithRSAEncryption`), no unsigned attributes;
//! - signed attributes from a closed list, each at most once and with one value: contentType
//!   (= data) and messageDigest are required, signingTime and CMSAlgorithmProtection (RFC 6211;
//!   must agree with the SignerInfo) are optional;
//! - algorithm parameters absent or NULL;
//! - **no other bytes**: what was parsed is encoded again in each of the three encodings that exist
//!   (see `content_of`) and must equal the received bytes. So the attributes that are hashed are
//!   the received ones, and no length, tag or end-of-contents octet has a second spelling.
//!
//! The issuer and serial are neither signed nor used: the key is pinned by region, and a renewed
//! certificate for the same key must not break anything. Likewise signingTime is not looked at:
//! AWS may sign again long after launch.

use cms::cert::x509::attr::Attributes;
use cms::cert::x509::time::Time;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use const_oid::ObjectIdentifier;
use der::asn1::{OctetString, OctetStringRef};
use der::{Any, Decode, Encode, EncodingRules, ErrorKind, Reader, Sequence, SliceReader};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;

use super::document;
use super::keys::RegionKey;
use super::refusal::IidRefusal;

const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const ID_CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const ID_MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const ID_SIGNING_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");
const ID_ALGORITHM_PROTECTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA_256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// RFC 6211 section 2.
#[derive(Sequence)]
struct AlgorithmProtection {
    digest: AlgorithmIdentifierOwned,
    #[asn1(
        context_specific = "1",
        tag_mode = "IMPLICIT",
        constructed = "true",
        optional = "true"
    )]
    signature: Option<AlgorithmIdentifierOwned>,
    #[asn1(
        context_specific = "2",
        tag_mode = "IMPLICIT",
        constructed = "true",
        optional = "true"
    )]
    mac: Option<AlgorithmIdentifierOwned>,
}

/// A proof of the accepted shape whose signature nobody has checked yet.
pub(super) struct Received {
    content: Vec<u8>,
    /// The signed attributes as `SET OF`, which is what the signature covers (RFC 5652 5.4).
    signed_attributes: Vec<u8>,
    message_digest: Vec<u8>,
    signature: Vec<u8>,
}

/// Content bytes that the region's key has signed. Only [`Received::verify`] makes one.
pub(super) struct VerifiedContent(Vec<u8>);

impl VerifiedContent {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Received {
    /// Reads a decoded proof. The caller has bounded its size.
    pub(super) fn read(blob: &[u8]) -> Result<Self, IidRefusal> {
        // rule: IID-2
        let outer = ContentInfo::from_ber(blob).map_err(|e| not_cms(&e))?;
        require(
            outer.content_type == ID_SIGNED_DATA,
            "the content type is not signed data",
        )?;
        let signed: SignedData = outer
            .content
            .decode_as_encoding(EncodingRules::Ber)
            .map_err(|e| not_cms(&e))?;
        check_frame(&signed)?;
        let [signer] = signed.signer_infos.0.as_slice() else {
            return Err(IidRefusal::Shape("there is not exactly one signer"));
        };
        let attributes = check_signer(signer)?;
        let message_digest = check_attributes(attributes, signer)?;
        Ok(Self {
            content: content_of(blob, &signed)?,
            signed_attributes: attributes.to_der().map_err(|_| unwritable())?,
            message_digest,
            signature: signer.signature.as_bytes().to_vec(),
        })
    }

    /// The region that the unverified content names. Good for one thing: choosing the pinned key,
    /// which the signature then has to fit.
    pub(super) fn claimed_region(&self) -> Result<String, IidRefusal> {
        Ok(document::region_of(&self.content)?)
    }

    /// Checks digest and signature, and hands out the content.
    pub(super) fn verify(
        self,
        region: &str,
        key: &RegionKey,
    ) -> Result<VerifiedContent, IidRefusal> {
        if Sha256::digest(&self.content).as_slice() != self.message_digest {
            return Err(IidRefusal::DigestMismatch);
        }
        if !key.has_signed(&self.signed_attributes, &self.signature) {
            return Err(IidRefusal::BadSignature(region.to_owned()));
        }
        Ok(VerifiedContent(self.content))
    }
}

fn check_frame(signed: &SignedData) -> Result<(), IidRefusal> {
    require(
        signed.version == CmsVersion::V1,
        "the SignedData version is not 1",
    )?;
    let [digest] = signed.digest_algorithms.as_slice() else {
        return Err(IidRefusal::Shape(
            "there is not exactly one digest algorithm",
        ));
    };
    require(
        is_plain(digest, &[SHA_256]),
        "the digest algorithm is not SHA-256",
    )?;
    require(
        signed.encap_content_info.econtent_type == ID_DATA,
        "the inner content type is not data",
    )?;
    require(signed.certificates.is_none(), "it embeds certificates")?;
    require(signed.crls.is_none(), "it embeds revocation lists")
}

fn check_signer(signer: &SignerInfo) -> Result<&Attributes, IidRefusal> {
    require(
        signer.version == CmsVersion::V1,
        "the SignerInfo version is not 1",
    )?;
    require(
        matches!(signer.sid, SignerIdentifier::IssuerAndSerialNumber(_)),
        "the signer is not named by issuer and serial",
    )?;
    require(
        is_plain(&signer.digest_alg, &[SHA_256]),
        "the signer's digest algorithm is not SHA-256",
    )?;
    require(
        is_plain(
            &signer.signature_algorithm,
            &[RSA_ENCRYPTION, SHA_256_WITH_RSA],
        ),
        "the signature algorithm is not RSA with SHA-256",
    )?;
    require(
        signer.unsigned_attrs.is_none(),
        "it has unsigned attributes",
    )?;
    signer
        .signed_attrs
        .as_ref()
        .ok_or(IidRefusal::Shape("it has no signed attributes"))
}

/// Checks every signed attribute and returns the message digest.
fn check_attributes(attributes: &Attributes, signer: &SignerInfo) -> Result<Vec<u8>, IidRefusal> {
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    let mut message_digest = None;
    for attribute in attributes.iter() {
        require(
            !seen.contains(&attribute.oid),
            "a signed attribute occurs twice",
        )?;
        seen.push(attribute.oid);
        let [value] = attribute.values.as_slice() else {
            return Err(IidRefusal::Shape(
                "a signed attribute has not exactly one value",
            ));
        };
        match attribute.oid {
            ID_CONTENT_TYPE => require(
                value.decode_as::<ObjectIdentifier>() == Ok(ID_DATA),
                "the signed content type is not data",
            )?,
            ID_MESSAGE_DIGEST => {
                let digest: OctetString = value
                    .decode_as()
                    .map_err(|_| IidRefusal::Shape("the message digest is not an octet string"))?;
                message_digest = Some(digest.as_bytes().to_vec());
            }
            ID_SIGNING_TIME => require(
                value.decode_as::<Time>().is_ok(),
                "the signing time is not a time",
            )?,
            ID_ALGORITHM_PROTECTION => check_protection(value, signer)?,
            _ => {
                return Err(IidRefusal::Shape(
                    "it has a signed attribute of another kind",
                ));
            }
        }
    }
    require(
        seen.contains(&ID_CONTENT_TYPE),
        "it has no signed content type",
    )?;
    message_digest.ok_or(IidRefusal::Shape("it has no message digest"))
}

fn check_protection(value: &Any, signer: &SignerInfo) -> Result<(), IidRefusal> {
    let protection: AlgorithmProtection = value
        .decode_as()
        .map_err(|_| IidRefusal::Shape("the algorithm protection cannot be read"))?;
    let agrees = is_plain(&protection.digest, &[signer.digest_alg.oid])
        && protection
            .signature
            .is_some_and(|signature| is_plain(&signature, &[signer.signature_algorithm.oid]))
        && protection.mac.is_none();
    require(
        agrees,
        "the algorithm protection does not agree with the signer's algorithms",
    )
}

/// Is this one of `accepted`, with parameters absent or NULL?
fn is_plain(algorithm: &AlgorithmIdentifierOwned, accepted: &[ObjectIdentifier]) -> bool {
    accepted.contains(&algorithm.oid) && algorithm.parameters.as_ref().is_none_or(Any::is_null)
}

/// Takes the content out, after proving which encoding was received.
///
/// After parsing, a constructed OCTET STRING looks like a primitive one whose value begins with the
/// inner headers; only writing it again tells them apart. The encodings are: DER throughout
/// (standard tools write it), indefinite lengths around a primitive content (seen 2023), and
/// indefinite lengths around a constructed content in segments (seen in all other years). Inside,
/// the digest algorithms and the SignerInfos are DER in all of them.
fn content_of(blob: &[u8], signed: &SignedData) -> Result<Vec<u8>, IidRefusal> {
    let content = signed
        .encap_content_info
        .econtent
        .as_ref()
        .ok_or(IidRefusal::Shape("the content is detached"))?;
    let primitive = content.to_der().map_err(|_| unwritable())?;
    if blob == all_der(signed).map_err(|_| unwritable())?
        || blob == indefinite(signed, &primitive).map_err(|_| unwritable())?
    {
        let content: OctetString = content
            .decode_as()
            .map_err(|_| IidRefusal::Shape("the content is not an octet string"))?;
        return Ok(content.as_bytes().to_vec());
    }
    let constructed = [&[0x24, 0x80], content.value(), &[0, 0]].concat();
    if blob == indefinite(signed, &constructed).map_err(|_| unwritable())? {
        return joined(content.value())
            .map_err(|_| IidRefusal::Shape("the content's segments are not octet strings"));
    }
    Err(IidRefusal::Shape("its encoding is not one that is known"))
}

/// DER at every level.
fn all_der(signed: &SignedData) -> der::Result<Vec<u8>> {
    ContentInfo {
        content_type: ID_SIGNED_DATA,
        content: Any::encode_from(signed)?,
    }
    .to_der()
}

/// Indefinite lengths at the five outer levels, around the given encoding of the content.
fn indefinite(signed: &SignedData, content: &[u8]) -> der::Result<Vec<u8>> {
    const SEQUENCE: &[u8] = &[0x30, 0x80];
    const EXPLICIT_0: &[u8] = &[0xa0, 0x80];
    const END: &[u8] = &[0, 0];
    let signed_data = ID_SIGNED_DATA.to_der()?;
    let version = signed.version.to_der()?;
    let digest_algorithms = signed.digest_algorithms.to_der()?;
    let data = ID_DATA.to_der()?;
    let signer_infos = signed.signer_infos.to_der()?;
    let parts: [&[u8]; 16] = [
        SEQUENCE,
        &signed_data,
        EXPLICIT_0,
        SEQUENCE,
        &version,
        &digest_algorithms,
        SEQUENCE,
        &data,
        EXPLICIT_0,
        content,
        END,
        END,
        &signer_infos,
        END,
        END,
        END,
    ];
    Ok(parts.concat())
}

/// Joins the segments of a constructed OCTET STRING: one level, each a primitive in DER.
fn joined(segments: &[u8]) -> der::Result<Vec<u8>> {
    let mut reader = SliceReader::new(segments)?;
    let mut content = Vec::with_capacity(segments.len());
    while !reader.is_finished() {
        content.extend_from_slice(<&OctetStringRef>::decode(&mut reader)?.as_bytes());
    }
    Ok(content)
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), IidRefusal> {
    if holds {
        Ok(())
    } else {
        Err(IidRefusal::Shape(otherwise))
    }
}

fn not_cms(error: &der::Error) -> IidRefusal {
    match error.kind() {
        ErrorKind::TrailingData { .. } => IidRefusal::TrailingBytes,
        _ => IidRefusal::NotCms,
    }
}

fn unwritable() -> IidRefusal {
    IidRefusal::Shape("its parts cannot be written as DER")
}
