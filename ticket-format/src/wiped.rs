//! Wipes that a server has recorded lately (WIP-2): who says it again is answered from here, and the
//! log gets one entry for each ticket and minute at most.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ids::TicketId;
use crate::messages::Receipt;

/// For how long a wipe that is said again is answered from memory.
const MEMORY: Duration = Duration::from_secs(60);

/// Tickets whose wipes are remembered at one time. Beyond it the caller is told to come again.
const TICKETS: usize = 4_096;

#[derive(Debug)]
enum Known {
    /// One request is about to record it.
    UnderWay,
    /// Recorded at that monotonic time.
    Recorded(Duration, Receipt),
}

/// The wipes of the last minute, by ticket.
#[derive(Debug, Default)]
pub struct Wipes(Mutex<HashMap<TicketId, Known>>);

/// What is to be done about a wipe.
#[derive(Debug)]
pub enum Turn<'a> {
    /// Record it, and say so by [`Recording::done`].
    Record(Recording<'a>),
    /// It stands in the log: answer with this receipt.
    Recorded(Receipt),
    /// Another request is recording it, or too many tickets are being wiped: come again.
    Busy,
}

/// The right to record one ticket's wipe. Dropped without [`done`](Self::done), the next may.
#[derive(Debug)]
pub struct Recording<'a> {
    wipes: &'a Wipes,
    ticket: TicketId,
}

impl Wipes {
    /// Whose turn it is, at monotonic time `now`.
    pub fn turn(&self, ticket: TicketId, now: Duration) -> Turn<'_> {
        // rule: WIP-2
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |at: Duration| now.saturating_sub(at) < MEMORY;
        match known.get(&ticket) {
            Some(Known::UnderWay) => return Turn::Busy,
            Some(Known::Recorded(at, receipt)) if lasts(*at) => {
                return Turn::Recorded(receipt.clone());
            }
            _ => {}
        }
        if known.len() >= TICKETS {
            known.retain(|_, known| match known {
                Known::UnderWay => true,
                Known::Recorded(at, _) => lasts(*at),
            });
            if known.len() >= TICKETS {
                return Turn::Busy;
            }
        }
        known.insert(ticket, Known::UnderWay);
        Turn::Record(Recording {
            wipes: self,
            ticket,
        })
    }
}

impl Recording<'_> {
    /// It stands in the log.
    pub fn done(self, receipt: Receipt, now: Duration) {
        let mut known = self.wipes.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.ticket, Known::Recorded(now, receipt));
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        let mut known = self.wipes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(known.get(&self.ticket), Some(Known::UnderWay)) {
            known.remove(&self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn receipt(index: u64) -> Receipt {
        Receipt {
            entry: vec![1],
            proof: index.to_string(),
        }
    }

    #[test]
    fn a_wipe_is_recorded_once_a_minute_and_answered_from_memory_meanwhile() {
        // rule: WIP-2
        let wipes = Wipes::default();
        let ticket = TicketId([1; 16]);
        let Turn::Record(recording) = wipes.turn(ticket, START) else {
            panic!("the first is recorded")
        };
        // Two at the same time leave one entry.
        assert!(matches!(wipes.turn(ticket, START), Turn::Busy));
        recording.done(receipt(5), START);
        let again = wipes.turn(ticket, START + MEMORY - Duration::from_millis(1));
        assert!(matches!(again, Turn::Recorded(known) if known == receipt(5)));
        assert!(matches!(
            wipes.turn(ticket, START + MEMORY),
            Turn::Record(_)
        ));
    }

    #[test]
    fn a_wipe_that_could_not_be_recorded_is_recorded_by_the_next() {
        let wipes = Wipes::default();
        let ticket = TicketId([1; 16]);
        drop(wipes.turn(ticket, START));
        assert!(matches!(wipes.turn(ticket, START), Turn::Record(_)));
    }

    #[test]
    fn only_so_many_tickets_are_remembered_and_a_minute_later_there_is_room() {
        let wipes = Wipes::default();
        let ticket = |n: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            TicketId(id)
        };
        let mut recorded = 0;
        for n in 0..10_000 {
            if let Turn::Record(recording) = wipes.turn(ticket(n), START) {
                recording.done(receipt(n.into()), START);
                recorded += 1;
            }
        }
        assert_eq!(recorded, TICKETS);
        assert!(matches!(
            wipes.turn(ticket(9_999), START + MEMORY),
            Turn::Record(_)
        ));
    }
}
