//! What a node brings to be let in: AWS's word for it, and the chain that it signed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use ticket_format::iid::{self, RegionKeys};
use ticket_format::messages::present::Evidence;
use ticket_format::ticket::{Audience, DatasetClaims, TicketKeys};
use ticket_format::{evidence, limits, ticket};

use super::{DECIDES, Target, members, one_encoding, vectors_bytes};
use crate::der;
use crate::mutate::Form;
use crate::vectors;
use crate::world::world;

/// Evidence beside a ticket.
pub const EVIDENCE: Target = Target {
    name: "evidence",
    form: Form::Cbor,
    runs: 8_000,
    room: DECIDES,
    seeds: || members(&["evidence"]),
    run: chain,
};

/// The ticket that the vectors' chain ends in.
fn claims() -> &'static DatasetClaims {
    static CLAIMS: LazyLock<DatasetClaims> = LazyLock::new(|| {
        let ticket = vectors::bytes("exchange/present-evidence", "ticket");
        let keys = TicketKeys::first(world().keys.ticket.public());
        let audience = Audience::KeyServer(world().keys.server_tls.public());
        let verified =
            ticket::verify::<DatasetClaims>(&ticket, &keys, &world().realm.name, audience);
        verified.expect("the vectors' ticket").claims().clone()
    });
    &CLAIMS
}

fn chain(data: &[u8]) {
    let Some(read) = one_encoding::<Evidence>(data) else {
        return;
    };
    let world = world();
    let trust = evidence::Trust {
        realm: &world.realm.name,
        broker: world.realm.tls,
        admins: &world.set,
        regions: &world.realm.regions,
        now: world.now,
    };
    match evidence::verify(&read, claims(), "faces", &trust) {
        // rule: EVD-1
        Ok(proven) => {
            assert_eq!(proven.launch, world.launch.terms.launch);
            assert!(same_but_for_the_proofs_form(data), "evidence was forged");
        }
        Err(error) => assert!(error.to_string().len() <= 1_024),
    }
}

/// The identity document is named by the hash of what its base64 holds: line ends and the CMS around the signature
/// may differ, nothing else.
fn same_but_for_the_proofs_form(data: &[u8]) -> bool {
    vectors_bytes().contains(data) || {
        let read = one_encoding::<Evidence>(data);
        let known =
            one_encoding::<Evidence>(&vectors::bytes("exchange/present-evidence", "evidence"));
        match (read, known) {
            (Some(mut read), Some(known)) => {
                let packed = |proof: &[u8]| -> Vec<u8> {
                    proof
                        .iter()
                        .copied()
                        .filter(|byte| !byte.is_ascii_whitespace())
                        .collect()
                };
                let same = packed(&read.iid_proof) == packed(&known.iid_proof);
                read.iid_proof.clone_from(&known.iid_proof);
                same && read == known
            }
            _ => false,
        }
    }
}

/// Identity documents, as the metadata service serves them.
pub const IID: Target = Target {
    name: "iid",
    form: Form::Der,
    runs: 25_000,
    room: DECIDES,
    seeds: documents,
    run: identity,
};

/// The documents that AWS signed, good ones and others, of every form.
fn documents() -> Vec<Vec<u8>> {
    let (mut out, mut left) = (
        Vec::new(),
        vec![vectors::project().join("ticket-format/tests/data/aws/iid")],
    );
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("the documents stand in ticket-format") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|is| is != "md") {
                out.push(fs::read(path).expect("a document"));
            }
        }
    }
    out.sort();
    out
}

fn identity(data: &[u8]) {
    identify(data);
    if let Some(mended) = der::with_true_digest(data) {
        identify(&mended);
    }
}

fn identify(data: &[u8]) {
    static REGIONS: LazyLock<RegionKeys> = LazyLock::new(RegionKeys::built_in);
    static SIGNED: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let good = |proof: &Vec<u8>| {
            iid::verify(proof, &REGIONS)
                .ok()
                .map(|document| document.text().to_owned())
        };
        documents().iter().filter_map(good).collect()
    });
    match iid::verify(data, &REGIONS) {
        Ok(document) => {
            assert!(data.len() <= limits::IID_TEXT);
            // rule: LOG-3
            assert!(
                SIGNED.contains(document.text()),
                "an identity document was forged"
            );
            assert!(
                evidence::attributes(&document).is_ok(),
                "a document of AWS's names no node"
            );
        }
        Err(refusal) => assert!(refusal.to_string().len() <= 1_024 && !refusal.name().is_empty()),
    }
}
