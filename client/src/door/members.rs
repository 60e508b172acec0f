//! The members of a request, taken one by one: what an operation does not have is named and refused (DOOR-4).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use ticket_format::Context;
use zeroize::Zeroizing;

use super::fault::Fault;

/// Pairs that the door adds itself (DOOR-6).
pub(super) const KMS: &str = "kms";
/// Most grant tokens of a request.
const GRANT_TOKENS: usize = 10;

/// What is left of a request's members.
pub(super) struct Members(Map<String, Value>);

impl Members {
    /// Reads a request's body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            _ => Err(Fault::malformed("the body is no JSON object")),
        }
    }

    fn take<T>(
        &mut self,
        name: &str,
        kind: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(Fault::malformed(format!("{name} is no {kind}"))),
            },
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        self.take(name, "text", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Fault> {
        self.take(name, "whole number", |value| value.as_u64())
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Fault> {
        let flag = self.take(name, "boolean", |value| value.as_bool())?;
        Ok(flag.unwrap_or(false))
    }

    /// Bytes in base64.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        self.take(name, "base64", |value| {
            let text = match value {
                Value::String(text) => Zeroizing::new(text),
                _ => return None,
            };
            STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new)
        })
    }

    pub(super) fn needed<T>(name: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| Fault::invalid(format!("{name} is missing")))
    }

    /// An encryption context, without the pairs that the door adds.
    // rule: DOOR-6
    pub(super) fn context(&mut self, name: &str) -> Result<BTreeMap<String, String>, Fault> {
        let pairs = self.take(name, "map of texts", |value| {
            let Value::Object(pairs) = value else {
                return None;
            };
            let text = |(key, value)| match value {
                Value::String(text) => Some((key, text)),
                _ => None,
            };
            pairs
                .into_iter()
                .map(text)
                .collect::<Option<BTreeMap<_, _>>>()
        })?;
        let pairs = pairs.unwrap_or_default();
        let own = [KMS, Context::KEY_PAIR];
        match own.iter().find(|own| pairs.contains_key(**own)) {
            None => Ok(pairs),
            Some(own) => Err(Fault::invalid(format!(
                "the pair {own} of {name} is the door's own"
            ))),
        }
    }

    /// Grant tokens: the bytes of tickets.
    // rule: DOOR-10
    pub(super) fn grant_tokens(&mut self) -> Result<Vec<Vec<u8>>, Fault> {
        let tokens = self.take("GrantTokens", "list of texts", |value| {
            let Value::Array(tokens) = value else {
                return None;
            };
            let text = |token| match token {
                Value::String(text) => Some(text),
                _ => None,
            };
            tokens.into_iter().map(text).collect::<Option<Vec<_>>>()
        })?;
        let tokens = tokens.unwrap_or_default();
        if tokens.len() > GRANT_TOKENS {
            return Err(Fault::invalid("more than 10 grant tokens"));
        }
        let decode = |token: &String| STANDARD.decode(token).map_err(|_| Fault::grant_token());
        tokens.iter().map(decode).collect()
    }

    /// One of the values that there are; the only one there is, where it is left out.
    pub(super) fn only(&mut self, name: &str, only: &str) -> Result<(), Fault> {
        match self.text(name)?.as_deref() {
            None => Ok(()),
            Some(value) if value == only => Ok(()),
            Some(_) => Err(Fault::invalid(format!("{name} is not {only}"))),
        }
    }

    /// Nothing is left that the operation does not have.
    // rule: DOOR-4
    pub(super) fn end(self) -> Result<(), Fault> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) if name == "Recipient" => Err(Fault::unsupported("Recipient")),
            Some(name) => {
                let name: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
                Err(Fault::invalid(format!(
                    "this operation has no member {name}"
                )))
            }
        }
    }
}

impl Members {
    pub(super) fn empty() -> Self {
        Self(Map::new())
    }
}
