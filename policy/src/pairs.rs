//! Which pairs of the encryption context a policy reads.

use std::collections::BTreeSet;

use serde_json::Value;

/// The keys of `context.pairs` on which a policy's decisions can depend (POL-9).
///
/// A decision is the same for all pairs that agree on these keys. So these are the pairs that a
/// ticket must carry as required when the decision is taken before the item is seen, and a
/// decision may be kept and used again for every item that agrees on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairsRead {
    /// Exactly these keys; none at all when the set is empty.
    Keys(BTreeSet<String>),
    /// Any key: the policy computes one instead of naming it.
    Any,
}

impl PairsRead {
    /// Whether the policy reads no pair, so that its decision is the same for every item.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Keys(keys) if keys.is_empty())
    }

    pub(crate) fn none() -> Self {
        Self::Keys(BTreeSet::new())
    }

    /// Adds what one policy reads, given in Cedar's JSON form.
    ///
    /// Known is only `context.pairs.hasTag("k")` and `.getTag("k")`, with a literal key. Any other
    /// appearance of the pairs, or of the context as a whole, counts as reading all of them.
    pub(crate) fn add_policy(&mut self, policy: &Value) {
        match policy.get("conditions").and_then(Value::as_array) {
            Some(conditions) => conditions.iter().for_each(|condition| {
                self.add_each(condition.get("body"));
            }),
            None => *self = Self::Any,
        }
    }

    fn add_expression(&mut self, expression: &Value) {
        match expression {
            Value::Object(members) => {
                members
                    .iter()
                    .for_each(|(operator, operands)| self.add(operator, operands));
            }
            Value::Array(items) => self.add_each(items),
            _ => {}
        }
    }

    fn add_each<'a>(&mut self, expressions: impl IntoIterator<Item = &'a Value>) {
        expressions
            .into_iter()
            .for_each(|expression| self.add_expression(expression));
    }

    fn add(&mut self, operator: &str, operands: &Value) {
        let left = operands.get("left");
        let attribute = operands.get("attr").and_then(Value::as_str);
        match operator {
            "hasTag" | "getTag" if left.is_some_and(is_pairs) => {
                match (
                    operands.pointer("/right/Value").and_then(Value::as_str),
                    self,
                ) {
                    (Some(key), Self::Keys(keys)) => {
                        keys.insert(key.to_owned());
                    }
                    (_, read) => *read = Self::Any,
                }
            }
            // An attribute of the context other than the pairs does not read them.
            "." if left.is_some_and(is_context) && attribute != Some("pairs") => {}
            "has" if left.is_some_and(is_context) => {}
            "Var" if operands.as_str() == Some("context") => *self = Self::Any,
            // Literals read nothing, whatever they spell.
            "Value" => {}
            // The names in a record are the author's and no operators.
            "Record" => self.add_each(operands.as_object().into_iter().flat_map(|o| o.values())),
            _ => match operands {
                Value::Object(parts) => self.add_each(parts.values()),
                other => self.add_expression(other),
            },
        }
    }
}

fn is_context(node: &Value) -> bool {
    node.get("Var").and_then(Value::as_str) == Some("context")
}

fn is_pairs(node: &Value) -> bool {
    node.get(".").is_some_and(|access| {
        access.get("left").is_some_and(is_context)
            && access.get("attr").and_then(Value::as_str) == Some("pairs")
    })
}
