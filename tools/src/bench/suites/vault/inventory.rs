//! `inventory_bytes_per_wrap`.

use std::path::Path;

use key_server::inventory::Inventory;
use rand_core::Rng as _;
use ticket_format::cbor::Encode as _;
use ticket_format::entry::{Entry, Kind};
use ticket_format::ids::{ActId, DatasetId, ItemDigest, KekId};
use ticket_format::keys::TlsSecret;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::statement::Role;

use crate::realm::{now, rng};
use crate::rows::Row;
use crate::suites::audit::door::open_log;

/// Wraps that are left.
const WRAPS: usize = 200_000;
/// Version 16 bytes, digest 32, time 4.
const ROW: f64 = 52.0;
const DATASET: DatasetId = DatasetId([1; 16]);
const OLD: KekId = KekId([2; 16]);
const NEW: KekId = KekId([3; 16]);

fn digests(count: usize) -> Vec<ItemDigest> {
    let digest = |_| {
        let mut digest = [0; 32];
        rng().fill_bytes(&mut digest);
        ItemDigest(digest)
    };
    (0..count).map(digest).collect()
}

fn batch(kind: Kind, items: &[ItemDigest]) -> Entry {
    Entry::new(ActId::random(&mut rng()), kind, now())
        .dataset(DATASET)
        .items(items.iter().map(|item| (*item, Ok(()))).collect())
}

pub(crate) async fn measure(dir: &Path, row: &mut Row) -> Result<(), Report> {
    let failed = |error: &dyn std::fmt::Display| {
        Report::new(exit::LOCAL, "the inventory cannot be measured").why(error)
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    let server = TlsSecret::generate(&mut rng());
    let log = open_log(&dir.join("log"), Role::KeyServer, &server)?;
    let path = dir.join("inventory.redb");
    let inventory = Inventory::open(path.clone(), log.clone()).await;
    let inventory = inventory.map_err(|error| failed(&error))?;
    for _ in 0..WRAPS / limits::REWRAPS / 2 {
        let stay = digests(limits::REWRAPS);
        let (old, new) = (digests(limits::REWRAPS), digests(limits::REWRAPS));
        let made = |items: &[ItemDigest]| batch(Kind::Generate, items).kek(OLD);
        let rewrapped = batch(Kind::Rewrap, &old)
            .kek(NEW)
            .keks(vec![OLD], vec![0; old.len()])
            .moved(new.clone());
        let placed = batch(Kind::Rewrap, &[]).kek(NEW).confirmed(new);
        for entry in [made(&stay), made(&old), rewrapped, placed] {
            let appended = log.append(entry.to_cbor()).await;
            appended.map_err(|error| failed(&error))?;
        }
    }
    inventory.settled().await.map_err(|error| failed(&error))?;
    let wraps = inventory.counts(OLD).wraps + inventory.counts(NEW).wraps;
    if wraps != WRAPS as u64 {
        return Err(failed(&format!("it counts {wraps} wraps")));
    }
    inventory.close().await;
    let size = path.metadata().map_err(|error| failed(&error))?.len();
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    row.add(size as f64 / WRAPS as f64, ROW);
    Ok(())
}
