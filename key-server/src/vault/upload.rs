//! What the public wraps of one request share: one decapsulation for each upload (WRAP-3).

use std::collections::HashMap;

use ticket_format::ids::KekId;
use ticket_format::seal::Exports;
use ticket_format::wrapped::{Header, WrapError, public};

use super::kek::Kek;

/// Decapsulations done in one request. They are secret, and gone with it.
#[derive(Default)]
pub struct Uploads {
    /// None: not an encapsulation to this KEK.
    opened: HashMap<(KekId, Vec<u8>), Option<Exports>>,
}

impl Uploads {
    /// Nothing opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many decapsulations were done.
    #[must_use]
    pub fn len(&self) -> usize {
        self.opened.len()
    }

    /// Whether none was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
    }

    pub(super) fn exports(
        &mut self,
        kek: &Kek,
        realm: &str,
        header: &Header,
        enc: &[u8],
    ) -> Result<&Exports, WrapError> {
        let entry = self.opened.entry((kek.id, enc.to_vec()));
        let exports = entry
            .or_insert_with(|| public::open_upload(&kek.decapsulation(), realm, header, enc).ok());
        exports.as_ref().ok_or(WrapError::Authentication)
    }
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uploads({})", self.opened.len())
    }
}
