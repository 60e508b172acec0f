//! Cedar behind one door: schema, decide, explain.
//!
//! A [`Policy`] is parsed and strictly validated once, then asked many times with a [`Request`];
//! the answer is a [`Decision`]. No type of the policy engine appears in this crate's interface,
//! so nothing else in the house is rebuilt, or rewritten, when the engine changes.
//!
//! The vocabulary is fixed ([`SCHEMA`], explained in `spec/policy.md`). Three choices in it:
//!
//! - The caller's encryption context is an entity with string tags (`context.pairs`), not a
//!   record: its keys are the callers' and unknown beforehand, and strict validation lets a
//!   policy read a tag only after asking whether it is there, so a missing key is a "no" that
//!   the author wrote down and not an evaluation error.
//! - `context.source` is an optional attribute: where the address is unknown it is absent, and
//!   strict validation makes every policy say what then. It is never a made-up address.
//! - A dataset's entity name is its id and not its name: an id is never reused, so a policy
//!   cannot come to speak of another dataset that later took the name.
//!
//! Everything fails closed. No matching `permit` refuses; a matching `forbid` refuses; and where
//! Cedar itself would skip a policy that cannot be evaluated, here that refuses too, because the
//! skipped one may have been the `forbid`.
//!
//! Everything here is pure: the time is in the request.
//!
//! ```
//! use policy::{Action, Dataset, Node, Policy, Request};
//!
//! let policy = Policy::parse(
//!     r#"@id("train-decrypt")
//!        permit (principal, action == Postern::Action::"decrypt", resource)
//!        when { principal.region == "eu-west-1" };"#,
//! )?;
//! let request = Request {
//!     node: Node {
//!         account: "123456789012".into(),
//!         region: "eu-west-1".into(),
//!         availability_zone: "eu-west-1a".into(),
//!         image: "ami-0abc".into(),
//!         instance_type: "m7i.large".into(),
//!         instance: "i-0abc".into(),
//!         launch: "l-1".into(),
//!         launched_at_unix: 1_795_000_000,
//!     },
//!     action: Action::Decrypt,
//!     dataset: Dataset { id: "d-1".into(), name: "faces".into(), tags: Default::default(), class: 3, aliases: None },
//!     time_unix: 1_795_000_600,
//!     source: None,
//!     pairs: Default::default(),
//! };
//! let decision = policy.decide(&request);
//! assert!(decision.allowed);
//! assert_eq!(decision.deciding, ["train-decrypt"]);
//! # Ok::<(), policy::PolicyError>(())
//! ```

mod decide;
mod error;
mod literals;
mod nesting;
mod pairs;
mod parse;
mod prepare;
mod request;
mod schema;

pub use decide::{Decision, Explanation};
pub use error::{Fault, PolicyError, Position};
pub use pairs::PairsRead;
pub use parse::{MAX_DEPTH, MAX_ID_LEN, MAX_NESTING, MAX_OPERATORS, MAX_TEXT_LEN, Policy};
pub use prepare::Prepared;
pub use request::{Action, Dataset, Node, Request, UnknownAction};
pub use schema::SCHEMA;
