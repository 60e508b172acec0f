//! The public half of a share key as a line of text (`spec/admin-key.md`): what its holder hands over,
//! so that shares of a key server's root key can be sealed to it (ROOT-3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::seal::{Kem, SealingKey, XWING_KEY};

/// What the line begins with.
const MARK: &str = "postern-share-key/1:";
/// Most bytes of a file that holds it; the line has 1,642.
pub const FILE: u64 = 4_096;

/// A text that is no share key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAShareKey {
    /// It begins otherwise.
    #[error("it is not one line that begins with {MARK:?}")]
    Mark,
    /// What follows is no base64url without padding.
    #[error("what follows {MARK:?} is not base64url without padding")]
    Text,
    /// It is no X-Wing public key.
    #[error("it holds no X-Wing public key of {XWING_KEY} bytes")]
    Key,
}

/// The line, with its end: `postern-share-key/1:` and the key in base64url without padding.
#[must_use]
pub fn write(key: &SealingKey) -> String {
    let mut line = MARK.to_owned();
    BASE64URL.encode_string(key.as_bytes(), &mut line);
    line.push('\n');
    line
}

/// Reads it: one line, its end may be missing. The caller bounds the text by [`FILE`].
///
/// # Errors
/// [`NotAShareKey`].
pub fn read(text: &str) -> Result<SealingKey, NotAShareKey> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let key = line.strip_prefix(MARK).ok_or(NotAShareKey::Mark)?;
    let bytes = BASE64URL.decode(key).map_err(|_| NotAShareKey::Text)?;
    SealingKey::from_bytes(Kem::XWing, &bytes).map_err(|_| NotAShareKey::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::SealingSecret;
    use crate::secret::SealingSeed;

    fn key() -> SealingKey {
        SealingSecret::from_seed(Kem::XWing, SealingSeed::from_bytes([7; 32])).public()
    }

    #[test]
    fn a_share_key_is_read_as_it_was_written() {
        let line = write(&key());
        assert_eq!(line.len(), 1_643);
        assert_eq!(read(&line), Ok(key()));
        assert_eq!(read(line.trim_end()), Ok(key()));
    }

    #[test]
    fn what_is_no_share_key_is_told_apart() {
        let line = write(&key());
        assert_eq!(read(&line.replace("/1:", "/2:")), Err(NotAShareKey::Mark));
        assert_eq!(read(&format!("{line}{line}")), Err(NotAShareKey::Text));
        assert_eq!(
            read(&format!("{}=", line.trim_end())),
            Err(NotAShareKey::Text)
        );
        assert_eq!(read(&format!("{MARK}AAAA")), Err(NotAShareKey::Key));
        // Coefficients of ML-KEM that are out of range (FIPS 203, 7.2).
        let high = BASE64URL.encode([0xff; XWING_KEY]);
        assert_eq!(read(&format!("{MARK}{high}")), Err(NotAShareKey::Key));
    }
}
