//! What a dataset ticket lets its holder ask for.

use std::fmt;

use crate::cbor::{Decode, DecodeError, Encode, Reader, Writer};

/// One action on a dataset. CDDL `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Redeem wrapped DEKs.
    Decrypt = 1,
    /// Generate new DEKs.
    Encrypt = 2,
    /// Rewrap to the current KEK version.
    Rewrap = 3,
}

impl Action {
    /// All of them, ascending.
    pub const ALL: [Self; 3] = [Self::Decrypt, Self::Encrypt, Self::Rewrap];

    /// Its word in policies and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt",
            Self::Encrypt => "encrypt",
            Self::Rewrap => "rewrap",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.name() == text);
        found.ok_or_else(|| format!("expected decrypt, encrypt or rewrap, not {text:?}"))
    }
}

impl Encode for Action {
    fn encode(&self, writer: &mut Writer) {
        writer.uint(*self as u64);
    }
}

impl Decode for Action {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.uint()?;
        let found = Self::ALL
            .into_iter()
            .find(|action| *action as u64 == number);
        found.ok_or(DecodeError::OutOfRange("action"))
    }
}

/// A set of actions, never empty. On the wire an ascending array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actions(u8);

impl Actions {
    /// The set of these; none when there are none.
    #[must_use]
    pub fn new(actions: &[Action]) -> Option<Self> {
        let bits = actions
            .iter()
            .fold(0, |bits, action| bits | 1 << *action as u8);
        (bits != 0).then_some(Self(bits))
    }

    /// Whether it holds this one.
    #[must_use]
    pub fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }

    /// Its members, ascending.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .into_iter()
            .filter(move |action| self.contains(*action))
    }
}

impl Encode for Actions {
    fn encode(&self, writer: &mut Writer) {
        writer.array(self.iter().count());
        for action in self.iter() {
            writer.uint(action as u64);
        }
    }
}

impl Decode for Actions {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let numbers = reader.list(1..=3, Reader::uint)?;
        let ascending = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        let actions: Option<Vec<Action>> = numbers
            .iter()
            .map(|n| Action::ALL.into_iter().find(|action| *action as u64 == *n))
            .collect();
        match actions.as_deref().and_then(Self::new) {
            Some(actions) if ascending => Ok(actions),
            _ => Err(DecodeError::OutOfRange("actions")),
        }
    }
}
