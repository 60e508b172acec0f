//! Good messages bent in every way a stranger would try: members dropped, doubled, emptied, mistyped,
//! oversized, added and swapped at every depth; bytes flipped, cut off and added.

use ciborium::Value;
use ticket_format::cbor::Writer;

/// One bent message.
#[derive(Clone, Debug)]
pub struct Bent {
    /// The way to the member, such as `/8/1`, and what was done to it.
    pub what: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// More than any message may have.
const HUGE: usize = 2 * 1024 * 1024 + 1;

fn write(value: &Value, writer: &mut Writer) {
    match value {
        Value::Integer(n) => match u64::try_from(*n) {
            Ok(n) => _ = writer.uint(n),
            Err(_) => _ = writer.int(i64::try_from(*n).unwrap_or(i64::MIN)),
        },
        Value::Bytes(bytes) => _ = writer.bytes(bytes),
        Value::Text(text) => _ = writer.text(text),
        Value::Bool(value) => _ = writer.bool(*value),
        Value::Null => _ = writer.null(),
        Value::Tag(tag, content) => write(content, writer.tag(*tag)),
        Value::Array(items) => {
            writer.array(items.len());
            items.iter().for_each(|item| write(item, writer));
        }
        Value::Map(pairs) => {
            writer.map(pairs.len());
            for (key, value) in pairs {
                write(key, writer);
                write(value, writer);
            }
        }
        // 1.5 as a half: well-formed, shortest, and nothing of ours is a float.
        _ => _ = writer.raw(&[0xf9, 0x3e, 0x00]),
    }
}

/// The bytes of a value, in the order that it has.
#[must_use]
pub fn bytes_of(value: &Value) -> Vec<u8> {
    let mut writer = Writer::new();
    write(value, &mut writer);
    writer.into_bytes()
}

/// Reads bytes into a value.
///
/// # Panics
/// When they are not CBOR.
#[must_use]
pub fn value_of(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).expect("CBOR")
}

fn mistyped(value: &Value) -> Vec<(&'static str, Value)> {
    let mut others = match value {
        Value::Integer(_) => vec![
            ("as text", Value::Text("1".into())),
            ("as a bool", Value::Bool(true)),
            ("negative", Value::Integer((-9).into())),
        ],
        Value::Bytes(bytes) => vec![
            ("as text", Value::Text("x".repeat(bytes.len()))),
            ("as an array", Value::Array(Vec::new())),
        ],
        Value::Text(text) => vec![
            ("as bytes", Value::Bytes(text.clone().into_bytes())),
            ("as a map", Value::Map(Vec::new())),
        ],
        Value::Array(_) => vec![
            ("as a map", Value::Map(Vec::new())),
            ("as a number", Value::Integer(1.into())),
        ],
        Value::Map(_) => vec![
            ("as an array", Value::Array(Vec::new())),
            ("as a number", Value::Integer(1.into())),
        ],
        _ => vec![
            ("as a number", Value::Integer(1.into())),
            ("as text", Value::Text("true".into())),
        ],
    };
    others.push(("as a float", Value::Float(1.5)));
    others.push(("under a tag", Value::Tag(1, Box::new(value.clone()))));
    others
}

fn emptied(value: &Value) -> Option<Value> {
    let empty = match value {
        Value::Bytes(_) => Value::Bytes(Vec::new()),
        Value::Text(_) => Value::Text(String::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Map(_) => Value::Map(Vec::new()),
        _ => return None,
    };
    (empty != *value).then_some(empty)
}

fn oversized(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Integer(_) => Value::Tag(2, Box::new(Value::Bytes(vec![1, 0, 0, 0, 0, 0, 0, 0, 0]))),
        Value::Bytes(bytes) => Value::Bytes(vec![b'x'; (bytes.len() + 1).max(100_000)]),
        Value::Text(_) => Value::Text("x".repeat(100_000)),
        Value::Array(items) => {
            let item = items.first().cloned().unwrap_or(Value::Integer(1.into()));
            Value::Array(vec![item; 1_500])
        }
        Value::Map(_) => Value::Map(
            (0..1_500)
                .map(|n| (Value::Text(format!("{n:04}")), Value::Text("x".into())))
                .collect(),
        ),
        _ => return None,
    })
}

/// A map's members, in their order.
type Pairs = Vec<(Value, Value)>;

/// A message as a tree, and every way to bend it.
struct Bender<'a> {
    out: &'a mut Vec<Bent>,
}

