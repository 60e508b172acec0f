//! Acts on a key server's root key (`spec/vault.md`).

use crate::ids::{AttemptId, RootId};
use crate::limits;
use crate::messages::shape::{
    Bool, Bytes, List, OrNull, Text, UINT, Uint, XWING_KEY, closed_map, item, numbered,
};
use crate::seal::SealingKey;

use super::acts::{Nothing, act};

/// Bytes of one share in the clear: its number and one byte for each of the secret's.
pub const SHARE: usize = 33;
/// Bytes of a sealed share: HPKE's encapsulation, the share and the tag.
pub const SEALED_SHARE: usize = crate::seal::XWING_ENC + SHARE + 16;

numbered! {
    /// How the automatic way to the root key is kept (ROOT-2).
    pub enum AutoKind("automatic kind") {
        /// A credential file that systemd or another secret store lays down.
        Credential = 1, "credential";
        /// A passphrase.
        Passphrase = 2, "passphrase";
        /// A key in a PKCS#11 token.
        Pkcs11 = 3, "pkcs11";
        /// A TPM 2.0.
        Tpm2 = 4, "tpm2";
    }
}

numbered! {
    /// What shares are given for (ROOT-4, ROOT-6).
    pub enum SharePurpose("share purpose") {
        /// To open a sealed key server.
        Unseal = 1, "unseal";
        /// To prove that they would: nothing changes.
        Drill = 2, "drill";
        /// To open a backup (BAK-3, BAK-4).
        Restore = 3, "restore";
    }
}

closed_map! {
    /// `root-show = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RootShow {}
}
act!(RootShow, RootShow, RootView);

closed_map! {
    /// A key server's root key and the two ways to it.
    ///
    /// ```cddl
    /// root-view = { 1: bool, 2: id16, 3: 1..4, 4: tstr .size (0..256), 5: 1..16, 6: [1*16 share-row],
    ///               7: attempt / null, 8: attempt / null }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RootView {
        /// Whether the server is sealed: it has no root key and serves nothing but this (ROOT-4).
        1 sealed: bool = Bool;
        /// Which root key.
        2 root: RootId = item();
        /// The automatic way.
        3 auto: AutoKind = item();
        /// Why the automatic way failed; empty where it did not.
        4 wrong: String = Text(0..=256);
        /// So many shares open it.
        5 threshold: u64 = Uint(1..=limits::ADMINS as u64);
        /// Who has one.
        6 shares: Vec<ShareRow> = List(1..=limits::ADMINS, item());
        /// Where shares to unseal go now; none while it is open.
        7 unseal: Option<Attempt> = OrNull(item());
        /// Where shares to drill go now; none while it is sealed.
        8 drill: Option<Attempt> = OrNull(item());
    }
}

closed_map! {
    /// Who has one share, and the share as only its holder opens it (ROOT-3).
    ///
    /// `share-row = { 1: name, 2: xwing-key, 3: uint, 4: bstr .size 1169 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ShareRow {
        /// The holder.
        1 name: String = Text(1..=64);
        /// The holder's share key.
        2 key: SealingKey = XWING_KEY;
        /// The share's number, from 1.
        3 number: u64 = Uint(1..=limits::ADMINS as u64);
        /// The share, sealed to that key.
        4 sealed: Vec<u8> = Bytes(SEALED_SHARE..=SEALED_SHARE);
    }
}

closed_map! {
    /// One collection of shares. Its key is fresh and in memory only: a restart begins another.
    ///
    /// `attempt = { 1: id16, 2: xwing-key, 3: uint }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Attempt {
        /// Which.
        1 id: AttemptId = item();
        /// Shares are sealed to this key.
        2 key: SealingKey = XWING_KEY;
        /// How many are there.
        3 shares: u64 = UINT;
    }
}

closed_map! {
    /// Gives one share (ROOT-4, ROOT-6).
    ///
    /// `share-give = { 1: id16, 2: 1..3, 3: 1..16, 4: bstr .size 1169 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ShareGive {
        /// The attempt that it is for.
        1 attempt: AttemptId = item();
        /// What for.
        2 purpose: SharePurpose = item();
        /// The share's number.
        3 number: u64 = Uint(1..=limits::ADMINS as u64);
        /// The share, sealed to the attempt's key.
        4 sealed: Vec<u8> = Bytes(SEALED_SHARE..=SEALED_SHARE);
    }
}
act!(ShareGive, ShareGive, RootView);

closed_map! {
    /// Seals a key server: it forgets its root key and every key under it, and serves nothing until
    /// enough shares are given, or it is started again (ROOT-5).
    ///
    /// `seal = { 1: id16 }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SealServer {
        /// The root key that it forgets.
        1 root: RootId = item();
    }
}
act!(SealServer, SealServer, Nothing);

closed_map! {
    /// Makes a new root key, seals everything under it anew, and gives out new shares (ROOT-7).
    ///
    /// `rekey = { 1: id16, 2: 1..16, 3: [1*16 share-holder] }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Rekey {
        /// The root key that it replaces (ADM-5).
        1 replaces: RootId = item();
        /// So many shares will open it.
        2 threshold: u64 = Uint(1..=limits::ADMINS as u64);
        /// Who gets one.
        3 holders: Vec<ShareHolder> = List(1..=limits::ADMINS, item());
    }
}
act!(Rekey, Rekey, RootView);

closed_map! {
    /// `share-holder = { 1: name, 2: xwing-key }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ShareHolder {
        /// The holder.
        1 name: String = Text(1..=64);
        /// The holder's share key.
        2 key: SealingKey = XWING_KEY;
    }
}
