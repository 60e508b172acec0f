//! The specification's test vectors (`spec/vectors`): made here, and held to be exactly what is made.

mod admins;
mod aliases;
mod backups;
mod case;
mod exchanges;
mod feed;
mod imports;
mod log;
mod logged;
mod refused;
mod rng;
mod session;
mod statements;
mod tickets;
mod vault;
mod watch;
mod world;
mod wraps;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use case::Case;
use serde_json::json;
use ticket_format::ids::RequestHash;
use ticket_format::messages::Verb;
use ticket_format::seal::{self, AnswerId, Session};
use ticket_format::ticket;

use world::{HPKE, REALM, World};

/// Vectors that another program makes, beside ours: the objects' are the client's to hold.
const OTHERS: &[&str] = &["README.md", "object", "s3ec"];

/// Every vector, in a fixed order.
#[must_use]
pub fn all() -> Vec<Case> {
    let world = World::new();
    let mut all = vec![world::case(&world)];
    all.extend(tickets::cases(&world));
    all.extend(statements::cases(&world));
    all.extend(vault::cases(&world));
    all.extend(backups::cases(&world));
    all.extend(imports::cases(&world));
    all.extend(exchanges::cases(&world));
    all.extend(aliases::cases(&world));
    all.extend(feed::cases(&world));
    all.extend(watch::cases(&world));
    all.extend(logged::cases(&world));
    all.extend(session::cases(&world));
    all.extend(wraps::cases(&world));
    all.extend(refused::cases(&world));
    all
}

/// Writes every vector, and removes files that are none.
///
/// # Errors
/// The directory cannot be written.
pub fn write(directory: &Path) -> io::Result<usize> {
    let all = all();
    for case in &all {
        let path = directory.join(&case.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, case.text())?;
    }
    for unknown in unknown(directory, &all)? {
        fs::remove_file(unknown)?;
    }
    Ok(all.len())
}

/// Compares the files with what the code makes; each difference is one line.
///
/// # Errors
/// The directory cannot be read.
pub fn check(directory: &Path) -> io::Result<Vec<String>> {
    let all = all();
    let mut faults = Vec::new();
    for case in &all {
        match fs::read_to_string(directory.join(&case.path)) {
            Ok(text) if text == case.text() => {}
            Ok(_) => faults.push(format!("{} is not what the code makes", case.path)),
            Err(error) => faults.push(format!("{}: {error}", case.path)),
        }
    }
    faults.extend(
        unknown(directory, &all)?
            .iter()
            .map(|path| format!("{} is no vector that the code makes", path.display())),
    );
    Ok(faults)
}

/// Files of the directory that no vector has.
fn unknown(directory: &Path, all: &[Case]) -> io::Result<Vec<PathBuf>> {
    let known: BTreeSet<PathBuf> = all.iter().map(|case| directory.join(&case.path)).collect();
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(at) = left.pop() {
        for item in fs::read_dir(&at)? {
            let path = item?.path();
            let name = path.file_name().unwrap_or_default();
            if at == directory && OTHERS.iter().any(|other| name == *other) {
                continue;
            }
            if path.is_dir() {
                left.push(path);
            } else if !known.contains(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes what the programs of `tests/foreign` read: tickets, the broker's key, sealed answers, and an
/// item for each rule of `wire.cddl` under `cddl/`.
///
/// # Errors
/// The directory cannot be written.
pub fn foreign(directory: &Path) -> io::Result<()> {
    let world = World::new();
    fs::create_dir_all(directory.join("cddl"))?;
    let put = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes);
    put(
        "node-ticket.cbor",
        &ticket::sign(&world.node_claims(tickets::EVIDENCE), &world.ticket),
    )?;
    put("broker-key.cose", &world.ticket.public().to_cose_key())?;
    for (name, secret) in [
        ("x25519", &world.job_x25519),
        ("x-wing", &world.job_sealing),
    ] {
        let ticket = ticket::sign(
            &world.dataset_claims(tickets::EVIDENCE, secret),
            &world.ticket,
        );
        put(&format!("dataset-ticket-{name}.cbor"), &ticket)?;
        let sealed = sealed(&world, name, secret, &ticket);
        put(
            &format!("sealed-{name}.json"),
            format!("{sealed:#}\n").as_bytes(),
        )?;
    }
    let mut seen = BTreeSet::new();
    for case in all() {
        for (rule, item) in case.cddl() {
            let number = (1..)
                .find(|number| seen.insert((*rule, *number)))
                .unwrap_or(0);
            put(&format!("cddl/{rule}--{number}.cbor"), item)?;
        }
    }
    Ok(())
}

/// One answer, sealed: what `open_sealed.py` opens.
fn sealed(
    world: &World,
    kem: &str,
    secret: &seal::SealingSecret,
    ticket: &[u8],
) -> serde_json::Value {
    use case::hex;
    let hash = ticket::hash(ticket);
    let info = seal::session_info(secret.kem(), REALM, &world.server_tls.public(), hash, HPKE);
    let rng = &mut rng::Fixed::new("postern vectors: foreign");
    #[allow(clippy::expect_used)]
    let (enc, exports) = seal::encapsulate(&secret.public(), &info, rng).expect("a key of ours");
    let (clear, deks, salt) = (b"clear part".as_slice(), [0x81; 64], [0x71; 32]);
    let id = AnswerId {
        verb: Verb::Redeem,
        request: RequestHash::of(b"request"),
        salt,
    };
    let mut context = ticket_format::cbor::Writer::new();
    context
        .array(5)
        .text(ticket_format::labels::ANSWER_KEY)
        .uint(id.verb.number());
    context.bytes(&hash.0).bytes(&id.request.0).bytes(&salt);
    let context = context.into_bytes();
    let export = exports.export::<32>(&context);
    let answer = Session::new(exports, hash)
        .seal(&id, clear, &deks)
        .unwrap_or_default();
    json!({
        "kem": kem,
        "sk": hex(secret.seed().expose()),
        "enc": hex(enc),
        "info": hex(info),
        "exporter_context": hex(context),
        "length": 32,
        "expected_export": hex(export.as_slice()),
        "answer_aad": hex(clear),
        "answer_ct": hex(answer),
        "expected_plaintext": hex(deks),
    })
}
