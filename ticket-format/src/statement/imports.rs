//! Acts that bring KEK material to a key server and take it elsewhere (`spec/vault.md`, section 5).

use crate::ids::{DatasetId, ImportId, KekId, StatementDigest};
use crate::limits;
use crate::messages::shape::{
    Bytes, Fixed, List, OrNull, Text, UINT, Uint, XWING_KEY, closed_map, item, numbered,
};
use crate::seal::SealingKey;
use crate::time::Timestamp;
use crate::transfer::{EXPORTED, HPKE_WRAPPED, RSA_WRAPPED};

use super::acts::act;
use super::datasets::DatasetCreated;
use super::roots::{ShareHolder, ShareRow};

/// Bytes of an RSA public key as SubjectPublicKeyInfo: one of 4,096 bits has 550.
const SPKI: std::ops::RangeInclusive<usize> = 512..=640;

numbered! {
    /// How material is wrapped on its way to a key server (IMP-1).
    pub enum ImportHow("way of import") {
        /// HPKE to the import's X-Wing key.
        Hpke = 1, "hpke-x-wing";
        /// RSA-OAEP with SHA-256 and no label to the import's RSA key: for HSMs and key managers.
        RsaOaep = 2, "rsa-oaep-sha256";
    }
}

closed_map! {
    /// Has a key server make the keys that material for a dataset is wrapped to (IMP-1).
    ///
    /// `import-begin = { 1: name }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ImportBegin {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
    }
}
act!(ImportBegin, ImportBegin, ImportBegun);

closed_map! {
    /// The public halves of an import's keys.
    ///
    /// `import-begun = { 1: id16, 2: xwing-key, 3: bstr .size (512..640), 4: unix-time, 5: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ImportBegun {
        /// Names the import.
        1 import: ImportId = item();
        /// For [`ImportHow::Hpke`].
        2 key: SealingKey = XWING_KEY;
        /// For [`ImportHow::RsaOaep`]: SubjectPublicKeyInfo, DER.
        3 rsa: Vec<u8> = Bytes(SPKI);
        /// Until then.
        4 expires: Timestamp = item();
        /// The dataset, which what is wrapped is bound to.
        5 dataset: DatasetId = item();
    }
}

closed_map! {
    /// Makes a dataset's next KEK version of material from elsewhere, or renews the version that was made of
    /// the same (IMP-2, IMP-3).
    ///
    /// ```cddl
    /// kek-import = { 1: name, 2: id16, 3: 1..2, 4: bstr .size (512..1168), 5: id16, 6: unix-time / null,
    ///                7: hash }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekImport {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// The import whose keys it is wrapped to.
        2 import: ImportId = item();
        /// How.
        3 how: ImportHow = item();
        /// The material, wrapped.
        4 wrapped: Vec<u8> = Bytes(RSA_WRAPPED..=HPKE_WRAPPED);
        /// The version that it follows (ADM-5).
        5 replaces: KekId = item();
        /// When the version is disabled by itself.
        6 expiry: Option<Timestamp> = OrNull(item());
        /// SHA-256 of the material: its signers agree on a key that they need not see.
        7 commitment: [u8; 32] = Fixed::<32>;
    }
}
act!(KekImport, KekImport, DatasetCreated);

closed_map! {
    /// How an imported version came.
    ///
    /// `provenance = { 1: 1..2, 2: hash, 3: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Provenance {
        /// How the material was wrapped.
        1 how: ImportHow = item();
        /// SHA-256 of the statement that brought it.
        2 statement: StatementDigest = item();
        /// SHA-256 of the material.
        3 commitment: [u8; 32] = Fixed::<32>;
    }
}

closed_map! {
    /// Gives a KEK version's material out, to recipients of whom so many are needed (IMP-4).
    ///
    /// `kek-export = { 1: name, 2: id16, 3: 1..16, 4: [1*16 share-holder] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekExport {
        /// Which dataset.
        1 name: String = Text(1..=limits::NAME);
        /// Which version.
        2 kek: KekId = item();
        /// So many recipients open it together.
        3 threshold: u64 = Uint(1..=limits::ADMINS as u64);
        /// To whom.
        4 holders: Vec<ShareHolder> = List(1..=limits::ADMINS, item());
    }
}
act!(KekExport, KekExport, KekExported);

closed_map! {
    /// A KEK version's material, sealed under a secret whose shares are sealed to its recipients (IMP-4).
    ///
    /// `kek-exported = { 1: id16, 2: id16, 3: uint, 4: bstr .size 80, 5: 1..16, 6: [1*16 share-row] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KekExported {
        /// The dataset.
        1 dataset: DatasetId = item();
        /// The version.
        2 kek: KekId = item();
        /// Its number.
        3 version: u64 = UINT;
        /// Symmetric key and X-Wing seed.
        4 sealed: Vec<u8> = Bytes(EXPORTED..=EXPORTED);
        /// So many shares open it.
        5 threshold: u64 = Uint(1..=limits::ADMINS as u64);
        /// The shares.
        6 shares: Vec<ShareRow> = List(1..=limits::ADMINS, item());
    }
}
