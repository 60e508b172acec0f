//! Time tells a stranger nothing (LOG-2, SIG-2).
//!
//! Each test has a class that is slower by little, and demands that it is noticed: else it could not fail.
// The statistic is what is to be read.
#![allow(missing_docs, clippy::cast_precision_loss, clippy::print_stdout)]

mod dudect;
#[allow(unused_imports)]
#[path = "../support/mod.rs"]
mod support;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dudect::{LEAK, Seen, compare};
use store::root::{Share, join};
use support::*;
use ticket_format::Refusal;
use ticket_format::cbor::Encode;
use ticket_format::ids::{LaunchId, TicketHash};
use ticket_format::keys::{LaunchSecret, ProofSecret};
use ticket_format::labels;
use ticket_format::messages::{Answer, Request, Verb};
use ticket_format::seal::{self, Kem, SealingSecret, Session};
use ticket_format::sign::{Channel, Exporter};
use ticket_format::statement::{LaunchClose, LaunchCreate};

/// About what an unknown launch was once refused sooner by.
const SLOWER: Duration = Duration::from_micros(150);

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// What a person reads when a test fails, and with `--nocapture` always.
fn told(names: &[&str], seen: &[Seen]) -> String {
    let told = names.iter().zip(seen).map(|(name, seen)| {
        format!(
            "{name}: |t| {:.1} to {:.1}, {:+.2} %",
            seen.least,
            seen.most,
            100.0 * seen.apart
        )
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A login signed by nobody's launch key, in a message of its own for each launch that it names.
fn login(world: &World, connection: &Connection<'_>, launch: &Launch) -> Vec<u8> {
    let node = Node::boot(&SYDNEY);
    let wrong = Launch {
        id: launch.id,
        secret: LaunchSecret::generate(&mut rng()),
        digest: launch.digest,
    };
    let proof_key = ProofSecret::generate(&mut rng());
    let (body, _) = node.login_body(&wrong, &proof_key, &world.tls.public());
    let body = body.to_cbor();
    let proofs = node.login_proofs(&connection.channel, &wrong, &proof_key, &body);
    Request::encode_parts(Verb::Login, &body, &proofs)
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap()
}

#[test]
fn a_wrong_secret_gets_the_same_answer_in_the_same_time_whatever_the_launch_is() {
    // rule: LOG-2
    let runtime = runtime();
    let most = NonZeroU32::MAX;
    let limits = broker::Limits {
        logins_per_second: most,
        login_burst: most,
        ..broker::Limits::default()
    };
    let world = runtime.block_on(World::with(limits));
    let launches = runtime.block_on(async {
        let unused = world.launch(&SYDNEY, |_| {}).await;
        let used = world.launch(&SYDNEY, |_| {}).await;
        Node::boot(&SYDNEY).login(&world, &used).await.unwrap();
        let closed = world.launch(&SYDNEY, |_| {}).await;
        let close = LaunchClose {
            launch: closed.id,
            deny: false,
            reason: String::new(),
        };
        world.act(&close).await.unwrap();
        let over = |terms: &mut LaunchCreate| terms.until = terms.from.plus(61);
        let over = world.launch(&SYDNEY, over).await;
        let unknown = Launch {
            id: LaunchId::random(&mut rng()),
            secret: LaunchSecret::generate(&mut rng()),
            digest: unused.digest,
        };
        world.clock.advance(2);
        [unused, unknown, used, closed, over]
    });
    let connection = world.connect();
    // The last is slower on purpose.
    let mut messages: Vec<_> = launches
        .iter()
        .map(|of| login(&world, &connection, of))
        .collect();
    messages.push(messages[0].clone());
    let slow = messages.len() - 1;
    let mut answers = Vec::new();
    for message in &messages {
        let Answer::Refused(notice) = runtime.block_on(connection.raw(message)) else {
            panic!("a login with a wrong secret")
        };
        answers.push(notice);
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(
        (answers[0].refusal, &answers[0].detail),
        (Refusal::NotAuthenticated, &None)
    );

    let broker = world.broker();
    let mut measure = |class: usize| {
        let begun = Instant::now();
        let answer = broker.answer(&connection.caller, &messages[class], std::future::pending());
        black_box(runtime.block_on(answer));
        if class == slow {
            spin(SLOWER);
        }
        begun.elapsed().as_nanos() as f64
    };
    let t = compare(messages.len(), 500, &mut rng(), &mut measure);
    let names = ["unknown", "used", "closed", "over", "slower by 150 us"];
    equal_but_the_last(&names, &t);
}

/// All classes are as the first, and the last, which is not, was noticed.
fn equal_but_the_last(names: &[&str], seen: &[Seen]) {
    println!("{}", told(names, seen));
    let (slower, equal) = seen.split_last().unwrap();
    let leaks = equal.iter().any(Seen::is_a_leak);
    assert!(!leaks, "{}", told(names, seen));
    // In one attempt at least: on a busy machine it is not told in each.
    assert!(
        slower.most > LEAK,
        "what is slower was not noticed: {}",
        told(names, seen)
    );
}

/// So many calls are measured as one: one alone takes less than a clock tells.
const TOGETHER: usize = 64;

fn together(mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..TOGETHER).for_each(|_| work());
    begun.elapsed().as_nanos() as f64
}

/// As one would write it: it ends at the first byte that differs.
fn leaky(one: &[u8], other: &[u8]) -> bool {
    one.iter()
        .zip(other)
        .all(|(a, b)| black_box(a) == black_box(b))
}

#[test]
fn rustsec_2024_0344_secret_comparison_and_share_combination_take_constant_time() {
    // rule: SIG-2, ROOT-3
    let info = [0; 32];
    let (_, exports) = seal::encapsulate(
        &SealingSecret::generate(Kem::XWing, &mut rng()).public(),
        &info,
        &mut rng(),
    )
    .unwrap();
    let ticket = TicketHash([3; 32]);
    let session = Session::new(exports, ticket);
    let channel = Channel {
        realm: "test".to_owned(),
        server: ticket_format::keys::TlsSecret::generate(&mut rng()).public(),
        exporter: Exporter([7; 32]),
    };
    let label = labels::LOGIN_REQUEST;
    let good = session.mac().authenticate(&channel, label, ticket, b"body");
    let bent = |at: usize| {
        let mut bent = good.clone();
        bent.value[at] ^= 1;
        bent
    };
    let macs = [bent(0), bent(16), bent(31)];
    let mut measure = |class: usize| match macs.get(class) {
        Some(mac) => together(|| {
            let verified = session.mac().verify(&channel, label, ticket, b"body", mac);
            assert!(black_box(verified).is_err());
        }),
        None => together(|| {
            let verified = session
                .mac()
                .verify(&channel, label, ticket, b"body", &macs[0]);
            // As long as half of the MAC, byte by byte.
            let same = leaky(&good.value, &macs[1].value);
            assert!(!black_box(same) && verified.is_err());
        }),
    };
    let t = compare(4, 400, &mut rng(), &mut measure);
    equal_but_the_last(
        &[
            "byte 16 differs",
            "byte 31 differs",
            "compared byte by byte too",
        ],
        &t,
    );

    let shares = |fill: &mut dyn FnMut() -> u8| {
        let mut share = |number: u8| {
            let mut bytes = [0; 33];
            bytes.fill_with(&mut *fill);
            bytes[0] = number;
            Share::from_bytes(&bytes)
        };
        [share(1), share(2), share(3)]
    };
    let random = || seed()[0];
    let inputs = [
        shares(&mut || 0),
        shares(&mut || 0xff),
        shares(&mut || random()),
    ];
    let mut measure = |class: usize| {
        let time = |shares: &[Share]| {
            let begun = Instant::now();
            assert!(black_box(join(black_box(shares), 3)).is_ok());
            begun.elapsed().as_nanos() as f64
        };
        match inputs.get(class) {
            Some(shares) => time(shares),
            None => {
                let begun = Instant::now();
                time(&inputs[0]);
                spin(Duration::from_micros(2));
                begun.elapsed().as_nanos() as f64
            }
        }
    };
    let t = compare(4, 2_000, &mut rng(), &mut measure);
    equal_but_the_last(&["all ones", "random", "slower by 2 us"], &t);
}
