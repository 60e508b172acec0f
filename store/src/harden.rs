//! What every server, and a node's agent, does before it opens its keys: they must not reach a core file, nor another
//! process of the same user, nor swap.

use rustix::mm::MlockAllFlags;
use rustix::thread::{CapabilitySet, capabilities};

/// Turns core dumps off, makes the process unreadable to others of its user, and locks its memory where
/// that is not limited (MEM-1). Root key and KEKs are in pages of their own ([`crate::locked`]). What
/// cannot be had is said in the log: the process serves all the same.
pub fn process() {
    let no_core = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = rustix::process::setrlimit(rustix::process::Resource::Core, no_core);
    let closed =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if let Err(error) = limited.and(closed) {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
    if !may_lock_all() {
        tracing::info!(
            "of this process's memory, only the pages of keys that it keeps are locked: raise LimitMEMLOCK to infinity to lock all of it"
        );
        return;
    }
    // What a thread's stack or an arena could grow to is not memory yet.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = rustix::mm::mlockall(flags) {
        tracing::warn!(%error, "memory could not be locked: what is not a key that is kept may reach swap");
    }
}

/// Whether no limit is set on locked memory: with one, to lock all would make later allocations fail.
fn may_lock_all() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    // Who has this is not limited.
    let above = CapabilitySet::IPC_LOCK;
    limit.current.is_none() || capabilities(None).is_ok_and(|held| held.effective.contains(above))
}
