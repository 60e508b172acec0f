//! JSON read strictly: no member name twice, bounded depth and counts, nothing behind the object.
//!
//! A general JSON map keeps the last of two members with one name without a word; a verifier that
//! read the first and a user that read the last would then speak of two instances.

use core::cell::Cell;
use core::fmt;
use std::collections::BTreeMap;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::refusal::DocumentFault;

/// Deepest nesting that is read; real documents have 2 (an object with arrays of strings).
pub(super) const MAX_DEPTH: usize = 4;
/// Most members of one object or items of one array; real documents have 15 and a few.
pub(super) const MAX_ITEMS: usize = 64;

/// A member's value, as far as identity documents need it.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    /// Well formed, but neither text nor null: no member that we use has such a type.
    Other,
}

/// The members of the outermost object.
pub(super) type Members = BTreeMap<String, Value>;

/// Reads `bytes` as one JSON object.
pub(super) fn members(bytes: &[u8]) -> Result<Members, DocumentFault> {
    let text = core::str::from_utf8(bytes).map_err(|_| DocumentFault::NotAnObject)?;
    let fault = Cell::new(DocumentFault::NotAnObject);
    let mut reader = serde_json::Deserializer::from_str(text);
    let top = Top { fault: &fault };
    let members = reader
        .deserialize_map(top)
        .and_then(|members| reader.end().map(|()| members));
    members.map_err(|_| fault.get())
}

/// Reads the outermost object and keeps its members.
struct Top<'f> {
    /// What to report when reading stops with an error.
    fault: &'f Cell<DocumentFault>,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members, A::Error> {
        read_members(map, self.fault, MAX_DEPTH - 1)
    }
}

/// Reads one value below the outermost object.
#[derive(Clone, Copy)]
struct Inner<'f> {
    fault: &'f Cell<DocumentFault>,
    /// Levels that may still be opened.
    depth_left: usize,
}

impl Inner<'_> {
    fn deeper(self) -> Option<usize> {
        self.depth_left.checked_sub(1)
    }
}

impl<'de> DeserializeSeed<'de> for Inner<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inner<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let Some(depth_left) = self.deeper() else {
            return Err(stop(self.fault, DocumentFault::TooDeep));
        };
        let item = Inner {
            fault: self.fault,
            depth_left,
        };
        let mut count = 0;
        while list.next_element_seed(item)?.is_some() {
            count += 1;
            if count > MAX_ITEMS {
                return Err(stop(self.fault, DocumentFault::TooManyItems));
            }
        }
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let Some(depth_left) = self.deeper() else {
            return Err(stop(self.fault, DocumentFault::TooDeep));
        };
        read_members(map, self.fault, depth_left).map(|_| Value::Other)
    }
}

fn read_members<'de, A: MapAccess<'de>>(
    mut map: A,
    fault: &Cell<DocumentFault>,
    depth_left: usize,
) -> Result<Members, A::Error> {
    let mut members = Members::new();
    while let Some(name) = map.next_key::<String>()? {
        let value = map.next_value_seed(Inner { fault, depth_left })?;
        if members.insert(name, value).is_some() {
            return Err(stop(fault, DocumentFault::DuplicateMember));
        }
        if members.len() > MAX_ITEMS {
            return Err(stop(fault, DocumentFault::TooManyItems));
        }
    }
    Ok(members)
}

/// Notes the precise fault and makes the reader stop.
fn stop<E: Error>(fault: &Cell<DocumentFault>, what: DocumentFault) -> E {
    fault.set(what);
    E::custom(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> DocumentFault {
        members(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_member_name_that_occurs_twice_is_refused_at_every_level() {
        assert_eq!(
            fault(r#"{"a":"1","b":2,"a":"3"}"#),
            DocumentFault::DuplicateMember
        );
        assert_eq!(
            fault(r#"{"a":{"b":1,"b":1}}"#),
            DocumentFault::DuplicateMember
        );
        // One name in two spellings.
        assert_eq!(
            fault("{\"a\":1,\"\\u0061\":1}"),
            DocumentFault::DuplicateMember
        );
    }

    #[test]
    fn depth_and_counts_are_bounded() {
        assert!(members(br#"{"a":[[[]]]}"#).is_ok());
        assert_eq!(fault(r#"{"a":[[[[]]]]}"#), DocumentFault::TooDeep);
        assert_eq!(
            fault(r#"{"a":{"b":{"c":{"d":{}}}}}"#),
            DocumentFault::TooDeep
        );
        let long = format!("{{\"a\":[{}0]}}", "0,".repeat(MAX_ITEMS));
        assert_eq!(fault(&long), DocumentFault::TooManyItems);
        let wide: Vec<String> = (0..=MAX_ITEMS).map(|n| format!("\"{n}\":0")).collect();
        assert_eq!(
            fault(&format!("{{{}}}", wide.join(","))),
            DocumentFault::TooManyItems
        );
    }

    #[test]
    fn anything_but_one_object_in_utf8_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "\"x\"",
            "{",
            "{}{}",
            "{} x",
            "\u{feff}{}",
            "{\"a\":}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":NaN}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":1} // no",
        ] {
            assert_eq!(fault(text), DocumentFault::NotAnObject, "{text}");
        }
        assert_eq!(
            members(b"{\"a\":\"\xff\"}").unwrap_err(),
            DocumentFault::NotAnObject
        );
        assert!(members(b" { } \n").is_ok());
    }
}
