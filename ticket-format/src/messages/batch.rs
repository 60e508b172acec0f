//! Redeem, generate and rewrap (`spec/protocol.md`, section 7): up to 1,000 items in one request.
//!
//! Bodies are read without copying: a view borrows every wrap and every context from the received
//! bytes. A context is checked while it is read and made into a map only when someone asks.

use sha2::{Digest as _, Sha256};

use crate::Context;
use crate::cbor::{Decode, DecodeError, Encode, MapReader, Reader, Writer};
use crate::ids::{ItemDigest, RequestId, TicketHash};
use crate::key_pair::KeyPairKind;
use crate::limits;

/// What every batch body begins with: `1: handle, 2: ticket hash, 3: request id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// Names the presented ticket on this connection.
    pub handle: u64,
    /// The ticket's hash, in full (RED-1).
    pub ticket: TicketHash,
    /// Fresh for each request; a retry of the same request draws a new one.
    pub request: RequestId,
}

impl BatchHead {
    fn read(map: &mut MapReader<'_, '_>) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: map.required(1, Reader::uint)?,
            ticket: map.required(2, TicketHash::decode)?,
            request: map.required(3, RequestId::decode)?,
        })
    }

    fn write(&self, members: usize, room: usize) -> Writer {
        let mut writer = Writer::with_capacity(room + 96);
        writer.map(members).uint(1).uint(self.handle);
        self.ticket.encode(writer.uint(2));
        self.request.encode(writer.uint(3));
        writer.uint(4);
        writer
    }
}

/// An item's context as received: known to be well within its limits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawContext<'a>(&'a [u8]);

impl<'a> RawContext<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader
            .text_pairs(
                limits::PAIRS,
                limits::PAIR_KEY,
                limits::PAIR_VALUE,
                |_, _| (),
            )
            .map(Self)
    }

    /// The map's bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The pairs, as a map of their own.
    ///
    /// # Errors
    /// None for a context that was read from a body: its reader and this one are the same.
    pub fn parse(&self) -> Result<Context, DecodeError> {
        Context::from_cbor(self.0, self.0.len())
    }

    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// As [`RawContext::parse`].
    pub fn get(&self, key: &str) -> Result<Option<&'a str>, DecodeError> {
        let mut found = None;
        Reader::new(self.0).text_pairs(
            limits::PAIRS,
            limits::PAIR_KEY,
            limits::PAIR_VALUE,
            |name, value| {
                if name == key {
                    found = Some(value);
                }
            },
        )?;
        Ok(found)
    }

    /// Whether the context holds every pair of `required` (RED-3), without making a map.
    ///
    /// # Errors
    /// As [`RawContext::parse`].
    pub fn contains_all(&self, required: &Context) -> Result<bool, DecodeError> {
        let mut found = 0;
        Reader::new(self.0).text_pairs(
            limits::PAIRS,
            limits::PAIR_KEY,
            limits::PAIR_VALUE,
            |key, value| {
                // Keys are distinct on both sides, so counting the pairs that match is enough.
                found += usize::from(required.get(key) == Some(value));
            },
        )?;
        Ok(found == required.pairs().len())
    }
}

impl std::fmt::Debug for RawContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawContext({} bytes)", self.0.len())
    }
}

/// Names an item: SHA-256 of `[wrapped, context]` (AUD-3, RED-4). `context` is the map's bytes.
#[must_use]
pub fn item_digest(wrapped: &[u8], context: &[u8]) -> ItemDigest {
    let mut head = Writer::with_capacity(8);
    head.array(2).bytes_head(wrapped.len());
    let digest = Sha256::new()
        .chain_update(head.into_bytes())
        .chain_update(wrapped)
        .chain_update(context);
    ItemDigest(digest.finalize().into())
}

/// Which presented ticket a request of any of these exchanges names, read before the rest of its body:
/// what nobody has proven to have sent is read no further (RED-1).
///
/// # Errors
/// It does not begin as a body.
pub fn named_ticket(body: &[u8]) -> Result<(u64, TicketHash), DecodeError> {
    // rule: RED-1, ENC-2
    let mut reader = Reader::new(body);
    let head = BatchHead::read(&mut reader.map(6)?)?;
    Ok((head.handle, head.ticket))
}

