//! What stands beside a body: user metadata of S3, the header of a file, the name.

use client::object::container::{self, ContainerError};
use client::object::metadata::{Context, MAX_USER_METADATA, MetadataError, NAME, ObjectMetadata};
use proptest::prelude::*;

fn context(pairs: &[(&str, &str)]) -> Context {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn sample() -> ObjectMetadata {
    ObjectMetadata {
        wrapped: vec![0xfb; 150],
        kek_version: 3,
        stored_context: context(&[("project", "alpha")]),
        recoveries: Vec::new(),
    }
}

fn parse(pairs: &[(&'static str, String)]) -> Result<ObjectMetadata, MetadataError> {
    ObjectMetadata::parse(pairs.iter().map(|(k, v)| (*k, v.as_str())))
}

/// The pairs with the value of `name` replaced.
fn with(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    let mut pairs = sample().encode().unwrap();
    pairs.retain(|(k, _)| *k != name);
    pairs.push((name, value.to_owned()));
    pairs
}

/// rule: OBJ-10
#[test]
fn metadata_comes_back_and_is_plain_ascii() {
    let pairs = sample().encode().unwrap();
    let names: Vec<_> = pairs.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "postern-format",
            "postern-dek",
            "postern-kek",
            "postern-context"
        ]
    );
    assert!(
        pairs
            .iter()
            .all(|(_, value)| value.bytes().all(|b| b.is_ascii_graphic()))
    );
    assert_eq!(parse(&pairs), Ok(sample()));
}

#[test]
fn an_empty_stored_context_takes_no_room() {
    let metadata = ObjectMetadata {
        stored_context: Context::new(),
        ..sample()
    };
    let pairs = metadata.encode().unwrap();
    assert_eq!(pairs.len(), 3);
    assert_eq!(parse(&pairs), Ok(metadata));
}

#[test]
fn other_programs_metadata_is_left_alone_and_case_does_not_matter() {
    let pairs = sample().encode().unwrap();
    let shouted: Vec<_> = pairs
        .iter()
        .map(|(k, v)| (k.to_uppercase(), v.clone()))
        .collect();
    let mut all: Vec<_> = shouted
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    all.push(("mtime", "1700000000"));
    assert_eq!(ObjectMetadata::parse(all), Ok(sample()));
}

#[test]
fn the_longest_public_wrap_fits_with_room_for_a_context() {
    let metadata = ObjectMetadata {
        wrapped: vec![1; 1340],
        kek_version: u64::from(u32::MAX),
        stored_context: context(&[("project", &"x".repeat(100))]),
        recoveries: Vec::new(),
    };
    assert_eq!(parse(&metadata.encode().unwrap()), Ok(metadata));
}

/// rule: OBJ-10
#[test]
fn metadata_over_the_limit_says_by_how_much() {
    let len = |m: &ObjectMetadata| -> usize {
        m.encode()
            .unwrap()
            .iter()
            .map(|(k, v)| k.len() + v.len())
            .sum()
    };
    let mut metadata = ObjectMetadata {
        wrapped: vec![1; 1000],
        ..sample()
    };
    let mut value = String::new();
    loop {
        metadata.stored_context = context(&[("v", &value)]);
        match metadata.encode() {
            Ok(_) => assert!(len(&metadata) <= MAX_USER_METADATA),
            Err(error) => {
                assert!(
                    matches!(error, MetadataError::TooLarge { over: 1..=2 }),
                    "{error:?}"
                );
                break;
            }
        }
        value.push('x');
    }
    value.push_str(&"x".repeat(300));
    metadata.stored_context = context(&[("v", &value)]);
    let text = metadata.encode().unwrap_err().to_string();
    assert!(text.contains("40") && text.contains("2048"), "{text}");
}

#[test]
fn contexts_and_wraps_out_of_bounds_are_not_written() {
    let refuse = |stored_context: Context| {
        let metadata = ObjectMetadata {
            stored_context,
            ..sample()
        };
        assert_eq!(metadata.encode(), Err(MetadataError::ContextLimit));
        let refused = ContainerError::Metadata(MetadataError::ContextLimit);
        assert_eq!(container::encode(&metadata), Err(refused));
    };
    refuse(context(&[("", "v")]));
    refuse(context(&[(&"k".repeat(65), "v")]));
    refuse(context(&[("k", &"v".repeat(1025))]));
    refuse((0..17).map(|i| (i.to_string(), String::new())).collect());
    for len in [0, 1401] {
        let metadata = ObjectMetadata {
            wrapped: vec![0; len],
            ..sample()
        };
        assert_eq!(metadata.encode(), Err(MetadataError::WrappedLength(len)));
        let refused = ContainerError::Metadata(MetadataError::WrappedLength(len));
        assert_eq!(container::encode(&metadata), Err(refused));
    }
}

/// rule: OBJ-10
#[test]
fn each_damaged_value_is_refused_by_its_name() {
    use MetadataError as E;
    for name in ["postern-format", "postern-dek", "postern-kek"] {
        let mut pairs = sample().encode().unwrap();
        pairs.retain(|(k, _)| *k != name);
        let refused = if name == "postern-format" {
            E::NotEncrypted
        } else {
            E::Missing(name)
        };
        assert_eq!(parse(&pairs), Err(refused));
    }
    for name in [
        "postern-format",
        "postern-dek",
        "postern-kek",
        "postern-context",
    ] {
        let mut pairs = sample().encode().unwrap();
        let doubled = pairs.iter().find(|(k, _)| *k == name).unwrap().clone();
        pairs.push(doubled);
        assert_eq!(parse(&pairs), Err(E::Doubled(name)));
    }
    for format in ["", "0", "2", "01", "1 "] {
        assert_eq!(
            parse(&with("postern-format", format)),
            Err(E::UnknownFormat)
        );
    }
    for dek in ["AAAA=", "AA==", "+/+/", "A", "AAB", "é", "AA AA"] {
        assert_eq!(
            parse(&with("postern-dek", dek)),
            Err(E::Malformed("postern-dek")),
            "{dek}"
        );
    }
    assert_eq!(parse(&with("postern-dek", "")), Err(E::WrappedLength(0)));
    let long = "A".repeat(1868);
    assert_eq!(
        parse(&with("postern-dek", &long)),
        Err(E::WrappedLength(1401))
    );
    let longer = "A".repeat(4000);
    assert_eq!(
        parse(&with("postern-dek", &longer)),
        Err(E::Malformed("postern-dek"))
    );
    for kek in ["", "-1", "+1", "01", "1.0", "18446744073709551616", " 1"] {
        assert_eq!(
            parse(&with("postern-kek", kek)),
            Err(E::Malformed("postern-kek")),
            "{kek}"
        );
    }
    // Not a map; an empty map; trailing byte; keys out of order; indefinite length.
    for context in ["AA", "oWFhYWEA", "omFiYXhhYWF4", "v2FhYWH_"] {
        let refused = parse(&with("postern-context", context));
        assert!(
            matches!(refused, Err(E::Context(_))),
            "{context}: {refused:?}"
        );
    }
    assert_eq!(
        parse(&with("postern-context", "oA")),
        Err(E::Malformed("postern-context"))
    );
    let mut pairs = sample().encode().unwrap();
    pairs.push(("postern-extra", "1".to_owned()));
    assert_eq!(parse(&pairs), Err(E::UnknownName));
}

/// rule: OBJ-11
#[test]
fn an_object_asked_for_under_another_name_is_refused() {
    // rule: WRAP-5
    let asked = "s3://bucket/key";
    let unnamed = sample();
    let full = unnamed.context_for(asked).unwrap();
    assert_eq!(full, context(&[("project", "alpha"), (NAME, asked)]));
    let named = ObjectMetadata {
        stored_context: full,
        ..sample()
    };
    assert!(named.context_for(asked).is_ok());
    for other in [
        "s3://bucket/key2",
        "s3://bucket/Key",
        "s3://bucket//key",
        "",
    ] {
        let refused = named.context_for(other).unwrap_err();
        assert_eq!(
            (refused.stored.as_str(), refused.asked.as_str()),
            (asked, other)
        );
    }
}

mod containers {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<(ObjectMetadata, usize), ContainerError> {
        let len = container::map_len(&bytes[..bytes.len().min(container::PREFIX_LEN)])?;
        let end = container::PREFIX_LEN + len;
        let map = bytes
            .get(container::PREFIX_LEN..end)
            .ok_or(ContainerError::Truncated(end))?;
        Ok((container::parse(map)?, end))
    }

    /// rule: OBJ-12
    #[test]
    fn a_container_header_comes_back_and_its_body_starts_right_after_it() {
        let bytes = container::encode(&sample()).unwrap();
        assert_eq!(&bytes[..8], b"postern1");
        let with_body = [&bytes[..], b"body"].concat();
        assert_eq!(parse(&with_body), Ok((sample(), bytes.len())));
    }

    #[test]
    fn the_largest_metadata_fits_a_container() {
        let largest = ObjectMetadata {
            recoveries: Vec::new(),
            wrapped: vec![1; 1400],
            kek_version: u64::MAX,
            stored_context: (0..16)
                .map(|i| (format!("{i:0>64}"), "v".repeat(1024)))
                .collect(),
        };
        let bytes = container::encode(&largest).unwrap();
        assert_eq!(parse(&bytes), Ok((largest, bytes.len())));
    }

    /// rule: OBJ-12
    #[test]
    fn every_truncation_and_every_other_encoding_of_the_header_is_refused() {
        let bytes = container::encode(&sample()).unwrap();
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert_eq!(
            container::map_len(b"PK\x03\x04"),
            Err(ContainerError::NotAContainer)
        );
        assert_eq!(container::map_len(b""), Err(ContainerError::NotAContainer));
        assert_eq!(
            container::map_len(b"postern2\0\0"),
            Err(ContainerError::NotAContainer)
        );
        assert_eq!(
            container::map_len(b"postern1\xff\xff"),
            Err(ContainerError::TooLong(65535))
        );
        let map = &bytes[10..];
        let mut longer = map.to_vec();
        longer.push(0);
        assert!(container::parse(&longer).is_err());
        let mut four_members = map.to_vec();
        four_members[0] = 0xa4;
        assert!(container::parse(&four_members).is_err());
        let mut other_key = map.to_vec();
        other_key[1] = 2;
        assert!(container::parse(&other_key).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_to_their_one_encoding_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(metadata) = container::parse(&bytes) {
                prop_assert_eq!(&container::encode(&metadata).unwrap()[10..], &bytes[..]);
            }
        }

        #[test]
        fn a_flipped_byte_of_a_header_gives_other_metadata_or_a_refusal(
            place in 10_usize..170, mask in 1_u8..,
        ) {
            let mut bytes = container::encode(&sample()).unwrap();
            let place = place.min(bytes.len() - 1);
            bytes[place] ^= mask;
            if let Ok((metadata, _)) = parse(&bytes) {
                prop_assert_ne!(metadata, sample());
            }
        }
    }
}
