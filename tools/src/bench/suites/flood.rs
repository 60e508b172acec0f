//! Suite `flood`: honest requests while both servers are flooded, and what a hostile act costs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::login::Evidence;
use client::wallet::DatasetSession;
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{LoginId, ProofHash, TicketHash};
use ticket_format::keys::{LaunchSecret, NodeSecret, ProofSecret};
use ticket_format::labels;
use ticket_format::messages::login::LoginBody;
use ticket_format::messages::present::PresentBody;
use ticket_format::messages::{Request, Verb};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::sign::{ALG_EDDSA, Channel, Exporter, Proof};
use tokio::time::sleep_until;
use tools::floods::{Flood, Force, Tally, Target, Usage};

use super::main::{issue, login, redeem};
use super::{Rows, Run, Suite};
use crate::documents;
use crate::drive::Times;
use crate::realm::{Realm, now, rng};
use crate::rows::{Row, RowInfo};

/// Honest callers, and how often each asks: far below what the servers can do.
const CALLERS: usize = 8;
const EVERY: Duration = Duration::from_millis(20);

macro_rules! rows {
    ($($name:literal: $what:literal,)*) => {
        &[$(
            RowInfo {
                name: concat!("honest_p99_during_", $name, "_over_idle"),
                unit: "ms",
                what: concat!(
                    "Of 400 honest requests a second (tickets, and redemptions of one local-wrapped DEK, over \
                     open connections of 8 callers), what 1 in 100 takes longer than while both servers are \
                     flooded. The flood comes from this process, and takes its share of the cores. ", $what
                ),
                floor: "the same without the flood, right before. The ratio is to be at most 5.",
            },
            RowInfo {
                name: concat!("cpu_hostile_over_honest_", $name),
                unit: "us",
                what: concat!(
                    "CPU time of both server processes for one hostile act, while nothing else is asked. ", $what
                ),
                floor: "CPU time of both for one of the honest requests above, without a flood. The ratio is how much \
                        a stranger's act costs against an honest one's.",
            },
        )*]
    };
}

pub(crate) static SUITE: Suite = Suite {
    name: "flood",
    about: "honest requests while both servers are flooded, and what a hostile act costs them",
    rows: rows! {
        "spoofed_initials": "An act: two Initials with a new connection id, whose answer is not answered; 1,000 a second for each server.",
        "half_open": "An act: a handshake that proves its address when it is asked to, and says no more; 200 a second for each.",
        "silent": "An act: a whole handshake and no request; 50 a second for each.",
        "slow_writers": "An act: a connection with 64 requests that are written a byte every tenth of a second; 20 a second for each.",
        "slow_readers": "An act: a connection with 64 requests whose answers are not read; 20 a second for each.",
        "gaps": "An act: a connection with 16 streams of 900 single bytes with gaps between them; 8 a second for each.",
        "streams": "An act: a stream with a byte of rubbish, or reset at once; 1,000 a second for each.",
        "messages": "An act: a message of 2 MiB of nested arrays; 50 a second for each.",
        "storm": "An act: a login signed by a wrong secret, or a good ticket presented without its key; 400 a second for each, 16 on a connection.",
    },
    run,
};

/// Acts in a second of each kind, in the order of the rows.
const RATES: [u32; 9] = [1_000, 200, 50, 20, 20, 8, 1_000, 50, 25];

fn run(run: &Run) -> Rows<'_> {
    Box::pin(measure(run))
}

async fn measure(run: &Run) -> Result<Vec<Row>, Report> {
    let realm = Arc::new(Realm::start(&run.binaries).await?);
    let login = login::Bench::new(&realm).await?;
    let issue = issue::Bench::new(&realm, &login).await?;
    let redeem = redeem::Bench::new(&realm, &issue, 1, CALLERS, CALLERS).await?;
    let bench = Bench {
        targets: [
            target(&realm.servers.broker)?,
            target(&realm.servers.key_server)?,
        ],
        storms: [wrong_login(&realm).await?, wrong_present(&issue).await?],
        pids: realm.servers.pids(),
        issue,
        redeem,
    };
    let mut rows: Vec<Row> = SUITE.rows.iter().map(Row::new).collect();
    for round in 0..run.rounds {
        run.begins(round);
        for (number, (pair, rate)) in rows.chunks_exact_mut(2).zip(RATES).enumerate() {
            if let [p99, cpu] = pair
                && SUITE.rows[2 * number..2 * number + 2]
                    .iter()
                    .any(|row| run.wants(row))
            {
                bench.measure(number, rate, run.span, (p99, cpu)).await?;
            }
        }
    }
    rows.retain(Row::is_measured);
    Ok(rows)
}

fn target(server: &client::link::Server) -> Result<Target, Report> {
    let address = server
        .addresses
        .first()
        .and_then(|address| address.parse().ok());
    let target = address.and_then(Target::new);
    target.ok_or_else(|| Report::new(exit::LOCAL, "a server is not on loopback"))
}

struct Bench {
    issue: issue::Bench,
    redeem: redeem::Bench,
    targets: [Target; 2],
    storms: [Arc<[u8]>; 2],
    pids: [u32; 2],
}

