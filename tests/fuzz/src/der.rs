//! Bends BER and DER, as it stands in identity documents and in PEM files: in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::mutate;
use crate::rng::Chance;

const DEPTH: usize = 24;

/// One value: its tag's byte, whether its length was left open, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    tag: u8,
    open: bool,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    Values(Vec<Value>),
}

impl Value {
    fn read(input: &[u8], depth: usize) -> Option<(Self, usize)> {
        let (tag, first) = (*input.first()?, *input.get(1)?);
        if depth > DEPTH || tag & 31 == 31 {
            return None;
        }
        let constructed = tag & 0x20 != 0;
        if first == 0x80 {
            let (mut at, mut values) = (2, Vec::new());
            while input.get(at..at + 2)? != [0, 0] {
                let (value, used) = Self::read(input.get(at..)?, depth + 1)?;
                values.push(value);
                at += used;
            }
            let content = Content::Values(values);
            return constructed.then_some((
                Self {
                    tag,
                    open: true,
                    content,
                },
                at + 2,
            ));
        }
        let (length, start) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            let bytes = input.get(2..2 + count).filter(|_| count <= 4)?;
            (
                bytes
                    .iter()
                    .fold(0, |all, byte| all << 8 | usize::from(*byte)),
                2 + count,
            )
        };
        let end = start.checked_add(length)?;
        let bytes = input.get(start..end)?;
        let values = || {
            let (mut at, mut values) = (0, Vec::new());
            while at < bytes.len() {
                let (value, used) = Self::read(&bytes[at..], depth + 1)?;
                values.push(value);
                at += used;
            }
            Some(Content::Values(values))
        };
        let content = constructed.then(values).flatten();
        let content = content.unwrap_or_else(|| Content::Bytes(bytes.to_vec()));
        Some((
            Self {
                tag,
                open: false,
                content,
            },
            end,
        ))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        match &self.content {
            Content::Bytes(bytes) => content.extend_from_slice(bytes),
            Content::Values(values) => values.iter().for_each(|value| value.write(&mut content)),
        }
        out.push(self.tag);
        if self.open {
            out.push(0x80);
            out.extend_from_slice(&content);
            out.extend_from_slice(&[0, 0]);
            return;
        }
        match u8::try_from(content.len()) {
            Ok(length @ 0..0x80) => out.push(length),
            Ok(length) => out.extend_from_slice(&[0x81, length]),
            Err(_) => {
                let length = content.len().to_be_bytes();
                out.push(0x83);
                out.extend_from_slice(&length[5..]);
            }
        }
        out.extend_from_slice(&content);
    }

    fn count(&self) -> usize {
        match &self.content {
            Content::Bytes(_) => 1,
            Content::Values(values) => 1 + values.iter().map(Self::count).sum::<usize>(),
        }
    }

    fn at(&mut self, number: &mut usize) -> Option<&mut Self> {
        if *number == 0 {
            return Some(self);
        }
        *number -= 1;
        let Content::Values(values) = &mut self.content else {
            return None;
        };
        values.iter_mut().find_map(|value| {
            let count = value.count();
            if *number < count {
                value.at(number)
            } else {
                *number -= count;
                None
            }
        })
    }

    /// What is in it, heads left out.
    fn flat(&self) -> Vec<u8> {
        match &self.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Values(values) => values.iter().flat_map(Self::flat).collect(),
        }
    }

    /// The content that is a JSON object: in a value of tag [0].
    fn document(&self) -> Option<Vec<u8>> {
        if self.tag == 0xa0 {
            let flat = self.flat();
            if flat.trim_ascii_start().starts_with(b"{") {
                return Some(flat);
            }
        }
        match &self.content {
            Content::Bytes(_) => None,
            Content::Values(values) => values.iter().find_map(Self::document),
        }
    }

    fn bend(&mut self, chance: &mut Chance) {
        match (chance.below(7), &mut self.content) {
            (0, _) => self.open = self.tag & 0x20 != 0 && !self.open,
            (1, _) => {
                self.tag = *chance
                    .pick(&[0x02, 0x03, 0x04, 0x05, 0x06, 0x17, 0x30, 0x31, 0xa0, 0xa1])
                    .unwrap_or(&0)
            }
            (2, Content::Values(values)) if !values.is_empty() => {
                let at = chance.below(values.len());
                values.remove(at);
            }
            (3, Content::Values(values)) if !values.is_empty() => {
                let again = values[chance.below(values.len())].clone();
                values.push(again);
            }
            (4, Content::Values(values)) if values.len() > 1 => {
                let (a, b) = (chance.below(values.len()), chance.below(values.len()));
                values.swap(a, b);
            }
            (5, _) => {
                let inner = self.clone();
                *self = Self {
                    tag: 0x30,
                    open: chance.one_in(2),
                    content: Content::Values(vec![inner]),
                };
            }
            (3 | 4, Content::Bytes(bytes)) if !bytes.is_empty() => {
                // The next digit or letter: a text stays one of its form.
                let at = chance.below(bytes.len());
                bytes[at] ^= 1;
            }
            (_, Content::Bytes(bytes)) => *bytes = mutate::bytes(bytes, &[], chance),
            (_, Content::Values(values)) => values.clear(),
        }
    }
}

/// A CMS whose digest of its content is true again, whatever was done to the content; none where there is no such
/// attribute. What is left to find out that it was bent is the signature.
#[must_use]
pub fn with_true_digest(data: &[u8]) -> Option<Vec<u8>> {
    // id-messageDigest (RFC 5652, 11.2), the set of its values, and the head of 32 bytes.
    const BEFORE: &[u8] = &[
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04, 0x31, 0x22, 0x04, 0x20,
    ];
    let text = std::str::from_utf8(data).ok()?;
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut bytes = STANDARD.decode(plain).ok()?;
    let (value, _) = Value::read(&bytes, 0)?;
    let digest = Sha256::digest(value.document()?);
    let at = bytes
        .windows(BEFORE.len())
        .position(|part| part == BEFORE)?
        + BEFORE.len();
    bytes.get_mut(at..at + 32)?.copy_from_slice(&digest);
    Some(STANDARD.encode(bytes).into_bytes())
}

/// The base64 of an input: between PEM's lines, or all of it.
fn encoded(text: &str) -> (&str, &str, &str) {
    let start = text.find("-----\n").map_or(0, |at| at + 6);
    let end = text[start..]
        .find("-----")
        .map_or(text.len(), |at| start + at);
    (&text[..start], &text[start..end], &text[end..])
}

/// Bends what stands in the base64; none where there is none.
pub fn mutate(data: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(data).ok()?;
    let (before, encoded, behind) = encoded(text);
    let plain: String = encoded.chars().filter(|c| !c.is_whitespace()).collect();
    let mut bytes = STANDARD.decode(&plain).ok()?;
    match Value::read(&bytes, 0) {
        Some((mut value, used)) if used == bytes.len() => {
            for _ in 0..=chance.below(2) {
                let mut number = chance.below(value.count());
                if let Some(at) = value.at(&mut number) {
                    at.bend(chance);
                }
            }
            bytes.clear();
            value.write(&mut bytes);
        }
        _ => bytes = mutate::bytes(&bytes, &[], chance),
    }
    let lines = STANDARD.encode(bytes);
    let mut out = before.to_owned();
    for line in lines.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(behind);
    Some(out.into_bytes())
}
