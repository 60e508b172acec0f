//! The TLS exporter values of a connection (RFC 8446 section 7.5, TR-4).

use crate::error::ExporterError;

/// Length of an exporter value in bytes (TR-4).
const EXPORTER_BYTES: usize = 32;

/// What an exporter value is for. Each use has its own label, so that a value given to one use can
/// never serve another (TR-4). The list is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExporterUse {
    /// Goes into every signature input of the connection (SIG-1).
    Authenticator,
    /// Goes into the HPKE info of the connection's encapsulations (SEAL-1).
    Hpke,
}

impl ExporterUse {
    /// The exporter label: `EXPORTER-postern-1-<use>`.
    pub const fn label(self) -> &'static str {
        match self {
            ExporterUse::Authenticator => "EXPORTER-postern-1-authenticator",
            ExporterUse::Hpke => "EXPORTER-postern-1-hpke",
        }
    }
}

/// Derives the 32 bytes for `usage`; both ends of one connection get the same, any other
/// connection gets others.
pub(crate) fn export(
    connection: &quinn::Connection,
    usage: ExporterUse,
) -> Result<[u8; EXPORTER_BYTES], ExporterError> {
    let mut value = [0; EXPORTER_BYTES];
    connection
        .export_keying_material(&mut value, usage.label().as_bytes(), b"")
        .map_err(|_| ExporterError)?;
    Ok(value)
}
