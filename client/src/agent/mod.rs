//! The node agent: holds what the node may have, and gives each job the part that is the job's
//! (`spec/agent.md`).

pub mod asked;
pub mod caller;
pub mod held;
pub mod narrow;
pub mod rules;
pub mod socket;
pub mod wire;

mod descriptor;
