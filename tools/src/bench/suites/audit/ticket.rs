//! `ticket_check_with_receipt_over_without`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use key_server::clock::Clock as _;
use key_server::net::SystemClock;
use key_server::present;
use key_server::state::{Connection, Moment};
use ticket_format::messages::{Request, RequestView, Verb};
use ticket_format::report::{Report, exit};

use super::door::KeyServer;
use super::job::Ticket;
use crate::floor::{MlDsa, Signature};
use crate::rows::Row;

/// Tickets, each under a checkpoint of its own.
const TICKETS: usize = 256;

/// Tickets to be checked.
pub(crate) struct Bench<'a> {
    key_server: &'a KeyServer,
    connection: Arc<Connection>,
    requests: Vec<Vec<u8>>,
    ed25519: Signature,
    ml_dsa: MlDsa,
}

impl<'a> Bench<'a> {
    /// Issues them, one after another.
    pub(crate) async fn new(key_server: &'a KeyServer) -> Result<Self, Report> {
        let connection = key_server.service().connected([1; 32], [2; 32], None);
        let mut requests = Vec::with_capacity(TICKETS);
        for _ in 0..TICKETS {
            let ticket = Ticket::issue(key_server).await?;
            let body = ticket.body();
            let proof = ticket.proof(&connection.channel, &body);
            requests.push(Request::encode_parts(Verb::Present, &body, &[proof]));
        }
        Ok(Self {
            key_server,
            connection,
            requests,
            ed25519: Signature::new(),
            ml_dsa: MlDsa::new()?,
        })
    }

    /// One round.
    pub(crate) fn measure(&self, row: &mut Row) -> Result<(), Report> {
        let (without, with) = (self.check(false)?, self.check(true)?);
        let ed25519 = |times| timed(|| (0..TICKETS).for_each(|_| self.ed25519.verify(times)));
        let ml_dsa = timed(|| (0..TICKETS).for_each(|_| self.ml_dsa.verify()));
        let floor = (ed25519(3) + ml_dsa).as_secs_f64() / ed25519(2).as_secs_f64();
        row.add(with.as_secs_f64() / without.as_secs_f64(), floor);
        Ok(())
    }

    fn check(&self, receipt: bool) -> Result<Duration, Report> {
        let state = &self.key_server.service().state;
        let refused = |why: &dyn std::fmt::Debug| {
            Report::new(exit::INTEGRITY, "a good ticket was refused").why(format!("{why:?}"))
        };
        let begun = Instant::now();
        for request in &self.requests {
            let moment = Moment {
                now: SystemClock.now(),
                monotonic: SystemClock.monotonic(),
            };
            let request = RequestView::parse(request).map_err(|error| refused(&error))?;
            let identified = present::identify(state, &self.connection, &request, moment);
            let identified = identified.map_err(|error| refused(&error))?;
            if receipt {
                let proven = identified.prove(state, moment);
                black_box(proven.map_err(|error| refused(&error))?);
            }
            black_box(identified);
        }
        Ok(begun.elapsed())
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}
