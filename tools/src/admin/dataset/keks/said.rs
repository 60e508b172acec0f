//! KEK versions in words and as objects, and what an act may make of one (KEK-1, KEK-4, INV-2).

use serde_json::{Map, Value};
use ticket_format::Context as Pairs;
use ticket_format::ids::ProofHash;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{KekRow, KekState, WrapRow};

use crate::admin::view::{self, object, text};

/// The members of [`row_json`]; the last seven are for programs.
pub(super) const COLUMNS: [&str; 15] = [
    "version",
    "state",
    "origin",
    "created",
    "last_used",
    "wraps_left",
    "destroyed_at",
    "kek",
    "safe_to_destroy",
    "dependants",
    "public_key_hash",
    "counted_since",
    "expires",
    "commitment",
    "imported_by",
];
/// So many of them are for people.
pub(super) const FOR_PEOPLE: usize = 8;

/// What `0 wraps left` does not mean (INV-2).
pub(super) const NOT_KNOWN: &str = "known are the wraps that this key server has made or opened: not one by a producer that nobody has brought yet, nor a copy of an object that was made elsewhere";

/// Each version as an object.
pub(crate) fn jsons(rows: &[KekRow]) -> impl Iterator<Item = Map<String, Value>> {
    let numbered = rows.iter().enumerate();
    numbered.map(|(place, row)| row_json(row, place == 0))
}

/// Each version in a sentence: what it does, what depends on it, and what may become of it.
pub(crate) fn sentences(rows: &[KekRow]) -> impl Iterator<Item = String> {
    let numbered = rows.iter().enumerate();
    numbered.map(|(place, row)| sentence(row, place == 0))
}

/// Whether nothing that is known would be lost with a version that is not the newest.
pub(super) fn safe(row: &KekRow) -> bool {
    // rule: INV-2
    let left = matches!(row.state, KekState::DecryptOnly | KekState::Disabled);
    left && row.wraps == 0 && row.since.is_none()
}

/// A time, or the word.
fn used(row: &KekRow) -> String {
    let never = || "never used".to_owned();
    let last = row.last_used;
    last.map_or_else(never, |time| format!("last used {time}"))
}

fn sentence(row: &KekRow, newest: bool) -> String {
    let version = row.version;
    let wraps = match row.wraps {
        1 => "1 wrap".to_owned(),
        wraps => format!("{wraps} wraps"),
    };
    let at = row
        .destroyed
        .map_or_else(|| "its time".to_owned(), |time| time.to_string());
    match row.state {
        KekState::Enabled => format!("v{version}: wraps and opens, {wraps}, {}", used(row)),
        KekState::DecryptOnly | KekState::Disabled if !newest && row.wraps == 0 => {
            match row.since {
                None => format!("v{version}: 0 wraps left, safe to destroy"),
                Some(since) => format!(
                    "v{version}: 0 wraps left of those counted since {since}, and it is older: NOT KNOWN TO BE SAFE to destroy"
                ),
            }
        }
        KekState::DecryptOnly => format!(
            "v{version}: opens only, {wraps} left, {}: rewrap them before it is destroyed",
            used(row)
        ),
        KekState::Disabled if newest => format!(
            "v{version}: disabled, {wraps}, {}: nothing wraps for the dataset until it is enabled, or rotated",
            used(row)
        ),
        KekState::Disabled => format!(
            "v{version}: disabled, {wraps} left, {}: to rewrap them, enable it",
            used(row)
        ),
        KekState::PendingDestruction => format!(
            "v{version}: opens nothing and is destroyed at {at}, with {wraps}; until then `dataset keep` takes it back"
        ),
        KekState::Destroyed => format!("v{version}: destroyed at {at}"),
    }
}

/// A version as an object.
pub(crate) fn row_json(row: &KekRow, newest: bool) -> Map<String, Value> {
    object! {
        "version": row.version,
        "state": row.state.name(),
        "origin": row.origin.name(),
        "created": text(row.created),
        "last_used": view::maybe(row.last_used),
        "wraps_left": row.wraps,
        "destroyed_at": view::maybe(row.destroyed),
        "kek": text(row.kek),
        "safe_to_destroy": !newest && safe(row),
        // What changes with every request names nothing.
        "dependants": view::maybe((!newest).then_some(ProofHash(row.dependants))),
        "public_key_hash": view::maybe(row.public_key.as_ref().map(|key| key.hash())),
        "counted_since": view::maybe(row.since),
        "expires": view::maybe(row.expiry),
        "commitment": view::maybe(row.provenance.as_ref().map(|of| ProofHash(of.commitment))),
        "imported_by": view::maybe(row.provenance.as_ref().map(|of| of.statement)),
    }
}

