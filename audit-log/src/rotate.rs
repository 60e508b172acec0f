//! From one shard to the next. (TLOG-4)

use std::sync::Arc;

use ticket_format::tlog::merkle;

use crate::acts::Act;
use crate::appended::Appended;
use crate::begin::{Begin, BeginError, check_entry};
use crate::writer::{Opener, Records, Recovery, Writer};
use crate::{ActId, AppendError};

impl Writer {
    /// Closes the open shard when it is as large as it may be, and begins the next. Nobody waits for
    /// it: what fails is tried again with the next entry. (TLOG-4)
    pub(crate) fn close_when_full(&mut self) {
        let Some(entries) = self.shard_entries.clone() else {
            return;
        };
        if self.broken.is_some() || self.open.at.offset < self.shard_bytes {
            return;
        }
        if !self.open.closed {
            let last = self.open.shard.live().checkpoint.checkpoint().clone();
            let entry = entries.closed(&last);
            if let Err(reason) = check_entry(&entry) {
                tracing::error!(reason, "the shard cannot be closed");
                return;
            }
            let mut records = Records::default();
            records.add(self.open.at, None, &entry, merkle::leaf_hash(&entry));
            if let Err(error) = self.append(records, true) {
                tracing::error!(%error, "the shard could not be closed");
                return;
            }
        }
        if let Err(error) = self.begin_next() {
            tracing::error!(%error, "the next shard could not be begun");
        }
    }

    /// Begins the shard after a closed one.
    pub(crate) fn begin_next(&mut self) -> Result<(), AppendError> {
        let Some(entries) = self.shard_entries.clone() else {
            return Err(AppendError::NotWritten {
                reason: "the shard is closed and nothing says how to begin the next".to_owned(),
            });
        };
        let opener: Opener = Box::new(move |previous, before| entries.opened(previous, before));
        self.begin(None, 0, opener).map(drop)
    }

    pub(crate) fn recover(&mut self, recovery: Recovery) {
        let Recovery {
            act_id,
            at_least,
            entry,
            reply,
        } = recovery;
        let answer = match (&self.broken, self.acts.get(&act_id)) {
            (Some(reason), _) => Err(AppendError::MustReopen {
                reason: reason.clone(),
            }),
            (None, Some(known)) => Ok(self.known(known.index)),
            (None, None) => self.begin(Some(act_id), at_least, entry),
        };
        let _ = reply.send(answer);
    }

    /// Begins a shard after the open one, whether that one is closed or not.
    fn begin(
        &mut self,
        act_id: Option<ActId>,
        at_least: u64,
        opener: Opener,
    ) -> Result<Appended, AppendError> {
        let previous = Arc::clone(&self.open.shard);
        let (last, size) = {
            let live = previous.live();
            (live.checkpoint.checkpoint().clone(), live.size)
        };
        let before = previous.before + size;
        let entry = opener(&last, before);
        let number = at_least.max(previous.number() + 1);
        let begun = Begin {
            disk: &*self.shared.disk,
            secret: &self.secret,
            time: (self.clock)(),
            number,
            before,
            previous: previous.number(),
        }
        .with(act_id, &entry);
        let begun = match begun {
            Ok(begun) => begun,
            Err(BeginError::Refused(reason)) => {
                tracing::error!(%reason, "a shard of the audit log could not be begun");
                return Err(AppendError::NotWritten { reason });
            }
            Err(BeginError::Unknown(reason)) => return Err(self.give_up(reason)),
        };
        if let Some(act_id) = act_id {
            let leaf = merkle::leaf_hash(&entry);
            self.acts.add(
                act_id,
                Act {
                    index: before,
                    leaf,
                },
            );
            self.acts.trim();
        }
        previous.live().closed = true;
        // The journals before the previous shard's go.
        self.acts.forget_before(previous.before);
        let checkpoint = begun.sealed.checkpoint.clone();
        self.shared.add(Arc::clone(&begun.open.shard));
        self.open = begun.open;
        self.shared.newest.send_replace(checkpoint);
        Ok(Appended::in_batch(before, false, begun.sealed))
    }
}
