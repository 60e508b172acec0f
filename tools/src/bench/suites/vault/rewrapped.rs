//! `rewrap_deks_per_s`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ticket_format::Context;
use ticket_format::cbor::Encode as _;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::secret::Kek;
use ticket_format::wrapped::{Wrapped, local};

use crate::drive::rate;
use crate::realm::rng;
use crate::rows::Row;
use crate::servers::REALM;
use crate::suites::audit::door::{How, KeyServer};
use crate::suites::audit::job::{Item, Job, Ticket};

/// Requests at a time, each over a connection of its own.
const TASKS: usize = 4;

/// Jobs that rewrap.
pub(crate) struct Bench<'a> {
    key_server: &'a KeyServer,
    jobs: Arc<Vec<Job>>,
    items: Arc<Vec<Item>>,
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(key_server: &'a KeyServer) -> Result<Self, Report> {
        key_server.answers(How::Logged);
        let mut jobs = Vec::new();
        for _ in 0..TASKS {
            let ticket = Ticket::issue(key_server).await?;
            jobs.push(ticket.present(key_server.connect().await?).await?);
        }
        let name = |number| Context::named(&format!("s3://bench/rewrapped-{number:06}"));
        let contexts: Result<Vec<Context>, _> = (0..limits::REWRAPS).map(name).collect();
        let contexts =
            contexts.map_err(|error| Report::new(exit::LOCAL, "no context").why(error))?;
        let items = match jobs.first() {
            Some(job) => job.generate(contexts).await?,
            None => Vec::new(),
        };
        Ok(Self {
            key_server,
            jobs: Arc::new(jobs),
            items: Arc::new(items),
        })
    }

    pub(crate) async fn measure(&self, span: Duration, row: &mut Row) -> Result<(), Report> {
        let span = span / 2;
        let (jobs, items) = (Arc::clone(&self.jobs), Arc::clone(&self.items));
        self.key_server.answers(How::Logged);
        let operation = move |task: usize| {
            let (jobs, items) = (Arc::clone(&jobs), Arc::clone(&items));
            async move {
                let done = jobs[task % TASKS].rewrap(&items).await?;
                Ok(Some(done.len() as u64))
            }
        };
        let rewrapped = rate(TASKS, span, operation).await?;
        row.add(rewrapped, self.floor(span).await?);
        Ok(())
    }

    async fn floor(&self, span: Duration) -> Result<f64, Report> {
        let kek = Arc::new(Kek::random(&mut rng()));
        let wrong = |_| Report::new(exit::LOCAL, "a wrap cannot be read");
        let mut wraps = Vec::new();
        for (wrapped, context) in self.items.iter() {
            let header = *Wrapped::parse(wrapped).map_err(wrong)?.header();
            let context = context.to_cbor();
            let dek = ticket_format::secret::Dek::random(&mut rng());
            let origin = ticket_format::wrapped::Origin::Generated;
            let wrapped = local::wrap(&kek, REALM, &header, origin, &context, &dek, &mut rng());
            wraps.push((wrapped, context));
        }
        let wraps = Arc::new(wraps);
        let operation = move |_| {
            let (kek, wraps) = (Arc::clone(&kek), Arc::clone(&wraps));
            async move {
                for (wrapped, context) in wraps.iter() {
                    let Ok(Wrapped::Local {
                        header,
                        origin,
                        nonce,
                        ciphertext,
                    }) = Wrapped::parse(wrapped)
                    else {
                        return Err(Report::new(exit::LOCAL, "a wrap cannot be read"));
                    };
                    let dek =
                        local::unwrap(&kek, REALM, &header, origin, context, &nonce, &ciphertext);
                    let dek = dek.map_err(|error| {
                        Report::new(exit::LOCAL, "a wrap does not open").why(error)
                    })?;
                    let anew = local::wrap(&kek, REALM, &header, origin, context, &dek, &mut rng());
                    black_box(anew);
                }
                Ok(Some(wraps.len() as u64))
            }
        };
        rate(TASKS, span, operation).await
    }
}
