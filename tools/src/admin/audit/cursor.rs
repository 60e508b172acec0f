//! Reading a log entry by entry from anywhere in it, each held against a signed checkpoint; and going on
//! later from where one stopped, held against what was seen then.

use ticket_format::cbor::Decode as _;
use ticket_format::entry::Entry;
use ticket_format::limits;
use ticket_format::report::Report;
use ticket_format::tlog::{Checkpoint, SignedCheckpoint, merkle};

use super::published::{Fault, Finding, Published, What};
use super::tree::Tree;

/// An entry and where it stands.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its shard.
    pub shard: u64,
    /// Its index in the shard.
    pub place: u64,
    /// Its index in the log.
    pub index: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Read; none where it is none.
    pub entry: Option<Entry>,
}

/// A place in a log, and the checkpoint under which all before it was read.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The shard.
    pub shard: u64,
    /// Entries of the log before the shard.
    pub before: u64,
    /// Entries of the shard that were read.
    pub place: u64,
    /// The shard's newest checkpoint that was seen; none before anything was.
    pub seen: Option<SignedCheckpoint>,
}

/// What a shard's first entry says stands before it, where there is a shard before it.
fn before_of(log: &Published, shard: u64, checkpoint: &Checkpoint) -> Result<Option<u64>, Fault> {
    if shard == 1 || checkpoint.size == 0 {
        return Ok(None);
    }
    let tree = Tree::open(log, checkpoint)?;
    let mut count = None;
    tree.entries(0, 1, |_, bytes| {
        let entry = Entry::from_cbor(&bytes, limits::ENTRY).ok();
        count = entry.and_then(|entry| entry.count);
        Ok::<_, Fault>(())
    })?;
    Ok(count)
}

impl Cursor {
    /// The beginning of what a log still has.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn start(log: &Published) -> Result<Self, Fault> {
        let mut before = 0;
        let numbers = log.shards_after(0)?;
        for (place, shard) in numbers.iter().enumerate() {
            let signed = log.checkpoint(*shard)?;
            let size = signed.checkpoint().size;
            let width = usize::try_from(size.min(256)).unwrap_or(256);
            let last = place + 1 == numbers.len();
            if last || size == 0 || log.stored_bundle(*shard, 0, width)?.is_some() {
                let told = if last && size == 0 {
                    None
                } else {
                    before_of(log, *shard, signed.checkpoint())?
                };
                return Ok(Self {
                    shard: *shard,
                    before: told.unwrap_or(before),
                    place: 0,
                    seen: None,
                });
            }
            // Retention: its entries are gone.
            before += size;
        }
        Err(Finding::new(What::Checkpoint, 1, "it has no checkpoint: this is no log").into())
    }

    /// The place of an entry by its index in the log; the log's end for one that is not there yet.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn at(log: &Published, index: u64) -> Result<Self, Fault> {
        let mut cursor = Self::start(log)?;
        loop {
            let signed = log.checkpoint(cursor.shard)?;
            let size = signed.checkpoint().size;
            let next = log.shards_after(cursor.shard)?.first().copied();
            match next {
                Some(next) if index >= cursor.before + size => {
                    cursor = Self {
                        shard: next,
                        before: cursor.before + size,
                        place: 0,
                        seen: None,
                    };
                }
                _ => {
                    cursor.place = index.saturating_sub(cursor.before).min(size);
                    cursor.seen = Some(signed).filter(|_| cursor.place > 0);
                    return Ok(cursor);
                }
            }
        }
    }

    /// How many entries the log has, counted from its beginning.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn end(log: &Published) -> Result<u64, Fault> {
        let end = Self::at(log, u64::MAX)?;
        Ok(end.index())
    }

    /// The index in the log of what is read next.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.before + self.place
    }

    /// That a checkpoint continues what was seen (TLOG-6).
    fn continues(&self, tree: &Tree<'_>, new: &Checkpoint) -> Result<(), Fault> {
        let Some(seen) = &self.seen else {
            return Ok(());
        };
        let old = seen.checkpoint();
        if new.size < old.size {
            let why = format!(
                "{} entries were seen before, and there are {}",
                old.size, new.size
            );
            return Err(Finding::new(What::RolledBack, self.shard, why).into());
        }
        if tree.root_at(old.size)? != old.root {
            let why = format!(
                "its first {} entries are others than were signed and seen before",
                old.size
            );
            return Err(Finding::new(What::Forked, self.shard, why).into());
        }
        Ok(())
    }

    /// Reads on to the log's newest checkpoint, and shows the visitor all that is new. The cursor stands
    /// behind the last entry that the visitor took.
    ///
    /// # Errors
    /// [`Fault`], or what the visitor gives.
    pub fn advance<V: Visit>(&mut self, log: &Published, visitor: &mut V) -> Result<(), V::Error> {
        let mut left = None;
        loop {
            // Asked first: a shard that ends meanwhile is read to its end in the next turn.
            let next = log.shards_after(self.shard)?.first().copied();
            let signed = log.checkpoint(self.shard)?;
            let checkpoint = signed.checkpoint().clone();
            let tree = Tree::open(log, &checkpoint)?;
            self.continues(&tree, &checkpoint)?;
            visitor.checkpoint(&signed, left.as_ref())?;
            let (shard, before) = (self.shard, self.before);
            let place = &mut self.place;
            tree.entries(*place, checkpoint.size, |at, bytes| {
                visitor.record(Record {
                    shard,
                    place: at,
                    index: before + at,
                    entry: Entry::from_cbor(&bytes, limits::ENTRY).ok(),
                    bytes,
                })?;
                *place = at + 1;
                Ok::<_, V::Error>(())
            })?;
            self.seen = Some(signed);
            let Some(next) = next else {
                return Ok(());
            };
            *self = Self {
                shard: next,
                before: self.before + checkpoint.size,
                place: 0,
                seen: None,
            };
            left = Some(checkpoint);
        }
    }
}

