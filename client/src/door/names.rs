//! How datasets are named in AWS's way (DOOR-5).

use ticket_format::ids::{DatasetId, NodeId};

use super::keys::Named;

/// Lengths of the parts of a UUID (RFC 9562), in hexadecimal digits.
const PARTS: [usize; 5] = [8, 4, 4, 4, 12];
/// The longest `KeyId` that KMS takes.
const MAX_KEY_ID: usize = 2_048;

/// The names of keys on one node.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `arn:aws:kms:<region>:<account>:`
    prefix: String,
}

impl Names {
    pub(super) fn of(node: &NodeId) -> Self {
        Self {
            prefix: format!("arn:aws:kms:{}:{}:", node.region(), node.account()),
        }
    }

    /// `arn:aws:kms:<region>:<account>:key/<uuid>`
    pub(super) fn key(&self, dataset: DatasetId) -> String {
        format!("{}key/{}", self.prefix, uuid(dataset))
    }

    /// `arn:aws:kms:<region>:<account>:alias/<name>`
    pub(super) fn alias(&self, name: &str) -> String {
        format!("{}alias/{name}", self.prefix)
    }

    /// What a `KeyId` names; none where no key of this node can have that name.
    // rule: DOOR-5
    pub(super) fn parse(&self, key_id: &str) -> Option<Named> {
        if key_id.len() > MAX_KEY_ID {
            return None;
        }
        let (local, whole) = match key_id.strip_prefix(&self.prefix) {
            Some(local) => (local, true),
            None => (key_id, false),
        };
        match local.split_once('/') {
            Some(("alias", name)) if !name.is_empty() => Some(Named::Name(name.to_owned())),
            Some(("key", id)) if whole => parse_uuid(id).map(Named::Id),
            None if !whole => parse_uuid(local).map(Named::Id),
            _ => None,
        }
    }
}

/// A dataset's id as a UUID.
pub(super) fn uuid(dataset: DatasetId) -> String {
    let hex: String = dataset.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let (mut rest, mut parts) = (hex.as_str(), Vec::new());
    for length in PARTS {
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts.join("-")
}

fn parse_uuid(text: &str) -> Option<DatasetId> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    if !lengths.eq(PARTS) {
        return None;
    }
    let hex = parts.concat();
    let mut id = [0; 16];
    for (byte, digits) in id.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        // Two digits are below 256.
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(DatasetId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    fn names() -> Names {
        Names::of(&NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap())
    }

    fn id() -> DatasetId {
        DatasetId(std::array::from_fn(|n| n as u8 * 0x11))
    }

    #[test]
    fn a_key_is_named_by_uuid_alias_and_arn_of_this_node_alone() {
        // rule: DOOR-5
        let names = names();
        assert_eq!(uuid(id()), UUID);
        let arn = format!("arn:aws:kms:eu-west-1:123456789012:key/{UUID}");
        assert_eq!(names.key(id()), arn);
        for text in [UUID, &UUID.to_uppercase(), &arn] {
            assert_eq!(names.parse(text), Some(Named::Id(id())), "{text}");
        }
        let alias = "arn:aws:kms:eu-west-1:123456789012:alias/team/genomes";
        assert_eq!(names.alias("team/genomes"), alias);
        for text in ["alias/team/genomes", alias] {
            assert_eq!(
                names.parse(text),
                Some(Named::Name("team/genomes".to_owned()))
            );
        }
        for none in [
            "",
            "genomes",
            "alias/",
            "key/00112233-4455-6677-8899-aabbccddeeff",
            "00112233445566778899aabbccddeeff",
            "0011223-34455-6677-8899-aabbccddeeff",
            "g0112233-4455-6677-8899-aabbccddeeff",
            "+0112233-4455-6677-8899-aabbccddeeff",
            &format!("arn:aws:kms:eu-west-2:123456789012:key/{UUID}"),
            &format!("arn:aws:kms:eu-west-1:123456789013:key/{UUID}"),
            &format!("arn:aws-cn:kms:eu-west-1:123456789012:key/{UUID}"),
            &format!("arn:aws:kms:eu-west-1:123456789012:{UUID}"),
            &format!("alias/{}", "x".repeat(MAX_KEY_ID)),
        ] {
            assert_eq!(names.parse(none), None, "{none}");
        }
    }
}