impl Bench {
    /// One round of one flood.
    async fn measure(
        &self,
        number: usize,
        rate: u32,
        span: Duration,
        (p99, cpu): (&mut Row, &mut Row),
    ) -> Result<(), Report> {
        let before = self.cpu()?;
        let (idle, asked) = self.honest(span).await?;
        let honest = per(self.cpu()?.saturating_sub(before), asked);
        let before = self.cpu()?;
        let acts = self.flood(number, rate, span).await;
        let hostile = per(self.cpu()?.saturating_sub(before), acts);
        let (flooded, during) = tokio::join!(self.flood(number, rate, span), self.honest(span));
        if acts == 0 || flooded == 0 {
            return Err(Report::new(exit::LOCAL, "a flood did nothing"));
        }
        p99.add(during?.0.p99(), idle.p99());
        cpu.add(hostile, honest);
        Ok(())
    }

    /// Floods both servers; how many acts there were.
    async fn flood(&self, number: usize, rate: u32, span: Duration) -> u64 {
        let flood = |server: usize| {
            let storm = Flood::Storm {
                request: Arc::clone(&self.storms[server]),
                each: 16,
            };
            Flood::KINDS.get(number).cloned().unwrap_or(storm)
        };
        let force = Force {
            span,
            peers: 8,
            sources: 8,
            per_second: rate,
        };
        let (broker, key_server) = (flood(0), flood(1));
        let acts = |tally: Tally| tally.acts;
        let (one, other) = tokio::join!(
            broker.run(self.targets[0], force),
            key_server.run(self.targets[1], force)
        );
        acts(one) + acts(other)
    }

    /// Honest requests at a steady pace: how long they took, and how many they were.
    async fn honest(&self, span: Duration) -> Result<(Times, u64), Report> {
        let times = Times::default();
        let until = Instant::now() + span;
        let callers = (0..CALLERS).map(|caller| {
            let times = times.clone();
            async move {
                let (mut due, mut asked) = (Instant::now(), 0);
                while due < until {
                    sleep_until(due.into()).await;
                    let begun = Instant::now();
                    if asked % 2 == 0 {
                        self.redeem.one(caller).await?;
                    } else {
                        self.issue.ticket(caller, 1).await?;
                    }
                    times.add(begun);
                    asked += 1;
                    due = (due + EVERY).max(begun);
                }
                Ok::<u64, Report>(asked)
            }
        });
        let mut asked = 0;
        for counted in futures::future::join_all(callers).await {
            asked += counted?;
        }
        Ok((times, asked))
    }

    fn cpu(&self) -> Result<Duration, Report> {
        let used = self.pids.map(|pid| Usage::of(pid).map(|usage| usage.cpu));
        match used {
            [Some(one), Some(other)] => Ok(one + other),
            _ => Err(Report::new(exit::LOCAL, "a server is gone")),
        }
    }
}

/// Microseconds of each.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn per(spent: Duration, count: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// A channel that no connection has: what is signed for it proves nothing anywhere.
fn nowhere(server: &client::link::Server) -> Channel {
    Channel {
        realm: server.realm.clone(),
        server: server.tls_key,
        exporter: Exporter([0; 32]),
    }
}

/// A login of a launch that there is, with everything right but the secret.
async fn wrong_login(realm: &Realm) -> Result<Arc<[u8]>, Report> {
    let bootstrap = realm.launch().await?;
    let proof = documents::proof(u64::MAX, now());
    let user_data = bootstrap.to_cloud_config();
    // It is one that the broker would take.
    let evidence = Evidence::read(
        user_data.as_bytes(),
        proof.clone(),
        &documents::region_keys(),
    );
    evidence.map_err(|error| error.report())?;
    let channel = nowhere(&realm.servers.broker);
    let guessed = LaunchSecret::generate(&mut rng());
    let (node, proof_key) = (
        NodeSecret::generate(&mut rng()),
        ProofSecret::generate(&mut rng()),
    );
    let mut body = LoginBody {
        launch: bootstrap.launch,
        login: LoginId::random(&mut rng()),
        iid_proof: proof.into_bytes(),
        node_key: node.public(),
        proof_key: proof_key.public(),
        sealing_key: SealingSecret::generate(Kem::XWing, &mut rng()).public(),
        launch_digest: bootstrap.launch_digest,
        evidence: Proof {
            alg: ALG_EDDSA,
            value: vec![0],
        },
    };
    let signed = body.evidence(ProofHash([0; 32]));
    body.evidence = signed.sign(&guessed, &channel.realm, &channel.server);
    let body = body.to_cbor();
    let label = labels::LOGIN_REQUEST;
    let proofs = [
        channel.sign_with(&guessed, label, None, &body),
        channel.sign_with(&node, label, None, &body),
        channel.sign_with(&proof_key, label, None, &body),
    ];
    Ok(Arc::from(Request::encode_parts(
        Verb::Login,
        &body,
        &proofs,
    )))
}

/// A good ticket, presented by somebody who has not its key.
async fn wrong_present(issue: &issue::Bench) -> Result<Arc<[u8]>, Report> {
    let (_, session) = issue.ticket(0, 1).await?;
    let DatasetSession {
        ticket, receipt, ..
    } = &session;
    let body = PresentBody {
        ticket: ticket.clone(),
        receipt: Some(receipt.clone()),
        evidence: None,
    };
    let (body, hash) = (body.to_cbor(), TicketHash::of(ticket));
    let stranger = ProofSecret::generate(&mut rng());
    let channel = Channel {
        realm: crate::servers::REALM.to_owned(),
        server: ticket_format::keys::TlsSecret::generate(&mut rng()).public(),
        exporter: Exporter([0; 32]),
    };
    let proof = channel.sign_with(&stranger, labels::PRESENT_REQUEST, Some(hash), &body);
    Ok(Arc::from(Request::encode_parts(
        Verb::Present,
        &body,
        &[proof],
    )))
}
