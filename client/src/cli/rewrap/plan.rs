//! The exposure plan: JSON lines, a head and one line for each data key that somebody may have.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ticket_format::ids::{DatasetId, DekId, ItemDigest};
use ticket_format::report::{Report, exit};

use crate::object::metadata::Context;
use crate::s3::Location;
use crate::s3::copy::{Job, Known, Wanted};

/// Longest line, in bytes: the largest context of a plan takes a third of it.
const LINE: u64 = 64 * 1024;
/// Most lines: with as many objects the list itself becomes large.
const LINES: usize = 1_000_000;

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A fresh data key: the old one was in somebody's hands.
    ReEncrypt,
    /// A new wrap of the same data key.
    Rewrap,
}

impl Op {
    /// As it stands in a plan.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReEncrypt => "re-encrypt",
            Self::Rewrap => "rewrap",
        }
    }
}

/// One dataset's objects of one kind of work.
#[derive(Debug, Default)]
pub struct Part {
    /// Objects, by place; each with its mark in the list of what is done.
    pub objects: Vec<(Mark, Wanted)>,
}

/// Names an object and the data keys that a plan knows of it, in the list of what is done.
pub type Mark = [u8; 32];

/// A plan, sorted.
#[derive(Debug, Default)]
pub struct Plan {
    /// By dataset and work.
    pub parts: BTreeMap<(String, Op), Part>,
    /// Data keys whose object has no place that could be gone to: dataset, name if known, data key.
    pub unplaced: Vec<(String, Option<String>, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u64,
    plan: String,
    #[allow(dead_code, reason = "for people")]
    realm: Option<String>,
    #[allow(dead_code, reason = "for people")]
    selector: Option<serde_json::Value>,
    #[allow(dead_code, reason = "for people")]
    since: Option<String>,
    #[allow(dead_code, reason = "for people")]
    made: Option<String>,
    #[allow(dead_code, reason = "for people")]
    objects: Option<u64>,
    #[allow(dead_code, reason = "for people")]
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    v: u64,
    op: Op,
    dataset: String,
    dataset_id: String,
    object: Option<String>,
    dek: Option<String>,
    digest: String,
    #[allow(dead_code, reason = "for people: the object's own metadata is asked")]
    context: Option<BTreeMap<String, String>>,
    #[allow(dead_code, reason = "for people")]
    first: Option<String>,
    #[allow(dead_code, reason = "for people")]
    last: Option<String>,
    #[allow(dead_code, reason = "for people")]
    comment: Option<String>,
}

impl Plan {
    /// Reads a plan; with `datasets`, only their lines.
    ///
    /// # Errors
    /// The file, or its first line that does not hold.
    pub fn read(path: &Path, datasets: &[String]) -> Result<Self, Report> {
        let failed = |code, why: String| {
            Report::new(code, format!("the plan {} cannot be used", path.display()))
                .why(why)
                .next("have it written again by `postern-admin exposure --plan`")
        };
        let file = std::fs::File::open(path).map_err(|error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => exit::NOT_FOUND,
                _ => exit::LOCAL,
            };
            failed(code, error.to_string())
        })?;
        let mut reader = BufReader::new(file);
        let mut lines = Vec::new();
        for number in 1.. {
            let mut text = Vec::new();
            let mut limited = (&mut reader).take(LINE + 1);
            let read = limited.read_until(b'\n', &mut text);
            if read.map_err(|error| failed(exit::LOCAL, error.to_string()))? == 0 {
                break;
            }
            let wrong = |why: String| failed(exit::CONFIG, format!("line {number}: {why}"));
            if text.len() as u64 > LINE {
                return Err(wrong(format!("longer than {LINE} bytes")));
            }
            if number > LINES {
                return Err(wrong(format!("more than {LINES} lines: divide it")));
            }
            if number == 1 {
                let head: Head =
                    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
                if head.v != 1 || head.plan != "exposure" {
                    return Err(wrong("not the head of an exposure plan, version 1".into()));
                }
                continue;
            }
            let line: Line =
                serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
            let line = line.checked().map_err(wrong)?;
            if datasets.is_empty() || datasets.contains(&line.dataset) {
                lines.push(line);
            }
        }
        Ok(Self::sorted(lines))
    }

    fn sorted(lines: Vec<Checked>) -> Self {
        let mut plan = Self::default();
        let mut objects: BTreeMap<(String, String), (Op, BTreeSet<Known>)> = BTreeMap::new();
        for line in lines {
            match line.place {
                // Where one data key of an object was seen, a new wrap of it does not help.
                Some(place) => {
                    let object = objects.entry((line.dataset, place));
                    let (op, known) = object.or_insert((line.op, BTreeSet::new()));
                    *op = (*op).min(line.op);
                    known.insert(line.known);
                }
                None => {
                    let known = match line.known {
                        Known::Dek(id) => format!("data key {id}"),
                        Known::Item(item) => format!("item {item}"),
                    };
                    plan.unplaced.push((line.dataset, line.object, known));
                }
            }
        }
        for ((dataset, place), (op, known)) in objects {
            // It was parsed before.
            let Ok(location) = place.parse::<Location>() else {
                continue;
            };
            let mut digest = Sha256::new();
            digest.update(op.name());
            digest.update([0]);
            digest.update(&place);
            for known in &known {
                match known {
                    Known::Dek(id) => digest.update(id.as_bytes()),
                    Known::Item(item) => digest.update(item.as_bytes()),
                }
            }
            let job = Job {
                from: location.clone(),
                to: location,
                name: None,
                context: Context::new(),
            };
            let known = known.into_iter().collect();
            let part = plan.parts.entry((dataset, op)).or_default();
            let mark = digest.finalize().into();
            part.objects.push((mark, Wanted { job, known }));
        }
        plan
    }
}

