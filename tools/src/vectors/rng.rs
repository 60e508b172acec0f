//! A generator that is no generator: the same bytes every time, so that vectors stand still.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};

/// SHA-256 of a name and a counter. For vectors only: whoever knows the name knows every byte.
pub(super) struct Fixed {
    name: &'static str,
    counter: u64,
    left: Vec<u8>,
}

impl Fixed {
    /// The bytes of this name.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            counter: 0,
            left: Vec::new(),
        }
    }
}

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)
            .map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)
            .map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            if self.left.is_empty() {
                let block = Sha256::new()
                    .chain_update(self.name)
                    .chain_update(self.counter.to_be_bytes())
                    .finalize();
                self.left = block.iter().rev().copied().collect();
                self.counter += 1;
            }
            *byte = self.left.pop().unwrap_or_default();
        }
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}
