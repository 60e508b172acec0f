//! Closed maps as tables: one row per member, from which the struct, its encoder and its decoder come.
//! A decoder written by hand forgets a bound sooner or later; a row without a bound does not compile.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use crate::cbor::{Decode, DecodeError, Encode, MapReader, Reader, Writer};
use crate::seal::{Kem, SealingKey};

/// How one member is written and read, with its bounds.
pub(crate) trait Shape {
    type Value;

    fn write(&self, value: &Self::Value, writer: &mut Writer);

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError>;

    /// Whether the member is written at all.
    fn present(&self, _value: &Self::Value) -> bool {
        true
    }

    /// Reads the member of a closed map.
    fn member(&self, map: &mut MapReader<'_, '_>, key: i64) -> Result<Self::Value, DecodeError> {
        map.required(key, |reader| self.read(reader))
    }
}

/// A type that has its own encoding.
pub(crate) struct Item<T>(PhantomData<T>);

pub(crate) const fn item<T>() -> Item<T> {
    Item(PhantomData)
}

impl<T: Encode + Decode> Shape for Item<T> {
    type Value = T;

    fn write(&self, value: &T, writer: &mut Writer) {
        value.encode(writer);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<T, DecodeError> {
        T::decode(reader)
    }
}

/// A byte string of so many bytes.
pub(crate) struct Bytes(pub(crate) RangeInclusive<usize>);

impl Shape for Bytes {
    type Value = Vec<u8>;

    fn write(&self, value: &Vec<u8>, writer: &mut Writer) {
        writer.bytes(value);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        reader.bytes(self.0.clone()).map(<[u8]>::to_vec)
    }
}

/// A byte string of exactly `N` bytes.
pub(crate) struct Fixed<const N: usize>;

impl<const N: usize> Shape for Fixed<N> {
    type Value = [u8; N];

    fn write(&self, value: &[u8; N], writer: &mut Writer) {
        writer.bytes(value);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
        reader.array_of()
    }
}

/// A text string of so many bytes.
pub(crate) struct Text(pub(crate) RangeInclusive<usize>);

impl Shape for Text {
    type Value = String;

    fn write(&self, value: &String, writer: &mut Writer) {
        writer.text(value);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        reader.text(self.0.clone()).map(str::to_owned)
    }
}

/// An unsigned integer within bounds.
pub(crate) struct Uint(pub(crate) RangeInclusive<u64>);

/// Any unsigned integer.
pub(crate) const UINT: Uint = Uint(0..=u64::MAX);

impl Shape for Uint {
    type Value = u64;

    fn write(&self, value: &u64, writer: &mut Writer) {
        writer.uint(*value);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
        let value = reader.uint()?;
        if self.0.contains(&value) {
            Ok(value)
        } else {
            Err(DecodeError::OutOfRange("number"))
        }
    }
}

/// A boolean.
pub(crate) struct Bool;

impl Shape for Bool {
    type Value = bool;

    fn write(&self, value: &bool, writer: &mut Writer) {
        writer.bool(*value);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        reader.bool()
    }
}

/// A map of text to text: most pairs, longest key, longest value.
pub(crate) struct TextMap(pub(crate) usize, pub(crate) usize, pub(crate) usize);

impl Shape for TextMap {
    type Value = BTreeMap<String, String>;

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        writer.text_map(value);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        reader.text_map(self.0, self.1, self.2)
    }
}

/// An array of so many items.
pub(crate) struct List<S>(pub(crate) RangeInclusive<usize>, pub(crate) S);

impl<S: Shape> Shape for List<S> {
    type Value = Vec<S::Value>;

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        writer.array(value.len());
        value.iter().for_each(|item| self.1.write(item, writer));
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        reader.list(self.0.clone(), |reader| self.1.read(reader))
    }
}

/// An array whose items ascend, so that a set has one encoding.
pub(crate) struct Ascending<S>(pub(crate) RangeInclusive<usize>, pub(crate) S);

impl<S: Shape<Value: Ord>> Shape for Ascending<S> {
    type Value = Vec<S::Value>;

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        writer.array(value.len());
        value.iter().for_each(|item| self.1.write(item, writer));
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        let items = reader.list(self.0.clone(), |reader| self.1.read(reader))?;
        // rule: ENC-1
        if items.is_sorted_by(|a, b| a < b) {
            Ok(items)
        } else {
            Err(DecodeError::NotDeterministic)
        }
    }
}

/// An array of exactly two items.
pub(crate) struct Pair<A, B>(pub(crate) A, pub(crate) B);

impl<A: Shape, B: Shape> Shape for Pair<A, B> {
    type Value = (A::Value, B::Value);

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        writer.array(2);
        self.0.write(&value.0, writer);
        self.1.write(&value.1, writer);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        reader.array(2..=2)?;
        Ok((self.0.read(reader)?, self.1.read(reader)?))
    }
}

