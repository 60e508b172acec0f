//! Bends inputs: as bytes, and as what they are.

use crate::der;
use crate::drive::LONGEST;
use crate::nest;
use crate::rng::Chance;
use crate::text;
use crate::tree::{Item, put_head};

/// What a target's inputs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// CBOR, also within byte strings.
    Cbor,
    /// Lines and words.
    Text,
    /// BER or DER, in base64 with or without PEM's lines.
    Der,
    /// Nothing that we know.
    Bytes,
}

/// Where bounds and sizes lie.
pub const NUMBERS: [u64; 26] = [
    0,
    1,
    2,
    7,
    15,
    16,
    17,
    23,
    24,
    31,
    32,
    33,
    63,
    64,
    65,
    255,
    256,
    1_000,
    1_001,
    65_535,
    65_536,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Lengths of strings that mean something: keys, ids, hashes, encapsulations.
const LENGTHS: [usize; 14] = [
    0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 1_119, 1_120, 1_216, 5_000,
];

const TEXTS: [&[u8]; 12] = [
    b"",
    b"\0",
    b"\n",
    b"..",
    b"../../etc/passwd",
    b"a\0b",
    b"\xff\xfe",
    "\u{202e}\u{200b}".as_bytes(),
    "\u{e9}\u{65}\u{301}".as_bytes(),
    b"\x1b[2J",
    b" padded ",
    b"%s%n{}",
];

/// One more input, made of `data` and, now and then, of a part of another of `others`. At most `most` bytes.
#[must_use]
pub fn mutate(
    data: &[u8],
    others: &[Vec<u8>],
    form: Form,
    most: usize,
    chance: &mut Chance,
) -> Vec<u8> {
    let bent = if chance.one_in(4) {
        bytes(data, others, chance)
    } else {
        let known = match form {
            Form::Cbor => cbor(data, others, chance),
            Form::Text => text::mutate(data, others, chance),
            Form::Der => der::mutate(data, chance),
            Form::Bytes => None,
        };
        known.unwrap_or_else(|| bytes(data, others, chance))
    };
    let mut bent = bent;
    bent.truncate(most);
    bent
}

/// Bends bytes that may be anything.
#[must_use]
pub fn bytes(data: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..=chance.below(3) {
        let at = chance.below(out.len() + 1);
        let to = at + chance.below((out.len() - at).min(64) + 1);
        match chance.below(9) {
            0 | 1 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            2 => {
                let with = *chance
                    .pick(&[0, 1, 0x7f, 0x80, 0xff, 0x5f, 0x9f, 0xbf, 0xf6])
                    .unwrap_or(&0);
                if let Some(byte) = out.get_mut(at) {
                    *byte = with;
                }
            }
            3 => drop(out.drain(at..to)),
            4 => {
                let again = out[at..to].to_vec();
                out.splice(at..at, again);
            }
            5 => out.truncate(at),
            6 => {
                let number = chance
                    .pick(&NUMBERS)
                    .copied()
                    .unwrap_or_default()
                    .to_be_bytes();
                let from = 8 - (1 << chance.below(4));
                let end = (at + 8 - from).min(out.len());
                out.splice(at..end, number[from..].iter().copied());
            }
            7 => {
                let more: Vec<u8> = (0..chance.below(16))
                    .map(|_| chance.bits().to_le_bytes()[0])
                    .collect();
                out.splice(at..at, more);
            }
            _ => {
                if let Some(other) = chance.pick(others) {
                    let from = chance.below(other.len() + 1);
                    out.truncate(at);
                    out.extend_from_slice(&other[from..]);
                }
            }
        }
    }
    out
}

/// Bends an item; none where `data` is none.
fn cbor(data: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Option<Vec<u8>> {
    let mut item = Item::read(data)?;
    for _ in 0..=chance.below(3) {
        let number = chance.below(item.count());
        let change = Change::any(chance);
        if let Some(at) = item.at(number) {
            bend(at, change, others, chance);
        }
    }
    Some(item.to_bytes())
}

/// What can be done to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One of its parts goes.
    Drop,
    /// One of its parts stands twice.
    Double,
    /// Two of its parts change places.
    Swap,
    /// Another value of its type.
    Value,
    /// Nothing is left in it.
    Empty,
    /// Another type.
    Retype,
    /// Within arrays or tags.
    Nest,
    /// Something else in its place, out of another input.
    Splice,
    /// Its head lies, or is not the shortest.
    Head,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Drop,
        Self::Double,
        Self::Swap,
        Self::Value,
        Self::Empty,
        Self::Retype,
        Self::Nest,
        Self::Splice,
        Self::Head,
    ];

    fn any(chance: &mut Chance) -> Self {
        chance.pick(&Self::ALL).copied().unwrap_or(Self::Value)
    }
}

