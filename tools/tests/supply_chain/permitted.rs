//! Bans and licences, of what is really built.

use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};

fn deny() -> toml::Table {
    super::kept("deny.toml").parse().unwrap()
}

/// Crates that must not be there, each with why.
fn banned() -> Vec<(String, String)> {
    let deny = deny();
    let banned = deny["bans"]["deny"].as_array().unwrap();
    let text = |of: &toml::Value, name: &str| of[name].as_str().unwrap().to_owned();
    let banned = banned
        .iter()
        .map(|one| (text(one, "crate"), text(one, "reason")));
    banned.collect()
}

/// The names of all that is built on this machine, tests too. The lock file names more: what other
/// platforms, and parts that are not asked for, would want.
fn tree() -> String {
    cargo(&[
        "tree",
        "--locked",
        "--offline",
        "--workspace",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
    ])
}

pub(super) fn cargo(args: &[&str]) -> String {
    let said = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(super::root())
        .output()
        .expect("cargo runs");
    let why = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "cargo {args:?}: {why}");
    String::from_utf8(said.stdout).unwrap()
}

/// What of a tree is banned.
fn forbidden(tree: &str, banned: &[(String, String)]) -> Vec<String> {
    let there = |name: &str| {
        tree.lines()
            .any(|line| line.split(' ').next() == Some(name))
    };
    let there = banned.iter().filter(|(name, _)| there(name));
    there
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect()
}

#[test]
fn nothing_that_is_banned_is_built() {
    let (banned, tree) = (banned(), tree());
    assert!(banned.len() >= 8 && tree.contains("\naws-lc-rs v"));
    super::none("banned crates", &forbidden(&tree, &banned));
}

#[test]
fn a_banned_crate_is_noticed() {
    let tree = "postern-broker v0.1.0 (/x)\nring v0.17.14\nring-like v1.0.0 (*)\n";
    assert_eq!(forbidden(tree, &banned()).len(), 1);
}

/// Name, version, licence of every package that is built on any platform.
fn built() -> Vec<(String, String, Option<String>)> {
    let said = cargo(&["metadata", "--locked", "--offline", "--format-version", "1"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let nodes = said["resolve"]["nodes"].as_array().unwrap();
    let used: Vec<&str> = nodes
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    let packages = said["packages"].as_array().unwrap();
    let text = |of: &Value, name: &str| of[name].as_str().map(str::to_owned);
    packages
        .iter()
        .filter(|package| used.contains(&package["id"].as_str().unwrap()))
        .map(|package| {
            let (name, version) = (text(package, "name"), text(package, "version"));
            (name.unwrap(), version.unwrap(), text(package, "license"))
        })
        .collect()
}

fn allowed() -> Vec<LicenseReq> {
    let deny = deny();
    let allowed = deny["licenses"]["allow"].as_array().unwrap();
    let requirement = |text: &toml::Value| {
        let expression = Expression::parse(text.as_str().unwrap()).unwrap();
        expression.requirements().next().unwrap().req.clone()
    };
    allowed.iter().map(requirement).collect()
}

/// Whether a package may be used under what is allowed.
fn permitted(licence: Option<&str>, allowed: &[LicenseReq]) -> bool {
    // Older crates write a slash where an OR belongs.
    let mode = ParseMode {
        allow_slash_as_or_operator: true,
        ..ParseMode::STRICT
    };
    let expression = licence.and_then(|licence| Expression::parse_mode(licence, mode).ok());
    expression.is_some_and(|expression| expression.evaluate(|wanted| allowed.contains(wanted)))
}

#[test]
fn every_package_that_is_built_has_a_licence_that_is_allowed() {
    let allowed = allowed();
    let wrong: Vec<_> = built()
        .iter()
        .filter(|(.., licence)| !permitted(licence.as_deref(), &allowed))
        .map(|(name, version, licence)| format!("{name} {version}: {licence:?}"))
        .collect();
    super::none("licences", &wrong);
}

#[test]
fn a_licence_that_is_not_allowed_is_noticed() {
    let allowed = allowed();
    for bad in [
        None,
        Some("GPL-3.0-only"),
        Some("MIT AND GPL-3.0-only"),
        Some("no licence"),
        Some(""),
    ] {
        assert!(!permitted(bad, &allowed), "{bad:?}");
    }
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT"] {
        assert!(permitted(Some(good), &allowed), "{good}");
    }
}