/// One item of a redeem: `[wrapped, pairs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedeemItem<'a> {
    /// The wrapped DEK.
    pub wrapped: &'a [u8],
    /// Its context.
    pub context: RawContext<'a>,
}

impl RedeemItem<'_> {
    /// How the budget counts it and the record names it.
    #[must_use]
    pub fn digest(&self) -> ItemDigest {
        item_digest(self.wrapped, self.context.0)
    }
}

/// Wrapped DEKs to open.
///
/// `redeem-body = { 1: uint, 2: hash, 3: id16, 4: [1*1000 [wrapped, pairs]] }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeemBody<'a> {
    /// Handle, ticket, request id.
    pub head: BatchHead,
    /// What to open.
    pub items: Vec<RedeemItem<'a>>,
}

impl<'a> RedeemBody<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Another shape or past a limit.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        whole(body, |reader| {
            let mut map = reader.map(4)?;
            let head = BatchHead::read(&mut map)?;
            let items = map.required(4, |reader| {
                reader.list(1..=limits::ITEMS, |reader| {
                    reader.array(2..=2)?;
                    Ok(RedeemItem {
                        wrapped: wrap(reader)?,
                        context: RawContext::read(reader)?,
                    })
                })
            })?;
            map.end()?;
            Ok(Self { head, items })
        })
    }

    /// The bytes of a body. At most 1,000 items, or the server refuses it.
    #[must_use]
    pub fn encode(head: &BatchHead, items: &[(&[u8], &Context)]) -> Vec<u8> {
        let encoded: Vec<_> = items.iter().map(|(_, context)| context.to_cbor()).collect();
        let wrapped = items.iter().map(|(wrapped, _)| *wrapped);
        Self::encode_raw(head, wrapped.zip(encoded.iter().map(Vec::as_slice)))
    }

    /// As [`RedeemBody::encode`], of contexts that are encoded already.
    #[must_use]
    pub fn encode_raw<'b>(
        head: &BatchHead,
        items: impl ExactSizeIterator<Item = (&'b [u8], &'b [u8])> + Clone,
    ) -> Vec<u8> {
        let room = items
            .clone()
            .map(|(wrapped, context)| wrapped.len() + context.len() + 4)
            .sum();
        let mut writer = head.write(4, room);
        writer.array(items.len());
        for (wrapped, context) in items {
            writer.array(2).bytes(wrapped).raw(context);
        }
        writer.into_bytes()
    }
}

/// DEKs to make.
///
/// `generate-body = { 1: uint, 2: hash, 3: id16, 4: [1*1000 pairs], 5: bool, ? 6: 1..3 }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateBody<'a> {
    /// Handle, ticket, request id.
    pub head: BatchHead,
    /// One context for each DEK.
    pub contexts: Vec<RawContext<'a>>,
    /// Whether the plain DEKs come back too, sealed (GEN-1).
    pub sealed_copy: bool,
    /// Key pairs are wanted, of this kind (GEN-2).
    pub key_pair: Option<KeyPairKind>,
}

impl<'a> GenerateBody<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Another shape or past a limit.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        whole(body, |reader| {
            let mut map = reader.map(6)?;
            let head = BatchHead::read(&mut map)?;
            let contexts =
                map.required(4, |reader| reader.list(1..=limits::ITEMS, RawContext::read))?;
            let sealed_copy = map.required(5, Reader::bool)?;
            let key_pair = map.optional(6, KeyPairKind::decode)?;
            map.end()?;
            Ok(Self {
                head,
                contexts,
                sealed_copy,
                key_pair,
            })
        })
    }

    /// The bytes of a body. At most 1,000 contexts, or the server refuses it.
    #[must_use]
    pub fn encode(
        head: &BatchHead,
        contexts: &[&Context],
        sealed_copy: bool,
        key_pair: Option<KeyPairKind>,
    ) -> Vec<u8> {
        let members = if key_pair.is_some() { 6 } else { 5 };
        let mut writer = head.write(members, contexts.len() * 64);
        writer.array(contexts.len());
        contexts
            .iter()
            .for_each(|context| context.encode(&mut writer));
        writer.uint(5).bool(sealed_copy);
        if let Some(kind) = key_pair {
            kind.encode(writer.uint(6));
        }
        writer.into_bytes()
    }
}

