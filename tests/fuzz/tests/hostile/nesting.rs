//! 64 KiB of things within things, to every target, on a small stack (CVE-2020-28196, RUSTSEC-2019-0025).

use fuzz::mutate::Form;
use fuzz::nest;
use fuzz::targets::ALL;
use fuzz::tree::Item;

/// Bytes of stack. A parser that took only a hundred bytes of it for each level would need twelve times as much;
/// the signatures that are verified on the way take most of it in a test build.
const STACK: usize = 512 * 1024;

#[test]
fn rustsec_2019_0025_nothing_nested_takes_more_than_a_small_stack() {
    // rule: ENC-2
    for target in ALL {
        // What is made once for all is made on a stack like any other.
        let seeds = target.begin();
        let small = std::thread::Builder::new()
            .stack_size(STACK)
            .name(target.name.to_owned());
        let given = small.spawn(move || {
            nest::bombs().for_each(|bomb| target.give(&bomb));
            for tag in [0x30, 0x31, 0x24, 0xa0] {
                target.give(&nest::ber(tag, 64 * 1024));
            }
            if target.form == Form::Cbor {
                seeds
                    .iter()
                    .take(12)
                    .for_each(|seed| within(seed, |data| target.give(data)));
            }
        });
        given
            .expect("a thread")
            .join()
            .unwrap_or_else(|_| panic!("{} fell", target.name));
    }
}

/// A good message with a bomb in the place of each of its first parts.
fn within(seed: &[u8], give: impl Fn(&[u8])) {
    let Some(whole) = Item::read(seed) else {
        return;
    };
    for number in 0..whole.count().min(30) {
        for opener in [&[0x81u8][..], &[0xa1, 0x00], &[0xd2]] {
            let mut bent = whole.clone();
            if let Some(part) = bent.at(number) {
                *part = Item::Raw(nest::around(opener, 64 * 1024 / opener.len(), &[0]));
            }
            give(&bent.to_bytes());
        }
    }
}
