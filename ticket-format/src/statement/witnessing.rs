//! What a dataset wants of the witnesses of both logs (TLOG-8).

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};
use crate::limits;
use crate::messages::shape::{Shape, Text, numbered};
use crate::tlog::{PolicyError, WitnessPolicy};

numbered! {
    /// Whether keys wait for witnesses.
    pub enum WitnessMode("witness mode") {
        /// There are none.
        None = 0, "none";
        /// Cosignatures follow; nothing waits.
        Watch = 1, "watch";
        /// No key leaves, and no ticket is taken, before the policy is satisfied.
        Require = 2, "require";
    }
}

/// How a dataset is witnessed.
///
/// `witnessing = [0..2, tstr .size (0..16384)]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessing {
    /// Whether keys wait.
    pub mode: WitnessMode,
    /// c2sp.org/tlog-policy without log lines; empty where there are no witnesses.
    pub policy: String,
}

/// Why a dataset cannot be witnessed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessingError {
    /// A policy that nothing asks for.
    #[error("a witness policy is there, and the mode is none")]
    Unused,
    /// The text.
    #[error("the witness policy does not hold: {0}")]
    Policy(#[from] PolicyError),
    /// Logs are named elsewhere.
    #[error("the witness policy has a log line; logs are named by the record")]
    NamesALog,
    /// No witness would ever be needed.
    #[error("the witness policy is `quorum none`; use mode none")]
    NoQuorum,
}

const POLICY: Text = Text(0..=limits::WITNESS_POLICY);

impl Witnessing {
    /// No witnesses.
    #[must_use]
    pub fn none() -> Self {
        Self {
            mode: WitnessMode::None,
            policy: String::new(),
        }
    }

    /// The policy, read; none where there are no witnesses.
    ///
    /// # Errors
    /// [`WitnessingError`]: mode and text do not go together.
    pub fn read(&self) -> Result<Option<WitnessPolicy>, WitnessingError> {
        // rule: TLOG-8
        if self.mode == WitnessMode::None {
            return if self.policy.is_empty() {
                Ok(None)
            } else {
                Err(WitnessingError::Unused)
            };
        }
        let policy: WitnessPolicy = self.policy.parse()?;
        if !policy.logs().is_empty() {
            return Err(WitnessingError::NamesALog);
        }
        if policy.needs_none() {
            return Err(WitnessingError::NoQuorum);
        }
        Ok(Some(policy))
    }

    /// The policy that keys wait for.
    ///
    /// # Errors
    /// As [`Witnessing::read`].
    pub fn required(&self) -> Result<Option<WitnessPolicy>, WitnessingError> {
        // rule: TLOG-8
        let policy = self.read()?;
        Ok(policy.filter(|_| self.mode == WitnessMode::Require))
    }
}

impl Encode for Witnessing {
    fn encode(&self, writer: &mut Writer) {
        writer.array(2);
        self.mode.encode(writer);
        writer.text(&self.policy);
    }
}

impl Decode for Witnessing {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array(2..=2)?;
        Ok(Self {
            mode: WitnessMode::decode(reader)?,
            policy: POLICY.read(reader)?,
        })
    }
}
