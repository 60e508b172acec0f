//! What every server does before it opens its keys: they must not reach a core file, nor another
//! process of the same user, nor swap.

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
    // Locking all memory with a limit on it would make later allocations fail.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    if limit.current.is_none() {
        let flags = rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::FUTURE;
        if let Err(error) = rustix::mm::mlockall(flags) {
            tracing::warn!(%error, "memory could not be locked: what is not a root key or a KEK may reach swap");
        }
    } else {
        tracing::debug!(
            "only root key and KEKs are in locked memory: raise LimitMEMLOCK to infinity to lock all of it"
        );
    }
}