/// What would be lost with a version, in words: how many wraps, the first few by their names, and what
/// nobody here can know (INV-2).
pub(crate) fn losses(row: &KekRow, first: &[WrapRow]) -> Vec<String> {
    let mut lines = vec![if row.wraps == 0 {
        format!(
            "no wrap under version {} is known: 0 wraps left, {}",
            row.version,
            used(row)
        )
    } else {
        format!(
            "{} KNOWN WRAP(S) UNDER VERSION {} WOULD NEVER OPEN AGAIN; {}",
            row.wraps,
            row.version,
            used(row)
        )
    }];
    for wrap in first.iter().take(SHOWN) {
        let name = wrap
            .context
            .as_ref()
            .and_then(|pairs| pairs.get(Pairs::NAME));
        lines.push(format!(
            "lost: {} (wrap {}, last made or opened {})",
            name.unwrap_or("a wrap whose name is not on record"),
            wrap.digest,
            wrap.seen
        ));
    }
    if let Some(since) = row.since {
        lines.push(format!(
            "THE COUNT BEGINS AT {since}, AND VERSION {} IS OLDER: the log from before is gone, and any number of wraps may be left",
            row.version
        ));
    }
    let more = row.wraps.saturating_sub(first.len().min(SHOWN) as u64);
    if more > 0 {
        lines.push(format!(
            "and {more} more: see `postern-admin dataset wraps --version {}`",
            row.version
        ));
    }
    lines.push(NOT_KNOWN.to_owned());
    lines
}

/// What stops when a version is taken out of use, in words.
pub(crate) fn stops(row: &KekRow, newest: bool) -> Vec<String> {
    // rule: KEK-1
    let mut lines = vec![format!(
        "nothing under version {} opens until it is taken back: {} known wrap(s), {}",
        row.version,
        row.wraps,
        used(row)
    )];
    if newest {
        lines.push(
            "IT IS THE NEWEST: no key is made or moved for the dataset until it is taken back, or rotated"
                .to_owned(),
        );
    }
    lines
}

/// So many wraps are named where something is about to be lost.
const SHOWN: usize = 10;

/// What `kek-set` makes of a version.
pub(crate) fn set_to(newest: bool, usable: bool) -> KekState {
    // rule: KEK-1
    match (usable, newest) {
        (false, _) => KekState::Disabled,
        (true, true) => KekState::Enabled,
        (true, false) => KekState::DecryptOnly,
    }
}

/// Whether `kek-set` makes anything of a version.
///
/// # Errors
/// It is to be destroyed, or was.
pub(crate) fn settable(row: &KekRow) -> Result<(), Report> {
    let report = Report::new(
        exit::CONFLICT,
        format!("KEK version {} is {}", row.version, row.state),
    );
    match row.state {
        KekState::Enabled | KekState::DecryptOnly | KekState::Disabled => Ok(()),
        KekState::PendingDestruction => Err(report.next(format!(
            "take that back first: postern-admin dataset keep NAME --version {}",
            row.version
        ))),
        KekState::Destroyed => Err(report.why("nothing brings its key material back")),
    }
}

/// Whether there is a destruction to take back.
///
/// # Errors
/// There is none.
pub(crate) fn keepable(row: &KekRow) -> Result<(), Report> {
    match row.state {
        KekState::PendingDestruction => Ok(()),
        state => Err(Report::new(
            exit::CONFLICT,
            format!(
                "KEK version {} is {state}: there is no destruction to take back",
                row.version
            ),
        )),
    }
}

/// Whether a version may be destroyed at all.
///
/// # Errors
/// It is the newest, or to be destroyed already, or was.
pub(crate) fn destroyable(row: &KekRow, newest: bool) -> Result<(), Report> {
    // rule: KEK-4
    if newest {
        return Err(Report::new(
            exit::CONFLICT,
            format!(
                "version {} is the newest: it cannot be destroyed",
                row.version
            ),
        )
        .next("rotate first: `postern-admin dataset rotate`"));
    }
    match row.state {
        KekState::Enabled | KekState::DecryptOnly | KekState::Disabled => Ok(()),
        KekState::PendingDestruction | KekState::Destroyed => Err(Report::new(
            exit::CONFLICT,
            format!("version {} is {} already", row.version, row.state),
        )),
    }
}

#[cfg(test)]
mod tests {
    use ticket_format::ids::{ItemDigest, KekId};
    use ticket_format::statement::KekOrigin;
    use ticket_format::time::Timestamp;

    use super::*;

    fn row(version: u64, state: KekState, wraps: u64) -> KekRow {
        KekRow {
            kek: KekId([1; 16]),
            version,
            state,
            origin: KekOrigin::Generated,
            provenance: None,
            expiry: None,
            created: Timestamp::from_seconds(1),
            public_key: None,
            wraps,
            dependants: [7; 32],
            last_used: Some(Timestamp::from_seconds(60)),
            destroyed: None,
            since: None,
        }
    }

