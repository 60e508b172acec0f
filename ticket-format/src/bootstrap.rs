//! The bootstrap that user-data carries to a node (`spec/ticket.md`, section 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{LaunchId, StatementDigest};
use crate::keys::{LaunchSecret, TicketKey, TlsKey};
use crate::labels;
use crate::limits::{ADMIN_SET, NAME, USER_DATA};
use crate::messages::shape::{Bytes, List, Shape, Text, closed_map, item};
use crate::secret::BootstrapSecret;
use crate::tlog::LogKey;

closed_map! {
    /// All that a node needs to log in the first time. It holds the launch's secret: it does not
    /// print itself, and what it is written into erases itself.
    ///
    /// ```cddl
    /// bootstrap = { 1: name, 2: id16, 3: bstr .size 32, 4: [1*8 tstr .size (1..255)], 5: ed-key,
    ///               6: bstr .size (1..4096), 7: hash, 8: ed-key, 9: log-key }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Bootstrap {
        /// The realm.
        1 realm: String = Text(1..=NAME);
        /// Which launch.
        2 launch: LaunchId = item();
        /// The launch's secret.
        3 secret: BootstrapSecret = Secret;
        /// Addresses of the broker, `host:port`.
        4 brokers: Vec<String> = List(1..=8, Text(1..=ADDRESS));
        /// The broker's TLS key.
        5 broker_key: TlsKey = item();
        /// The admin set that stood when this was made, as its body's bytes: the trust root from which
        /// the node follows later sets, and by which it believes dataset records (ISS-6).
        6 admin_set: Vec<u8> = Bytes(1..=ADMIN_SET);
        /// The launch's digest.
        7 launch_digest: StatementDigest = item();
        /// The broker's ticket-signing key.
        8 ticket_key: TicketKey = item();
        /// The broker's log: receipts are believed by it (TLOG-5).
        9 log_key: LogKey = item();
    }
}

/// Longest address, in bytes.
pub const ADDRESS: usize = 255;

struct Secret;

impl Shape for Secret {
    type Value = BootstrapSecret;

    fn write(&self, value: &BootstrapSecret, writer: &mut Writer) {
        writer.bytes(value.expose());
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<BootstrapSecret, DecodeError> {
        reader.array_of().map(BootstrapSecret::from_bytes)
    }
}

/// Why user-data holds no usable bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// More than EC2 stores.
    #[error("the user-data is {0} bytes; at most 16384 are read")]
    TooLarge(usize),
    /// No line begins with the marker.
    #[error(
        "no line of the user-data begins with `# postern/1 `: add the line that `postern-admin launch create` printed"
    )]
    Missing,
    /// Which one is meant cannot be known.
    #[error(
        "lines {0} and {1} of the user-data both begin with `# postern/1 `: keep the one of this launch"
    )]
    Twice(usize, usize),
    /// A marker line that does not decode.
    #[error("line {line} of the user-data is a damaged bootstrap ({what}): copy it again, whole")]
    Damaged {
        /// The line, from 1.
        line: usize,
        /// In what it differs.
        what: Damage,
    },
}

/// In what a marker line differs from a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not base64url.
    #[error("not unpadded base64url")]
    Base64,
    /// Not the map.
    #[error("{0}")]
    Shape(#[from] DecodeError),
}

impl Bootstrap {
    /// Finds the one bootstrap line in user-data of whatever kind: a shell script, cloud-config,
    /// a multi-part file. White space around the line does not matter.
    ///
    /// # Errors
    /// [`BootstrapError`], a line for people. It never repeats what stands in the user-data.
    pub fn find(user_data: &[u8]) -> Result<Self, BootstrapError> {
        // rule: BOOT-1
        if user_data.len() > USER_DATA {
            return Err(BootstrapError::TooLarge(user_data.len()));
        }
        let mut lines = user_data
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter_map(|(index, line)| {
                // The marker ends in a blank, so the line's end is trimmed after it was found.
                let text = line
                    .trim_ascii_start()
                    .strip_prefix(labels::BOOTSTRAP_MARKER.as_bytes())?;
                Some((index + 1, text.trim_ascii()))
            });
        let (line, text) = lines.next().ok_or(BootstrapError::Missing)?;
        if let Some((second, _)) = lines.next() {
            return Err(BootstrapError::Twice(line, second));
        }
        Self::from_base64(text).map_err(|what| BootstrapError::Damaged { line, what })
    }

    fn from_base64(text: &[u8]) -> Result<Self, Damage> {
        let bytes = Zeroizing::new(BASE64URL.decode(text).map_err(|_| Damage::Base64)?);
        Ok(Self::from_cbor(&bytes, USER_DATA)?)
    }

    /// The line for user-data, without a line end.
    #[must_use]
    pub fn to_user_data_line(&self) -> Zeroizing<String> {
        // Room is made first: a buffer that grows leaves copies of the secret behind.
        let mut writer = Writer::with_capacity(USER_DATA);
        self.encode(&mut writer);
        let bytes = Zeroizing::new(writer.into_bytes());
        let mut line = Zeroizing::new(String::with_capacity(USER_DATA * 2));
        line.push_str(labels::BOOTSTRAP_MARKER);
        BASE64URL.encode_string(bytes.as_slice(), &mut line);
        line
    }

    /// User-data that is cloud-config and holds nothing but the line: for instances that need none
    /// of their own.
    #[must_use]
    pub fn to_cloud_config(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(USER_DATA * 2 + 32));
        text.push_str("#cloud-config\n");
        text.push_str(&self.to_user_data_line());
        text.push('\n');
        text
    }

    /// The launch's key.
    #[must_use]
    pub fn launch_secret(&self) -> LaunchSecret {
        launch_secret(&self.secret, self.launch)
    }
}

/// The launch key of a secret: Ed25519 with seed HKDF-SHA256(salt = launch id, ikm = secret,
/// info = `postern/1 launch key`) (BOOT-2).
#[must_use]
pub fn launch_secret(secret: &BootstrapSecret, launch: LaunchId) -> LaunchSecret {
    // rule: BOOT-2
    let mut seed = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(&launch.0), secret.expose())
        .expand(labels::LAUNCH_KEY.as_bytes(), seed.as_mut());
    assert!(expanded.is_ok(), "HKDF-SHA256 gives 32 bytes");
    LaunchSecret::from_seed(&seed)
}

#[cfg(test)]
mod tests;
