//! The plan of what is to be done about an exposure: JSON lines for `postern rewrap --plan`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use ticket_format::Context;
use ticket_format::denial::Selector;
use ticket_format::ids::{DatasetId, DekId, ItemDigest};
use ticket_format::report::Report;
use ticket_format::statement::Exposed;
use ticket_format::time::Timestamp;

use super::{Op, whose};
use crate::admin::now;
use crate::admin::proposal::write_new;
use crate::admin::view::{maybe, text};

/// What a plan is of.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) realm: &'a str,
    pub(super) selector: &'a Selector,
    pub(super) since: Timestamp,
    pub(super) op: Op,
}

/// An object is its DEK; where that is not known any more, the item that was released.
pub(super) fn object_of(row: &Exposed) -> (DatasetId, Option<DekId>, Option<ItemDigest>) {
    let digest = row.dek.is_none().then_some(row.item);
    (row.dataset, row.dek, digest)
}

/// An object, each release of it taken together.
struct Object<'a> {
    newest: &'a Exposed,
    context: Option<&'a Context>,
    first: Timestamp,
}

impl Plan<'_> {
    /// Writes it to a new file; each object once, by the newest release. How many there are.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub(super) fn write(&self, file: &Path, rows: &[&Exposed]) -> Result<usize, Report> {
        let (text, objects) = self.lines(rows);
        write_new(file, text.as_bytes()).map(|()| objects)
    }

    fn lines(&self, rows: &[&Exposed]) -> (String, usize) {
        let mut objects: BTreeMap<_, Object<'_>> = BTreeMap::new();
        for row in rows {
            let context = row.context.as_ref();
            objects
                .entry(object_of(row))
                .and_modify(|object| {
                    if row.time >= object.newest.time {
                        object.newest = row;
                        object.context = context.or(object.context);
                    } else {
                        object.context = object.context.or(context);
                    }
                    object.first = object.first.min(row.time);
                })
                .or_insert(Object {
                    newest: row,
                    context,
                    first: row.time,
                });
        }
        let head = json!({
            "v": 1,
            "plan": "exposure",
            "realm": self.realm,
            "selector": whose(self.selector),
            "since": text(self.since),
            "made": text(now()),
            "objects": objects.len(),
        });
        let mut lines = format!("{head}\n");
        for object in objects.values() {
            lines += &format!("{}\n", self.line(object));
        }
        (lines, objects.len())
    }

    fn line(&self, object: &Object<'_>) -> Value {
        let row = object.newest;
        json!({
            "v": 1,
            "op": self.op.name(),
            "dataset": row.name,
            "dataset_id": text(row.dataset),
            "object": object.context.and_then(|pairs| pairs.get(Context::NAME)),
            "dek": maybe(row.dek),
            "digest": text(row.item),
            "context": object.context.map(Context::pairs),
            "first": text(object.first),
            "last": text(row.time),
        })
    }
}

#[cfg(test)]
mod tests {
    use ticket_format::denial::Members;
    use ticket_format::entry::Kind;
    use ticket_format::ids::{ActId, NodeId, TicketId};

    use super::*;

    fn exposed(time: u64, dek: Option<u8>, item: u8, name: Option<&str>) -> Exposed {
        Exposed {
            entry: time,
            act: ActId([1; 16]),
            time: Timestamp::from_seconds(time),
            kind: Kind::Redeem,
            node: NodeId::new("123456789012", "eu-west-1", "i-0123456789abcdef0").unwrap(),
            ticket: TicketId([2; 16]),
            launch: None,
            dataset: DatasetId([3; 16]),
            name: "faces".to_owned(),
            item: ItemDigest([item; 32]),
            dek: dek.map(|byte| DekId([byte; 16])),
            context: name.map(|name| Context::named(name).unwrap()),
        }
    }

    #[test]
    fn each_object_stands_once_in_a_plan_by_its_newest_release() {
        // rule: EXP-1
        let rows = [
            exposed(10, Some(1), 1, Some("a")),
            exposed(30, Some(1), 2, None),
            exposed(20, Some(2), 3, Some("b")),
            exposed(40, None, 4, None),
            exposed(41, None, 4, None),
        ];
        let selector = Selector::new(Members {
            ticket: Some(TicketId([2; 16])),
            ..Members::default()
        })
        .unwrap();
        let plan = Plan {
            realm: "example",
            selector: &selector,
            since: Timestamp::from_seconds(0),
            op: Op::ReEncrypt,
        };
        let (text, objects) = plan.lines(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((objects, lines.len()), (3, 4));
        assert_eq!(
            (&lines[0]["plan"], &lines[0]["objects"]),
            (&json!("exposure"), &json!(3))
        );
        let first = lines.iter().find(|line| line["object"] == "a").unwrap();
        assert_eq!(
            (&first["op"], &first["digest"], &first["first"]),
            (
                &json!("re-encrypt"),
                &text_of(2),
                &json!("1970-01-01T00:00:10Z")
            )
        );
        assert!(
            lines[1..]
                .iter()
                .any(|line| line["dek"].is_null() && line["object"].is_null())
        );
    }

    #[test]
    fn an_object_that_was_rewrapped_is_planned_where_its_new_wrap_is() {
        // rule: EXP-1, REW-1
        let rows = [
            exposed(10, Some(1), 1, Some("old")),
            exposed(20, Some(1), 1, Some("old")),
            exposed(20, Some(1), 2, Some("new")),
        ];
        let selector = Selector::ticket(TicketId([2; 16]));
        let plan = Plan {
            realm: "example",
            selector: &selector,
            since: Timestamp::from_seconds(0),
            op: Op::Rewrap,
        };
        let (text, objects) = plan.lines(&rows.iter().collect::<Vec<_>>());
        let line: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(objects, 1);
        let found = (&line["object"], &line["digest"], &line["first"]);
        let first = json!("1970-01-01T00:00:10Z");
        assert_eq!(found, (&json!("new"), &text_of(2), &first));
    }

    fn text_of(byte: u8) -> Value {
        text(ItemDigest([byte; 32]))
    }
}
