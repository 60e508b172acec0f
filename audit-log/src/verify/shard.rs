//! Verifying one shard.

use std::io;
use std::sync::Arc;

use ticket_format::tlog::{Checkpoint, Hash, LogKey, ShardName, SignedCheckpoint, merkle};

use super::compare::differences;
use super::{Entries, Finding, MOST_FINDINGS, Opened, ShardSummary, Source, What};
use crate::OpenError;
use crate::disk::LogFile;
use crate::journal::{self, scan};
use crate::proof::{TILE, TILE_LEVELS};
use crate::tiles;
use crate::tree::Edge;

/// A shard as verified.
pub(super) struct Verified {
    number: u64,
    before: u64,
    checkpoint: Option<SignedCheckpoint>,
    /// The newest, be it published or only in the journal.
    pub(super) last: Option<Checkpoint>,
    entries: u64,
    unpublished: u64,
    pub(super) pruned: bool,
    /// What its first entry says.
    pub(super) first: Option<Opened>,
    pub(super) ends_closed: bool,
}

impl Verified {
    pub(super) fn summary(self) -> ShardSummary {
        ShardSummary {
            number: self.number,
            before: self.before,
            checkpoint: self.checkpoint,
            entries: self.entries,
            unpublished: self.unpublished,
            pruned: self.pruned,
        }
    }
}

/// Verifies one shard, with `before` entries of the log before it.
pub(super) fn verify(
    source: &dyn Source,
    key: &LogKey,
    number: u64,
    before: u64,
    entries: &mut dyn Entries,
    findings: &mut Vec<Finding>,
) -> io::Result<Verified> {
    let mut check = Check {
        source,
        key,
        entries,
        findings,
        shard: Verified {
            number,
            before,
            checkpoint: None,
            last: None,
            entries: 0,
            unpublished: 0,
            pruned: false,
            first: None,
            ends_closed: false,
        },
        leaves: Vec::new(),
        trusted: false,
    };
    check.checkpoint()?;
    let published = check.shard.checkpoint.as_ref();
    check.shard.last = published.map(|note| note.checkpoint().clone());
    let journal = source.journal(number)?;
    let size = check.size();
    if journal.is_none() && size > 0 && check.is_pruned()? {
        check.shard.pruned = true;
        return Ok(check.shard);
    }
    check.tiles()?;
    if let Some((path, file)) = journal {
        check.journal(&path, Arc::new(file))?;
    }
    Ok(check.shard)
}

struct Check<'a> {
    source: &'a dyn Source,
    key: &'a LogKey,
    entries: &'a mut dyn Entries,
    findings: &'a mut Vec<Finding>,
    shard: Verified,
    /// The hashes of the tiles of level 0.
    leaves: Vec<Hash>,
    /// They lead to the signed checkpoint.
    trusted: bool,
}

