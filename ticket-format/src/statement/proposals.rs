//! The broker's inbox: statements that wait for more signatures (PRO-1 to PRO-4).

use crate::ids::StatementId;
use crate::messages::shape::{Bool, Bytes, List, Text, UINT, closed_map, item};
use crate::time::Timestamp;

use super::Audience;
use super::acts::{Act, Nothing, ROWS, act, listing};
use super::admins::ADMIN_NAME;

/// Most bytes of a statement that waits: it travels within another one.
pub const PROPOSAL: usize = 80 * 1024;

closed_map! {
    /// Leaves a statement that at least one admin signed; sent again, the signatures join (PRO-1).
    ///
    /// `propose = { 1: bstr .size (1..81920) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Propose {
        /// The statement.
        1 statement: Vec<u8> = Bytes(1..=PROPOSAL);
    }
}
act!(Propose, Propose, ProposalRow);

closed_map! {
    /// One statement that waits.
    ///
    /// ```cddl
    /// proposal-row = { 1: id16, 2: uint, 3: ed-key, 4: [1*16 tstr .size (1..64)], 5: uint, 6: uint,
    ///                  7: unix-time }
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProposalRow {
        /// The statement's id.
        1 id: StatementId = item();
        /// What it would do.
        2 act: Act = item();
        /// Whom it is for.
        3 audience: Audience = item();
        /// Who signed, by name.
        4 signers: Vec<String> = List(1..=crate::limits::ADMINS, Text(1..=ADMIN_NAME));
        /// How many of them count.
        5 counting: u64 = UINT;
        /// How many must sign; 0 when the set in force lets nobody do it.
        6 needed: u64 = UINT;
        /// Until when it is kept.
        7 until: Timestamp = item();
    }
}

listing! {
    /// Lists what waits, by id.
    ProposalList, ProposalList, ProposalPage
}

closed_map! {
    /// `proposal-page = { 1: [*100 proposal-row], 2: bool }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProposalPage {
        /// Statements that wait.
        1 rows: Vec<ProposalRow> = List(0..=ROWS, item());
        /// Whether there are more.
        2 more: bool = Bool;
    }
}

closed_map! {
    /// `proposal-show = { 1: id16 }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ProposalShow {
        /// Which one.
        1 id: StatementId = item();
    }
}
act!(ProposalShow, ProposalShow, ProposalView);

closed_map! {
    /// `proposal-view = { 1: proposal-row, 2: bstr .size (1..81920) }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProposalView {
        /// Who signed, and how many must.
        1 row: ProposalRow = item();
        /// The statement with the signatures that it has.
        2 statement: Vec<u8> = Bytes(1..=PROPOSAL);
    }
}

closed_map! {
    /// Takes a statement back (PRO-4).
    ///
    /// `proposal-withdraw = { 1: id16 }`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ProposalWithdraw {
        /// Which one.
        1 id: StatementId = item();
    }
}
act!(ProposalWithdraw, ProposalWithdraw, Nothing);
