//! The door: AWS KMS's own interface, answered with the keys of one job (`spec/agent.md`, section 2). Of it there is
//! what a `CiphertextBlob` is, and what it will ask of the agent.

pub mod blob;
pub mod keys;

pub use keys::{JobDataset, JobKeys};
