//! Bends text: lines and words.

use crate::drive::LONGEST;
use crate::mutate::NUMBERS;
use crate::rng::Chance;

/// What means something in one of the texts that we read: TOML, Cedar, JSON, signed notes, user-data.
const WORDS: [&str; 40] = [
    "=",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "(",
    ")",
    "\"",
    "'",
    "\"\"\"",
    "\\u0000",
    "\\",
    "#",
    "//",
    "/*",
    "true",
    "null",
    "-1",
    "0x",
    "1e400",
    "\u{2014} ",
    "postern:",
    "old ",
    "index ",
    "group ",
    "quorum none",
    "none",
    "permit",
    "forbid",
    "when",
    "unless",
    "like",
    "has",
    "if",
    "?principal",
    "@id(\"a\")",
    "context.pairs.getTag(\"",
    "\r\n",
    "\u{0}",
];

fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let wordy = |c: char| c.is_alphanumeric() || c == '_';
        let end = if wordy(first) {
            rest.find(|c| !wordy(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, behind) = rest.split_at(end);
        out.push(word);
        rest = behind;
    }
    out
}

/// Bends a text; none where it is none.
pub fn mutate(data: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Option<Vec<u8>> {
    let mut text = std::str::from_utf8(data)
        .ok()
        .filter(|text| !text.is_empty())?
        .to_owned();
    for _ in 0..=chance.below(3) {
        if text.len() > LONGEST {
            break;
        }
        text = if chance.one_in(3) {
            lines(&text, others, chance)
        } else {
            word(&text, others, chance)
        };
    }
    Some(text.into_bytes())
}

/// So many times, or as often as there is room for: what is repeated may be repeated again.
fn at_most(times: usize, length: usize) -> usize {
    times.min(LONGEST / length.max(1)).max(1)
}

fn lines(text: &str, others: &[Vec<u8>], chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let (a, b) = (chance.below(lines.len()), chance.below(lines.len()));
    match chance.below(5) {
        _ if lines.is_empty() => {}
        0 => drop(lines.remove(a)),
        1 => {
            let times = if chance.one_in(10) { 1_000 } else { 1 };
            let again = lines[a].clone();
            let times = at_most(times, again.len());
            lines.splice(a..a, std::iter::repeat_n(again, times));
        }
        2 => lines.swap(a, b),
        3 => {
            let other = chance
                .pick(others)
                .map(|other| String::from_utf8_lossy(other).into_owned());
            let other = other.unwrap_or_default();
            let all: Vec<&str> = other.split_inclusive('\n').collect();
            if let Some(line) = chance.pick(&all) {
                lines.insert(a, (*line).to_owned());
            }
        }
        _ => lines[a] = lines[a].trim_end().to_owned(),
    }
    lines.concat()
}

fn word(text: &str, others: &[Vec<u8>], chance: &mut Chance) -> String {
    let mut all: Vec<String> = words(text).into_iter().map(str::to_owned).collect();
    if all.is_empty() {
        return text.to_owned();
    }
    let (a, b) = (chance.below(all.len()), chance.below(all.len()));
    match chance.below(8) {
        0 => drop(all.remove(a)),
        1 => all.insert(a, all[b].clone()),
        2 => all.swap(a, b),
        3 => {
            all[a] = chance
                .pick(&NUMBERS)
                .copied()
                .unwrap_or_default()
                .to_string()
        }
        4 => all.insert(
            a,
            chance.pick(&WORDS).copied().unwrap_or_default().to_owned(),
        ),
        5 => {
            let word = chance.pick(&WORDS).copied().unwrap_or_default();
            let times = *chance.pick(&[2, 33, 2_001]).unwrap_or(&2);
            all.insert(a, word.repeat(at_most(times, word.len())));
        }
        6 => {
            let other = chance
                .pick(others)
                .map(|other| String::from_utf8_lossy(other).into_owned());
            let other = other.unwrap_or_default();
            if let Some(word) = chance.pick(&words(&other)) {
                all[a] = (*word).to_owned();
            }
        }
        _ => {
            let times = *chance.pick(&[2, 3, 300]).unwrap_or(&2);
            all[a] = all[a].repeat(at_most(times, all[a].len()));
        }
    }
    all.concat()
}
