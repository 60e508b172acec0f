//! seccomp: system calls that no server needs end the process.
//!
//! A list of what is forbidden, not of what is allowed: an allowed list is the C library's and the
//! kernel's business as much as ours, and ends a server at the next update of either. What stands here
//! is what an intruder needs and a server does not: reach into other processes, change the kernel or
//! what it shows, run programs.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Why system calls cannot be filtered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallsError {
    /// No filter for this processor, or the filter cannot be built.
    #[error("no filter can be built: {0}")]
    Build(#[from] seccompiler::BackendError),
    /// The kernel has no seccomp, or refuses it.
    #[error("the kernel refused: {0}")]
    Kernel(#[from] seccompiler::Error),
}

/// What neither a server nor a hook of it needs.
const NEVER: &[libc::c_long] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_userfaultfd,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    // What it shows of files and names.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // The clock, by which leases and lives are judged.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Key rings, and a way around filters.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
    libc::SYS_vhangup,
    // Locked pages stay locked.
    libc::SYS_munlock,
    libc::SYS_munlockall,
];

/// What only starts programs.
const PROGRAMS: &[libc::c_long] = &[libc::SYS_execve, libc::SYS_execveat];

/// Calls of the older architectures' ABI.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// The x32 ABI of x86-64 makes the same calls under other numbers: with this bit, and some by numbers of
/// their own (execve, ptrace, kexec_load, process_vm_readv, process_vm_writev, execveat), which are
/// forbidden whether or not programs are run, as no program of today is of that kind.
#[cfg(target_arch = "x86_64")]
fn x32(calls: impl Iterator<Item = libc::c_long>) -> Vec<libc::c_long> {
    const X32: libc::c_long = 0x4000_0000;
    let own = [520, 521, 528, 539, 540, 545];
    calls.chain(own).map(|call| call | X32).collect()
}
#[cfg(not(target_arch = "x86_64"))]
fn x32(_: impl Iterator<Item = libc::c_long>) -> Vec<libc::c_long> {
    Vec::new()
}

/// Socket families that are used: local ones, IPv4, IPv6, and netlink, by which the C library looks at
/// the interfaces.
const FAMILIES: &[libc::c_int] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Filters the calls of this thread and of those that it starts.
pub(super) fn filter(programs: bool) -> Result<(), CallsError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let programs: &[libc::c_long] = if programs { &[] } else { PROGRAMS };
    let forbidden = NEVER.iter().chain(OLDER).chain(programs).copied();
    for call in x32(forbidden.clone()).into_iter().chain(forbidden) {
        rules.insert(call, Vec::new());
    }
    let other = |family: &libc::c_int| {
        SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Ne,
            u64::from(family.unsigned_abs()),
        )
    };
    let others = FAMILIES.iter().map(other).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(others)?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program = BpfProgram::try_from(filter)?;
    // All threads: none is there but this one, and if one were it must not stay outside.
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}
