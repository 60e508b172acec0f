//! Beginning a shard: its journal gets its name when its first seal is durable.

use std::io;
use std::sync::Arc;

use ticket_format::time::Timestamp;
use ticket_format::tlog::{Checkpoint, LogSecret, ShardName, merkle};

use crate::appended::Sealed;
use crate::disk::Disk;
use crate::journal::First;
use crate::journal::format::{Header, JournalId};
use crate::journal::scan::Position;
use crate::shard::{self, Journal};
use crate::tree::Edge;
use crate::writer::{self, Open};
use crate::{ActId, MAX_ENTRY_BYTES};

/// A shard to begin.
pub(crate) struct Begin<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) secret: &'a LogSecret,
    pub(crate) time: Timestamp,
    pub(crate) number: u64,
    pub(crate) before: u64,
    /// Number of the shard before; 0 for none.
    pub(crate) previous: u64,
}

pub(crate) struct Begun {
    pub(crate) open: Open,
    pub(crate) sealed: Arc<Sealed>,
}

pub(crate) enum BeginError {
    /// Nothing happened.
    Refused(String),
    /// The shard may have begun or not.
    Unknown(String),
}

/// Whether an entry may stand in a log.
pub(crate) fn check_entry(entry: &[u8]) -> Result<(), &'static str> {
    match entry.len() {
        0 => Err("the entry for it is empty"),
        1..=MAX_ENTRY_BYTES => Ok(()),
        _ => Err("the entry for it is too long"),
    }
}

impl Begin<'_> {
    /// The shard with its first entry. (TLOG-4)
    pub(crate) fn with(&self, act_id: Option<ActId>, entry: &[u8]) -> Result<Begun, BeginError> {
        check_entry(entry).map_err(|reason| BeginError::Refused(reason.to_owned()))?;
        self.make(Some((act_id, entry)))
    }

    /// The first shard of a log: empty.
    pub(crate) fn empty(&self) -> Result<Begun, BeginError> {
        self.make(None)
    }

    fn make(&self, record: Option<(Option<ActId>, &[u8])>) -> Result<Begun, BeginError> {
        let mut id = JournalId::default();
        getrandom::fill(&mut id).map_err(|error| BeginError::Refused(error.to_string()))?;
        let name = ShardName {
            origin: self.secret.key().origin.clone(),
            number: self.number,
        };
        let header = Header {
            id,
            shard: name.to_string(),
            before: self.before,
            previous: self.previous,
        };
        let leaves = record.iter().map(|(_, entry)| merkle::leaf_hash(entry));
        let (edge, grown) = Edge::default().grow(leaves.collect());
        let checkpoint = Checkpoint {
            shard: name.clone(),
            size: grown.to,
            root: grown.root,
        };
        let checkpoint = self.secret.sign(&checkpoint, self.time);
        let start = Position {
            offset: header.to_bytes().len() as u64,
            entries: 0,
        };
        let bytes = First {
            header: &header,
            record,
            size: grown.to,
            root: &grown.root,
            note: checkpoint.note(),
        }
        .to_bytes();
        let path = shard::path(self.number, "journal");
        let directory = self.number.to_string();
        let refused = |error: io::Error| BeginError::Refused(error.to_string());
        let unknown = |error: io::Error| BeginError::Unknown(error.to_string());
        let new = format!("{path}.new");
        self.disk.make_directory(&directory).map_err(refused)?;
        self.disk.sync_directory("").map_err(refused)?;
        self.disk.write(&new, &bytes).map_err(refused)?;
        // From here on it may be there at the next start, so nothing may go into the shard before.
        self.disk.rename(&new, &path).map_err(unknown)?;
        self.disk.sync_directory(&directory).map_err(unknown)?;
        let file = match self.disk.open(&path) {
            Ok(Some(file)) => file,
            Ok(None) => return Err(BeginError::Unknown("its journal is gone".to_owned())),
            Err(error) => return Err(BeginError::Unknown(error.to_string())),
        };
        let journal = Journal::new(file, id);
        journal.tree.extend(&grown);
        journal.mark((grown.to > 0).then_some(start).into_iter());
        let at = Position {
            offset: bytes.len() as u64,
            entries: grown.to,
        };
        let sealed = Sealed {
            grown,
            checkpoint: checkpoint.clone(),
            before: self.before,
        };
        Ok(Begun {
            open: writer::fresh(name, self.before, journal, edge, at, checkpoint),
            sealed: Arc::new(sealed),
        })
    }
}
