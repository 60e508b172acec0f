//! How a key server's root key and the ways to it are shown.

use serde_json::{Map, Value, json};
use ticket_format::statement::{Attempt, RootView};

use crate::admin::config::ServerKeys;
use crate::admin::view::{object, text};

/// Where a key server listens, as people name it.
pub(super) fn address(keys: &ServerKeys) -> String {
    keys.addresses.join(",")
}

/// What a key server says of its root key, as an object.
pub(super) fn view(keys: &ServerKeys, of: &RootView) -> Map<String, Value> {
    object! {
        "server": text(address(keys)),
        "state": state(of),
        "root": text(of.root),
        "automatic": of.auto.name(),
        "automatic_failed": Some(&of.wrong).filter(|wrong| !wrong.is_empty()),
        "threshold": of.threshold,
        "shares": of.shares.iter().map(|row| json!({
            "number": row.number,
            "name": row.name,
            "key_hash": text(row.key.hash()),
        })).collect::<Value>(),
        "unseal": attempt(of.unseal.as_ref()),
        "drill": attempt(of.drill.as_ref()),
    }
}

/// `sealed` or `open`.
pub(super) fn state(of: &RootView) -> &'static str {
    if of.sealed { "sealed" } else { "open" }
}

fn attempt(of: Option<&Attempt>) -> Value {
    of.map_or(
        Value::Null,
        |attempt| json!({ "attempt": text(attempt.id), "shares": attempt.shares }),
    )
}

/// The holders by name, with commas between them.
pub(super) fn holders(of: &RootView) -> String {
    let names: Vec<&str> = of.shares.iter().map(|row| row.name.as_str()).collect();
    names.join(", ")
}

/// How far a collection is: `1 of 2 shares; 1 more opens it`.
pub(super) fn progress(given: u64, threshold: u64, what: &str) -> String {
    match threshold.saturating_sub(given) {
        0 => format!("{given} of {threshold} shares"),
        1 => format!("{given} of {threshold} shares; 1 more {what}s it"),
        more => format!("{given} of {threshold} shares; {more} more {what} it"),
    }
}
