//! CBOR as a tree that can be bent and written again, well-formed or not.
//!
//! This reader is not the one that is being tried: where ours accepts something, this one must read the same.

/// Deeper than anything of ours; what is deeper stays bytes.
const DEPTH: usize = 24;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Major types 0 and 1: whether it is negative, and the argument.
    Number(bool, u64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A byte string that holds exactly one item.
    Within(Box<Item>),
    /// A text string, of whatever bytes.
    Text(Vec<u8>),
    /// An array.
    Array(Vec<Item>),
    /// A map, its pairs in the order in which they stand.
    Map(Vec<(Item, Item)>),
    /// A tag and its content.
    Tag(u64, Box<Item>),
    /// A simple value below 24.
    Simple(u8),
    /// Bytes that are written as they are: heads that lie, and other damage.
    Raw(Vec<u8>),
}

fn head(input: &[u8]) -> Option<(u8, u64, usize)> {
    let first = *input.first()?;
    let (len, info) = (
        match first & 31 {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            28.. => return None,
            _ => 0,
        },
        first & 31,
    );
    if len == 0 {
        return Some((first >> 5, u64::from(info), 1));
    }
    let bytes = input.get(1..=len)?;
    let argument = bytes
        .iter()
        .fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    Some((first >> 5, argument, 1 + len))
}

/// The head of an item in its shortest form.
pub fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (info, from) = match argument {
        0..24 => {
            out.push(major << 5 | bytes[7]);
            return;
        }
        24..=0xff => (24, 7),
        0x100..=0xffff => (25, 6),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 0),
    };
    out.push(major << 5 | info);
    out.extend_from_slice(&bytes[from..]);
}

impl Item {
    /// Reads one item that is all of `input`.
    #[must_use]
    pub fn read(input: &[u8]) -> Option<Self> {
        let (item, used) = Self::read_one(input, 0)?;
        (used == input.len()).then_some(item)
    }

    fn read_one(input: &[u8], depth: usize) -> Option<(Self, usize)> {
        if depth > DEPTH {
            return None;
        }
        let (major, argument, mut used) = head(input)?;
        let length = usize::try_from(argument).ok()?;
        let string = |used: &mut usize| {
            let bytes = input.get(*used..used.checked_add(length)?)?;
            *used += length;
            Some(bytes)
        };
        let next = |used: &mut usize| {
            let (item, len) = Self::read_one(input.get(*used..)?, depth + 1)?;
            *used += len;
            Some(item)
        };
        let item = match major {
            0 | 1 => Self::Number(major == 1, argument),
            2 => Self::string(string(&mut used)?, depth),
            3 => Self::Text(string(&mut used)?.to_vec()),
            // A count is no reason to make room: there are at most as many items as bytes.
            4 if length <= input.len() => Self::Array(
                (0..length)
                    .map(|_| next(&mut used))
                    .collect::<Option<_>>()?,
            ),
            5 if length <= input.len() => {
                let pairs = (0..length).map(|_| Some((next(&mut used)?, next(&mut used)?)));
                Self::Map(pairs.collect::<Option<_>>()?)
            }
            6 => Self::Tag(argument, Box::new(next(&mut used)?)),
            7 if input[0] & 31 < 24 => Self::Simple(input[0] & 31),
            _ => return None,
        };
        Some((item, used))
    }

    /// What stands in a byte string is an item too, where it is a whole one with parts.
    fn string(bytes: &[u8], depth: usize) -> Self {
        let parts = bytes
            .first()
            .is_some_and(|first| matches!(first >> 5, 4..=6));
        match Self::read_one(bytes, depth + 1) {
            Some((item, used)) if parts && used == bytes.len() => Self::Within(Box::new(item)),
            _ => Self::Bytes(bytes.to_vec()),
        }
    }

    /// The item's bytes: the shortest form, but for what is [`Item::Raw`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(negative, argument) => put_head(out, u8::from(*negative), *argument),
            Self::Bytes(bytes) => {
                put_head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Within(item) => Self::Bytes(item.to_bytes()).write(out),
            Self::Text(bytes) => {
                put_head(out, 3, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Array(items) => {
                put_head(out, 4, items.len() as u64);
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(pairs) => {
                put_head(out, 5, pairs.len() as u64);
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
            Self::Tag(tag, item) => {
                put_head(out, 6, *tag);
                item.write(out);
            }
            Self::Simple(value) => out.push(7 << 5 | value),
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// How many items it is, itself and all below.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self
            .children()
            .iter()
            .map(|child| child.count())
            .sum::<usize>()
    }

    fn children(&self) -> Vec<&Item> {
        match self {
            Self::Array(items) => items.iter().collect(),
            Self::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
            Self::Tag(_, item) | Self::Within(item) => vec![item],
            _ => Vec::new(),
        }
    }

    fn children_mut(&mut self) -> Vec<&mut Item> {
        match self {
            Self::Array(items) => items.iter_mut().collect(),
            Self::Map(pairs) => pairs
                .iter_mut()
                .flat_map(|(key, value)| [key, value])
                .collect(),
            Self::Tag(_, item) | Self::Within(item) => vec![item],
            _ => Vec::new(),
        }
    }

    /// The item of this number, itself being 0, parents before their parts.
    pub fn at(&mut self, number: usize) -> Option<&mut Item> {
        let mut number = number;
        self.find(&mut number)
    }

    fn find(&mut self, number: &mut usize) -> Option<&mut Item> {
        if *number == 0 {
            return Some(self);
        }
        *number -= 1;
        self.children_mut().into_iter().find_map(|child| {
            // Counting first keeps the borrow of the one that is found alone.
            let count = child.count();
            if *number < count {
                child.find(number)
            } else {
                *number -= count;
                None
            }
        })
    }
}

/// Whether these bytes are one deterministic item (RFC 8949, 4.2.1), within byte strings not looked into: as we
/// have it in ENC-1, without floats, undefined and tags that nothing here has.
#[must_use]
pub fn deterministic(input: &[u8]) -> bool {
    ordered(input, 0).is_some_and(|used| used == input.len())
}

fn ordered(input: &[u8], depth: usize) -> Option<usize> {
    let (major, argument, mut used) = head(input).filter(|_| depth < DEPTH)?;
    let mut shortest = Vec::new();
    put_head(&mut shortest, major, argument);
    if shortest.len() != used {
        return None;
    }
    let length = usize::try_from(argument).ok()?;
    match major {
        2 => used = used.checked_add(length).filter(|end| *end <= input.len())?,
        3 => {
            let end = used.checked_add(length)?;
            std::str::from_utf8(input.get(used..end)?).ok()?;
            used = end;
        }
        4 => {
            for _ in 0..length {
                used += ordered(input.get(used..)?, depth + 1)?;
            }
        }
        5 => {
            let mut last: &[u8] = &[];
            for _ in 0..length {
                let key = input.get(used..)?;
                let key = &key[..ordered(key, depth + 1)?];
                if key <= last {
                    return None;
                }
                last = key;
                used += key.len();
                used += ordered(input.get(used..)?, depth + 1)?;
            }
        }
        6 => used += ordered(input.get(used..)?, depth + 1)?,
        7 if !(20..=22).contains(&argument) => return None,
        _ => {}
    }
    Some(used)
}
