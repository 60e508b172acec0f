//! Locked versions that an advisory names.

use std::collections::BTreeSet;

use semver::{Version, VersionReq};
use serde::Deserialize;

use super::locked::{self, Package};

/// One advisory, as `tools/supply-chain/README.md` says.
#[derive(Debug, Deserialize)]
struct Advisory {
    id: String,
    package: String,
    patched: Vec<String>,
    unaffected: Vec<String>,
}

#[derive(Deserialize)]
struct Ignored {
    id: String,
    reason: String,
}

fn advisories() -> Vec<Advisory> {
    let all: Vec<Advisory> = serde_json::from_str(&super::kept("advisories.json")).unwrap();
    // Facts that were cut short would find nothing.
    assert!(all.len() > 1_000, "{} advisories", all.len());
    all
}

fn ignored() -> Vec<Ignored> {
    let file: toml::Table = super::kept("deny.toml").parse().unwrap();
    file["advisories"]["ignore"].clone().try_into().unwrap()
}

/// Whether the version is within one of these. A requirement that cannot be read matches nothing, and so does
/// a pre-release that it does not name: who is in doubt is affected.
fn within(version: &Version, ranges: &[String]) -> bool {
    ranges
        .iter()
        .filter_map(|range| VersionReq::parse(range).ok())
        .any(|range| range.matches(version))
}

/// The locked versions that an advisory affects: its id first.
fn affected<'a>(
    packages: &'a [Package],
    advisories: &'a [Advisory],
) -> impl Iterator<Item = (&'a str, String)> {
    packages.iter().flat_map(move |package| {
        let Package { name, version, .. } = package;
        advisories
            .iter()
            .filter(move |advisory| advisory.package == *name)
            .filter(move |advisory| {
                !within(version, &advisory.patched) && !within(version, &advisory.unaffected)
            })
            .map(move |advisory| (advisory.id.as_str(), format!("{name} {version}")))
    })
}

#[test]
fn no_locked_version_is_affected_by_an_advisory() {
    let (packages, advisories, ignored) = (locked::all(), advisories(), ignored());
    let affected: BTreeSet<_> = affected(&packages, &advisories).collect();
    let mut wrong: Vec<_> = affected
        .iter()
        .filter(|(id, _)| ignored.iter().all(|known| known.id != *id))
        .map(|(id, what)| format!("{what} is affected by {id}: update it, or say in deny.toml why it does not reach us"))
        .collect();
    for Ignored { id, reason } in &ignored {
        if affected.iter().all(|(affected, _)| affected != id) {
            wrong.push(format!(
                "deny.toml ignores {id}, which affects nothing any more"
            ));
        }
        if reason.len() < 20 {
            wrong.push(format!("deny.toml does not say why it ignores {id}"));
        }
    }
    super::none("advisories", &wrong);
}

#[test]
fn an_affected_version_is_noticed_whatever_the_advisory_says_of_others() {
    let advisories = advisories();
    let found = |name: &str, version: &str| {
        let package = locked::read(&format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n"
        ));
        let found = affected(&package, &advisories);
        found.map(|(id, _)| id.to_owned()).collect::<Vec<_>>()
    };
    for (name, bad, good, id) in [
        ("quinn-proto", "0.11.14", "0.11.15", "RUSTSEC-2026-0185"),
        ("quinn-proto", "0.11.13", "0.11.15", "RUSTSEC-2026-0037"),
        ("curve25519-dalek", "4.1.2", "4.1.3", "RUSTSEC-2024-0344"),
        ("ed25519-dalek", "1.0.1", "2.0.0", "RUSTSEC-2022-0093"),
        // A pre-release that no range names.
        ("ed25519-dalek", "2.0.0-rc.1", "2.0.0", "RUSTSEC-2022-0093"),
    ] {
        assert!(
            found(name, bad).iter().any(|found| found == id),
            "{name} {bad}"
        );
        assert!(
            found(name, good).iter().all(|found| found != id),
            "{name} {good}"
        );
    }
}

/// Versions below which peers were broken (rows 20 to 22 of the lessons in `spec/security.md`): held here
/// too, whatever becomes of the advisories' file.
const FLOORS: &[(&str, &str)] = &[
    ("ed25519-dalek", ">= 2.0.0"),
    ("curve25519-dalek", ">= 4.1.3"),
    ("ml-dsa", ">= 0.1.0"),
    ("quinn-proto", ">= 0.11.15"),
    ("rustls", ">= 0.23.18"),
];

fn below(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, floor) in FLOORS {
        let floor = VersionReq::parse(floor).unwrap();
        let mut of = packages
            .iter()
            .filter(|package| package.name == *name)
            .peekable();
        if of.peek().is_none() {
            wrong.push(format!("{name} is not locked at all"));
        }
        wrong.extend(
            of.filter(|package| !floor.matches(&package.version))
                .map(|package| format!("{name} {} is below {floor}", package.version)),
        );
    }
    wrong
}

#[test]
fn rustsec_2026_0037_nothing_is_locked_below_the_versions_in_which_peers_were_broken() {
    super::none("floors", &below(&locked::all()));
}

#[test]
fn a_version_below_its_floor_is_noticed() {
    let old = locked::read("[[package]]\nname = \"quinn-proto\"\nversion = \"0.11.14\"\n");
    assert_eq!(below(&old).len(), FLOORS.len());
}