impl Bender<'_> {
    fn push(&mut self, path: &str, what: &str, bytes: Vec<u8>) {
        let what = format!("{path} {what}");
        self.out.push(Bent { what, bytes });
    }

    /// Every bend of one member, and of the members below it; `whole` puts the member in its place.
    fn bend(&mut self, value: &Value, path: &str, whole: &dyn Fn(Value) -> Vec<u8>) {
        for (what, other) in mistyped(value) {
            self.push(path, what, whole(other));
        }
        if let Some(empty) = emptied(value) {
            self.push(path, "emptied", whole(empty));
        }
        if let Some(large) = oversized(value) {
            self.push(path, "oversized", whole(large));
        }
        match value {
            Value::Map(pairs) => self.bend_map(pairs, path, whole),
            Value::Array(items) => self.bend_array(items, path, whole),
            Value::Tag(tag, inner) => {
                self.push(path, "without its tag", whole((**inner).clone()));
                let other = Value::Tag(tag + 1, inner.clone());
                self.push(path, "under another tag", whole(other));
                let tag = *tag;
                self.bend(inner, path, &|inner| {
                    whole(Value::Tag(tag, Box::new(inner)))
                });
            }
            _ => {}
        }
    }

    fn bend_map(&mut self, pairs: &[(Value, Value)], path: &str, whole: &dyn Fn(Value) -> Vec<u8>) {
        let with = |change: &dyn Fn(&mut Pairs)| {
            let mut pairs = pairs.to_vec();
            change(&mut pairs);
            whole(Value::Map(pairs))
        };
        let unknown = (Value::Integer(99.into()), Value::Null);
        let more = with(&|pairs| pairs.push(unknown.clone()));
        self.push(path, "with an unknown member", more);
        for (index, (key, member)) in pairs.iter().enumerate() {
            let name = name_of(key);
            let dropped = with(&|pairs| _ = pairs.remove(index));
            self.push(path, &format!("without {name}"), dropped);
            let doubled = with(&|pairs| pairs.insert(index, pairs[index].clone()));
            self.push(path, &format!("with {name} twice"), doubled);
            if index > 0 {
                let swapped = with(&|pairs| pairs.swap(index - 1, index));
                self.push(path, &format!("with {name} too early"), swapped);
            }
            self.bend(member, &format!("{path}/{name}"), &|member| {
                with(&|pairs| pairs[index].1 = member.clone())
            });
        }
    }

    fn bend_array(&mut self, items: &[Value], path: &str, whole: &dyn Fn(Value) -> Vec<u8>) {
        let with = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut items = items.to_vec();
            change(&mut items);
            whole(Value::Array(items))
        };
        for (index, item) in items.iter().enumerate() {
            let dropped = with(&|items| _ = items.remove(index));
            self.push(path, &format!("without {index}"), dropped);
            let doubled = with(&|items| items.insert(index, items[index].clone()));
            self.push(path, &format!("with {index} twice"), doubled);
            self.bend(item, &format!("{path}/{index}"), &|item| {
                with(&|items| items[index] = item.clone())
            });
        }
    }
}

fn name_of(key: &Value) -> String {
    match key {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => i128::from(*number).to_string(),
        other => format!("{other:?}"),
    }
}

/// Every bend of a message's body.
///
/// # Panics
/// When the body is not CBOR.
#[must_use]
pub fn every_bend(good: &[u8]) -> Vec<Bent> {
    let value = value_of(good);
    assert_eq!(bytes_of(&value), good, "the message is deterministic");
    let mut out = Vec::new();
    Bender { out: &mut out }.bend(&value, "", &|whole| bytes_of(&whole));
    let mut more = good.to_vec();
    more.push(0);
    out.push(Bent {
        what: " with a byte more".into(),
        bytes: more,
    });
    out.push(Bent {
        what: " larger than any message".into(),
        bytes: vec![0x40; HUGE],
    });
    for (what, end) in places(good.len(), 24).map(|end| (format!(" cut to {end} bytes"), end)) {
        out.push(Bent {
            what,
            bytes: good[..end].to_vec(),
        });
    }
    out
}

/// Up to `most` places in `0..len`, spread evenly, always with the first and the last.
pub fn places(len: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = len.div_ceil(most.max(1)).max(1);
    let last = len.checked_sub(1);
    (0..len)
        .step_by(step)
        .chain(last.filter(move |last| last % step != 0))
}

/// Bytes with one bit flipped in each of up to `most` places, a byte less, a byte more and none.
#[must_use]
pub fn damaged(good: &[u8], most: usize) -> Vec<Bent> {
    let flip = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        Bent {
            what: format!("flipped at {at}"),
            bytes,
        }
    };
    let cut = |end: usize| Bent {
        what: format!("cut to {end} bytes"),
        bytes: good[..end].to_vec(),
    };
    let mut all: Vec<Bent> = places(good.len(), most).map(flip).collect();
    all.extend(places(good.len(), most / 4).map(cut));
    for more in [&[0_u8][..], &[0xff], good] {
        let bytes = [good, more].concat();
        all.push(Bent {
            what: format!("with {} bytes more", more.len()),
            bytes,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bends_are_many_and_none_is_the_message_itself() {
        let good = bytes_of(&Value::Map(vec![
            (Value::Integer(1.into()), Value::Bytes(vec![1; 16])),
            (
                Value::Integer(2.into()),
                Value::Array(vec![Value::Text("a".into()), Value::Null]),
            ),
        ]));
        let bends = every_bend(&good);
        assert!(bends.len() > 60, "{}", bends.len());
        for bent in &bends {
            assert_ne!(bent.bytes, good, "{}", bent.what);
        }
        for bent in damaged(&good, 100) {
            assert_ne!(bent.bytes, good, "{}", bent.what);
        }
    }
}
