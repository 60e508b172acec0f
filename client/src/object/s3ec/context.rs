//! The encryption context as it stands in the metadata: a JSON object of texts.

use std::fmt;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};

use super::metadata::S3ecError;
use crate::object::metadata::{Context, check_context};

/// The pair that binds a data key to its algorithm; Amazon's client puts it into each context.
pub(super) const ALGORITHM: &str = "aws:x-amz-cek-alg";
/// The pair that the door adds to each context: what kind of key is wrapped (DOOR-6).
const DOOR: &str = "kms";
/// Its value for a data key of 32 bytes.
pub(super) const DATA_KEY: &str = "data-key/32";
/// Pairs that a caller of the door cannot have.
const RESERVED: [&str; 2] = [DOOR, ticket_format::Context::KEY_PAIR];
/// A pair that Amazon's client takes for its own.
const LEGACY: &str = "kms_cmk_id";

/// What is to be written: the user's pairs and the algorithm.
///
/// # Errors
/// [`S3ecError::Pair`], [`S3ecError::ContextLimit`].
// rule: AMZ-7
pub(super) fn to_write(mut pairs: Context, algorithm: &str) -> Result<Context, S3ecError> {
    let own = [ALGORITHM, LEGACY];
    let taken = pairs.keys().find(|key| {
        RESERVED.contains(&key.as_str())
            || own.contains(&key.as_str())
            || !key.is_ascii()
            || !pairs[*key].is_ascii()
    });
    if let Some(key) = taken {
        return Err(S3ecError::Pair(key.clone()));
    }
    pairs.insert(ALGORITHM.to_owned(), algorithm.to_owned());
    of_wrap(&pairs)?;
    Ok(pairs)
}

/// The context that the DEK is wrapped with.
///
/// # Errors
/// [`S3ecError::Pair`], [`S3ecError::ContextLimit`].
// rule: AMZ-5
pub(super) fn of_wrap(stored: &Context) -> Result<Context, S3ecError> {
    if let Some(key) = RESERVED.iter().find(|key| stored.contains_key(**key)) {
        return Err(S3ecError::Pair((*key).to_owned()));
    }
    let mut whole = stored.clone();
    whole.insert(DOOR.to_owned(), DATA_KEY.to_owned());
    check_context(&whole).map_err(|_| S3ecError::ContextLimit)?;
    Ok(whole)
}

/// Writes a context.
pub(super) fn to_json(context: &Context) -> String {
    let pairs = context
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()));
    serde_json::Value::Object(pairs.collect()).to_string()
}

/// Reads a context; `None` for what is no JSON object of texts, or has a key twice.
// rule: AMZ-5
pub(super) fn from_json(text: &str) -> Option<Context> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Context;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Context, A::Error> {
            let mut pairs = Context::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if pairs.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key stands twice"));
                }
            }
            Ok(pairs)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(text);
    let pairs = reader.deserialize_map(Pairs).ok()?;
    reader.end().ok()?;
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Context {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let context = pairs(&[("a", "\"\\\n"), ("b", "")]);
        assert_eq!(from_json(&to_json(&context)), Some(context));
        assert_eq!(from_json(r#"{"a": "\u00e4"}"#), Some(pairs(&[("a", "ä")])));
    }

    /// rule: AMZ-5
    #[test]
    fn json_that_could_be_read_in_two_ways_is_refused() {
        for wrong in [
            r#"{"a":"1","a":"1"}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":"1"} x"#,
            r#"{"a":"1"}{}"#,
            r#"["a","1"]"#,
            "",
            "null",
        ] {
            assert_eq!(from_json(wrong), None, "{wrong}");
        }
    }

    /// rule: AMZ-5
    #[test]
    fn pairs_of_the_door_cannot_be_the_objects_own() {
        // rule: DOOR-6
        for key in ["kms", "key-pair"] {
            let stored = pairs(&[(key, "data-key/32")]);
            assert_eq!(of_wrap(&stored), Err(S3ecError::Pair(key.to_owned())));
        }
        let whole = of_wrap(&pairs(&[("a", "1")])).unwrap();
        assert_eq!(whole, pairs(&[("a", "1"), ("kms", "data-key/32")]));
        let many = (0..16).map(|at| (at.to_string(), String::new())).collect();
        assert_eq!(of_wrap(&many), Err(S3ecError::ContextLimit));
    }

    /// rule: AMZ-7
    #[test]
    fn pairs_that_amazons_client_could_not_read_are_not_written() {
        for (key, value) in [
            ("kms", ""),
            ("key-pair", ""),
            ("aws:x-amz-cek-alg", "115"),
            ("kms_cmk_id", ""),
            ("ä", ""),
            ("a", "ä"),
        ] {
            let refused = to_write(pairs(&[(key, value)]), "115");
            assert_eq!(refused, Err(S3ecError::Pair(key.to_owned())), "{key}");
        }
        let written = to_write(pairs(&[("a", "1")]), "115").unwrap();
        assert_eq!(written, pairs(&[("a", "1"), ("aws:x-amz-cek-alg", "115")]));
    }
}
