//! For tests: takes a good message apart and puts it together wrongly, one member at a time.

use ciborium::Value;

use crate::cbor::Writer;

fn write(value: &Value, writer: &mut Writer) {
    match value {
        Value::Integer(n) => match u64::try_from(*n) {
            Ok(n) => _ = writer.uint(n),
            Err(_) => _ = writer.int(i64::try_from(*n).unwrap()),
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
        // 1.5 as a half: well-formed, shortest, and no float is ours.
        _ => _ = writer.raw(&[0xf9, 0x3e, 0x00]),
    }
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let mut writer = Writer::new();
    write(value, &mut writer);
    writer.into_bytes()
}

/// A value of another type than `value`.
fn mistyped(value: &Value) -> Vec<Value> {
    let others = match value {
        Value::Integer(_) => vec![
            Value::Text("1".into()),
            Value::Bool(true),
            Value::Integer((-1).into()),
        ],
        Value::Bytes(bytes) => vec![Value::Text("x".repeat(bytes.len())), Value::Array(vec![])],
        Value::Text(text) => vec![Value::Bytes(text.clone().into_bytes()), Value::Map(vec![])],
        Value::Array(_) => vec![Value::Map(vec![]), Value::Integer(1.into())],
        Value::Map(_) => vec![Value::Array(vec![]), Value::Integer(1.into())],
        _ => vec![Value::Integer(1.into()), Value::Text("true".into())],
    };
    others
        .into_iter()
        .chain([Value::Float(1.5), Value::Tag(1, Box::new(value.clone()))])
        .collect()
}

fn emptied(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Bytes(_) => Value::Bytes(vec![]),
        Value::Text(_) => Value::Text(String::new()),
        Value::Array(_) => Value::Array(vec![]),
        Value::Map(_) => Value::Map(vec![]),
        _ => return None,
    })
}

fn oversized(value: &Value) -> Option<Value> {
    const HUGE: usize = 2 * 1024 * 1024 + 1;
    Some(match value {
        Value::Integer(_) => Value::Tag(2, Box::new(Value::Bytes(vec![1, 0, 0, 0, 0, 0, 0, 0, 0]))),
        Value::Bytes(_) => Value::Bytes(vec![b'x'; HUGE]),
        Value::Text(_) => Value::Text("x".repeat(HUGE)),
        Value::Array(items) => {
            let item = items.first().cloned().unwrap_or(Value::Integer(1.into()));
            Value::Array(vec![item; 5_000])
        }
        Value::Map(_) => Value::Map(
            (0..5_000)
                .map(|n| (Value::Text(format!("{n:04}")), Value::Text("x".into())))
                .collect(),
        ),
        _ => return None,
    })
}

/// Holds that `read` takes `good` and nothing near it: each member dropped (but those of
/// `optional`), doubled, emptied (but those of `may_be_empty`), mistyped and oversized; one member
/// more; two swapped; every truncation; one byte more. Members are numbered as the map's keys, or
/// by place, from 0, in an array.
pub(crate) fn holds_to_its_shape(
    good: &[u8],
    optional: &[i64],
    may_be_empty: &[i64],
    read: impl Fn(&[u8]) -> bool,
) {
    assert!(read(good), "the sample itself is refused");
    for end in 0..good.len() {
        assert!(!read(&good[..end]), "cut to {end} bytes");
    }
    assert!(!read(&[good, &[0]].concat()), "one byte more");

    let value: Value = ciborium::from_reader(good).unwrap();
    assert_eq!(bytes_of(&value), good, "the sample is deterministic");
    let (members, is_map) = match &value {
        Value::Map(pairs) => (pairs.clone(), true),
        Value::Array(items) => (
            (0i64..)
                .map(|n| Value::Integer(n.into()))
                .zip(items.iter().cloned())
                .collect(),
            false,
        ),
        other => panic!("neither map nor array: {other:?}"),
    };
    let refused = |members: &[(Value, Value)], what: &str| {
        let whole = if is_map {
            Value::Map(members.to_vec())
        } else {
            Value::Array(members.iter().map(|(_, value)| value.clone()).collect())
        };
        assert!(!read(&bytes_of(&whole)), "{what} is accepted");
    };
    for (index, (key, value)) in members.iter().enumerate() {
        let number = i64::try_from(key.as_integer().unwrap()).unwrap();
        let replaced = |with: Value| {
            let mut members = members.clone();
            members[index].1 = with;
            members
        };
        if !optional.contains(&number) {
            let mut dropped = members.clone();
            dropped.remove(index);
            refused(&dropped, &format!("member {number} dropped"));
        }
        let mut doubled = members.clone();
        doubled.insert(index, doubled[index].clone());
        refused(&doubled, &format!("member {number} doubled"));
        if is_map && index > 0 {
            let mut swapped = members.clone();
            swapped.swap(index - 1, index);
            refused(&swapped, &format!("member {number} before its predecessor"));
        }
        for other in mistyped(value) {
            refused(
                &replaced(other.clone()),
                &format!("member {number} as {other:?}"),
            );
        }
        if let Some(empty) =
            emptied(value).filter(|empty| empty != value && !may_be_empty.contains(&number))
        {
            refused(&replaced(empty), &format!("member {number} emptied"));
        }
        if let Some(huge) = oversized(value) {
            refused(&replaced(huge), &format!("member {number} oversized"));
        }
    }
    let mut more = members.clone();
    more.push((Value::Integer(99.into()), Value::Null));
    refused(&more, "an unknown member");
}

/// As [`holds_to_its_shape`] for a type with one encoding; also holds that it is read back as it was.
pub(crate) fn strict<T>(sample: &T, optional: &[i64], may_be_empty: &[i64])
where
    T: crate::cbor::Encode + crate::cbor::Decode + PartialEq + std::fmt::Debug,
{
    let bytes = sample.to_cbor();
    assert_eq!(T::from_cbor(&bytes, usize::MAX).as_ref(), Ok(sample));
    holds_to_its_shape(&bytes, optional, may_be_empty, |bytes| {
        T::from_cbor(bytes, usize::MAX).is_ok()
    });
}