/// Does one thing to an item, where it can be done to it.
pub fn bend(item: &mut Item, change: Change, others: &[Vec<u8>], chance: &mut Chance) {
    match change {
        Change::Drop => match item {
            Item::Array(items) if !items.is_empty() => {
                drop(items.remove(chance.below(items.len())))
            }
            Item::Map(pairs) if !pairs.is_empty() => drop(pairs.remove(chance.below(pairs.len()))),
            _ => value(item, chance),
        },
        Change::Double => match item {
            Item::Array(items) if !items.is_empty() => {
                let again = items[chance.below(items.len())].clone();
                let room = LONGEST / again.to_bytes().len().max(1);
                let times = if chance.one_in(8) { room.min(1_100) } else { 1 };
                items.extend(std::iter::repeat_n(again, times));
            }
            Item::Map(pairs) if !pairs.is_empty() => {
                let at = chance.below(pairs.len());
                let mut again = pairs[at].clone();
                if chance.one_in(2) {
                    value(&mut again.0, chance);
                }
                pairs.insert(at, again);
            }
            _ => value(item, chance),
        },
        Change::Swap => match item {
            Item::Array(items) if items.len() > 1 => {
                let (a, b) = (chance.below(items.len()), chance.below(items.len()));
                items.swap(a, b);
            }
            Item::Map(pairs) if pairs.len() > 1 => {
                let (a, b) = (chance.below(pairs.len()), chance.below(pairs.len()));
                if chance.one_in(2) {
                    pairs.swap(a, b);
                } else {
                    // The keys stay in order, what they name does not.
                    let held = pairs[a].1.clone();
                    pairs[a].1 = std::mem::replace(&mut pairs[b].1, held);
                }
            }
            _ => value(item, chance),
        },
        Change::Value => value(item, chance),
        Change::Empty => empty(item),
        Change::Retype => *item = other_type(item, chance),
        Change::Nest => {
            let depth = *chance.pick(&[1, 2, 7, 8, 9, 17, 300]).unwrap_or(&1);
            let inner = item.to_bytes();
            *item = Item::Raw(nest::around(
                nest::OPENERS[chance.below(nest::OPENERS.len())],
                depth,
                &inner,
            ));
        }
        Change::Splice => {
            let other = chance.pick(others).and_then(|other| Item::read(other));
            if let Some(mut other) = other {
                let number = chance.below(other.count());
                if let Some(part) = other.at(number) {
                    *item = part.clone();
                }
            }
        }
        Change::Head => *item = Item::Raw(lying(item, chance)),
    }
}

fn value(item: &mut Item, chance: &mut Chance) {
    match item {
        Item::Number(negative, argument) => match chance.below(4) {
            0 => *argument = argument.wrapping_add(1),
            1 => *argument = argument.wrapping_sub(1),
            2 => *negative = !*negative,
            _ => *argument = chance.pick(&NUMBERS).copied().unwrap_or_default(),
        },
        Item::Bytes(bytes) => string(bytes, chance),
        Item::Text(bytes) => {
            if chance.one_in(2) {
                *bytes = chance.pick(&TEXTS).copied().unwrap_or_default().to_vec();
            } else {
                string(bytes, chance);
            }
        }
        Item::Simple(value) => *value = *chance.pick(&[20, 21, 22, 23, 0, 19]).unwrap_or(&22),
        Item::Tag(tag, _) => *tag = *chance.pick(&[0, 2, 16, 17, 18, 24, 61, 98]).unwrap_or(&0),
        Item::Within(inner) => {
            let mut bytes = inner.to_bytes();
            string(&mut bytes, chance);
            *item = Item::Bytes(bytes);
        }
        Item::Array(_) | Item::Map(_) | Item::Raw(_) => empty(item),
    }
}

