//! What a draft would change, taken together from the pages of a server.

use std::collections::BTreeMap;

use client::cli::output::Printed;
use serde_json::json;
use ticket_format::statement::Changed;

use crate::admin::Context;
use crate::admin::view::text;

const COLUMNS: [&str; 7] = [
    "change", "node", "dataset", "action", "times", "recorded", "drafted",
];

/// What was looked at, and what would change.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) decisions: u64,
    changed: BTreeMap<(bool, String, String, String), Changed>,
}

impl Replayed {
    /// One change of a page; the same of another page counts with it.
    pub(super) fn add(&mut self, one: Changed) {
        let key = (
            one.gains,
            one.node.to_string(),
            one.dataset.clone(),
            one.action.to_string(),
        );
        self.changed
            .entry(key)
            .and_modify(|known| {
                known.times = known.times.saturating_add(one.times);
                for (all, new) in [
                    (&mut known.recorded, &one.recorded),
                    (&mut known.drafted, &one.drafted),
                ] {
                    let unknown: Vec<String> = new
                        .iter()
                        .filter(|name| !all.contains(name))
                        .cloned()
                        .collect();
                    all.extend(unknown);
                }
            })
            .or_insert(one);
    }

    pub(super) fn print(&self, context: &Context) -> Printed {
        let rows = self.changed.values().map(|one| {
            vec![
                text(if one.gains { "gains" } else { "loses" }),
                text(&one.node),
                text(&one.dataset),
                text(one.action),
                json!(one.times),
                json!(one.recorded),
                json!(one.drafted),
            ]
        });
        context.output.rows("changed", &COLUMNS, rows.collect())
    }
}
