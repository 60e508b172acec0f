//! The door: AWS KMS's own interface, answered with the keys of one job (`spec/agent.md`, section 4).

pub mod keys;

pub use keys::{JobDataset, JobKeys};
