//! What was seen, and whether it may be: the three things that no fault may bring about.

use std::time::{Duration, Instant};

/// One redemption: when it was sent, when it was answered, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redemption {
    pub(crate) ticket: usize,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    pub(crate) end: End,
}

/// How a redemption ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A DEK came.
    Released,
    /// It was refused with this number.
    Refused(u8),
    /// Nothing came: the server was killed, or stood still.
    Lost,
}

/// What the driver did and learned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A denial of a ticket was made, as this epoch.
    Denied { ticket: usize, epoch: u64 },
    /// The key server's signature over this epoch was seen.
    Acknowledged { epoch: u64, seen: Instant },
    /// From `from` until `until` nothing passed from the broker to the key server.
    Cut { from: Instant, until: Instant },
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) redemptions: Vec<Redemption>,
    pub(crate) events: Vec<Event>,
}

/// The refusal of a denied ticket.
const DENIED: u8 = 14;

impl History {
    /// Everything that must not have been.
    pub(crate) fn faults(&self, lease: Duration) -> Vec<String> {
        let mut faults = Vec::new();
        for released in self
            .redemptions
            .iter()
            .filter(|one| one.end == End::Released)
        {
            // rule: DEN-5
            if let Some(epoch) = self.acknowledged_before(released) {
                faults.push(format!(
                    "{released:?} was sent after the denial of epoch {epoch} had been acknowledged"
                ));
            }
            // rule: DEN-6
            if self.without_lease(released, lease) {
                faults.push(format!("{released:?} was sent after the lease had ended"));
            }
            // rule: DEN-9
            let denied = self.redemptions.iter().find(|earlier| {
                earlier.ticket == released.ticket
                    && earlier.end == End::Refused(DENIED)
                    && earlier.ended < released.sent
            });
            if let Some(denied) = denied {
                faults.push(format!(
                    "{released:?} was refused as denied before: {denied:?}"
                ));
            }
        }
        faults
    }

    fn acknowledged_before(&self, released: &Redemption) -> Option<u64> {
        let denied = self.events.iter().filter_map(|event| match event {
            Event::Denied { ticket, epoch } if *ticket == released.ticket => Some(*epoch),
            _ => None,
        });
        denied.into_iter().find(|denied| {
            self.events.iter().any(|event| {
                matches!(event, Event::Acknowledged { epoch, seen }
                    if epoch >= denied && *seen < released.sent)
            })
        })
    }

    fn without_lease(&self, released: &Redemption, lease: Duration) -> bool {
        self.events.iter().any(|event| {
            matches!(event, Event::Cut { from, until }
                if released.sent > *from + lease && released.ended < *until)
        })
    }

    /// How many redemptions ended so.
    pub(crate) fn count(&self, end: impl Fn(End) -> bool) -> usize {
        let ends = self.redemptions.iter().map(|one| one.end);
        ends.filter(|one| end(*one)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn one(start: Instant, ticket: usize, ms: u64, end: End) -> Redemption {
        Redemption {
            ticket,
            sent: at(start, ms),
            ended: at(start, ms + 1),
            end,
        }
    }

    #[test]
    fn a_history_without_faults_passes() {
        let start = Instant::now();
        let history = History {
            redemptions: vec![
                one(start, 1, 0, End::Released),
                one(start, 1, 20, End::Refused(14)),
                one(start, 2, 30, End::Released),
                one(start, 2, 3_000, End::Refused(60)),
            ],
            events: vec![
                Event::Denied {
                    ticket: 1,
                    epoch: 4,
                },
                Event::Acknowledged {
                    epoch: 4,
                    seen: at(start, 10),
                },
                Event::Cut {
                    from: at(start, 100),
                    until: at(start, 4_000),
                },
            ],
        };
        assert_eq!(history.faults(LEASE), Vec::<String>::new());
    }

    #[test]
    fn each_of_the_three_faults_is_found() {
        let start = Instant::now();
        let after_acknowledgement = History {
            redemptions: vec![one(start, 1, 20, End::Released)],
            events: vec![
                Event::Denied {
                    ticket: 1,
                    epoch: 4,
                },
                Event::Acknowledged {
                    epoch: 5,
                    seen: at(start, 10),
                },
            ],
        };
        let after_lease = History {
            redemptions: vec![one(start, 1, 1_101, End::Released)],
            events: vec![Event::Cut {
                from: at(start, 100),
                until: at(start, 4_000),
            }],
        };
        let lifted = History {
            redemptions: vec![
                one(start, 1, 0, End::Refused(14)),
                one(start, 1, 20, End::Released),
            ],
            events: Vec::new(),
        };
        for history in [after_acknowledgement, after_lease, lifted] {
            assert_eq!(history.faults(LEASE).len(), 1, "{history:?}");
        }
    }
}
