//! What keys cannot do without.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ticket_format::Context;
use ticket_format::cbor::Encode as _;
use ticket_format::ids::{DatasetId, DekId, KekId};
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingSecret, encapsulate};
use ticket_format::secret::{Dek, Kek};
use ticket_format::wrapped::{Header, Origin, local};

use crate::drive::rate;
use crate::floor::Batch;
use crate::realm::rng;
use crate::servers::REALM;

/// Of one turn of a task.
const TURN: u64 = 64;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// X-Wing decapsulations in a second, on all cores.
pub(super) async fn decapsulations(span: Duration) -> Result<f64, Report> {
    let failed = |error| Report::new(exit::LOCAL, "X-Wing does not open").why(error);
    let secret = SealingSecret::generate(Kem::XWing, &mut rng());
    let info = [0xa5; 60];
    let (enc, _) = encapsulate(&secret.public(), &info, &mut rng()).map_err(failed)?;
    let shared = Arc::new((secret, enc));
    let operation = move |_| {
        let shared = Arc::clone(&shared);
        async move {
            for _ in 0..TURN {
                let opened = shared.0.decapsulate(black_box(&shared.1), &info);
                black_box(opened.map_err(failed)?);
            }
            Ok(Some(TURN))
        }
    };
    rate(cores(), span, operation).await
}

/// New DEKs wrapped in a second, on all cores.
pub(super) async fn wraps(span: Duration) -> Result<f64, Report> {
    let kek = Arc::new(Kek::random(&mut rng()));
    let context = Context::named("s3://bench/new-0000000")
        .map_err(|error| Report::new(exit::LOCAL, "no context").why(error))?;
    let context: Arc<[u8]> = context.to_cbor().into();
    let operation = move |_| {
        let (kek, context) = (Arc::clone(&kek), Arc::clone(&context));
        async move {
            for _ in 0..TURN {
                let header = Header {
                    dataset: DatasetId([1; 16]),
                    kek: KekId([2; 16]),
                    kek_version: 1,
                    dek: DekId::random(&mut rng()),
                };
                let (dek, origin) = (Dek::random(&mut rng()), Origin::Generated);
                let wrap = local::wrap(&kek, REALM, &header, origin, &context, &dek, &mut rng());
                black_box(wrap);
            }
            Ok(Some(TURN))
        }
    };
    rate(cores(), span, operation).await
}

/// Microseconds of a server's primitives for each item of a redemption, on one core.
pub(super) fn serve(batch: &Batch, items: usize, span: Duration) -> f64 {
    let (started, mut turns) = (Instant::now(), 0_u64);
    while started.elapsed() < span {
        batch.serve();
        turns += 1;
    }
    crate::cpu::per(started.elapsed(), turns * items as u64)
}
