//! The policy's decisions on the items of a request (PRE-3, POL-9).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use policy::{Decision, PairsRead, Prepared};
use store::Revision;
use ticket_format::cbor::Reader;
use ticket_format::limits;
use ticket_format::messages::batch::RawContext;
use ticket_format::ticket::Action;
use ticket_format::time::Timestamp;

use crate::dataset::Dataset;
use crate::present::{self, Presented};
use crate::refused::Refused;
use crate::state::{Connection, Moment};

/// What the policy is asked about a presented ticket before any item is looked at, and what it said. The
/// next request of the same second asks the same, and is answered from here: nothing that a decision may
/// depend on has changed.
#[derive(Debug, Default)]
pub struct Prior(ArcSwapOption<Asked>);

/// All that goes into a question but the ticket, whose own this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    action: Action,
    /// Of the dataset's record, and so of its policy and facts.
    revision: Revision,
    now: Timestamp,
    source: Option<IpAddr>,
}

#[derive(Debug)]
struct Asked {
    question: Question,
    prepared: Prepared,
    /// Where no pair of an item matters.
    decision: Option<Decision>,
}

impl Prior {
    /// The answer to this question.
    fn ask(
        &self,
        question: Question,
        node: &policy::Node,
        (policy, facts): (&policy::Policy, &policy::Dataset),
    ) -> Arc<Asked> {
        // rule: PRE-3
        if let Some(asked) = self.0.load().as_ref()
            && asked.question == question
        {
            return Arc::clone(asked);
        }
        let Question {
            action,
            now,
            source,
            ..
        } = question;
        let action = present::policy_action(action);
        let prepared = Prepared::new(node, action, facts, now.seconds(), source);
        let alone = policy.pairs_read().is_none();
        let decision = alone.then(|| policy.decide_prepared(&prepared, &Default::default()));
        let asked = Arc::new(Asked {
            question,
            prepared,
            decision,
        });
        self.0.store(Some(Arc::clone(&asked)));
        asked
    }
}

/// The decisions in one request: one for all items that agree on the pairs that the policy reads (POL-9).
pub struct Decisions<'a> {
    dataset: &'a Dataset,
    asked: Arc<Asked>,
    known: Known<'a>,
    deciding: BTreeSet<String>,
}

enum Known<'a> {
    /// No pair matters: it was decided once, and permitted.
    Permitted,
    /// By the values of the pairs that matter.
    ByKeys(&'a BTreeSet<String>, HashMap<Vec<Option<&'a str>>, bool>),
    /// Any pair may matter: by the whole context.
    ByContext(HashMap<&'a [u8], bool>),
}

impl<'a> Decisions<'a> {
    /// Decides what does not depend on the items.
    ///
    /// # Errors
    /// [`Refused::Policy`]: whatever the items are.
    pub fn new(
        presented: &Presented,
        dataset: &'a Dataset,
        action: Action,
        connection: &Connection,
        moment: Moment,
    ) -> Result<Self, Refused> {
        let question = Question {
            action,
            revision: dataset.revision,
            now: moment.now,
            source: connection.source,
        };
        let asked =
            presented
                .prior
                .ask(question, &presented.node, (&dataset.policy, &dataset.facts));
        let mut deciding = BTreeSet::new();
        let known = match (&asked.decision, dataset.policy.pairs_read()) {
            (Some(decision), _) if !decision.allowed => {
                return Err(Refused::Policy(present::by(&decision.deciding)));
            }
            (Some(decision), _) => {
                deciding.extend(decision.deciding.iter().cloned());
                Known::Permitted
            }
            (None, PairsRead::Keys(keys)) => Known::ByKeys(keys, HashMap::new()),
            (None, PairsRead::Any) => Known::ByContext(HashMap::new()),
        };
        Ok(Self {
            dataset,
            asked,
            known,
            deciding,
        })
    }