/// One item of a rewrap: `[wrapped, pairs, pairs / null]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewrapItem<'a> {
    /// The wrapped DEK.
    pub wrapped: &'a [u8],
    /// The context that it opens with.
    pub context: RawContext<'a>,
    /// The context of the new wrap; none means the same.
    pub new_context: Option<RawContext<'a>>,
}

impl RewrapItem<'_> {
    /// How the budget counts it and the record names it.
    #[must_use]
    pub fn digest(&self) -> ItemDigest {
        item_digest(self.wrapped, self.context.0)
    }
}

/// Wrapped DEKs to wrap anew.
///
/// `rewrap-body = { 1: uint, 2: hash, 3: id16, 4: [*500 [wrapped, pairs, pairs / null]], ? 5: [1*500 hash] }`,
/// together 1 to 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrapBody<'a> {
    /// Handle, ticket, request id.
    pub head: BatchHead,
    /// What to wrap anew.
    pub items: Vec<RewrapItem<'a>>,
    /// New wraps of earlier rewraps, each as [`item_digest`] names it, that stand where they were made for:
    /// what they replaced is gone (REW-2).
    pub confirms: Vec<ItemDigest>,
}

impl<'a> RewrapBody<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Another shape or past a limit.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        whole(body, |reader| {
            let mut map = reader.map(5)?;
            let head = BatchHead::read(&mut map)?;
            let items = map.required(4, |reader| {
                reader.list(0..=limits::REWRAPS, |reader| {
                    reader.array(3..=3)?;
                    let (wrapped, context) = (wrap(reader)?, RawContext::read(reader)?);
                    Ok(RewrapItem {
                        wrapped,
                        context,
                        new_context: reader.optional(RawContext::read)?,
                    })
                })
            })?;
            let confirms = map.optional(5, |reader| {
                reader.list(1..=limits::REWRAPS, ItemDigest::decode)
            })?;
            map.end()?;
            let confirms = confirms.unwrap_or_default();
            // rule: REW-1, REW-2 — the record names all of them, and must fit.
            if !(1..=limits::REWRAPS).contains(&(items.len() + confirms.len())) {
                return Err(DecodeError::OutOfRange("rewrap"));
            }
            Ok(Self {
                head,
                items,
                confirms,
            })
        })
    }

    /// The bytes of a body. At most 500 items and confirmations together, or the server refuses it.
    #[must_use]
    pub fn encode(
        head: &BatchHead,
        items: &[(&[u8], &Context, Option<&Context>)],
        confirms: &[ItemDigest],
    ) -> Vec<u8> {
        let room: usize = items.iter().map(|(wrapped, ..)| wrapped.len() + 64).sum();
        let members = if confirms.is_empty() { 4 } else { 5 };
        let mut writer = head.write(members, room + confirms.len() * 34);
        writer.array(items.len());
        for (wrapped, context, new_context) in items {
            context.encode(writer.array(3).bytes(wrapped));
            match new_context {
                Some(new_context) => new_context.encode(&mut writer),
                None => {
                    writer.null();
                }
            }
        }
        if !confirms.is_empty() {
            writer.uint(5).array(confirms.len());
            confirms
                .iter()
                .for_each(|digest| digest.encode(&mut writer));
        }
        writer.into_bytes()
    }
}

fn whole<'a, T>(
    body: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    // rule: ENC-2
    if body.len() > limits::MESSAGE {
        return Err(DecodeError::TooLarge);
    }
    let mut reader = Reader::new(body);
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

fn wrap<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    reader.bytes(1..=limits::WRAPPED)
}
