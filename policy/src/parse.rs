//! From text to a validated policy.

use std::collections::BTreeSet;
use std::fmt;

use cedar_policy::{Policy as CedarPolicy, PolicyId, PolicySet, ValidationMode, Validator};
use sha2::{Digest, Sha256};

use crate::error::{PolicyError, Position, one_line};
use crate::nesting::{depth, too_deep, too_long};
use crate::pairs::PairsRead;
use crate::schema::vocabulary;

/// The longest policy text, in bytes (POL-1).
pub const MAX_TEXT_LEN: usize = 64 * 1024;

/// How deeply brackets and `if` may nest.
pub const MAX_NESTING: usize = 32;

/// How many characters of operators (`&`, `|`, `.`, `+` and the like) one policy may have.
pub const MAX_OPERATORS: usize = 2_000;

/// How deep the tree of one policy's conditions may be, where each `&&` of a chain is one level.
pub const MAX_DEPTH: usize = 100;

const PARSE_STACK: usize = 64 << 20;

/// The longest name of a policy, in bytes (POL-2).
pub const MAX_ID_LEN: usize = 64;

/// A set of Cedar policies that passed strict validation against [`SCHEMA`](crate::SCHEMA).
///
/// It is immutable and can be shared between threads (`Arc<Policy>`). It keeps the text it was
/// made from, because admins sign, tickets name and records cite the text and nothing else.
#[derive(Clone)]
pub struct Policy {
    text: String,
    digest: [u8; 32],
    ids: Vec<String>,
    pairs_read: PairsRead,
    /// Levels of operators in the deepest policy.
    pub(crate) depth: usize,
    pub(crate) set: PolicySet,
}

impl Policy {
    /// Parses and validates a policy text. An empty text is a policy that permits nothing.
    ///
    /// # Errors
    /// The first fault, with its place and what to do; see [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_TEXT_LEN {
            return Err(PolicyError::TooLarge { len: text.len() });
        }
        if let Some(offset) = too_deep(text, MAX_NESTING) {
            return Err(PolicyError::TooDeep {
                at: Position::of(text, offset),
            });
        }
        if let Some(offset) = too_long(text, MAX_OPERATORS) {
            return Err(PolicyError::TooLong {
                at: Position::of(text, offset),
            });
        }
        // Cedar's parser and validator recurse with the text. The two checks above bound how far,
        // and this is more than that takes in an unoptimised build; pages not touched cost nothing.
        stacker::grow(PARSE_STACK, || Self::parse_bounded(text))
    }

    fn parse_bounded(text: &str) -> Result<Self, PolicyError> {
        let parsed: PolicySet = text
            .parse()
            .map_err(|errors| PolicyError::from_parse(text, &errors))?;
        if let Some(template) = parsed.templates().next() {
            // The annotation and slots are all that Cedar tells of a template; the slot is there
            // to be found in the text.
            let offset = template
                .slots()
                .filter_map(|slot| text.find(&slot.to_string()))
                .min();
            return Err(PolicyError::Template {
                at: Position::of(text, offset.unwrap_or(0)),
            });
        }
        let (set, ids) = name_policies(text, &parsed)?;
        let mut pairs_read = PairsRead::none();
        let mut deepest = 0;
        for policy in set.policies() {
            let at = Position::of(text, offset_of(policy));
            let json = policy
                .to_json()
                .map_err(|error| PolicyError::other(at, &error))?;
            let levels = depth(&json);
            if levels > MAX_DEPTH {
                return Err(PolicyError::TooDeep { at });
            }
            deepest = deepest.max(levels);
            pairs_read.add_policy(&json);
        }

        let validator = Validator::new(vocabulary().schema.clone());
        let result = validator.validate(&set, ValidationMode::Strict);
        if let Some(error) = PolicyError::from_validation(text, &result) {
            return Err(error);
        }
        Ok(Self {
            text: text.to_owned(),
            digest: Sha256::digest(text.as_bytes()).into(),
            ids,
            pairs_read,
            depth: deepest,
            set,
        })
    }

    /// The text exactly as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text's bytes: what tickets and records name this policy by (POL-4).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The names of the policies (`@id`), in the order of the text.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Which pairs of the encryption context the decisions can depend on (POL-9).
    #[must_use]
    pub fn pairs_read(&self) -> &PairsRead {
        &self.pairs_read
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

/// Gives each policy its `@id` as its name (POL-2): Cedar's own names are positions in the text, which
/// would change under a record's feet when a policy is put in before it.
fn name_policies(text: &str, parsed: &PolicySet) -> Result<(PolicySet, Vec<String>), PolicyError> {
    let mut policies: Vec<(usize, &CedarPolicy)> = parsed
        .policies()
        .map(|policy| (offset_of(policy), policy))
        .collect();
    policies.sort_by_key(|(offset, _)| *offset);

    let mut seen = BTreeSet::new();
    let mut ids = Vec::with_capacity(policies.len());
    let mut named = Vec::with_capacity(policies.len());
    for (offset, policy) in policies {
        let at = Position::of(text, offset);
        let id = policy
            .annotation("id")
            .ok_or(PolicyError::MissingId { at })?;
        if !is_good_id(id) {
            let id = one_line(&id.chars().take(MAX_ID_LEN).collect::<String>());
            return Err(PolicyError::BadId { at, id });
        }
        if !seen.insert(id) {
            return Err(PolicyError::DuplicateId {
                at,
                id: id.to_owned(),
            });
        }
        ids.push(id.to_owned());
        named.push(policy.new_id(PolicyId::new(id)));
    }
    // Names were just found to differ, so adding them cannot fail; if it did, it refuses.
    let set = PolicySet::from_policies(named)
        .map_err(|error| PolicyError::other(Position::of(text, 0), &error))?;
    Ok((set, ids))
}

/// Where the policy begins in the text, its annotations included.
fn offset_of(policy: &CedarPolicy) -> usize {
    policy.as_ref().loc().map_or(0, |loc| loc.start())
}

fn is_good_id(id: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