impl Check<'_> {
    fn say(&mut self, local: Option<u64>, what: What, detail: impl Into<String>) {
        let finding = Finding {
            shard: self.shard.number,
            index: local.map(|local| self.shard.before + local),
            what,
            detail: detail.into(),
        };
        if self.findings.len() < MOST_FINDINGS && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn size(&self) -> u64 {
        let checkpoint = self.shard.checkpoint.as_ref();
        checkpoint.map_or(0, |note| note.checkpoint().size)
    }

    fn get(&self, of: &str) -> io::Result<Option<Vec<u8>>> {
        let path = crate::shard::path(self.shard.number, of);
        self.source.get(&path)
    }

    fn name(&self) -> ShardName {
        ShardName {
            origin: self.key.origin.clone(),
            number: self.shard.number,
        }
    }

    // rule: TLOG-2
    fn checkpoint(&mut self) -> io::Result<()> {
        let Some(bytes) = self.get("checkpoint")? else {
            // A journal that is younger than the publisher's round has none yet.
            if self.source.journal(self.shard.number)?.is_none() {
                self.say(None, What::Missing, "its checkpoint is missing");
            }
            return Ok(());
        };
        let note = String::from_utf8(bytes);
        let verified = match &note {
            Ok(note) => self.key.verify(note).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match verified {
            Ok(checkpoint) if checkpoint.checkpoint().shard == self.name() => {
                self.shard.checkpoint = Some(checkpoint);
            }
            Ok(checkpoint) => {
                let theirs = checkpoint.checkpoint().shard.to_string();
                self.say(
                    None,
                    What::KeySwapped,
                    format!("its checkpoint is of {theirs}"),
                );
            }
            Err(error) => {
                let detail = format!("its checkpoint does not verify with the log's keys: {error}");
                self.say(None, What::KeySwapped, detail);
            }
        }
        Ok(())
    }

    /// Nothing but the checkpoint is there: neither the first tile nor the first bundle.
    fn is_pruned(&self) -> io::Result<bool> {
        let width = tiles::width(self.size(), 0, 0);
        Ok(self.get(&tiles::tile_path(0, 0, width))?.is_none()
            && self.get(&tiles::bundle_path(0, width))?.is_none())
    }

    // rule: TLOG-1
    fn tiles(&mut self) -> io::Result<()> {
        let size = self.size();
        let mut edge = Edge::default();
        // The tree of the entries themselves, from the first difference on.
        let mut other: Option<Edge> = None;
        // Complete nodes of every eighth level, from the tiles below.
        let mut above: Vec<Vec<Hash>> = vec![Vec::new(); TILE_LEVELS];
        let mut root = merkle::empty_root();
        let mut other_root = None;
        for index in 0..size.div_ceil(TILE) {
            let width = tiles::width(size, 0, index);
            let bundle = self.bundle(index, width)?;
            let (found, whole) = match &bundle {
                Some(bytes) => tiles::entries(bytes),
                None => (Vec::new(), true),
            };
            let hashes: Vec<Hash> = found.iter().map(|entry| merkle::leaf_hash(entry)).collect();
            let tile = self.tile(0, index, width)?;
            let tile = tile.unwrap_or_else(|| hashes.clone());
            if bundle.is_some() {
                for (at, what) in differences(&hashes, &tile) {
                    let at = index * TILE + at as u64;
                    self.say(Some(at), what, "the entry bundle differs from its tile");
                }
                if !whole {
                    let at = index * TILE + found.len() as u64;
                    self.say(Some(at), What::Truncated, "the entry bundle is cut short");
                }
            }
            if hashes != tile && other.is_none() {
                other = Some(edge.clone());
            }
            if let Some(edge) = &mut other {
                let (after, grown) = edge.grow(hashes);
                (*edge, other_root) = (after, Some(grown.root));
            }
            for (at, entry) in found.iter().enumerate() {
                let at = index * TILE + at as u64;
                self.show(at, entry, at + 1 == size);
            }
            self.leaves.extend_from_slice(&tile);
            let (after, grown) = edge.grow(tile);
            (edge, root) = (after, grown.root);
            for (level, above) in above.iter_mut().enumerate().skip(1) {
                above.extend_from_slice(grown.new_nodes(level * TILE_LEVELS));
            }
        }
        self.shard.entries = size;
        for (level, nodes) in above.iter().enumerate().skip(1) {
            self.upper(level as u8, nodes)?;
        }
        let wanted = self
            .shard
            .checkpoint
            .as_ref()
            .map(|note| note.checkpoint().root);
        self.trusted = wanted == Some(root);
        if let Some(wanted) = wanted
            && wanted != root
        {
            let detail = if other_root == Some(wanted) {
                "the tiles differ from the entries, which are what the checkpoint signs"
            } else {
                "the entries and tiles do not lead to the root that the checkpoint signs"
            };
            self.say(None, What::Rewritten, detail);
        }
        Ok(())
    }

    fn show(&mut self, local: u64, entry: &[u8], last: bool) {
        self.entries.entry(self.shard.before + local, entry);
        if local == 0 {
            self.shard.first = self.entries.opened(entry);
        }
        if last {
            self.shard.ends_closed = self.entries.is_closed(entry);
        }
    }

    fn bundle(&mut self, index: u64, width: u64) -> io::Result<Option<Vec<u8>>> {
        let path = tiles::bundle_path(index, width);
        let bytes = self.get(&path)?;
        if bytes.is_none() {
            let detail = format!("{path} is missing");
            self.say(Some(index * TILE), What::Missing, detail);
        }
        Ok(bytes)
    }

    fn tile(&mut self, level: u8, index: u64, width: u64) -> io::Result<Option<Vec<Hash>>> {
        let path = tiles::tile_path(level, index, width);
        let found = self.get(&path)?;
        let hashes = found.as_deref().and_then(tiles::tile_hashes);
        let hashes = hashes.filter(|hashes| hashes.len() as u64 == width);
        if hashes.is_none() {
            let why = if found.is_some() {
                "has not the right length"
            } else {
                "is missing"
            };
            let leaves = u32::from(level) * TILE_LEVELS as u32;
            let first = (index * TILE).checked_shl(leaves);
            self.say(first, What::Missing, format!("{path} {why}"));
        }
        Ok(hashes)
    }

    /// Compares the tiles of a level with the nodes made from the level below.
    fn upper(&mut self, level: u8, nodes: &[Hash]) -> io::Result<()> {
        for (index, nodes) in (0..).zip(nodes.chunks(TILE as usize)) {
            let Some(tile) = self.tile(level, index, nodes.len() as u64)? else {
                continue;
            };
            for (at, _) in nodes
                .iter()
                .zip(&tile)
                .enumerate()
                .filter(|(_, (a, b))| a != b)
            {
                let first = (index * TILE + at as u64) << (usize::from(level) * TILE_LEVELS);
                let covers = 1u64 << (usize::from(level) * TILE_LEVELS);
                let detail = format!(
                    "the tile of level {level} differs from the {covers} hashes from here on"
                );
                self.say(Some(first), What::Edited, detail);
            }
        }
        Ok(())
    }

    /// Compares the journal with the tiles, and reads what is not published yet.
    fn journal(&mut self, path: &std::path::Path, file: Arc<dyn LogFile>) -> io::Result<()> {
        let size = self.size();
        let mut at = 0;
        let mut differing = None;
        let mut tail: Vec<Vec<u8>> = Vec::new();
        let leaves = &self.leaves;
        let loaded = journal::load(&file, path, &self.name(), |batch| {
            for (_, found) in batch.records {
                if found.index < size {
                    let same = leaves.get(at as usize) == Some(&found.leaf);
                    if !same && differing.is_none() {
                        differing = Some(at);
                    }
                } else {
                    tail.push(found.entry.clone());
                }
                at += 1;
            }
        });
        let closed = match loaded {
            Ok(loaded) => {
                match self.key.verify(&loaded.note) {
                    Ok(signed) if loaded.at.entries >= size => {
                        self.shard.last = Some(signed.checkpoint().clone());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let detail = format!(
                            "the journal's last checkpoint does not verify with the log's keys: {error}"
                        );
                        self.say(None, What::KeySwapped, detail);
                    }
                }
                if let Some(torn) = &loaded.torn
                    && size > loaded.at.entries
                {
                    let detail = format!("the journal is broken at byte {}", torn.offset);
                    self.say(Some(loaded.at.entries), What::Edited, detail);
                } else if size > loaded.at.entries {
                    let detail = "the journal ends here, the published checkpoint does not";
                    self.say(Some(loaded.at.entries), What::Truncated, detail);
                }
                loaded.closed
            }
            Err(OpenError::Io { source, .. }) => return Err(source),
            Err(OpenError::Damaged { index, reason, .. }) => {
                // The batch is known; which of its entries, the tiles say.
                let local = index.saturating_sub(self.shard.before);
                let exact = self.first_difference(&file).unwrap_or(local);
                self.say(
                    Some(exact),
                    What::Edited,
                    format!("the journal is damaged: {reason}"),
                );
                return Ok(());
            }
            Err(error) => {
                self.say(None, What::Missing, error.to_string());
                return Ok(());
            }
        };
        if let Some(local) = differing {
            let detail = if self.trusted {
                "the journal differs from the tiles, which are what the checkpoint signs"
            } else {
                "the journal and the tiles differ"
            };
            self.say(Some(local), What::Edited, detail);
        }
        self.shard.unpublished = tail.len() as u64;
        let end = size + self.shard.unpublished;
        for (local, entry) in (size..).zip(&tail) {
            self.show(local, entry, closed && local + 1 == end);
        }
        Ok(())
    }

    /// The first record of a damaged journal that is not what the tiles say.
    fn first_difference(&self, file: &Arc<dyn LogFile>) -> Option<u64> {
        let length = file.length().ok()?;
        let (mut scanner, _) = scan::Scanner::start(Arc::clone(file), length).ok()?;
        loop {
            match scanner.next() {
                Ok(Some(scan::Item::Record(found))) => {
                    let expected = self.leaves.get(usize::try_from(found.index).ok()?)?;
                    if *expected != found.leaf {
                        return Some(found.index);
                    }
                }
                Ok(Some(scan::Item::Seal(_))) => {}
                Ok(None) => return None,
                Err(_) => return Some(scanner.at.entries),
            }
        }
    }
}