fn string(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let at = chance.below(bytes.len());
    match chance.below(7) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
        // The next digit or letter: a text stays one of its form.
        6 if !bytes.is_empty() => bytes[at] ^= 1,
        2 => bytes.truncate(at),
        3 => bytes.resize(*chance.pick(&LENGTHS).unwrap_or(&0), b'a'),
        4 => bytes.fill(*chance.pick(&[0, 0xff, b'a']).unwrap_or(&0)),
        _ => bytes.insert(at.min(bytes.len()), b'0'),
    }
}

fn empty(item: &mut Item) {
    match item {
        Item::Number(_, argument) => *argument = 0,
        Item::Bytes(bytes) | Item::Text(bytes) | Item::Raw(bytes) => bytes.clear(),
        Item::Within(_) => *item = Item::Bytes(Vec::new()),
        Item::Array(items) => items.clear(),
        Item::Map(pairs) => pairs.clear(),
        Item::Tag(_, content) => **content = Item::Simple(22),
        Item::Simple(value) => *value = 22,
    }
}

fn other_type(item: &Item, chance: &mut Chance) -> Item {
    let number = chance.pick(&NUMBERS).copied().unwrap_or_default();
    match chance.below(10) {
        0 => Item::Number(false, number),
        1 => Item::Number(true, number),
        2 => Item::Bytes(item.to_bytes()),
        3 => Item::Text(b"1".to_vec()),
        4 => Item::Array(vec![item.clone()]),
        5 => Item::Map(vec![(item.clone(), item.clone())]),
        6 => Item::Simple(*chance.pick(&[20, 21, 22, 23]).unwrap_or(&22)),
        7 => Item::Tag(18, Box::new(item.clone())),
        // A half, a single and a double float; the double is the number that stood there.
        8 => Item::Raw(
            chance
                .pick(&[vec![0xf9, 0x3c, 0], vec![0xfa, 0x7f, 0xc0, 0, 0]])
                .cloned()
                .unwrap_or_default(),
        ),
        _ => {
            let mut float = vec![0xfb];
            #[allow(clippy::cast_precision_loss)] // a float is what is wanted
            let value = if let Item::Number(_, argument) = item {
                *argument as f64
            } else {
                1.0
            };
            float.extend_from_slice(&value.to_bits().to_be_bytes());
            Item::Raw(float)
        }
    }
}

/// The item with another head: too long, of indefinite length, or of more than there is.
fn lying(item: &Item, chance: &mut Chance) -> Vec<u8> {
    let (major, argument, rest) = match item {
        Item::Number(negative, argument) => (u8::from(*negative), *argument, Vec::new()),
        Item::Bytes(bytes) => (2, bytes.len() as u64, bytes.clone()),
        Item::Within(inner) => {
            let bytes = inner.to_bytes();
            (2, bytes.len() as u64, bytes)
        }
        Item::Text(bytes) => (3, bytes.len() as u64, bytes.clone()),
        Item::Array(items) => (
            4,
            items.len() as u64,
            items.iter().flat_map(Item::to_bytes).collect(),
        ),
        Item::Map(pairs) => {
            let both = |(key, value): &(Item, Item)| [key.to_bytes(), value.to_bytes()].concat();
            (5, pairs.len() as u64, pairs.iter().flat_map(both).collect())
        }
        Item::Tag(tag, content) => (6, *tag, content.to_bytes()),
        Item::Simple(value) => (7, u64::from(*value), Vec::new()),
        Item::Raw(bytes) => return bytes.clone(),
    };
    let mut out = Vec::with_capacity(rest.len() + 10);
    match chance.below(4) {
        // Not the shortest: RFC 8949, 4.2.1.
        0 => {
            out.push(major << 5 | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
        1 if (2..=5).contains(&major) => {
            out.push(major << 5 | 31);
            out.extend_from_slice(&rest);
            out.push(0xff);
            return out;
        }
        2 => put_head(&mut out, major, argument.saturating_add(1)),
        _ => put_head(
            &mut out,
            major,
            chance.pick(&NUMBERS).copied().unwrap_or_default(),
        ),
    }
    out.extend_from_slice(&rest);
    out
}
