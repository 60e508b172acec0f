//! Lengths and offsets: which byte of the body holds which byte of the object.

use super::error::BodyError;

// rule: OBJ-2
/// Bytes of plaintext in every chunk but the last.
pub const CHUNK_LEN: usize = 16 * 1024;
/// Bytes of the authentication tag that ends each chunk.
pub const TAG_LEN: usize = 16;
/// Bytes of a full chunk in the body.
pub const SEALED_CHUNK_LEN: usize = CHUNK_LEN + TAG_LEN;
/// Bytes of the salt.
pub(super) const SALT_LEN: usize = 24;
/// Bytes of the key commitment.
pub(super) const COMMITMENT_LEN: usize = 32;
/// Bytes before the first chunk: salt and commitment.
pub const HEADER_LEN: usize = SALT_LEN + COMMITMENT_LEN;
/// The most chunks that one body holds, the short last one included.
pub const MAX_CHUNKS: u64 = 1 << 38;
/// The longest object: one byte less than 2^38 full chunks.
pub const MAX_PLAINTEXT_LEN: u64 = MAX_CHUNKS * CHUNK_LEN as u64 - 1;

/// Length of the body of an object of `plaintext_len` bytes.
///
/// # Errors
/// [`BodyError::TooLong`] over [`MAX_PLAINTEXT_LEN`].
pub fn ciphertext_len(plaintext_len: u64) -> Result<u64, BodyError> {
    if plaintext_len > MAX_PLAINTEXT_LEN {
        return Err(BodyError::TooLong);
    }
    // At most 2^38 chunks, so nothing here comes near 2^64.
    let chunks = plaintext_len / CHUNK_LEN as u64 + 1;
    Ok(HEADER_LEN as u64 + plaintext_len + chunks * TAG_LEN as u64)
}

/// Length of the object in a body of `ciphertext_len` bytes. It is the store's claim until the
/// last chunk has been opened.
///
/// # Errors
/// [`BodyError::HeaderTruncated`], [`BodyError::Truncated`] for a length that no body has, and
/// [`BodyError::TooLong`].
pub fn plaintext_len(ciphertext_len: u64) -> Result<u64, BodyError> {
    let last = last_chunk(ciphertext_len)?;
    let last_len = ciphertext_len - chunk_offset(last) - TAG_LEN as u64;
    Ok(last * CHUNK_LEN as u64 + last_len)
}

/// Number of the last chunk in a body of `ciphertext_len` bytes; the same errors as
/// [`plaintext_len`].
// rule: OBJ-6
pub(super) fn last_chunk(ciphertext_len: u64) -> Result<u64, BodyError> {
    let chunks =
        ciphertext_len
            .checked_sub(HEADER_LEN as u64)
            .ok_or(BodyError::HeaderTruncated {
                have: ciphertext_len,
            })?;
    let last = chunks / SEALED_CHUNK_LEN as u64;
    if last >= MAX_CHUNKS {
        return Err(BodyError::TooLong);
    }
    if chunks % (SEALED_CHUNK_LEN as u64) < TAG_LEN as u64 {
        return Err(BodyError::Truncated {
            have: ciphertext_len,
        });
    }
    Ok(last)
}

/// Offset in the body of chunk `index`, which is below [`MAX_CHUNKS`].
pub(super) fn chunk_offset(index: u64) -> u64 {
    HEADER_LEN as u64 + index * SEALED_CHUNK_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_each_others_inverse_around_every_border() {
        let chunk = CHUNK_LEN as u64;
        for base in [0, chunk, 2 * chunk, 1000 * chunk, MAX_PLAINTEXT_LEN - 20] {
            for len in base.saturating_sub(20)..=base + 20 {
                assert_eq!(plaintext_len(ciphertext_len(len).unwrap()), Ok(len));
            }
        }
    }

    /// rule: OBJ-6
    #[test]
    fn a_length_that_no_body_has_is_refused() {
        for have in 0..56 {
            assert_eq!(
                plaintext_len(have),
                Err(BodyError::HeaderTruncated { have })
            );
        }
        for chunks in [0, 1, 7] {
            for extra in 0..16 {
                let have = 56 + chunks * 16_400 + extra;
                assert_eq!(plaintext_len(have), Err(BodyError::Truncated { have }));
            }
        }
    }

    /// rule: OBJ-6
    #[test]
    fn a_length_over_the_limit_is_refused_without_overflow() {
        assert_eq!(
            ciphertext_len(MAX_PLAINTEXT_LEN + 1),
            Err(BodyError::TooLong)
        );
        assert_eq!(ciphertext_len(u64::MAX), Err(BodyError::TooLong));
        assert_eq!(plaintext_len(u64::MAX), Err(BodyError::TooLong));
        let longest = ciphertext_len(MAX_PLAINTEXT_LEN).unwrap();
        assert_eq!(plaintext_len(longest), Ok(MAX_PLAINTEXT_LEN));
        assert_eq!(plaintext_len(longest + 1), Err(BodyError::TooLong));
    }
}
