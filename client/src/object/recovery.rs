//! Recoveries of data keys beside the objects that they are of (`spec/object.md`, section 5).
//!
//! S3's metadata has no room for them. They stand in an object beside it, named by the data key, so that it is
//! never written over: `<key>.<DEK id>.postern-recovery`, holding `"postern-recovery1"` and the list.

use ticket_format::cbor::{Decode as _, DecodeError, Encode as _, Reader, Writer};
use ticket_format::ids::DekId;
use ticket_format::recovery::{RECIPIENTS, Recovery};

/// What such an object's key ends with.
pub const SUFFIX: &str = ".postern-recovery";
/// What such an object begins with.
const MAGIC: &[u8] = b"postern-recovery1";
/// Most bytes of such an object.
pub const MAX_LEN: usize = 8 * 1024;

/// The key of the object that holds an object's recoveries.
#[must_use]
pub fn key(of: &str, dek: DekId) -> String {
    format!("{of}.{dek}{SUFFIX}")
}

/// The object beside which an object of recoveries stands, and the data key that they are of; none where the
/// key is no such name.
#[must_use]
pub fn of(key: &str) -> Option<(&str, DekId)> {
    let (of, dek) = key.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let dek: DekId = dek.parse().ok()?;
    let exact = !of.is_empty() && !of.ends_with('/') && self::key(of, dek) == key;
    exact.then_some((of, dek))
}

/// Writes the list: at least one.
pub(super) fn write(recoveries: &[Recovery], writer: &mut Writer) {
    writer.array(recoveries.len());
    recoveries.iter().for_each(|one| one.encode(writer));
}

/// Reads the list.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<Recovery>, DecodeError> {
    reader.list(1..=RECIPIENTS, Recovery::decode)
}

/// The bytes of an object of recoveries.
#[must_use]
pub fn to_bytes(recoveries: &[Recovery]) -> Vec<u8> {
    let mut writer = Writer::new();
    write(recoveries, &mut writer);
    [MAGIC, &writer.into_bytes()].concat()
}

/// Reads an object of recoveries.
///
/// # Errors
/// It is none.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Recovery>, DecodeError> {
    if bytes.len() > MAX_LEN {
        return Err(DecodeError::TooLarge);
    }
    let list = bytes
        .strip_prefix(MAGIC)
        .ok_or(DecodeError::Expected("recoveries"))?;
    let mut reader = Reader::new(list);
    let recoveries = read(&mut reader)?;
    reader.finish()?;
    Ok(recoveries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_recoveries_tells_whose_they_are_and_no_other_name_does() {
        // rule: RCP-3
        let dek = DekId([0xab; 16]);
        for object in ["a", "dir/a.jpg", "a.b.c", "a."] {
            assert_eq!(of(&key(object, dek)), Some((object, dek)), "{object}");
        }
        let id = dek.to_string();
        for other in [
            "a".to_owned(),
            "a.postern-recovery".to_owned(),
            ".postern-recovery".to_owned(),
            format!("{id}{SUFFIX}"),
            format!(".{id}{SUFFIX}"),
            format!("dir/.{id}{SUFFIX}"),
            format!("a.{}{SUFFIX}", id.to_uppercase()),
            format!("a.{}{SUFFIX}", &id[1..]),
            format!("a.{id}0{SUFFIX}"),
            format!("a.{id}{SUFFIX}/b"),
            format!("a.{id}.postern"),
        ] {
            assert_eq!(of(&other), None, "{other}");
        }
    }
}
