//! The acts recorded lately, so that none is recorded twice.

use std::collections::{HashMap, VecDeque};

use ticket_format::tlog::Hash;

use crate::ActId;

/// What is known of a recorded act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    /// In the log.
    pub(crate) index: u64,
    /// Leaf hash of its entry.
    pub(crate) leaf: Hash,
}

/// The newest acts, up to a limit.
pub(crate) struct Acts {
    known: HashMap<ActId, Act>,
    order: VecDeque<ActId>,
    limit: usize,
}

impl Acts {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            limit,
        }
    }

    pub(crate) fn get(&self, act_id: &ActId) -> Option<Act> {
        self.known.get(act_id).copied()
    }

    /// Adds an act; forgets none before [`Acts::trim`].
    pub(crate) fn add(&mut self, act_id: ActId, act: Act) {
        if self.known.insert(act_id, act).is_none() {
            self.order.push_back(act_id);
        }
    }

    /// Takes back the newest `count` acts.
    pub(crate) fn take_back(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(act_id) = self.order.pop_back() {
                self.known.remove(&act_id);
            }
        }
    }

    /// Forgets the oldest beyond the limit.
    pub(crate) fn trim(&mut self) {
        while self.order.len() > self.limit {
            if let Some(act_id) = self.order.pop_front() {
                self.known.remove(&act_id);
            }
        }
    }

    /// Forgets the acts before an index of the log.
    pub(crate) fn forget_before(&mut self, index: u64) {
        while let Some(act_id) = self.order.front() {
            if self.known.get(act_id).is_some_and(|act| act.index >= index) {
                break;
            }
            self.known.remove(act_id);
            self.order.pop_front();
        }
    }
}
