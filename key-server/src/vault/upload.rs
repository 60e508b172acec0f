//! What the public wraps of one request share: one decapsulation for each upload (WRAP-3).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ticket_format::ids::KekId;
use ticket_format::seal::Exports;
use ticket_format::wrapped::{Header, WrapError, public};

use super::VaultError;
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
    ) -> Result<&Exports, VaultError> {
        // The X-Wing key is made from its seed for each use: not for each item.
        let exports = match self.opened.entry((kek.record.kek, enc.to_vec())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let opened =
                    kek.with_decapsulation(|key| public::open_upload(key, realm, header, enc));
                new.insert(opened?.ok())
            }
        };
        let exports = exports.as_ref();
        exports.ok_or(VaultError::Wrap(WrapError::Authentication))
    }
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Uploads({})", self.opened.len())
    }
}
