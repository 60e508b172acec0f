//! Things within things within things: what ends a parser that calls itself (CVE-2020-28196 and its like).

/// How an item is opened that holds one other, in CBOR: an array, a map's value, a map's key, a tag, and all of
/// them of indefinite length.
pub const OPENERS: [&[u8]; 8] = [
    &[0x81],
    &[0xa1, 0x00],
    &[0xa1],
    &[0xd2],
    &[0xd8, 0x62],
    &[0x9f],
    &[0xbf, 0x00],
    &[0x5f],
];

/// The same for the texts and the DER that we read.
pub const OTHERS: [&[u8]; 17] = [
    b"[",
    b"{\"a\":",
    b"[{\"accountId\":",
    b"a = [",
    b"a.",
    b"a = {a=",
    b"[[a.",
    b"permit(",
    b"!",
    b"-",
    b"if ",
    b"(",
    b"{",
    // BER: a SEQUENCE, a SET, an OCTET STRING in parts and a context tag, each of indefinite length.
    &[0x30, 0x80],
    &[0x31, 0x80],
    &[0x24, 0x80],
    &[0xa0, 0x80],
];

/// `inner` within so many of `opener`; nothing is closed again.
#[must_use]
pub fn around(opener: &[u8], depth: usize, inner: &[u8]) -> Vec<u8> {
    [opener.repeat(depth).as_slice(), inner].concat()
}

/// 64 KiB of each of them.
pub fn bombs() -> impl Iterator<Item = Vec<u8>> {
    const SIZE: usize = 64 * 1024;
    let mixed: &[u8] = &[0x81, 0xa1, 0x00, 0xd2, 0x82, 0x01];
    let openers = OPENERS.into_iter().chain(OTHERS).chain([mixed]);
    openers.map(|opener| around(opener, SIZE / opener.len(), &[0x00]))
}

/// BER of so many bytes with true lengths: each value is one `tag` with all the rest in it.
#[must_use]
pub fn ber(tag: u8, size: usize) -> Vec<u8> {
    // Written from within: each head goes before what is there.
    let mut backwards = Vec::with_capacity(size + 8);
    while backwards.len() < size {
        let length = backwards.len();
        if length < 0x80 {
            backwards.push(length.to_le_bytes()[0]);
        } else {
            backwards.extend(length.to_le_bytes().iter().take(3));
            backwards.push(0x83);
        }
        backwards.push(tag);
    }
    backwards.reverse();
    backwards
}