/// A line whose members were checked.
struct Checked {
    op: Op,
    dataset: String,
    object: Option<String>,
    /// The object as a place in S3, if it is one.
    place: Option<String>,
    known: Known,
}

impl Line {
    fn checked(self) -> Result<Checked, String> {
        if self.v != 1 {
            return Err("another version than 1".to_owned());
        }
        let hex = |name: &str, error: ticket_format::ids::NotHex| format!("{name}: {error}");
        self.dataset_id
            .parse::<DatasetId>()
            .map_err(|error| hex("dataset_id", error))?;
        let item: ItemDigest = self.digest.parse().map_err(|error| hex("digest", error))?;
        let dek = self.dek.as_deref().map(str::parse::<DekId>).transpose();
        let known = match dek.map_err(|error| hex("dek", error))? {
            Some(dek) => Known::Dek(dek),
            None => Known::Item(item),
        };
        let place = self.object.as_deref().and_then(|object| {
            match object.parse::<Location>() {
                // A place with an empty key is a bucket.
                Ok(Location::S3 { key, .. }) if !key.is_empty() => Some(object.to_owned()),
                _ => None,
            }
        });
        Ok(Checked {
            op: self.op,
            dataset: self.dataset,
            object: self.object,
            place,
            known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"v":1,"plan":"exposure","realm":"r","selector":{"node":"n"},"since":null,"made":"now","objects":2}"#;

    fn line(op: &str, object: Option<&str>, dek: Option<u8>) -> String {
        let dek = dek.map(|byte| format!("{byte:02x}").repeat(16));
        serde_json::json!({
            "v": 1, "op": op, "dataset": "faces", "dataset_id": "00".repeat(16), "object": object,
            "dek": dek, "digest": "11".repeat(32), "context": null, "first": "a", "last": "b",
        })
        .to_string()
    }

    fn read(lines: &[&str]) -> Result<Plan, Report> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan");
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        Plan::read(&path, &[])
    }

    #[test]
    fn data_keys_of_one_object_come_together_and_the_stronger_work_wins() {
        let a = line("rewrap", Some("s3://bucket/a"), Some(1));
        let b = line("re-encrypt", Some("s3://bucket/a"), Some(2));
        let c = line("rewrap", Some("s3://bucket/b"), None);
        let file = line("re-encrypt", Some("report.csv"), Some(3));
        let plan = read(&[HEAD, &a, &b, &c, &file]).unwrap();
        let part = |op| &plan.parts[&("faces".to_owned(), op)].objects;
        let [(_, first)] = part(Op::ReEncrypt).as_slice() else {
            panic!()
        };
        let deks = [DekId([1; 16]), DekId([2; 16])].map(Known::Dek);
        assert_eq!(first.known, deks);
        let [(_, second)] = part(Op::Rewrap).as_slice() else {
            panic!()
        };
        assert_eq!(second.known, [Known::Item(ItemDigest([0x11; 32]))]);
        assert_eq!((plan.parts.len(), plan.unplaced.len()), (2, 1));
        assert_eq!(plan.unplaced[0].1.as_deref(), Some("report.csv"));
    }

    #[test]
    fn a_mark_names_the_data_keys_too() {
        let mark = |dek| {
            let line = line("re-encrypt", Some("s3://bucket/a"), Some(dek));
            let plan = read(&[HEAD, &line]).unwrap();
            plan.parts.into_values().next().unwrap().objects[0].0
        };
        assert_eq!(mark(1), mark(1));
        assert_ne!(
            mark(1),
            mark(2),
            "a later plan of the same object is to be done anew"
        );
    }

    #[test]
    fn what_is_no_plan_is_refused_with_its_line() {
        let good = line("rewrap", None, None);
        let unknown = good.replace("\"v\":1", "\"v\":1,\"secret\":1");
        let version = good.replace("\"v\":1", "\"v\":2");
        let digest = good.replace("11", "zz");
        for (lines, at) in [
            (vec!["{}"], "line 1"),
            (vec![good.as_str()], "line 1"),
            (vec![HEAD, "nothing"], "line 2"),
            (vec![HEAD, good.as_str(), unknown.as_str()], "line 3"),
            (vec![HEAD, version.as_str()], "line 2"),
            (vec![HEAD, digest.as_str()], "line 2"),
        ] {
            let report = read(&lines).unwrap_err();
            assert_eq!(report.exit, exit::CONFIG);
            assert!(report.why.unwrap().starts_with(at), "{lines:?}");
        }
        let long = "x".repeat(LINE as usize + 1);
        assert!(read(&[HEAD, &long]).is_err());
    }
}
