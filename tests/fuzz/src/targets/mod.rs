//! One function of bytes for each decoder and each whole handler, and what each of them must never do.

pub mod acts;
pub mod broker;
pub mod documents;
pub mod door;
pub mod evidence;
pub mod files;
pub mod logs;
pub mod messages;
pub mod objects;
pub mod policies;
pub mod records;
pub mod server;
pub mod tickets;

use std::collections::BTreeSet;

use ticket_format::cbor::{Decode, Encode, validate};
use ticket_format::messages::{Answer, AnswerView, RefusalNotice};
use ticket_format::statement::ReceivedStatement;
use ticket_format::{Refusal, limits};

use crate::counting;
use crate::mutate::Form;
use crate::tree;
use crate::vectors;

/// Something that is given bytes, and panics when what comes of them must never be.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its corpus, its test and `tools/fuzz NAME`.
    pub name: &'static str,
    /// What it is given.
    pub form: Form,
    /// How many bent inputs the test gives it: about three seconds of work in a test build.
    pub runs: u32,
    /// Most bytes that it may have in memory at once: so many, and so many for each byte of input.
    pub room: (usize, usize),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes bytes.
    pub run: fn(&[u8]),
}

impl Target {
    /// What it begins with, given to it once: what is made once for all is made then, and is not counted to an
    /// input.
    #[must_use]
    pub fn begin(&self) -> Vec<Vec<u8>> {
        let seeds = (self.seeds)();
        assert!(!seeds.is_empty(), "{} has nothing to begin with", self.name);
        seeds.iter().for_each(|seed| (self.run)(seed));
        seeds
    }

    /// Gives it bytes, and holds it to its room.
    pub fn give(&self, data: &[u8]) {
        let most = counting::most(|| (self.run)(data));
        // rule: ENC-2
        let (fixed, each) = self.room;
        let allowed = fixed + each * data.len();
        assert!(
            most <= allowed,
            "{} had {most} bytes in memory for {} of input; {allowed} are allowed",
            self.name,
            data.len()
        );
    }
}

/// Room of what only reads.
const READS: (usize, usize) = (64 * 1024, 64);
/// Room of what also decides, signs and seals.
const DECIDES: (usize, usize) = (512 * 1024, 64);

/// All targets.
pub const ALL: &[Target] = &[
    messages::ENVELOPES,
    messages::BODIES,
    acts::ACTS,
    acts::STATEMENT,
    acts::ADMIN_SET,
    tickets::TICKET,
    tickets::WRAPPED,
    tickets::DENIAL,
    logs::ENTRY,
    logs::NOTE,
    logs::RECEIPT,
    logs::WITNESS,
    evidence::EVIDENCE,
    evidence::IID,
    documents::USER_DATA,
    documents::CERTIFICATE,
    documents::LINES,
    broker::LOGIN,
    broker::RENEW,
    broker::ISSUE,
    broker::WATCH,
    broker::SUBSCRIBE,
    broker::ADMINISTER,
    server::PRESENT,
    server::BATCH,
    server::FOLLOW,
    objects::OBJECT,
    objects::METADATA,
    door::AGENT,
    door::BLOB,
    door::S3EC,
    records::RECORDS,
    files::CONFIG,
    files::SEALED,
    policies::POLICY,
];

/// The target of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

/// Holds a decoder to one encoding: what it takes it gives again, byte for byte, and it is deterministic CBOR by
/// two readers that share nothing with it. Gives what was read.
fn one_encoding<T: Decode + Encode>(data: &[u8]) -> Option<T> {
    let value = T::from_cbor(data, data.len()).ok()?;
    // rule: ENC-1
    assert!(
        value.to_cbor() == data,
        "{} has two encodings",
        std::any::type_name::<T>()
    );
    assert!(
        tree::deterministic(data),
        "{} took what is not deterministic",
        std::any::type_name::<T>()
    );
    // rule: ENC-2
    let strict = validate(data, data.len());
    assert!(
        strict.is_ok(),
        "{} took what is not deterministic: {strict:?}",
        std::any::type_name::<T>()
    );
    Some(value)
}

/// Holds to [`one_encoding`] every type that is named.
macro_rules! all_have_one_encoding {
    ($data:expr; $($type:ty),* $(,)?) => {$(
        let _ = $crate::targets::one_encoding::<$type>($data);
    )*};
}
use all_have_one_encoding;

/// Holds a refusal to the closed list and to what may be told: a stranger hears a number and nothing else.
fn refusal(refusal: Refusal, notice: &RefusalNotice, proven: bool) {
    assert_eq!(
        Refusal::from_number(u64::from(refusal.number())),
        Some(refusal),
        "not of the list"
    );
    assert_ne!(refusal, Refusal::Internal, "no input is an internal error");
    // rule: REF-2
    assert!(
        proven || notice.detail.is_none(),
        "a stranger was told: {notice}"
    );
    assert_eq!(notice.refusal, refusal);
    let bytes = Answer::from(notice.clone()).to_bytes();
    assert!(bytes.len() <= limits::SMALL_MESSAGE);
    assert_eq!(
        AnswerView::parse(&bytes),
        Ok(AnswerView::Refused(notice.clone()))
    );
}

/// The byte strings of the vectors' members that are named so.
fn members(names: &[&str]) -> Vec<Vec<u8>> {
    vectors::all_bytes(|_, member, _| names.contains(&member))
}

/// Every byte string of the vectors: who forges none of them must have brought one.
fn vectors_bytes() -> &'static BTreeSet<Vec<u8>> {
    static ALL: std::sync::LazyLock<BTreeSet<Vec<u8>>> =
        std::sync::LazyLock::new(|| vectors::all_bytes(|_, _, _| true).into_iter().collect());
    &ALL
}

/// Whether a statement says what a statement of the vectors says: any of whose signatures may be gone, and none can
/// be made.
fn statement_of_vectors(statement: &[u8]) -> bool {
    let Ok(received) = ReceivedStatement::parse(statement) else {
        return false;
    };
    let payload = received.payload().to_cbor();
    let known = |bytes: &Vec<u8>| bytes.windows(payload.len()).any(|part| part == payload);
    vectors_bytes().iter().any(known)
}

/// Every byte string of the vectors that begins as an array, a map or a tag does.
fn items() -> Vec<Vec<u8>> {
    let wanted = |bytes: &&Vec<u8>| {
        bytes
            .first()
            .is_some_and(|first| matches!(first >> 5, 4..=6))
            && tree::Item::read(bytes).is_some()
    };
    vectors_bytes().iter().filter(wanted).cloned().collect()
}

/// A directory of its own for a target that needs files: in memory where there is such a place.
fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a directory")
}
