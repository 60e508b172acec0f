//! What the project is made of, without a network: advisories, bans, features, licences, sources, `unsafe`.
//!
//! `tools/supply-chain/README.md` says where the facts come from.

mod advisories;
mod features;
mod locked;
mod permitted;
mod unsafety;

use std::path::{Path, PathBuf};

/// The project's directory.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of `tools/supply-chain`.
fn kept(name: &str) -> String {
    let path = root().join("tools/supply-chain").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with all that is wrong, and not with the first alone.
fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}
