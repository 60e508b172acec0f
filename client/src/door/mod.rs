//! The door: what programs that speak AWS KMS are given (`spec/agent.md`, section 4).

pub mod blob;
