//! Every message of the vectors with each of its parts gone, empty, double and of another type, one at a time
//! (CVE-2021-36222, CVE-2021-37750); and every byte of what is signed, flipped (CVE-2025-57736).

use fuzz::drive::{self, seed};
use fuzz::mutate::{Change, Form, bend};
use fuzz::rng::Chance;
use fuzz::targets::{ALL, Target, named};
use fuzz::tree::Item;

/// Most parts of one message that are bent one by one, and most inputs of a target that are.
const PARTS: usize = 50;
const INPUTS: usize = 10;

/// What only reads is given more of its inputs than what signs and decides.
fn inputs(target: &Target) -> usize {
    if target.runs >= 12_000 {
        6 * INPUTS
    } else {
        INPUTS
    }
}

#[test]
fn cve_2021_36222_no_message_with_a_part_gone_empty_double_or_of_another_type_is_more_than_refused()
{
    // rule: ENC-3
    for target in ALL.iter().filter(|target| target.form == Form::Cbor) {
        let mut chance = Chance::new(seed());
        for data in target.begin().iter().take(inputs(target)) {
            let Some(whole) = Item::read(data) else {
                continue;
            };
            for number in 0..whole.count().min(PARTS) {
                for change in [
                    Change::Drop,
                    Change::Empty,
                    Change::Double,
                    Change::Retype,
                    Change::Head,
                ] {
                    let mut bent = whole.clone();
                    if let Some(part) = bent.at(number) {
                        bend(part, change, &[], &mut chance);
                    }
                    drive::give(target, &bent.to_bytes(), seed());
                }
            }
        }
    }
}

#[test]
fn cve_2025_57736_nothing_signed_is_taken_with_a_byte_flipped() {
    // rule: SIG-1, SEAL-3
    let signed = [
        "ticket",
        "statement",
        "receipt",
        "evidence",
        "iid",
        "login",
        "renew",
        "issue",
        "watch",
        "subscribe",
        "present",
        "batch",
        "follow",
        "wrapped",
        "sealed",
        "note",
        "object",
    ];
    for name in signed {
        let target = named(name).expect("a target");
        // Of texts those with a signature's line, which begins with a dash.
        let dash = |data: &Vec<u8>| String::from_utf8_lossy(data).contains('\u{2014}');
        let signed = |data: &Vec<u8>| target.form != Form::Text || dash(data);
        for data in target.begin().into_iter().filter(signed).take(6) {
            // Some 150 places of each, and every one of what is short.
            let step = (data.len() / 150).max(1);
            for (number, at) in (0..data.len()).step_by(step).enumerate() {
                let mut flipped = data.clone();
                flipped[at] ^= 1 << (number % 8);
                drive::give(target, &flipped, seed());
            }
        }
    }
}
