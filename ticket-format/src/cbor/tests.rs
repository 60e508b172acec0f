use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn vectors(text: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(text).unwrap()
}

fn hex_of(vector: &serde_json::Value) -> Vec<u8> {
    unhex(vector["hex"].as_str().unwrap())
}

#[test]
fn bytes_that_are_not_well_formed_are_refused() {
    // rule: ENC-1
    let all = vectors(include_str!(
        "../../../tests/vectors/cbor/not_well_formed.json"
    ));
    assert!(all.len() > 50);
    for vector in all {
        assert!(validate(&hex_of(&vector), LIMIT).is_err(), "{vector}");
    }
}

#[test]
fn bytes_that_are_well_formed_and_not_deterministic_are_refused() {
    // rule: ENC-1
    let all = vectors(include_str!(
        "../../../tests/vectors/cbor/not_deterministic.json"
    ));
    assert!(all.len() > 30);
    for vector in all {
        assert!(validate(&hex_of(&vector), LIMIT).is_err(), "{vector}");
    }
}

#[test]
fn of_the_examples_of_rfc_8949_exactly_the_ones_in_our_subset_are_accepted() {
    // rule: ENC-1
    fn ours(value: &ciborium::Value) -> bool {
        use ciborium::Value;
        match value {
            Value::Integer(_) | Value::Bytes(_) | Value::Text(_) | Value::Bool(_) | Value::Null => {
                true
            }
            Value::Array(items) => items.iter().all(ours),
            Value::Map(pairs) => pairs.iter().all(|(key, value)| ours(key) && ours(value)),
            _ => false,
        }
    }
    let mut accepted = 0;
    for vector in vectors(include_str!("../../../tests/vectors/cbor/appendix_a.json")) {
        let bytes = hex_of(&vector);
        let shortest = vector["roundtrip"] == true;
        // Bignums within 64 bits and `undefined` read as plain values elsewhere: their heads tell.
        let plain = !matches!(bytes[0], 0xc2 | 0xc3 | 0xf7);
        let expected =
            shortest && plain && ciborium::from_reader(&bytes[..]).is_ok_and(|value| ours(&value));
        assert_eq!(validate(&bytes, LIMIT).is_ok(), expected, "{vector}");
        accepted += usize::from(expected);
    }
    assert_eq!(accepted, 28);
}

#[test]
fn cve_2020_28196_sixty_four_kibibytes_of_nesting_are_refused_in_constant_stack() {
    // rule: ENC-2
    for head in [0x81, 0xd2, 0xa1, 0x9f, 0x5f] {
        assert!(validate(&vec![head; 64 * 1024], LIMIT).is_err(), "{head:x}");
    }
    assert_eq!(
        validate(&[0x81; 64 * 1024], LIMIT),
        Err(DecodeError::TooDeep)
    );
    assert_eq!(
        validate(&[0xd2; 64 * 1024], LIMIT),
        Err(DecodeError::TooDeep)
    );
}

#[test]
fn nesting_is_followed_to_the_cap_and_not_beyond() {
    // rule: ENC-2
    let nested = |depth: usize| [vec![0x81; depth - 1], vec![0x80]].concat();
    assert_eq!(validate(&nested(MAX_DEPTH), LIMIT), Ok(()));
    assert_eq!(
        validate(&nested(MAX_DEPTH + 1), LIMIT),
        Err(DecodeError::TooDeep)
    );
}

#[test]
fn cve_2023_36054_a_declared_length_allocates_nothing() {
    // rule: ENC-2
    for head in [
        "9bffffffffffffffff",
        "bbffffffffffffffff",
        "5bffffffffffffffff",
        "7bffffffffffffffff",
        "9affffffff",
    ] {
        assert!(validate(&unhex(head), LIMIT).is_err(), "{head}");
        assert!(
            Reader::new(&unhex(head)).list(.., Reader::uint).is_err(),
            "{head}"
        );
    }
}

#[test]
fn more_bytes_than_the_limit_are_refused_before_they_are_read() {
    // rule: ENC-2
    assert_eq!(validate(&[0x80, 0x80], 1), Err(DecodeError::TooLarge));
    assert_eq!(
        crate::ids::TicketHash::from_cbor(&[0; 40], 34),
        Err(DecodeError::TooLarge)
    );
}

#[test]
fn bytes_after_the_item_are_refused() {
    // rule: ENC-1
    assert_eq!(
        validate(&[0x80, 0x80], LIMIT),
        Err(DecodeError::TrailingBytes)
    );
}

/// `{1: 7, 2: "a"}`.
fn two_members(bytes: &[u8]) -> Result<(u64, String), DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut map = reader.map(2)?;
    let found = (
        map.required(1, Reader::uint)?,
        map.required(2, |r| r.text(..=4).map(str::to_owned))?,
    );
    map.end()?;
    reader.finish()?;
    Ok(found)
}

