//! Each promise of `spec/security.md` attacked against a running house.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client::wallet::{DatasetSession, NodeSession};
use tests::home::Home;
use tests::house::{DATASET, House, PASSPHRASE, command, copy_dir, ended, files_below};
use tests::node::{Iid, Node};
use tests::wire::{self, Reply, Wire, rng, secrets};
use ticket_format::bootstrap::Bootstrap;
use ticket_format::cbor::Encode as _;
use ticket_format::denial::Selector;
use ticket_format::entry::{Alarm, Kind};
use ticket_format::ids::{LaunchId, TicketId};
use ticket_format::keys::NodeSecret;
use ticket_format::messages::Verb;
use ticket_format::messages::batch::{RedeemBody, item_digest};
use ticket_format::secret::BootstrapSecret;
use ticket_format::statement::{
    DenyBody, DenyList, LaunchShow, NodeState, NodeUnfreeze, StatusShow,
};
use ticket_format::{Context, Refusal};

mod administration;
mod crashes;
mod disks;
mod prints;
mod records;
mod strangers;
mod tickets;

#[path = "../../../transport/tests/loopback/raw.rs"]
#[allow(dead_code)]
mod raw;

/// What `raw` expects beside it.
mod rig {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    pub(crate) fn loopback(_host: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
    }
}

fn named(name: &str) -> Context {
    Context::named(name).expect("a context")
}

fn refused<T: std::fmt::Debug>(result: Result<T, Reply>) -> Option<Refusal> {
    match result {
        Err(Reply::Refused { refusal, .. }) => Some(refusal),
        Ok(done) => {
            println!("done: {done:?}");
            None
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Whether `needle` stands in `hay` raw, in hexadecimal or in base64.
fn stands_in(hay: &[u8], needle: &[u8]) -> bool {
    let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    let forms = [
        needle.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        URL_SAFE_NO_PAD.encode(needle).into_bytes(),
        STANDARD
            .encode(needle)
            .trim_end_matches('=')
            .as_bytes()
            .to_vec(),
    ];
    forms.iter().any(|form| contains(hay, form))
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = hay;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
