//! Reading one object, or a part of it, to a stream.

use std::ops::Range;

use futures::stream::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::download::open_by;
use super::s3ec::Opening;
use super::{CopyError, Failed, Job, PIECE_LEN, Reading};
use crate::object::keys::{KeySource, OpenedKey};
use crate::object::metadata::Context;
use crate::object::{BodyError, BodyHeader, Decryptor, RangePlan, plaintext_len};
use crate::s3::{AnySource, Location, ObjectSource, S3ecSource, StoreError, Stores};

/// A body up to this length is fetched in one request.
const SMALL_BODY: u64 = 1 << 20;

/// Bytes of an object to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From a byte to the end.
    From(u64),
    /// From the first byte to before the second, or to the end where that comes earlier.
    Between(u64, u64),
    /// This many bytes at the end, or the whole object where it is shorter.
    Last(u64),
}

impl ByteRange {
    /// The bytes of an object of `len` bytes.
    ///
    /// # Errors
    /// [`BodyError::RangeOutside`] if it begins after the end or ends before it begins.
    pub fn resolve(self, len: u64) -> Result<Range<u64>, BodyError> {
        let (start, end) = match self {
            Self::From(start) => (start, len),
            Self::Between(start, end) if start <= end => (start, end.min(len)),
            Self::Between(start, end) => return Err(BodyError::RangeOutside { start, end, len }),
            Self::Last(count) => (len.saturating_sub(count), len),
        };
        if start > end {
            Err(BodyError::RangeOutside { start, end, len })
        } else {
            Ok(start..end)
        }
    }
}

