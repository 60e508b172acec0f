//! The closed list of acts, and what every act has.

use crate::cbor::{Decode, Encode};
use crate::messages::shape::{closed_map, numbered};

use super::admins::AdminRole;

numbered! {
    /// What a statement does.
    pub enum Act("act") {
        /// Lets nodes log in.
        LaunchCreate = 1, "launch-create";
        /// Lists launches.
        LaunchList = 2, "launch-list";
        /// Shows one launch.
        LaunchShow = 3, "launch-show";
        /// Ends a launch before its window does.
        LaunchClose = 4, "launch-close";
        /// Sets the broker's policy.
        PolicySet = 10, "policy-set";
        /// Shows the broker's policy.
        PolicyShow = 11, "policy-show";
        /// Tries a draft policy on what was decided.
        WhatIf = 12, "what-if";
        /// Makes a dataset and its first KEK, at a key server.
        DatasetCreate = 20, "dataset-create";
        /// Makes a dataset known to a broker.
        DatasetRecord = 21, "dataset-record";
        /// Lists datasets.
        DatasetList = 22, "dataset-list";
        /// Shows one dataset.
        DatasetShow = 23, "dataset-show";
        /// Sets a dataset's policy, at its key server.
        DatasetPolicySet = 24, "dataset-policy-set";
        /// Registers a producer, at the dataset's key server.
        ProducerAdd = 25, "producer-add";
        /// Sets a dataset's options, at its key server.
        DatasetSet = 26, "dataset-set";
        /// Sets a dataset's owners, at its key server.
        DatasetOwnersSet = 27, "dataset-owners-set";
        /// Marks a DEK as canary, at its key server.
        CanarySet = 28, "canary-set";
        /// Lists nodes.
        NodeList = 30, "node-list";
        /// Shows one node.
        NodeShow = 31, "node-show";
        /// Decides which key a frozen node goes on with.
        NodeUnfreeze = 32, "node-unfreeze";
        /// Denies.
        Deny = 40, "deny";
        /// Lists the denials in force.
        DenyList = 41, "deny-list";
        /// Lifts denials.
        Undeny = 42, "undeny";
        /// Shows who has applied the denials.
        FeedShow = 43, "feed-show";
        /// Shows how a server is.
        Status = 50, "status";
        /// Shows one ticket that the broker issued.
        TicketShow = 51, "ticket-show";
        /// Replaces the admin set.
        AdminSet = 60, "admin-set";
        /// Shows the history of admin sets.
        AdminSetShow = 61, "admin-set-show";
        /// Leaves a statement for others to sign.
        Propose = 70, "propose";
        /// Lists what waits for signatures.
        ProposalList = 71, "proposal-list";
        /// Shows one statement that waits.
        ProposalShow = 72, "proposal-show";
        /// Takes a statement back.
        ProposalWithdraw = 73, "proposal-withdraw";
        /// Lists what a node, ticket or launch could have read.
        Exposure = 80, "exposure";
        /// Shows one entry of the audit log.
        EntryShow = 81, "entry-show";
        /// Says where a log goes on that was rolled back or has forked.
        LogRecover = 90, "log-recover";
        /// Shows a server's log and its witnesses.
        LogShow = 91, "log-show";
        /// Makes a dataset's next KEK version, at its key server.
        KekRotate = 100, "kek-rotate";
        /// Takes a KEK version out of use, or back into it.
        KekSet = 101, "kek-set";
        /// Lists a dataset's KEK versions.
        KekList = 102, "kek-list";
        /// Has a KEK version destroyed after a wait.
        KekDestroy = 103, "kek-destroy";
        /// Takes a destruction back.
        KekKeep = 104, "kek-keep";
        /// Lists the wraps under a KEK version.
        WrapList = 105, "wrap-list";
        /// Makes the keys that material for a dataset is wrapped to.
        ImportBegin = 106, "import-begin";
        /// Makes a dataset's next KEK version of material from elsewhere.
        KekImport = 107, "kek-import";
        /// Gives a KEK version's material out.
        KekExport = 108, "kek-export";
        /// Shows a key server's root key and the ways to it.
        RootShow = 110, "root-show";
        /// Gives a share of the root key.
        ShareGive = 111, "share-give";
        /// Seals a key server.
        SealServer = 112, "seal";
        /// Makes a new root key, with new shares.
        Rekey = 113, "rekey";
        /// Has a key server make a backup of itself.
        BackupBegin = 114, "backup-begin";
        /// Fetches a part of a backup.
        BackupPart = 115, "backup-part";
        /// Has the broker make its next ticket-signing key.
        TicketKeyMake = 116, "ticket-key-make";
        /// Says from when on the broker signs tickets with a new key.
        TicketKeySet = 117, "ticket-key";
        /// Lists the broker's ticket-signing keys.
        TicketKeyList = 118, "ticket-key-list";
        /// Puts a backup in a key server's place, on its own machine: no server takes it.
        Restore = 119, "restore";
        /// Gives an alias to a dataset, moves it or takes it away.
        AliasSet = 120, "alias-set";
        /// Lists aliases.
        AliasList = 121, "alias-list";
    }
}

