//! A disk in memory that may lose or tear, at a power failure, whatever was not synced: sectors of a
//! write, a change of length, a name in a directory, each for itself.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::model_disk::split;

const SECTOR: usize = 512;

/// SplitMix64: a seed fixes a whole run.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Clone)]
pub(super) enum FileChange {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone)]
pub(super) enum NameChange {
    Set(String, u64),
    Gone(String),
    /// One step, as the file system promises.
    Moved(String, String, u64),
}

#[derive(Clone)]
pub(super) enum Node {
    File {
        now: Vec<u8>,
        durable: Vec<u8>,
        pending: Vec<FileChange>,
    },
    Directory {
        now: BTreeMap<String, u64>,
        durable: BTreeMap<String, u64>,
        pending: Vec<NameChange>,
    },
}

/// Which operations fail, and how (errno); 0 for none.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// Writes to open journals. Half the bytes are written first, as a full disk does.
    pub(super) journal_write: i32,
    /// Writes of whole files. As above.
    pub(super) file_write: i32,
    pub(super) journal_sync: i32,
    pub(super) set_len: i32,
    pub(super) rename: i32,
    pub(super) directory_sync: i32,
}

pub(super) struct State {
    pub(super) nodes: HashMap<u64, Node>,
    next: u64,
    random: Random,
    /// Changes until the power fails.
    left: Option<u64>,
    dead: bool,
    pub(super) faults: Faults,
}

/// The disk. What runs on it when the power fails gets nothing but errors from then on; the next life has
/// a disk of its own.
pub(super) struct Model {
    state: Mutex<State>,
}

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn put(bytes: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    let end = offset + piece.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(piece);
}

impl Model {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let root = Node::Directory {
            now: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
        };
        Arc::new(Self {
            state: Mutex::new(State {
                nodes: HashMap::from([(0, root)]),
                next: 1,
                random: Random(seed),
                left: None,
                dead: false,
                faults: Faults::default(),
            }),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("is whole")
    }

    /// The power fails after so many changes.
    pub(super) fn fail_after(&self, changes: Option<u64>) {
        self.state().left = changes;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(super) fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// The disk as the next life finds it. Without a power failure all that was written is there, and
    /// not yet durable.
    pub(super) fn next_life(&self, power_failed: bool) -> Arc<Self> {
        let mut state = self.state();
        state.dead = true;
        let mut random = state.random.clone();
        let mut nodes = state.nodes.clone();
        if power_failed {
            for node in nodes.values_mut() {
                lose(node, &mut random);
            }
        }
        let next = state.next;
        Arc::new(Self {
            state: Mutex::new(State {
                nodes,
                next,
                random,
                left: None,
                dead: false,
                faults: Faults::default(),
            }),
        })
    }
}

/// Applies some of what was not synced.
fn lose(node: &mut Node, random: &mut Random) {
    // All, nothing, or each for itself.
    let mood = random.below(3);
    let happens = |random: &mut Random| match mood {
        0 => true,
        1 => false,
        _ => random.chance(2),
    };
    match node {
        Node::File {
            now,
            durable,
            pending,
        } => {
            for change in pending.drain(..) {
                match change {
                    FileChange::Length(length) => {
                        if happens(random) {
                            durable.resize(length, 0);
                        }
                    }
                    FileChange::Write(offset, bytes) => {
                        let mut at = 0;
                        while at < bytes.len() {
                            let end =
                                (((offset + at) / SECTOR + 1) * SECTOR - offset).min(bytes.len());
                            if happens(random) {
                                put(durable, offset + at, &bytes[at..end]);
                            }
                            at = end;
                        }
                    }
                }
            }
            now.clone_from(durable);
        }
        Node::Directory {
            now,
            durable,
            pending,
        } => {
            for change in pending.drain(..) {
                if !happens(random) {
                    continue;
                }
                match change {
                    NameChange::Set(name, node) => drop(durable.insert(name, node)),
                    NameChange::Gone(name) => drop(durable.remove(&name)),
                    NameChange::Moved(from, to, node) => {
                        durable.remove(&from);
                        durable.insert(to, node);
                    }
                }
            }
            now.clone_from(durable);
        }
    }
}

impl State {
    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead {
            Err(error(Errno::IO.raw_os_error()))
        } else {
            Ok(())
        }
    }

    /// Before each change: whether it still happens. The one at which the power fails may.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        self.alive()?;
        match &mut self.left {
            Some(0) => {
                self.dead = true;
                Ok(self.random.chance(2))
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    pub(super) fn find(&self, path: &str) -> Option<u64> {
        let mut at = 0;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match self.nodes.get(&at)? {
                Node::Directory { now, .. } => at = *now.get(part)?,
                Node::File { .. } => return None,
            }
        }
        Some(at)
    }

    pub(super) fn change_names(&mut self, directory: &str, change: NameChange) -> io::Result<()> {
        let at = self.find(directory).ok_or(io::ErrorKind::NotFound)?;
        let Some(Node::Directory { now, pending, .. }) = self.nodes.get_mut(&at) else {
            return Err(error(Errno::NOTDIR.raw_os_error()));
        };
        match &change {
            NameChange::Set(name, node) => drop(now.insert(name.clone(), *node)),
            NameChange::Gone(name) => drop(now.remove(name)),
            NameChange::Moved(from, to, node) => {
                now.remove(from);
                now.insert(to.clone(), *node);
            }
        }
        pending.push(change);
        Ok(())
    }

    pub(super) fn add(&mut self, path: &str, node: Node) -> io::Result<u64> {
        let (directory, name) = split(path);
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.change_names(directory, NameChange::Set(name.to_owned(), number))?;
        Ok(number)
    }

    pub(super) fn write(&mut self, node: u64, offset: usize, bytes: &[u8]) {
        if let Some(Node::File { now, pending, .. }) = self.nodes.get_mut(&node) {
            put(now, offset, bytes);
            pending.push(FileChange::Write(offset, bytes.to_vec()));
        }
    }

    pub(super) fn resize(&mut self, node: u64, length: usize) {
        if let Some(Node::File { now, pending, .. }) = self.nodes.get_mut(&node) {
            now.resize(length, 0);
            pending.push(FileChange::Length(length));
        }
    }

    pub(super) fn sync(&mut self, node: u64) {
        match self.nodes.get_mut(&node) {
            Some(Node::File {
                now,
                durable,
                pending,
            }) => {
                durable.clone_from(now);
                pending.clear();
            }
            Some(Node::Directory {
                now,
                durable,
                pending,
            }) => {
                durable.clone_from(now);
                pending.clear();
            }
            None => {}
        }
    }
}
