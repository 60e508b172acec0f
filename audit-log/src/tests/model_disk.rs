//! What the log asks of the modelled disk.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::model::{Model, NameChange, Node, State, error};
use crate::OpenError;
use crate::disk::{Disk, LogFile};

pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn raise(errno: i32) -> io::Result<()> {
    if errno == 0 {
        Ok(())
    } else {
        Err(error(errno))
    }
}

/// After a change that the power failure may have come before.
fn after(state: &State) -> io::Result<()> {
    state.alive()
}

impl Disk for Arc<Model> {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        let node = state.find(directory).and_then(|at| state.nodes.get(&at));
        Ok(match node {
            Some(Node::Directory { now, .. }) => now.keys().cloned().collect(),
            _ => Vec::new(),
        })
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.find(path).is_some() {
            return state.alive();
        }
        if state.step()? {
            let node = Node::Directory {
                now: BTreeMap::new(),
                durable: BTreeMap::new(),
                pending: Vec::new(),
            };
            state.add(path, node)?;
        }
        after(&state)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        raise(state.faults.directory_sync)?;
        let node = state.find(path).ok_or(io::ErrorKind::NotFound)?;
        if state.step()? {
            state.sync(node);
        }
        after(&state)
    }

    fn open(&self, path: &str) -> Result<Option<Arc<dyn LogFile>>, OpenError> {
        let state = self.state();
        state
            .alive()
            .map_err(|source| OpenError::io(&self.place(path), source))?;
        Ok(state.find(path).map(|node| -> Arc<dyn LogFile> {
            Arc::new(Handle {
                disk: Arc::clone(self),
                node,
            })
        }))
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        state.alive()?;
        let node = state.find(path).and_then(|at| state.nodes.get(&at));
        Ok(match node {
            Some(Node::File { now, .. }) => Some(now.clone()),
            _ => None,
        })
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fault = raise(state.faults.file_write);
        if !state.step()? {
            return after(&state);
        }
        let node = match state.find(path) {
            Some(node) => node,
            None => state.add(
                path,
                Node::File {
                    now: Vec::new(),
                    durable: Vec::new(),
                    pending: Vec::new(),
                },
            )?,
        };
        state.resize(node, 0);
        let half = if fault.is_err() {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        state.write(node, 0, half);
        fault?;
        after(&state)?;
        if state.step()? {
            state.sync(node);
        }
        after(&state)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        raise(state.faults.rename)?;
        let node = state.find(from).ok_or(io::ErrorKind::NotFound)?;
        let ((directory, from), (other, to)) = (split(from), split(to));
        assert_eq!(directory, other, "names move within a directory");
        if state.step()? {
            let change = NameChange::Moved(from.to_owned(), to.to_owned(), node);
            state.change_names(directory, change)?;
        }
        after(&state)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.find(path).is_none() {
            return state.alive();
        }
        let (directory, name) = split(path);
        if state.step()? {
            state.change_names(directory, NameChange::Gone(name.to_owned()))?;
        }
        after(&state)
    }

    fn remove_tree(&self, path: &str) -> io::Result<()> {
        // Name by name, as the real one does.
        for name in self.list(path)? {
            self.remove_tree(&format!("{path}/{name}"))?;
        }
        self.remove(path)
    }

    fn place(&self, path: &str) -> PathBuf {
        PathBuf::from("/model").join(path)
    }

    fn unlock(&self) {}
}

struct Handle {
    disk: Arc<Model>,
    node: u64,
}

impl LogFile for Handle {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive()?;
        let Some(Node::File { now, .. }) = state.nodes.get(&self.node) else {
            return Ok(0);
        };
        let from = now.get(offset as usize..).unwrap_or_default();
        let length = from.len().min(out.len());
        out[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(match state.nodes.get(&self.node) {
            Some(Node::File { now, .. }) => now.len() as u64,
            _ => 0,
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = raise(state.faults.journal_write);
        if fault.is_err() {
            state.write(self.node, offset as usize, &bytes[..bytes.len() / 2]);
            return fault;
        }
        if state.step()? {
            state.write(self.node, offset as usize, bytes);
        }
        after(&state)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        raise(state.faults.journal_sync)?;
        if state.step()? {
            state.sync(self.node);
        }
        after(&state)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        raise(state.faults.set_len)?;
        if state.step()? {
            state.resize(self.node, length as usize);
        }
        after(&state)
    }
}
