//! Deciding, and saying why.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::{AuthorizationError, Authorizer, Decision as CedarDecision, PolicyId};

use crate::error::one_line;
use crate::parse::Policy;
use crate::prepare::Prepared;
use crate::request::Request;

/// Stack that Cedar wants to see free before it goes one level down, and some more.
const STACK_BASE: usize = 256 << 10;

/// Stack for one level of operators; an unoptimised build takes more than half of it.
const STACK_PER_LEVEL: usize = 128 << 10;

/// What a policy says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on. Never true while `errors` is not empty.
    pub allowed: bool,
    /// The names of the policies that made the decision, sorted: every `permit` that matched
    /// where it is allowed; else every `forbid` that matched; else every policy that could not
    /// be evaluated; else none, for nothing permitted it.
    pub deciding: Vec<String>,
    /// What could not be evaluated, one line each, sorted.
    pub errors: Vec<String>,
}

/// A decision with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The same as [`Policy::decide`] gives.
    pub decision: Decision,
    /// One line for people. For programs there is `decision`.
    pub reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Policy {
    /// Decides a request: refused unless some `permit` matches, no `forbid` matches and every
    /// policy could be evaluated (POL-5).
    #[must_use]
    pub fn decide(&self, request: &Request) -> Decision {
        self.decide_prepared(&Prepared::of(request), &request.pairs)
    }

    /// [`decide`](Self::decide) for one of many items that differ in their pairs alone.
    #[must_use]
    pub fn decide_prepared(
        &self,
        prepared: &Prepared,
        pairs: &BTreeMap<String, String>,
    ) -> Decision {
        self.weigh(prepared, pairs).1
    }

    /// Decides, and says why in one line.
    #[must_use]
    pub fn explain(&self, request: &Request) -> Explanation {
        let (why, decision) = self.weigh(&Prepared::of(request), &request.pairs);
        let act = format!("{} of dataset {:?}", request.action, request.dataset.name);
        let by = decision.deciding.join(", ");
        let error = decision.errors.first().map_or("", String::as_str);
        let reason = match why {
            Why::Permitted => format!("{act} is allowed by {by}"),
            Why::Forbidden => format!("{act} is forbidden by {by}"),
            Why::Failed => format!("{act} is refused because it cannot be decided: {error}"),
            Why::NothingPermits => {
                format!(
                    "{act} is refused because none of {} policies permits it",
                    self.ids().len()
                )
            }
        };
        Explanation {
            decision,
            reason: one_line(&reason),
        }
    }

    fn weigh(&self, prepared: &Prepared, pairs: &BTreeMap<String, String>) -> (Why, Decision) {
        let (request, entities) = match prepared.with_pairs(pairs) {
            Ok(ready) => ready,
            Err(error) => {
                let (deciding, errors) = (Vec::new(), vec![error]);
                return (
                    Why::Failed,
                    Decision {
                        allowed: false,
                        deciding,
                        errors,
                    },
                );
            }
        };
        // Cedar gives up on a policy when the caller's stack runs low, and a decision must not hang
        // on who calls. So a deep policy gets the room that it needs.
        let room = STACK_BASE + self.depth * STACK_PER_LEVEL;
        let response = stacker::maybe_grow(room, room, || {
            Authorizer::new().is_authorized(&request, &self.set, &entities)
        });
        let diagnostics = response.diagnostics();
        let matched = names(diagnostics.reason());
        let mut failed = Vec::new();
        let mut errors = Vec::new();
        for AuthorizationError::PolicyEvaluationError(error) in diagnostics.errors() {
            failed.push(error.policy_id());
            errors.push(one_line(&error.to_string()));
        }
        errors.sort();
        // POL-5: Cedar skips a policy that it cannot evaluate. The skipped one may be the forbid that
        // was meant for just this request, so here it refuses.
        let (why, deciding) = match response.decision() {
            CedarDecision::Deny if !matched.is_empty() => (Why::Forbidden, matched),
            _ if !errors.is_empty() => (Why::Failed, names(failed.into_iter())),
            CedarDecision::Allow => (Why::Permitted, matched),
            CedarDecision::Deny => (Why::NothingPermits, Vec::new()),
        };
        (
            why,
            Decision {
                allowed: why == Why::Permitted,
                deciding,
                errors,
            },
        )
    }
}

/// Which of the four outcomes it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Permitted,
    Forbidden,
    Failed,
    NothingPermits,
}

fn names<'a>(ids: impl Iterator<Item = &'a PolicyId>) -> Vec<String> {
    let mut names: Vec<String> = ids.map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
    names.sort();
    names
}
