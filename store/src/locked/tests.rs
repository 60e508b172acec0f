//! MEM-1 as far as one process can see it.

use std::os::unix::fs::FileExt as _;

use super::pages::{REGION, SLOT, kinds};
use super::*;

fn address(secret: &Locked<32>) -> usize {
    std::ptr::from_ref(secret.expose()).addr()
}

/// The lines of `/proc/self/smaps` of the mapping that an address is in.
fn mapping(address: usize) -> Vec<String> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let range = |line: &str| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        Some(hex(from)?..hex(to)?)
    };
    let mut lines = smaps
        .lines()
        .skip_while(|line| !range(line).is_some_and(|range| range.contains(&address)));
    let head = lines.next().expect("the mapping").to_owned();
    let rest = lines.take_while(|line| range(line).is_none());
    std::iter::once(head)
        .chain(rest.map(str::to_owned))
        .collect()
}

#[test]
fn a_secret_is_in_pages_that_are_locked_in_no_core_file_and_not_inherited() {
    // rule: MEM-1
    let secret = Locked::copied(&[0x5a; 32]);
    let lines = mapping(address(&secret));
    let flags = lines.iter().find_map(|line| line.strip_prefix("VmFlags:"));
    let flags: Vec<&str> = flags.expect("flags").split_whitespace().collect();
    for wanted in ["dd", "dc"] {
        assert!(flags.contains(&wanted), "{wanted} is not in {flags:?}");
    }
    assert_eq!(flags.contains(&"lo"), room() != Room::Ordinary, "{flags:?}");
}

#[test]
fn the_best_room_that_the_kernel_has_is_taken() {
    // rule: MEM-1
    let (secret, ordinary) = kinds();
    assert_eq!(room(), if secret { Room::Secret } else { ordinary });
}

#[test]
fn where_the_kernel_has_memfd_secret_its_own_view_of_the_memory_does_not_show_a_secret() {
    // rule: MEM-1
    let secret = Locked::copied(&[0xc3; 32]);
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut seen = [0; 32];
    let read = memory.read_exact_at(&mut seen, address(&secret) as u64);
    if room() == Room::Secret {
        assert!(read.is_err(), "the kernel read a secret page");
        let head = &mapping(address(&secret))[0];
        assert!(head.contains("secretmem"), "{head}");
    } else {
        assert!(read.is_ok() && seen == *secret, "ordinary pages are read");
    }
}

#[test]
fn a_dropped_secret_is_erased_and_its_slot_is_taken_again_as_zeros() {
    // Slots are process-wide and tests run beside each other: any zeroed one shows it.
    for _ in 0..4_096 {
        let secret = Locked::copied(&[0xff; 64]);
        drop(secret);
        assert_eq!(*Locked::<64>::zeroed(), [0; 64]);
    }
}

#[test]
fn secrets_share_pages_and_never_each_others_bytes() {
    let secrets: Vec<Locked<32>> = (0..3_000_u32)
        .map(|n| Locked::fill(|bytes| bytes[..4].copy_from_slice(&n.to_le_bytes())))
        .collect();
    for (n, secret) in (0_u32..).zip(&secrets) {
        assert_eq!(secret[..4], n.to_le_bytes());
    }
    let mut places: Vec<usize> = secrets.iter().map(address).collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|two| two[1] - two[0] >= SLOT));
    let mut regions: Vec<usize> = places.iter().map(|at| at / REGION).collect();
    regions.dedup();
    assert!(regions.len() <= 12, "{} regions", regions.len());
}

#[test]
fn a_locked_secret_prints_nothing_and_compares_by_value() {
    let secret = Locked::copied(&[0xa5; 33]);
    assert_eq!(format!("{secret:?}"), "Locked(..)");
    assert_eq!(secret, secret.clone());
    assert_ne!(secret, Locked::zeroed());
}
