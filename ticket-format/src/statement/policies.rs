//! The broker's policy.

use crate::ids::PolicyDigest;
use crate::limits;
use crate::messages::shape::{OrNull, Text, closed_map, item};

use super::acts::act;

closed_map! {
    /// Sets the broker's policy.
    ///
    /// `policy-set = { 1: tstr .size (1..65536), 2: hash / null }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PolicySet {
        /// Cedar text.
        1 text: String = Text(1..=limits::POLICY);
        /// Digest of the text that it replaces; none for the first (ADM-5).
        2 replaces: Option<PolicyDigest> = OrNull(item());
    }
}
act!(PolicySet, PolicySet, PolicyTextSet);

closed_map! {
    /// A policy was set.
    ///
    /// `policy-set-result = { 1: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PolicyTextSet {
        /// SHA-256 of its text.
        1 digest: PolicyDigest = item();
    }
}

closed_map! {
    /// `policy-show = {}`
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PolicyShow {}
}
act!(PolicyShow, PolicyShow, PolicyText);

closed_map! {
    /// A policy as the server has it; empty when none was set, which permits nothing.
    ///
    /// `policy-text = { 1: tstr .size (0..65536), 2: hash }`
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PolicyText {
        /// Cedar text.
        1 text: String = Text(0..=limits::POLICY);
        /// SHA-256 of its text.
        2 digest: PolicyDigest = item();
    }
}
