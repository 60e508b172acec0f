//! Malformed and forged inputs, one fault per file, each with the refusal that it must meet.

mod encodings;
mod evidence;
mod others;
mod proofs;
mod receipts;
mod sealing;
mod statements;
mod tickets;
mod wraps;

use ciborium::Value;
use ticket_format::Refusal;
use ticket_format::cbor::{DecodeError, Writer};

use super::case::Case;
use super::world::World;

/// The members of a map.
type Members = Vec<(Value, Value)>;
/// A change to them.
type Edit = Box<dyn FnOnce(&mut Members)>;

pub(super) fn cases(world: &World) -> Vec<Case> {
    let mut all = tickets::cases(world);
    all.extend(encodings::cases(world));
    all.extend(proofs::cases(world));
    all.extend(wraps::cases(world));
    all.extend(sealing::cases(world));
    all.extend(statements::cases(world));
    all.extend(others::cases(world));
    all.extend(evidence::cases(world));
    all.extend(receipts::cases(world));
    all
}

/// A case: what to do with the input, what it must be refused as, and how it is said.
fn refused(
    path: &str,
    check: &str,
    about: &str,
    expected: Refusal,
    got: Result<(), (Refusal, String)>,
) -> Case {
    // A vector that is not refused, or refused as something else, must not be written.
    let (refusal, error) = got
        .err()
        .unwrap_or_else(|| panic!("refused/{path} is accepted"));
    assert_eq!(refusal, expected, "refused/{path}: {error}");
    Case::new(&format!("refused/{path}"), about)
        .input("check", check)
        .input("keys", "world.json")
        .expect("refusal", refusal.number())
        .expect("name", refusal.name())
        .expect("error", error)
}

fn malformed(error: DecodeError) -> (Refusal, String) {
    (Refusal::Malformed, error.to_string())
}

/// A map with its members changed, encoded in whatever order they are left in.
fn edited(map: &[u8], edit: impl FnOnce(&mut Members)) -> Vec<u8> {
    let mut members = match ciborium::from_reader(map) {
        Ok(Value::Map(members)) => members,
        _ => Vec::new(),
    };
    edit(&mut members);
    let mut bytes = Vec::new();
    // Writing to memory what is a value already has no way to fail.
    let _ = ciborium::into_writer(&Value::Map(members), &mut bytes);
    bytes
}

fn set(key: i64, value: Value) -> impl FnOnce(&mut Members) {
    move |members| {
        for (name, old) in members
            .iter_mut()
            .filter(|(name, _)| *name == Value::from(key))
        {
            let _ = name;
            *old = value.clone();
        }
    }
}

fn header(members: usize, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(members);
    write(&mut writer);
    writer.into_bytes()
}