    /// Whether an item with this context is permitted.
    pub fn allow(&mut self, context: RawContext<'a>) -> bool {
        let seen = match &self.known {
            Known::Permitted => return true,
            Known::ByKeys(keys, seen) => match values(keys, context) {
                Some(values) => seen.get(&values).copied(),
                None => return false,
            },
            Known::ByContext(seen) => seen.get(context.bytes()).copied(),
        };
        if let Some(allowed) = seen {
            return allowed;
        }
        let Ok(pairs) = context.parse() else {
            return false;
        };
        let decision = self
            .dataset
            .policy
            .decide_prepared(&self.asked.prepared, pairs.pairs());
        self.deciding.extend(decision.deciding);
        match &mut self.known {
            Known::Permitted => {}
            Known::ByKeys(keys, seen) => {
                if let Some(values) = values(keys, context) {
                    seen.insert(values, decision.allowed);
                }
            }
            Known::ByContext(seen) => {
                seen.insert(context.bytes(), decision.allowed);
            }
        }
        decision.allowed
    }

    /// The names of the policies that decided.
    #[must_use]
    pub fn into_deciding(self) -> BTreeSet<String> {
        self.deciding
    }
}

/// The values of these keys in a context.
fn values<'a>(keys: &BTreeSet<String>, context: RawContext<'a>) -> Option<Vec<Option<&'a str>>> {
    let mut values = vec![None; keys.len()];
    let mut reader = Reader::new(context.bytes());
    let read = reader.text_pairs(
        limits::PAIRS,
        limits::PAIR_KEY,
        limits::PAIR_VALUE,
        |key, value| {
            if let Some(place) = keys.iter().position(|known| known == key) {
                values[place] = Some(value);
            }
        },
    );
    read.ok().map(|_| values)
}

#[cfg(test)]
mod tests {
    use policy::Policy;

    use super::*;

    const BEFORE_NOON: &str = r#"@id("mornings")
        permit(principal, action == Postern::Action::"decrypt", resource)
        when { context.time < datetime("2026-11-23T12:00:00Z") };"#;
    /// 2026-11-23T11:59:59Z.
    const MORNING: u64 = 1_795_435_199;

    #[test]
    fn an_answer_is_given_again_to_the_same_question_only() {
        // rule: PRE-3
        let facts = policy::Dataset {
            id: "d-1".into(),
            name: "faces".into(),
            tags: Default::default(),
            class: 4,
            aliases: None,
        };
        let policy = Policy::parse(BEFORE_NOON).unwrap();
        let nothing = Policy::parse("").unwrap();
        let (mornings, other) = ((&policy, &facts), (&nothing, &facts));
        let node = policy::Node {
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            image: "ami-0abc".into(),
            instance_type: "m7i.large".into(),
            instance: "i-0abc".into(),
            launch: "l-1".into(),
            launched_at_unix: MORNING - 60,
        };
        let question = Question {
            action: Action::Decrypt,
            revision: Revision(7),
            now: Timestamp::from_seconds(MORNING),
            source: None,
        };
        let prior = Prior::default();
        let first = prior.ask(question, &node, mornings);
        assert!(first.decision.as_ref().unwrap().allowed);
        assert!(Arc::ptr_eq(&first, &prior.ask(question, &node, mornings)));
        let changes: [fn(&mut Question); 4] = [
            |question| question.now = question.now.plus(1),
            |question| question.action = Action::Encrypt,
            |question| question.revision = Revision(8),
            |question| question.source = Some(IpAddr::from([10, 0, 0, 1])),
        ];
        for change in changes {
            let mut changed = question;
            change(&mut changed);
            let kept = prior.ask(question, &node, mornings);
            let again = prior.ask(changed, &node, mornings);
            assert!(!Arc::ptr_eq(&kept, &again), "{changed:?}");
        }
        let noon = Question {
            now: question.now.plus(1),
            ..question
        };
        let refused = prior.ask(noon, &node, mornings);
        assert!(!refused.decision.as_ref().unwrap().allowed);
        let changed = Question {
            revision: Revision(8),
            ..question
        };
        let by_other = prior.ask(changed, &node, other);
        assert_ne!(by_other.decision, first.decision);
    }
}