/// The item, or null.
pub(crate) struct OrNull<S>(pub(crate) S);

impl<S: Shape> Shape for OrNull<S> {
    type Value = Option<S::Value>;

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        match value {
            Some(value) => self.0.write(value, writer),
            None => {
                writer.null();
            }
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        reader.optional(|reader| self.0.read(reader))
    }
}

/// A member that may be left out.
pub(crate) struct Maybe<S>(pub(crate) S);

impl<S: Shape> Shape for Maybe<S> {
    type Value = Option<S::Value>;

    fn write(&self, value: &Self::Value, writer: &mut Writer) {
        if let Some(value) = value {
            self.0.write(value, writer);
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Self::Value, DecodeError> {
        self.0.read(reader).map(Some)
    }

    fn present(&self, value: &Self::Value) -> bool {
        value.is_some()
    }

    fn member(&self, map: &mut MapReader<'_, '_>, key: i64) -> Result<Self::Value, DecodeError> {
        map.optional(key, |reader| self.0.read(reader))
    }
}

/// A member that is left out where it is what is usual, and refused where it says that all the same: there is one
/// encoding (ENC-1).
pub(crate) struct Usual<T>(PhantomData<T>);

pub(crate) const fn usual<T>() -> Usual<T> {
    Usual(PhantomData)
}

impl<T: Encode + Decode + Default + PartialEq> Shape for Usual<T> {
    type Value = T;

    fn write(&self, value: &T, writer: &mut Writer) {
        if self.present(value) {
            value.encode(writer);
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<T, DecodeError> {
        let value = T::decode(reader)?;
        if self.present(&value) {
            Ok(value)
        } else {
            Err(DecodeError::OutOfRange("member that says what is usual"))
        }
    }

    fn present(&self, value: &T) -> bool {
        *value != T::default()
    }

    fn member(&self, map: &mut MapReader<'_, '_>, key: i64) -> Result<T, DecodeError> {
        let value = map.optional(key, |reader| self.read(reader))?;
        Ok(value.unwrap_or_default())
    }
}

/// A struct that travels as a closed map (ENC-3). Rows stand in ascending key order.
macro_rules! closed_map {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* $key:literal $field:ident: $type:ty = $shape:expr;)*
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::cbor::Encode for $name {
            fn encode(&self, writer: &mut $crate::cbor::Writer) {
                #[allow(unused_imports)]
                use $crate::messages::shape::Shape as _;
                let members = 0usize $(+ usize::from($shape.present(&self.$field)))*;
                writer.map(members);
                $(
                    if $shape.present(&self.$field) {
                        writer.int($key);
                        $shape.write(&self.$field, writer);
                    }
                )*
            }
        }

        impl $crate::cbor::Decode for $name {
            fn decode(reader: &mut $crate::cbor::Reader<'_>) -> Result<Self, $crate::cbor::DecodeError> {
                #[allow(unused_imports)]
                use $crate::messages::shape::Shape as _;
                // rule: ENC-3
                const MEMBERS: usize = [$($key as i64,)* 0i64].len() - 1;
                #[allow(unused_mut)]
                let mut map = reader.map(MEMBERS)?;
                let value = Self { $($field: $shape.member(&mut map, $key)?,)* };
                map.end()?;
                Ok(value)
            }
        }
    };
}
pub(crate) use closed_map;

/// A closed enumeration that travels as its number.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $name:ident($what:literal) {
            $($(#[$variant_meta:meta])* $variant:ident = $number:literal, $word:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number,)*
        }

        impl $name {
            /// All of them, by ascending number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its number on the wire.
            #[must_use]
            pub fn number(self) -> u64 {
                match self { $(Self::$variant => $number,)* }
            }

            /// The one of this number.
            #[must_use]
            pub fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its word.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::cbor::Encode for $name {
            fn encode(&self, writer: &mut $crate::cbor::Writer) {
                writer.uint(self.number());
            }
        }

        impl $crate::cbor::Decode for $name {
            fn decode(reader: &mut $crate::cbor::Reader<'_>) -> Result<Self, $crate::cbor::DecodeError> {
                Self::from_number(reader.uint()?).ok_or($crate::cbor::DecodeError::OutOfRange($what))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use numbered;

/// A sealing key that is always X-Wing.
pub(crate) struct XWingKey;

pub(crate) const XWING_KEY: XWingKey = XWingKey;

impl Shape for XWingKey {
    type Value = SealingKey;

    fn write(&self, value: &SealingKey, writer: &mut Writer) {
        value.encode(writer);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<SealingKey, DecodeError> {
        SealingKey::decode_as(Kem::XWing, reader)
    }
}
