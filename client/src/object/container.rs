//! An encrypted object in a file: its metadata in front of its body.
//!
//! ```text
//! "postern1" || length (2 bytes, big-endian) || deterministic CBOR map || body
//! ```

use ticket_format::cbor::{DecodeError, Reader, Writer};

use super::metadata::{
    MAX_WRAPPED_LEN, MetadataError, ObjectMetadata, check_context, check_wrapped, read_context,
};
use super::recovery;

/// The first eight bytes of a container.
pub const MAGIC: &[u8; 8] = b"postern1";
/// Bytes before the CBOR map: magic and length.
pub const PREFIX_LEN: usize = 10;
/// The longest CBOR map: a wrapped data key, the largest encryption context, and four recoveries.
pub const MAX_MAP_LEN: usize = 28 * 1024;

/// Why a container was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// It does not begin with the magic.
    #[error("the file was not encrypted by postern: it does not begin with \"postern1\"")]
    NotAContainer,
    /// It ends before its body.
    #[error("the encrypted file was cut off inside its first {0} bytes")]
    Truncated(usize),
    /// The map is longer than any is.
    #[error("the encrypted file is damaged: its header cannot have {0} bytes")]
    TooLong(usize),
    /// The map is not the one that a writer makes.
    #[error("the header of the encrypted file is damaged: {0}")]
    Map(DecodeError),
    /// What the map holds is not valid metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// The bytes that stand before the body.
///
/// # Errors
/// [`ContainerError::Metadata`] if the metadata passes a bound.
// rule: OBJ-12
pub fn encode(metadata: &ObjectMetadata) -> Result<Vec<u8>, ContainerError> {
    check_wrapped(&metadata.wrapped)?;
    check_context(&metadata.stored_context)?;
    let mut writer = Writer::new();
    // rule: RCP-1
    let recoveries = &metadata.recoveries;
    writer.map(if recoveries.is_empty() { 3 } else { 4 });
    writer.uint(1).bytes(&metadata.wrapped);
    writer.uint(2).uint(metadata.kek_version);
    writer.uint(3).text_map(&metadata.stored_context);
    if !recoveries.is_empty() {
        recovery::write(recoveries, writer.uint(4));
    }
    let map = writer.into_bytes();
    let len = u16::try_from(map.len()).map_err(|_| ContainerError::TooLong(map.len()))?;
    Ok([&MAGIC[..], &len.to_be_bytes(), &map].concat())
}

/// Length of the CBOR map that follows the first [`PREFIX_LEN`] bytes.
///
/// # Errors
/// [`ContainerError::NotAContainer`], [`ContainerError::Truncated`], [`ContainerError::TooLong`].
pub fn map_len(prefix: &[u8]) -> Result<usize, ContainerError> {
    if !prefix.starts_with(&MAGIC[..prefix.len().min(MAGIC.len())]) || prefix.is_empty() {
        return Err(ContainerError::NotAContainer);
    }
    let Some([.., high, low]) = prefix.first_chunk::<PREFIX_LEN>() else {
        return Err(ContainerError::Truncated(prefix.len()));
    };
    match usize::from(u16::from_be_bytes([*high, *low])) {
        len if len > MAX_MAP_LEN => Err(ContainerError::TooLong(len)),
        len => Ok(len),
    }
}

/// Reads the CBOR map, which is all of `map`.
///
/// # Errors
/// [`ContainerError::TooLong`], [`ContainerError::Map`], [`ContainerError::Metadata`].
// rule: OBJ-12
pub fn parse(map: &[u8]) -> Result<ObjectMetadata, ContainerError> {
    if map.len() > MAX_MAP_LEN {
        return Err(ContainerError::TooLong(map.len()));
    }
    let mut reader = Reader::new(map);
    let metadata = read_map(&mut reader).map_err(ContainerError::Map)?;
    reader.finish().map_err(ContainerError::Map)?;
    Ok(metadata)
}

fn read_map(reader: &mut Reader<'_>) -> Result<ObjectMetadata, DecodeError> {
    let mut map = reader.map(4)?;
    let wrapped = map.required(1, |r| Ok(r.bytes(1..=MAX_WRAPPED_LEN)?.to_vec()))?;
    let kek_version = map.required(2, Reader::uint)?;
    let stored_context = map.required(3, read_context)?;
    let recoveries = map.optional(4, recovery::read)?.unwrap_or_default();
    map.end()?;
    Ok(ObjectMetadata {
        wrapped,
        kek_version,
        stored_context,
        recoveries,
    })
}
