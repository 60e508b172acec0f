//! Reading the files, and counting what was run.

use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};

/// Bytes that a file writes in hexadecimal.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Hex(Vec<u8>);

impl Hex {
    /// As an array, if the length is that of one.
    pub(crate) fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.0.as_slice().try_into().ok()
    }
}

impl Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<Vec<u8>>>();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => Ok(Self(
                digits
                    .chunks(2)
                    .map(|pair| pair[0] * 16 + pair[1])
                    .collect(),
            )),
            _ => Err(D::Error::custom("not hexadecimal")),
        }
    }
}

/// Reads one file of `tests/vectors`.
pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Valid,
    Invalid,
    Acceptable,
}

/// The part of a Wycheproof case that all kinds have.
#[derive(Deserialize, Debug)]
pub(crate) struct Case<T> {
    #[serde(rename = "tcId")]
    pub(crate) id: u32,
    pub(crate) comment: String,
    pub(crate) flags: Vec<String>,
    pub(crate) result: Verdict,
    #[serde(flatten)]
    pub(crate) data: T,
}

impl<T> Case<T> {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// Names the case where an assertion fails.
    pub(crate) fn name(&self) -> String {
        format!("case {} ({}) {:?}", self.id, self.comment, self.flags)
    }
}

/// Cases with what they have in common, `G`.
#[derive(Deserialize)]
pub(crate) struct Group<G, T> {
    #[serde(flatten)]
    pub(crate) common: G,
    pub(crate) tests: Vec<Case<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<G, T> {
    number_of_tests: usize,
    test_groups: Vec<Group<G, T>>,
}

/// Reads a Wycheproof file that must hold `expected` cases.
pub(crate) fn wycheproof<G, T>(name: &str, expected: usize) -> Vec<Group<G, T>>
where
    G: DeserializeOwned,
    T: DeserializeOwned,
{
    let file: File<G, T> = read(&format!("wycheproof/{name}"));
    let held: usize = file.test_groups.iter().map(|group| group.tests.len()).sum();
    assert_eq!((file.number_of_tests, held), (expected, expected), "{name}");
    file.test_groups
}

/// How many cases were run, and how they came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: usize,
    pub(crate) refused: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, accepted: bool) {
        if accepted {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }
}
