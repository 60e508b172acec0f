//! Who gives way when places run short (TR-8).
//!
//! Everybody who comes gets a place, and has it for a second at least, which is long for an
//! exchange. When places run short, whoever has been there longest without having proven who he is
//! gives way to whoever comes. So no number of strangers can keep out an admin who denies or a
//! server that follows the feed: places turn over faster than strangers can make handshakes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// For how long nobody is asked to give way. An honest handshake or first exchange takes
/// milliseconds; more than 2,000 places a second turn over, and a handshake costs more than half
/// a millisecond.
pub(crate) const SETTLING: Duration = Duration::from_secs(1);

/// Least time between two who gave way though they have proven who they are. Where a server is simply busy,
/// turning away those whom it serves would make it busier: each comes again with a handshake.
pub(crate) const BETWEEN_KNOWN: Duration = Duration::from_millis(100);

/// What a peer has proven, as far as places are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Standing {
    /// Nothing. Gives way first; requests are counted and kept short.
    Stranger = 0,
    /// Who he is. Gives way when no stranger is left to.
    Known = 1,
    /// That he follows this server's feed. Never gives way.
    Subscriber = 2,
}

/// A connection's standing, shared by its peer, its session and its place in the line. It only rises.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<AtomicU8>);

impl Shown {
    pub(crate) fn rise(&self, standing: Standing) {
        self.0.fetch_max(standing as u8, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Standing {
        match self.0.load(Ordering::Relaxed) {
            0 => Standing::Stranger,
            1 => Standing::Known,
            _ => Standing::Subscriber,
        }
    }

    pub(crate) fn stranger(&self) -> bool {
        self.now() == Standing::Stranger
    }
}

/// Those who hold a place of one kind, in the order in which they came.
#[derive(Default)]
pub(crate) struct Line(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    strangers: BTreeMap<u64, One>,
    known: BTreeMap<u64, One>,
    /// When one who is known last gave way.
    known_left: Option<Instant>,
}

struct One {
    since: Instant,
    shown: Shown,
    leave: Arc<Notify>,
}

impl Line {
    /// Joins the end. There are never more than there are places of the kind.
    pub(crate) fn join(self: &Arc<Self>) -> Turn {
        let (shown, leave) = (Shown::default(), Arc::new(Notify::new()));
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        let one = One {
            since: Instant::now(),
            shown: shown.clone(),
            leave: Arc::clone(&leave),
        };
        waiting.strangers.insert(number, one);
        Turn {
            line: Arc::clone(self),
            number,
            shown,
            leave,
        }
    }

    /// Asks the one who has been here longest without a standing to leave, and where none is without,
    /// the one who has been here longest. Whether there was one; who came just now is let be.
    pub(crate) fn make_room(&self) -> bool {
        // rule: TR-8
        let mut waiting = self.lock();
        // Who has risen is put where he belongs when he is met here, and only then.
        while let Some(first) = waiting.strangers.first_entry() {
            match first.get().shown.now() {
                Standing::Stranger => break,
                Standing::Known => {
                    let (number, one) = first.remove_entry();
                    waiting.known.insert(number, one);
                }
                Standing::Subscriber => drop(first.remove()),
            }
        }
        let Waiting {
            strangers,
            known,
            known_left,
            ..
        } = &mut *waiting;
        while let Some(first) = known.first_entry() {
            if first.get().shown.now() != Standing::Subscriber {
                break;
            }
            first.remove();
        }
        let of_known = strangers.is_empty();
        if of_known && known_left.is_some_and(|at| at.elapsed() < BETWEEN_KNOWN) {
            return false;
        }
        let line = if of_known { known } else { strangers };
        match line.first_entry() {
            Some(first) if first.get().since.elapsed() >= SETTLING => {
                first.remove().leave.notify_one();
                if of_known {
                    *known_left = Some(Instant::now());
                }
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place in the line; given up on drop.
pub(crate) struct Turn {
    line: Arc<Line>,
    number: u64,
    shown: Shown,
    leave: Arc<Notify>,
}

impl Turn {
    /// What the holder has proven.
    pub(crate) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Tells when the holder has to give way.
    pub(crate) fn over(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        if waiting.strangers.remove(&self.number).is_none() {
            waiting.known.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if everybody had come a while ago.
    fn settle(line: &Line) {
        let mut waiting = line.lock();
        let Waiting {
            strangers, known, ..
        } = &mut *waiting;
        for one in strangers.values_mut().chain(known.values_mut()) {
            one.since -= SETTLING;
        }
    }

    fn told(turn: &Turn) -> bool {
        let over = turn.over();
        let mut notified = std::pin::pin!(over.notified());
        notified.as_mut().enable()
    }

    #[test]
    fn the_oldest_stranger_gives_way_and_then_the_oldest_known_and_a_subscriber_never() {
        let line = Arc::new(Line::default());
        let [subscriber, known, first, second] = [(); 4].map(|()| line.join());
        subscriber.shown().rise(Standing::Subscriber);
        known.shown().rise(Standing::Known);
        assert!(!line.make_room(), "all came just now");
        settle(&line);
        assert!(line.make_room() && told(&first));
        assert!(!told(&second) && !told(&known));
        assert!(line.make_room() && told(&second));
        assert!(line.make_room() && told(&known));
        assert!(!line.make_room() && !told(&subscriber));
    }

    #[test]
    fn those_whom_a_busy_server_serves_are_not_turned_away_one_after_the_other() {
        // rule: TR-8
        let line = Arc::new(Line::default());
        let [first, second] = [(); 2].map(|()| line.join());
        first.shown().rise(Standing::Known);
        second.shown().rise(Standing::Known);
        settle(&line);
        assert!(line.make_room() && told(&first));
        assert!(!line.make_room() && !told(&second));
        line.lock().known_left = Instant::now().checked_sub(BETWEEN_KNOWN);
        assert!(line.make_room() && told(&second));
    }

    #[test]
    fn who_came_just_now_is_let_be_though_nobody_else_is_a_stranger() {
        let line = Arc::new(Line::default());
        let known = line.join();
        known.shown().rise(Standing::Known);
        settle(&line);
        let _young = line.join();
        assert!(!line.make_room() && !told(&known));
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let line = Arc::new(Line::default());
        let (known, stranger) = (line.join(), line.join());
        known.shown().rise(Standing::Known);
        assert!(!line.make_room());
        drop((known, stranger));
        let waiting = line.lock();
        assert!(waiting.strangers.is_empty() && waiting.known.is_empty());
    }

    #[test]
    fn a_standing_only_rises() {
        let shown = Shown::default();
        assert!(shown.stranger());
        shown.rise(Standing::Subscriber);
        shown.rise(Standing::Known);
        assert_eq!(shown.now(), Standing::Subscriber);
    }
}