impl Act {
    /// Whether it is a record that others verify again, and so may be for everyone (ADM-3).
    #[must_use]
    pub fn is_record(self) -> bool {
        matches!(
            self,
            Self::LaunchCreate
                | Self::DatasetRecord
                | Self::AliasSet
                | Self::Undeny
                | Self::AdminSet
                | Self::TicketKeySet
        )
    }

    /// Whose signatures count for it (SET-1). None for what changes nothing, and for the inbox: there
    /// one admin of any role is enough (ADM-4).
    #[must_use]
    pub fn role(self) -> Option<AdminRole> {
        // rule: SET-1
        match self {
            Self::LaunchCreate | Self::LaunchClose | Self::Deny => Some(AdminRole::Operator),
            Self::DatasetCreate
            | Self::DatasetRecord
            | Self::DatasetPolicySet
            | Self::DatasetSet
            | Self::ProducerAdd
            | Self::CanarySet
            | Self::KekRotate
            | Self::KekSet
            | Self::AliasSet
            | Self::ImportBegin
            | Self::KekImport => Some(AdminRole::DatasetOwner),
            Self::AdminSet
            | Self::PolicySet
            | Self::Undeny
            | Self::NodeUnfreeze
            | Self::DatasetOwnersSet
            | Self::LogRecover
            | Self::KekDestroy
            | Self::KekKeep
            | Self::KekExport
            | Self::SealServer
            | Self::Rekey
            | Self::BackupBegin
            | Self::TicketKeyMake
            | Self::TicketKeySet
            | Self::Restore => Some(AdminRole::Security),
            Self::LaunchList
            | Self::LaunchShow
            | Self::PolicyShow
            | Self::WhatIf
            | Self::DatasetList
            | Self::DatasetShow
            | Self::AliasList
            | Self::NodeList
            | Self::NodeShow
            | Self::DenyList
            | Self::FeedShow
            | Self::Status
            | Self::TicketShow
            | Self::AdminSetShow
            | Self::Propose
            | Self::ProposalList
            | Self::ProposalShow
            | Self::ProposalWithdraw
            | Self::Exposure
            | Self::EntryShow
            | Self::LogShow
            | Self::KekList
            | Self::WrapList
            | Self::RootShow
            | Self::ShareGive
            | Self::BackupPart
            | Self::TicketKeyList => None,
        }
    }

    /// Whether it changes what waits for signatures, or for shares, and nothing else.
    #[must_use]
    pub fn is_inbox(self) -> bool {
        matches!(
            self,
            Self::Propose | Self::ProposalWithdraw | Self::ShareGive
        )
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn only_reads(self) -> bool {
        self.role().is_none() && !self.is_inbox()
    }

    /// Least number of admins that a set may ask for (SET-4). 1 for what needs no quorum.
    #[must_use]
    pub fn floor(self) -> u64 {
        // rule: SET-4
        match self {
            Self::AdminSet
            | Self::PolicySet
            | Self::Undeny
            | Self::NodeUnfreeze
            | Self::DatasetOwnersSet
            | Self::LogRecover
            | Self::KekDestroy
            | Self::KekImport
            | Self::KekExport
            | Self::Rekey
            | Self::TicketKeySet
            | Self::Restore
            | Self::DatasetRecord
            | Self::AliasSet
            | Self::DatasetPolicySet
            | Self::DatasetSet
            | Self::ProducerAdd => 2,
            _ => 1,
        }
    }
}

/// The body of one act, and what the act results in.
pub trait ActBody: Encode + Decode {
    /// Which act it is the body of.
    const ACT: Act;
    /// What the answer brings.
    type Result: Encode + Decode;
}

macro_rules! act {
    ($body:ty, $act:ident, $result:ty) => {
        impl $crate::statement::acts::ActBody for $body {
            const ACT: $crate::statement::acts::Act = $crate::statement::acts::Act::$act;
            type Result = $result;
        }
    };
}
pub(crate) use act;

closed_map! {
    /// The body or the result of an act that needs none: `{}`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Nothing {}
}

/// Most rows in one page of a list.
pub const ROWS: usize = 100;

/// A listing act: it asks for the rows after a name, in the list's order.
macro_rules! listing {
    ($(#[$meta:meta])* $name:ident, $act:ident, $page:ty) => {
        $crate::messages::shape::closed_map! {
            $(#[$meta])*
            ///
            /// `page = { 1: tstr .size (0..128), 2: 1..100 }`
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name {
                /// The last row of the page before; empty for the first page.
                1 after: String = $crate::messages::shape::Text(0..=128);
                /// Most rows wanted.
                2 rows: u64 = $crate::messages::shape::Uint(1..=$crate::statement::acts::ROWS as u64);
            }
        }

        $crate::statement::acts::act!($name, $act, $page);

        impl $name {
            /// The first page.
            #[must_use]
            pub fn first() -> Self {
                Self { after: String::new(), rows: $crate::statement::acts::ROWS as u64 }
            }

            /// The page after this row.
            #[must_use]
            pub fn after(row: impl ToString) -> Self {
                Self { after: row.to_string(), ..Self::first() }
            }
        }
    };
}
pub(crate) use listing;
