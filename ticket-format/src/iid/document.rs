//! The identity document: exact names, types and formats of the members that Postern uses.

use core::net::IpAddr;

use jiff::Timestamp;

use super::json::{self, Members, Value};
use super::refusal::{DocumentFault, IidRefusal};
use super::shape::VerifiedContent;

/// A document whose signature has been checked. Only [`verify`](super::verify) makes one.
///
/// It proves that some process could read the instance's metadata at some time. It does not prove
/// who is asking now, it never runs out, and it still verifies when the instance is gone: it must
/// never be enough alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDocument {
    account_id: String,
    instance_id: String,
    region: String,
    availability_zone: String,
    image_id: String,
    instance_type: String,
    architecture: String,
    private_ip: Option<IpAddr>,
    version: String,
    pending_time: u64,
    proof_hash: [u8; 32],
    text: String,
}

impl VerifiedDocument {
    /// Reads verified content. Unknown members are fine; they are not looked at.
    pub(super) fn new(content: &VerifiedContent, proof_hash: [u8; 32]) -> Result<Self, IidRefusal> {
        // rule: IID-4
        let members = json::members(content.bytes())?;
        Ok(Self {
            account_id: text(&members, "accountId", is_account)?,
            instance_id: text(&members, "instanceId", |s| is_resource(s, "i-"))?,
            region: text(&members, "region", is_region)?,
            // A local zone has a name of its own: not always the region and a letter.
            availability_zone: text(&members, "availabilityZone", |s| is_name(s, 48, "-"))?,
            image_id: text(&members, "imageId", |s| is_resource(s, "ami-"))?,
            instance_type: text(&members, "instanceType", |s| is_name(s, 48, ".-"))?,
            architecture: text(&members, "architecture", |s| is_name(s, 24, "_"))?,
            private_ip: private_ip(&members)?,
            version: text(&members, "version", is_date)?,
            pending_time: pending_time(&members)?,
            proof_hash,
            text: core::str::from_utf8(content.bytes())
                .map_err(|_| DocumentFault::NotAnObject)?
                .to_owned(),
        })
    }

    /// AWS account, 12 digits, may begin with 0.
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// `i-` and 8 or 17 lower-case hex digits. Unique only together with account and region.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// The region, the same whose pinned key fitted the signature.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Availability zone or local zone.
    pub fn availability_zone(&self) -> &str {
        &self.availability_zone
    }

    /// `ami-` and 8 or 17 lower-case hex digits.
    pub fn image_id(&self) -> &str {
        &self.image_id
    }

    /// For example `t4g.small`.
    pub fn instance_type(&self) -> &str {
        &self.instance_type
    }

    /// For example `arm64`, `x86_64`, `i386`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The private address; absent where the document says null or nothing.
    pub fn private_ip(&self) -> Option<IpAddr> {
        self.private_ip
    }

    /// Version of the document format, a date.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Launch time (`pendingTime`), Unix seconds. Changes on stop and start, not on reboot.
    pub fn pending_time(&self) -> u64 {
        self.pending_time
    }

    /// SHA-256 of the decoded CMS bytes: what records and signatures name the evidence by. Not a
    /// replay key, as the signer's issuer and serial in those bytes are not signed.
    pub fn proof_hash(&self) -> &[u8; 32] {
        &self.proof_hash
    }

    /// The signed JSON text, byte for byte, to be shown to people. Take members from the other
    /// getters, never by reading this again.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The region that a document names, checked for form.
pub(super) fn region_of(content: &[u8]) -> Result<String, DocumentFault> {
    text(&json::members(content)?, "region", is_region)
}

/// Is this a region's name: lower-case letters, digits and dashes, a letter first, at most 32?
pub(super) fn is_region(name: &str) -> bool {
    is_name(name, 32, "-") && name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn text(
    members: &Members,
    name: &'static str,
    is_well_formed: impl Fn(&str) -> bool,
) -> Result<String, DocumentFault> {
    match members.get(name) {
        Some(Value::Text(text)) if is_well_formed(text) => Ok(text.clone()),
        Some(_) => Err(DocumentFault::Malformed(name)),
        None => Err(DocumentFault::Missing(name)),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `prefix` and 8 (until 2018) or 17 lower-case hex digits.
fn is_resource(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// 1 to `longest` lower-case letters, digits and characters of `also`.
fn is_name(text: &str, longest: usize, also: &str) -> bool {
    (1..=longest).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn private_ip(members: &Members) -> Result<Option<IpAddr>, DocumentFault> {
    match members.get("privateIp") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| DocumentFault::Malformed("privateIp")),
        Some(Value::Other) => Err(DocumentFault::Malformed("privateIp")),
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ` and no other spelling of a time, 1970 or later.
fn pending_time(members: &Members) -> Result<u64, DocumentFault> {
    const NAME: &str = "pendingTime";
    let written = text(members, NAME, |s| s.len() == 20)?;
    written
        .parse::<Timestamp>()
        .ok()
        .filter(|time| time.to_string() == written)
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .ok_or(DocumentFault::Malformed(NAME))
}
