//! Features of our own crates, as programs are built that people run: nothing that is there for tests.

use super::permitted::cargo;

/// Those that programs may have. What another does belongs beside its name in its crate's Cargo.toml.
const FOR_PROGRAMS: [&str; 4] = ["default", "net", "pkcs11", "tpm2"];

const PROGRAMS: [&str; 4] = [
    "postern-broker",
    "postern-key-server",
    "postern-client",
    "postern-tools",
];

/// Our crates in a tree of `name vVERSION (PATH) [FEATURE,FEATURE]`, each with its features.
fn ours(tree: &str) -> Vec<(&str, Vec<&str>)> {
    let ours = tree.lines().filter(|line| line.starts_with("postern-"));
    ours.map(|line| {
        let name = line.split(' ').next().unwrap_or_default();
        let (_, rest) = line.split_once('[').expect("a list of features");
        let (list, _) = rest.split_once(']').expect("a list of features");
        (
            name,
            list.split(',').filter(|one| !one.is_empty()).collect(),
        )
    })
    .collect()
}

fn for_tests(tree: &str) -> Vec<String> {
    let all = ours(tree).into_iter().flat_map(|(name, features)| {
        let others = features
            .into_iter()
            .filter(|feature| !FOR_PROGRAMS.contains(feature));
        others.map(move |feature| format!("{name} with {feature}"))
    });
    all.collect()
}

#[test]
fn no_program_is_built_with_what_is_there_for_tests() {
    for program in PROGRAMS {
        let tree = cargo(&[
            "tree",
            "--locked",
            "--offline",
            "--package",
            program,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p} [{f}]",
        ]);
        assert!(ours(&tree).len() > 3, "{program}: {tree}");
        super::none(program, &for_tests(&tree));
    }
}

#[test]
fn a_feature_for_tests_is_noticed() {
    let tree = "postern-broker v0.1.0 (/x) [default,net]\ntokio v1.0.0 [test-util]\n\
                postern-store v0.1.0 (/y) [pkcs11,test-suite] (*)\npostern-policy v0.1.0 (/z) []\n";
    assert_eq!(for_tests(tree), ["postern-store with test-suite"]);
}
