//! Names of logs and of their shards.

use std::fmt;
use std::str::FromStr;

use crate::keys::TlsKey;
use crate::statement::Role;

/// Longest origin of a log, in bytes.
pub(super) const ORIGIN: usize = 200;

/// A log's origin: `<realm>/<broker or key-server>/<16 hexadecimal digits of its server's TLS key>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(String);

/// Text that names no log or shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Too long or empty.
    #[error("a log's origin has 1 to 200 bytes")]
    Length,
    /// Spaces, plus signs, control characters and others may not stand in a key name.
    #[error("a log's origin has only visible ASCII characters other than '+'")]
    Character,
    /// No number of a shard.
    #[error("a shard's name ends in '/' and a number from 1, without leading zeroes")]
    Shard,
}

impl Origin {
    /// The origin of a server's log. A realm too long for it is cut.
    #[must_use]
    pub fn new(realm: &str, role: Role, server: &TlsKey) -> Self {
        let mut text = String::new();
        for byte in realm.bytes() {
            let escaped = if byte.is_ascii_alphanumeric() || b"._~-".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            };
            if text.len() + escaped.len() > ORIGIN - 32 {
                break;
            }
            text.push_str(&escaped);
        }
        let key = server.to_string();
        Self(format!("{text}/{}/{}", role.name(), &key[..16]))
    }

    /// The shard of this number.
    #[must_use]
    pub fn shard(&self, number: u64) -> ShardName {
        ShardName {
            origin: self.clone(),
            number,
        }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        if text.is_empty() || text.len() > ORIGIN {
            return Err(NotAName::Length);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'+')
        {
            return Err(NotAName::Character);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One shard of a log: its own origin is `<origin>/<number>`, which is also the key name of the log's
/// signatures on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardName {
    /// The log.
    pub origin: Origin,
    /// Which shard, from 1.
    pub number: u64,
}

impl FromStr for ShardName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (origin, number) = text.rsplit_once('/').ok_or(NotAName::Shard)?;
        Ok(Self {
            origin: origin.parse()?,
            number: decimal(number)
                .filter(|number| *number > 0)
                .ok_or(NotAName::Shard)?,
        })
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.number)
    }
}

/// A decimal number without leading zeroes or a sign.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}
