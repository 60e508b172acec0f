//! For tests: one of each.

use crate::cbor::Encode;
use crate::entry::{Entry, Kind};
use crate::ids::{ActId, NodeId};
use crate::keys::{PublicKey, Role, SecretKey};
use crate::messages::Receipt;
use crate::seal::{Kem, SealingKey, SealingSecret};
use crate::secret::SealingSeed;
use crate::sign::{ALG_EDDSA, Proof};
use crate::time::Timestamp;

pub(crate) fn secret<R: Role>(seed: u8) -> SecretKey<R> {
    SecretKey::from_seed(&[seed; 32])
}

pub(crate) fn key<R: Role>(seed: u8) -> PublicKey<R> {
    secret(seed).public()
}

pub(crate) fn sealing(kem: Kem) -> SealingKey {
    SealingSecret::from_seed(kem, SealingSeed::from_bytes([9; 32])).public()
}

pub(crate) fn proof() -> Proof {
    Proof {
        alg: ALG_EDDSA,
        value: vec![3; 64],
    }
}

pub(crate) fn node() -> NodeId {
    NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap()
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(1_795_372_800 + seconds)
}

pub(crate) fn log_secret() -> crate::tlog::LogSecret {
    let origin = "test/broker/0101010101010101".parse().unwrap();
    crate::tlog::LogSecret::from_seeds(origin, &[21; 32], &[22; 32]).unwrap()
}

pub(crate) fn checkpoint(size: u64) -> crate::tlog::Checkpoint {
    crate::tlog::Checkpoint {
        shard: log_secret().key().origin.shard(1),
        size,
        root: [6; 32],
    }
}

pub(crate) fn receipt() -> Receipt {
    Receipt {
        entry: Entry::new(ActId([1; 16]), Kind::Issue, at(0)).to_cbor(),
        proof: "c2sp.org/tlog-proof@v1".to_owned(),
    }
}
