//! Present (`spec/protocol.md`, section 7): opens a dataset ticket on this connection.

use crate::ids::{DatasetId, SealingKeyHash};
use crate::limits;

use super::Receipt;
use super::shape::{Bytes, OrNull, UINT, closed_map, item};

closed_map! {
    /// What a job says to present its ticket.
    ///
    /// `present-body = { 1: bstr .size (1..8192), 2: receipt / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PresentBody {
        /// The dataset ticket's bytes.
        1 ticket: Vec<u8> = Bytes(1..=limits::TICKET);
        /// The receipt of its issue.
        2 receipt: Option<Receipt> = OrNull(item());
    }
}

closed_map! {
    /// The key server's encapsulation to the ticket's sealing key. The answer's proof is by the key
    /// server's signing key: without it, `enc` comes from anybody (PRE-4).
    ///
    /// `present-answer = { 1: uint, 2: bstr .size (32..1120), 3: id16, 4: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PresentAnswer {
        /// Names the presented ticket in later requests on this connection.
        1 handle: u64 = UINT;
        /// The HPKE encapsulation.
        2 enc: Vec<u8> = Bytes(32..=1_120);
        /// The ticket's dataset.
        3 dataset: DatasetId = item();
        /// Hash of the sealing key that it is to.
        4 sealing_key: SealingKeyHash = item();
    }
}
