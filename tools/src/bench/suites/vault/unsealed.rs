//! `unseal_ms`.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use key_server::vault::{KekRecord, Vault};
use store::root::{Collection, Given, Holders, Means, Place, RootDir, Share, Ways};
use ticket_format::ids::DatasetId;
use ticket_format::keys::TlsSecret;
use ticket_format::limits;
use ticket_format::report::{Report, exit};
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::secret::SealingSeed;
use ticket_format::statement::{ShareHolder, SharePurpose};

use crate::realm::{now, rng};
use crate::rows::Row;
use crate::servers::REALM;

/// Holders of shares, and how many open.
const SHARES: (usize, u64) = (3, 2);

/// A root key, the shares that its holders opened, and what is sealed under it.
pub(crate) struct Bench {
    ways: Ways,
    shares: Vec<Share>,
    given: Given,
    versions: Vec<(KekRecord, Option<Vec<u8>>)>,
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Report {
    move |error| Report::new(exit::LOCAL, what).why(error)
}

impl Bench {
    pub(crate) fn new(dir: &Path) -> Result<Self, Report> {
        let wrong = failed("a root key cannot be made");
        std::fs::create_dir_all(dir).map_err(|error| wrong(&error))?;
        let credential = dir.join("credential");
        store::files::create_private(&credential, &[7; 32]).map_err(|error| wrong(&error))?;
        let server = TlsSecret::generate(&mut rng()).public();
        let place = Place {
            realm: REALM.to_owned(),
            server,
        };
        let secrets: Vec<_> = (0..SHARES.0)
            .map(|_| SealingSecret::generate(Kem::XWing, &mut rng()))
            .collect();
        let holder = |(n, secret): (usize, &SealingSecret)| ShareHolder {
            name: format!("holder-{n}"),
            key: secret.public(),
        };
        let holders = Holders::new(SHARES.1, secrets.iter().enumerate().map(holder).collect());
        let holders = holders.map_err(|error| wrong(&error))?;
        let means = Means::Credential(credential);
        let made = RootDir::at(dir).create(&place, &means, &holders, &mut rng());
        let (ways, root) = made.map_err(|error| wrong(&error))?;
        let mut shares = Vec::new();
        for (row, secret) in ways.rows().iter().zip(&secrets) {
            let share = Share::open(row, secret, &place, ways.root());
            shares.push(share.map_err(|error| wrong(&error))?);
        }
        let vault = Vault::open(REALM, root, []).map_err(|error| wrong(&error))?;
        let dataset = DatasetId::random(&mut rng());
        let version = |number: usize| {
            let made = vault.create_kek(dataset, number as u64, now(), &mut rng());
            (made.record().clone(), Some(made.sealed.clone()))
        };
        let versions = (1..=limits::KEKS).map(version).collect();
        let given = Given {
            realm: REALM.to_owned(),
            server,
            root: ways.root(),
            purpose: SharePurpose::Unseal,
        };
        Ok(Self {
            ways,
            shares,
            given,
            versions,
        })
    }

    pub(crate) fn measure(&self, row: &mut Row) -> Result<(), Report> {
        let wrong = failed("shares open nothing");
        let rng = &mut rng();
        let mut collection = Collection::new(self.given.clone(), self.ways.threshold(), rng);
        let attempt = collection.attempt();
        let mut gives = Vec::new();
        for share in self.shares.iter().take(2) {
            let give = share.give(&attempt, &self.given, rng);
            gives.push(give.map_err(|error| wrong(&error))?);
        }
        let versions = self.versions.clone();
        let begun = Instant::now();
        for give in &gives {
            collection.take(give).map_err(|error| wrong(&error))?;
        }
        let root = self.ways.open_shares(collection.shares());
        let root = root.map_err(|error| wrong(&error))?;
        let vault = Vault::open(REALM, root, versions).map_err(|error| wrong(&error))?;
        let took = begun.elapsed();
        drop(vault);
        let begun = Instant::now();
        for version in 0..limits::KEKS {
            let seed = SealingSeed::from_bytes([u8::try_from(version % 256).unwrap_or(0); 32]);
            black_box(SealingSecret::from_seed(Kem::XWing, seed).public());
        }
        let floor = begun.elapsed();
        row.add(took.as_secs_f64() * 1e3, floor.as_secs_f64() * 1e3);
        Ok(())
    }
}