/// Decrypts the object at `from`, or the part `range` of it, to `out`; returns the bytes written.
/// Unless it comes from standard input, the length of the object is proven before the first byte
/// is written, so that a cut-off object is refused and not half shown.
///
/// # Errors
/// [`CopyError`]; failure to write to `out` as [`StoreError::Io`].
// rule: OBJ-9
pub async fn cat_range<K: KeySource>(
    stores: &Stores,
    keys: &K,
    from: &Location,
    name: Option<&str>,
    range: Option<ByteRange>,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<u64, CopyError<K::Error>> {
    let reading = Reading::default();
    cat_range_as(stores, keys, from, name, range, reading, out).await
}

/// As [`cat_range`], told what to accept of objects of the S3 Encryption Client, of which no range is read.
///
/// # Errors
/// As [`cat_range`].
pub async fn cat_range_as<K: KeySource>(
    stores: &Stores,
    keys: &K,
    from: &Location,
    name: Option<&str>,
    range: Option<ByteRange>,
    reading: Reading,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<u64, CopyError<K::Error>> {
    let place = from.to_string();
    let name = name.map(str::to_owned);
    let job = Job {
        from: from.clone(),
        to: Location::Stdio,
        name,
        context: Context::new(),
    };
    let (source, item) = open_by(stores, keys, &job, reading).await?;
    // rule: AMZ-9
    if matches!(source, AnySource::S3ec(_)) && range.is_some() {
        return Err(CopyError::Store(StoreError::Unsupported(
            "no part of an object of the S3 Encryption Client can be verified by itself: read the whole object",
        )));
    }
    let key_failed = |source| CopyError::Key {
        place: place.clone(),
        source,
    };
    let mut answers = keys.unwrap(vec![item]).await.map_err(key_failed)?;
    let key = match (answers.pop(), answers.is_empty()) {
        (Some(answer), true) => answer.map_err(key_failed)?,
        _ => return Err(CopyError::Answers(place)),
    };
    let mut writer = Writer {
        out,
        pending: Zeroizing::new(Vec::new()),
        written: 0,
    };
    let body_failed = |failed| match failed {
        Failed::Store(error) => CopyError::Store(error),
        Failed::Body(source) => CopyError::Body {
            place: place.clone(),
            source,
        },
    };
    let source = match source {
        AnySource::Postern(source) => source,
        AnySource::S3ec(source) => {
            let early = reading.release_unverified;
            let written = unranged(stores, source, &key, place.clone(), early, &mut writer).await;
            written.map_err(body_failed)?;
            return Ok(writer.written);
        }
    };
    match source.body_len() {
        Some(len) => planned(stores, &source, &key, len, range, &mut writer).await,
        None if range.is_some() => Err(Failed::Store(StoreError::Unsupported(
            "a part of standard input cannot be read: give a file or an s3:// place",
        ))),
        None => streamed(stores, source, &key, &mut writer).await,
    }
    .map_err(body_failed)?;
    writer.flush().await.map_err(body_failed)?;
    Ok(writer.written)
}

async fn planned<W: AsyncWrite + Unpin>(
    stores: &Stores,
    source: &ObjectSource,
    key: &OpenedKey,
    body_len: u64,
    range: Option<ByteRange>,
    writer: &mut Writer<'_, W>,
) -> Result<(), Failed> {
    let wanted = range
        .unwrap_or(ByteRange::From(0))
        .resolve(plaintext_len(body_len)?)?;
    let plan = RangePlan::new(body_len, wanted)?;
    if body_len <= SMALL_BODY {
        let body = fetch(stores, source, 0..body_len).await?;
        let part = |range: Range<u64>| {
            body.get(range.start as usize..range.end as usize)
                .ok_or(BodyError::RangeLength {
                    want: body_len,
                    have: body.len() as u64,
                })
        };
        let header = part(plan.header())?;
        key.check_signed(&BodyHeader::from_bytes(header)?)?;
        let mut decryptor = plan.open(&key.dek, &key.context, header, part(plan.tail())?)?;
        decryptor.update(part(plan.chunks())?, &mut writer.pending)?;
        decryptor.finish(&mut writer.pending)?;
        return Ok(());
    }
    let (header, tail) = futures::try_join!(
        fetch(stores, source, plan.header()),
        fetch(stores, source, plan.tail())
    )?;
    key.check_signed(&BodyHeader::from_bytes(&header)?)?;
    let mut decryptor = plan.open(&key.dek, &key.context, &header, &tail)?;
    let mut chunks = source.range(stores, plan.chunks()).await?;
    while let Some(piece) = chunks.next().await {
        for piece in piece?.chunks(PIECE_LEN) {
            decryptor.update(piece, &mut writer.pending)?;
            writer.flush_if_large().await?;
        }
    }
    decryptor.finish(&mut writer.pending)?;
    Ok(())
}

async fn streamed<W: AsyncWrite + Unpin>(
    stores: &Stores,
    source: ObjectSource,
    key: &OpenedKey,
    writer: &mut Writer<'_, W>,
) -> Result<(), Failed> {
    let mut body = source.into_body(stores).await?;
    let mut decryptor = Decryptor::new(&key.dek, &key.context);
    let mut header = Vec::new();
    let mut checked = false;
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if !checked {
            header.extend_from_slice(&piece);
            if let Ok(header) = BodyHeader::from_bytes(&header) {
                key.check_signed(&header)?;
                checked = true;
            }
        }
        decryptor.update(&piece, &mut writer.pending)?;
        writer.flush_if_large().await?;
    }
    decryptor.finish(&mut writer.pending)?;
    Ok(())
}

/// An object of the S3 Encryption Client, whole.
async fn unranged<W: AsyncWrite + Unpin>(
    stores: &Stores,
    source: S3ecSource,
    key: &OpenedKey,
    place: String,
    early: bool,
    writer: &mut Writer<'_, W>,
) -> Result<(), Failed> {
    let mut opening = Opening::begin(stores, source, key, place, early).await?;
    loop {
        let more = opening.next().await?;
        std::mem::swap(&mut writer.pending, &mut opening.ready);
        writer.flush().await?;
        if !more {
            return Ok(());
        }
    }
}

/// The bytes `range` of the body, which is short.
async fn fetch(
    stores: &Stores,
    source: &ObjectSource,
    range: Range<u64>,
) -> Result<Vec<u8>, Failed> {
    let want = range.end - range.start;
    let mut bytes = Vec::with_capacity(want as usize);
    let mut stream = source.range(stores, range).await?;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        let have = (bytes.len() + piece.len()) as u64;
        if have > want {
            return Err(BodyError::RangeLength { want, have }.into());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

struct Writer<'a, W> {
    out: &'a mut W,
    pending: Zeroizing<Vec<u8>>,
    written: u64,
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    async fn flush_if_large(&mut self) -> Result<(), Failed> {
        if self.pending.len() >= PIECE_LEN / 2 {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), Failed> {
        let failed = |source| {
            Failed::Store(StoreError::Io {
                path: "standard output".into(),
                source,
            })
        };
        self.out.write_all(&self.pending).await.map_err(failed)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.out.flush().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_of_the_object_but_must_begin_in_it() {
        assert_eq!(ByteRange::From(3).resolve(10), Ok(3..10));
        assert_eq!(ByteRange::From(10).resolve(10), Ok(10..10));
        assert_eq!(ByteRange::Between(3, 99).resolve(10), Ok(3..10));
        assert_eq!(ByteRange::Last(4).resolve(10), Ok(6..10));
        assert_eq!(ByteRange::Last(99).resolve(10), Ok(0..10));
        assert!(ByteRange::From(11).resolve(10).is_err());
        assert!(ByteRange::Between(11, 12).resolve(10).is_err());
        assert!(ByteRange::Between(5, 4).resolve(10).is_err());
    }
}