/// Who reads a log.
pub trait Visit {
    /// What ends the reading.
    type Error: From<Fault>;

    /// A shard's checkpoint, before the entries that it covers; with the last checkpoint of the shard that
    /// was left for it.
    ///
    /// # Errors
    /// The visitor's.
    fn checkpoint(
        &mut self,
        _signed: &SignedCheckpoint,
        _left: Option<&Checkpoint>,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The next entry.
    ///
    /// # Errors
    /// The visitor's.
    fn record(&mut self, record: Record) -> Result<(), Self::Error>;
}

/// What ends the reading of a log: the log, or what is done with its entries.
#[derive(Debug)]
pub enum Stopped {
    /// The log.
    Log(Fault),
    /// What is done with it.
    Report(Report),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Log(fault)
    }
}

impl From<Report> for Stopped {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl Stopped {
    /// As an error in three parts.
    #[must_use]
    pub fn report(self, place: &str) -> Report {
        match self {
            Self::Log(fault) => fault.report(place),
            Self::Report(report) => report,
        }
    }
}

/// A visitor that takes each entry.
pub struct Each<F>(pub F);

impl<F: FnMut(Record) -> Result<(), Report>> Visit for Each<F> {
    type Error = Stopped;

    fn record(&mut self, record: Record) -> Result<(), Stopped> {
        Ok((self.0)(record)?)
    }
}

/// The entry at an index of the log, with its proof under the shard's published checkpoint.
///
/// # Errors
/// [`Fault`]; none where the log has no such entry, or not any more.
pub fn proven(log: &Published, index: u64) -> Result<Option<(Record, String)>, Fault> {
    let cursor = Cursor::at(log, index)?;
    if cursor.index() != index {
        return Ok(None);
    }
    let signed = log.checkpoint(cursor.shard)?;
    let checkpoint = signed.checkpoint();
    if cursor.place >= checkpoint.size {
        return Ok(None);
    }
    let tree = Tree::open(log, checkpoint)?;
    let mut found = None;
    tree.entries(cursor.place, cursor.place + 1, |place, bytes| {
        found = Some(Record {
            shard: cursor.shard,
            place,
            index,
            entry: Entry::from_cbor(&bytes, limits::ENTRY).ok(),
            bytes,
        });
        Ok::<_, Fault>(())
    })?;
    let Some(record) = found else {
        return Ok(None);
    };
    let path = tree.inclusion(cursor.place)?;
    let leaf = merkle::leaf_hash(&record.bytes);
    // What leaves here proves itself.
    merkle::verify_inclusion(
        &leaf,
        cursor.place,
        checkpoint.size,
        &path,
        &checkpoint.root,
    )
    .map_err(|error| Finding::new(What::Root, cursor.shard, error.to_string()).at(cursor.place))?;
    let text = ticket_format::tlog::proof::text(cursor.place, &path, signed.note());
    Ok(Some((record, text)))
}
