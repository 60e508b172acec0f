//! The lock files.

use std::path::{Path, PathBuf};

use semver::Version;
use serde::Deserialize;

/// One locked package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) source: Option<String>,
    pub(crate) checksum: Option<String>,
}

#[derive(Deserialize)]
struct LockFile {
    package: Vec<Package>,
}

/// The packages of a lock file's text.
pub(crate) fn read(text: &str) -> Vec<Package> {
    toml::from_str::<LockFile>(text)
        .expect("a lock file")
        .package
}

/// The lock files of the project: of the workspace, and of what stands outside of it.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                files(&path, found);
            }
        } else if name == "Cargo.lock" {
            found.push(path);
        }
    }
}

/// All packages that are locked anywhere.
pub(crate) fn all() -> Vec<Package> {
    let mut found = Vec::new();
    files(&super::root(), &mut found);
    assert!(!found.is_empty());
    let texts = found
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| read(&text)).collect()
}

/// What is wrong with where packages come from.
fn strange(packages: &[Package]) -> Vec<String> {
    let registry = packages.iter().find_map(|package| {
        let source = package.source.as_ref()?;
        source.starts_with("registry+").then(|| source.clone())
    });
    let strange = packages.iter().filter_map(|package| {
        let Package { name, version, .. } = package;
        let why = match (&package.source, &package.checksum) {
            // What has no source is a member of the workspace.
            (None, None) if name.starts_with("postern-") => return None,
            (None, _) => "is neither of the registry nor the project's own".to_owned(),
            (source, _) if *source != registry => format!("comes from {source:?}"),
            (_, None) => "has no checksum".to_owned(),
            _ => return None,
        };
        Some(format!("{name} {version} {why}"))
    });
    strange.collect()
}

#[test]
fn every_package_is_of_one_registry_and_has_a_checksum() {
    super::none("packages of another source", &strange(&all()));
}

#[test]
fn a_package_of_another_source_is_noticed() {
    let lock = |rest: &str| {
        read(&format!(
            "[[package]]\nname = \"good\"\nversion = \"1.0.0\"\nsource = \"registry+one\"\nchecksum = \"00\"\n\
             [[package]]\nname = \"other\"\nversion = \"1.0.0\"\n{rest}\n"
        ))
    };
    let good = "source = \"registry+one\"\nchecksum = \"00\"";
    assert_eq!(strange(&lock(good)), Vec::<String>::new());
    for bad in [
        "source = \"registry+two\"\nchecksum = \"00\"",
        "source = \"git+one\"\nchecksum = \"00\"",
        "source = \"registry+one\"",
        "",
    ] {
        assert_eq!(strange(&lock(bad)).len(), 1, "{bad}");
    }
}

/// Crates that compute with keys and are locked in several major versions, each with why.
const DUPLICATES: &[(&str, &str)] = &[
    ("curve25519-dalek", SSH),
    ("ed25519-dalek", SSH),
    ("hmac", SSH),
    ("sha2", SSH),
    (
        "sha3",
        "the generator of Cedar's parser hashes its grammar at build time",
    ),
];
const SSH: &str =
    "ssh-key, for the forms of an agent's keys; what it would compute with them is never called";

/// What computes with keys.
const CRYPTO: &[&str] = &[
    "aead",
    "aes",
    "aes-gcm",
    "argon2",
    "aws-lc-rs",
    "aws-lc-sys",
    "chacha20",
    "chacha20poly1305",
    "curve25519-dalek",
    "ed25519-dalek",
    "hkdf",
    "hmac",
    "hpke",
    "ml-dsa",
    "ml-kem",
    "p256",
    "poly1305",
    "quinn",
    "quinn-proto",
    "rsa",
    "rustls",
    "sha2",
    "sha3",
    "subtle",
    "x25519-dalek",
    "zeroize",
];

/// Crates of [`CRYPTO`] in more than one version that no line explains, and lines that explain nothing.
fn duplicates(packages: &[Package], explained: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in CRYPTO {
        let mut versions: Vec<_> = packages
            .iter()
            .filter(|package| package.name == *name)
            .map(|package| &package.version)
            .collect();
        versions.sort();
        versions.dedup();
        let listed = explained.iter().any(|(known, _)| known == name);
        if (versions.len() > 1) != listed {
            wrong.push(format!("{name}: {versions:?}, explained: {listed}"));
        }
    }
    wrong
}

#[test]
fn what_computes_with_keys_is_there_once_or_explained() {
    super::none("versions", &duplicates(&all(), DUPLICATES));
}

#[test]
fn a_second_version_and_an_explanation_of_nothing_are_noticed() {
    let lock = |second: &str| {
        read(&format!(
            "[[package]]\nname = \"sha2\"\nversion = \"0.11.1\"\n[[package]]\nname = \"sha2\"\nversion = \"{second}\"\n"
        ))
    };
    assert_eq!(duplicates(&lock("0.10.9"), &[]).len(), 1);
    assert_eq!(duplicates(&lock("0.10.9"), &[("sha2", "why")]).len(), 0);
    assert_eq!(duplicates(&lock("0.11.1"), &[("sha2", "why")]).len(), 1);
}