#[test]
fn a_closed_map_is_read_in_its_one_order_and_no_other() {
    // rule: ENC-3
    assert_eq!(two_members(&unhex("a20107026161")), Ok((7, "a".to_owned())));
    assert_eq!(two_members(&unhex("a10107")), Err(DecodeError::Missing(2)));
    assert_eq!(
        two_members(&unhex("a1026161")),
        Err(DecodeError::Missing(1))
    );
    assert_eq!(two_members(&unhex("a0")), Err(DecodeError::Missing(1)));
    for (bad, why) in [
        ("a20261610107", "keys out of order"),
        ("a2010701076161", "key doubled"),
        ("a3010702616103f6", "one member more"),
        ("a20107036161", "another member"),
        ("a2010720f6", "another member, negative"),
        ("a20107613261", "text key"),
        ("a201070200", "mistyped"),
        ("a2010702656161616161", "too long"),
        ("bf0107026161ff", "indefinite"),
        ("a2010702616100", "bytes after"),
    ] {
        assert!(two_members(&unhex(bad)).is_err(), "{why}");
    }
}

#[test]
fn a_text_map_is_written_with_shorter_keys_first_and_read_in_that_order_only() {
    // rule: ENC-1
    let pairs = BTreeMap::from([
        ("aa".to_owned(), "1".to_owned()),
        ("b".to_owned(), "2".to_owned()),
    ]);
    let mut writer = Writer::new();
    writer.text_map(&pairs);
    let bytes = writer.into_bytes();
    assert_eq!(bytes, unhex("a2616261326261616131"));
    assert_eq!(Reader::new(&bytes).text_map(2, 2, 1), Ok(pairs));
    for bad in [
        "a262616161316162 6132",
        "a2616261326162 6131",
        "a16062 6161",
        "a26162613262616162 6161",
    ] {
        assert!(
            Reader::new(&unhex(&bad.replace(' ', "")))
                .text_map(2, 2, 1)
                .is_err(),
            "{bad}"
        );
    }
    assert!(
        Reader::new(&bytes).text_map(1, 2, 1).is_err(),
        "more pairs than allowed"
    );
}

#[test]
fn a_text_map_handed_out_pair_by_pair_gives_the_bytes_that_were_read() {
    // rule: ENC-4
    let bytes = unhex("a26162613262616161310f");
    let mut seen = Vec::new();
    let mut reader = Reader::new(&bytes);
    let raw = reader
        .text_pairs(2, 2, 1, |key, value| seen.push((key, value)))
        .unwrap();
    assert_eq!((raw, seen), (&bytes[..10], vec![("b", "2"), ("aa", "1")]));
    assert_eq!(reader.uint(), Ok(15));
}

/// Any value of our subset, map keys ascending.
fn item() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|n| written(|w| w.uint(n))),
        any::<i64>().prop_map(|n| written(|w| w.int(n))),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|b| written(|w| w.bytes(&b))),
        ".{0,40}".prop_map(|t| written(|w| w.text(&t))),
        any::<bool>().prop_map(|b| written(|w| w.bool(b))),
        Just(written(Writer::null)),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                let mut writer = Writer::new();
                writer.array(items.len());
                items.iter().for_each(|item| _ = writer.raw(item));
                writer.into_bytes()
            }),
            proptest::collection::btree_map(inner.clone(), inner, 0..4).prop_map(|pairs| {
                let mut writer = Writer::new();
                writer.map(pairs.len());
                pairs
                    .iter()
                    .for_each(|(key, value)| _ = writer.raw(key).raw(value));
                writer.into_bytes()
            }),
        ]
    })
}

fn written(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes()
}

proptest! {
    #[test]
    fn what_is_written_is_deterministic_and_every_truncation_of_it_is_not(bytes in item()) {
        // rule: ENC-1
        prop_assert_eq!(validate(&bytes, LIMIT), Ok(()));
        for end in 0..bytes.len() {
            prop_assert!(validate(&bytes[..end], LIMIT).is_err());
        }
    }

    #[test]
    fn what_is_accepted_is_written_back_the_same_by_another_encoder(bytes in item()) {
        let value: ciborium::Value = ciborium::from_reader(&bytes[..]).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&value, &mut again).unwrap();
        prop_assert_eq!(bytes, again);
    }

    #[test]
    fn arbitrary_bytes_are_accepted_only_if_they_are_the_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if validate(&bytes, LIMIT).is_ok() {
            let value: ciborium::Value = ciborium::from_reader(&bytes[..]).unwrap();
            let mut again = Vec::new();
            ciborium::into_writer(&value, &mut again).unwrap();
            prop_assert_eq!(bytes, again);
        }
    }

    #[test]
    fn integers_strings_and_booleans_are_read_back(n in any::<u64>(), i in any::<i64>(), b in proptest::collection::vec(any::<u8>(), 0..300), t in ".{0,40}", flag: bool) {
        let bytes = written(|w| w.uint(n).int(i).bytes(&b).text(&t).bool(flag).optional_bytes(None));
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.uint(), Ok(n));
        prop_assert_eq!(reader.int(), Ok(i));
        prop_assert_eq!(reader.bytes(..), Ok(&b[..]));
        prop_assert_eq!(reader.text(..), Ok(&t[..]));
        prop_assert_eq!(reader.bool(), Ok(flag));
        prop_assert_eq!(reader.optional(Reader::uint), Ok(None));
        prop_assert_eq!(reader.finish(), Ok(()));
    }
}