    #[test]
    fn a_version_that_is_older_than_its_count_is_never_called_safe_to_destroy() {
        // rule: INV-2
        let since = Some(Timestamp::from_seconds(7));
        let old = KekRow {
            since,
            ..row(1, KekState::DecryptOnly, 0)
        };
        let rows = [row(2, KekState::Enabled, 0), old];
        let said: Vec<String> = sentences(&rows).collect();
        assert!(said[1].contains("NOT KNOWN TO BE SAFE"), "{}", said[1]);
        let json: Vec<_> = jsons(&rows).collect();
        assert_eq!(json[1]["safe_to_destroy"], false);
        assert_eq!(json[1]["counted_since"], "1970-01-01T00:00:07Z");
        assert!(
            losses(&rows[1], &[])
                .iter()
                .any(|line| line.contains("IS OLDER"))
        );
    }

    #[test]
    fn a_version_is_called_safe_to_destroy_only_when_nothing_known_is_left_under_an_older_one() {
        // rule: INV-2, KEK-4
        let rows = [
            row(5, KekState::Disabled, 0),
            row(4, KekState::DecryptOnly, 1),
            row(3, KekState::DecryptOnly, 0),
            row(2, KekState::PendingDestruction, 0),
            row(1, KekState::Destroyed, 0),
        ];
        let said: Vec<String> = sentences(&rows).collect();
        let safe: Vec<&String> = said.iter().filter(|line| line.contains("safe")).collect();
        assert_eq!(safe, ["v3: 0 wraps left, safe to destroy"]);
        assert!(
            said[1].starts_with("v4: opens only, 1 wrap left, last used 1970-"),
            "{}",
            said[1]
        );
        let json: Vec<Value> = jsons(&rows)
            .map(|row| row["safe_to_destroy"].clone())
            .collect();
        assert_eq!(json, [false, false, true, false, false]);
        // The newest is named by nothing that an admin could sign.
        let dependants: Vec<bool> = jsons(&rows)
            .map(|row| row["dependants"].is_null())
            .collect();
        assert_eq!(dependants, [true, false, false, false, false]);
    }

    #[test]
    fn columns_are_the_members_of_an_object_in_their_order() {
        let names: Vec<String> = row_json(&row(1, KekState::Enabled, 0), true)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, COLUMNS);
    }

    #[test]
    fn only_an_older_version_that_is_not_on_its_way_out_may_be_destroyed() {
        // rule: KEK-4
        use KekState::{DecryptOnly, Destroyed, Disabled, Enabled, PendingDestruction};
        for state in [
            Enabled,
            DecryptOnly,
            Disabled,
            PendingDestruction,
            Destroyed,
        ] {
            let row = row(2, state, 0);
            let newest = destroyable(&row, true).unwrap_err();
            assert!(newest.exit == exit::CONFLICT && newest.what.contains("newest"));
            let out = matches!(state, PendingDestruction | Destroyed);
            assert_eq!(destroyable(&row, false).is_err(), out, "{state}");
            assert_eq!(settable(&row).is_err(), out, "{state}");
            assert_eq!(
                keepable(&row).is_ok(),
                state == PendingDestruction,
                "{state}"
            );
        }
    }

    #[test]
    fn who_makes_an_older_version_usable_makes_it_decrypt_only() {
        // rule: KEK-1
        assert_eq!(set_to(true, true), KekState::Enabled);
        assert_eq!(set_to(false, true), KekState::DecryptOnly);
        assert_eq!(set_to(true, false), KekState::Disabled);
        assert_eq!(set_to(false, false), KekState::Disabled);
    }

    #[test]
    fn losses_are_counted_named_and_never_said_to_be_all() {
        // rule: INV-1, INV-2
        let wrap = |number: u8| WrapRow {
            digest: ItemDigest([number; 32]),
            seen: Timestamp::from_seconds(1),
            dek: None,
            context: (number > 0)
                .then(|| ticket_format::Context::named(&format!("object-{number}")).unwrap()),
        };
        let first: Vec<WrapRow> = (0..11).map(wrap).collect();
        let lines = losses(&row(2, KekState::DecryptOnly, 12), &first);
        assert!(
            lines[0].starts_with("12 KNOWN WRAP(S) UNDER VERSION 2"),
            "{lines:?}"
        );
        let named = lines.iter().filter(|line| line.starts_with("lost: "));
        assert_eq!(named.count(), 10);
        assert!(lines[1].contains("name is not on record"), "{lines:?}");
        assert!(
            lines.iter().any(|line| line.starts_with("and 2 more")),
            "{lines:?}"
        );
        let none = losses(&row(2, KekState::DecryptOnly, 0), &[]);
        for lines in [&lines, &none] {
            assert_eq!(lines.last().map(String::as_str), Some(NOT_KNOWN));
        }
    }
}
