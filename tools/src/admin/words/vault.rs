//! Acts on KEK versions and on the root key in words: by their own content, and against what stands.

use ticket_format::ids::{KekId, ProofHash};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{
    KekDestroy, KekKeep, KekList, KekRotate, KekRow, KekSet, KekState, Rekey, Restore, RootView,
    Rotation, SealServer, ShareGive, SharePurpose, WrapList, WrapRow,
};
use ticket_format::time::Timestamp;

use super::stale;
use crate::admin::dataset::keks::{destroyable, keepable, losses, set_to, settable, stops};
use crate::admin::span::Span;

/// When a dataset's KEK is rotated by itself.
pub(super) fn rotation(of: &Rotation) -> String {
    let mut when = Vec::new();
    when.extend(of.age.map(|age| format!("every {}", Span(age))));
    when.extend(of.wraps.map(|wraps| format!("after {wraps} wraps")));
    when.extend(of.on_denial.then(|| "on a denial".to_owned()));
    if when.is_empty() {
        "never by itself".to_owned()
    } else {
        when.join(", ")
    }
}

pub(super) fn rotate(body: &KekRotate) -> String {
    format!(
        "makes the next KEK version of dataset {:?}, which wraps from then on; the one before, with id {}, opens only",
        body.name, body.replaces
    )
}

pub(super) fn set(body: &KekSet) -> String {
    let what = if body.usable {
        "takes back into use"
    } else {
        "TAKES OUT OF USE"
    };
    format!(
        "{what} the KEK version of dataset {:?} with id {}",
        body.name, body.kek
    )
}

pub(super) fn destroy(body: &KekDestroy) -> Vec<String> {
    vec![
        format!(
            "DESTROYS the KEK version of dataset {:?} with id {}: once this is carried out nothing under it opens, and {} days later its key material is erased for ever",
            body.name, body.kek, body.days
        ),
        format!(
            "until then `kek-keep` takes it back; its signers saw {} known wrap(s) that would never open again",
            body.wraps
        ),
    ]
}

pub(super) fn keep(body: &KekKeep) -> String {
    format!(
        "takes the destruction of the KEK version of dataset {:?} with id {} back: it is disabled then",
        body.name, body.kek
    )
}

pub(super) fn list(body: &KekList) -> String {
    format!("asks for the KEK versions of dataset {:?}", body.name)
}

pub(super) fn wraps(body: &WrapList) -> String {
    format!(
        "asks which wraps are known under the KEK version of dataset {:?} with id {}",
        body.name, body.kek
    )
}

pub(super) fn give(body: &ShareGive) -> String {
    let what = match body.purpose {
        SharePurpose::Unseal => "to open a sealed key server",
        SharePurpose::Drill => "to a drill, which changes nothing",
        SharePurpose::Restore => "to open a backup of it",
    };
    format!(
        "gives share {} {what}, in attempt {}",
        body.number, body.attempt
    )
}

/// `restore`: what becomes of the key server.
pub(super) fn restore(body: &Restore) -> Vec<String> {
    vec![
        format!(
            "PUTS A BACKUP IN THE KEY SERVER'S PLACE, whoever brings it to the machine: backup {}, a file with SHA-256 {} ({})",
            body.id,
            ProofHash(body.digest),
            body.reason
        ),
        "WHAT WAS DONE SINCE IT WAS MADE IS LOST: KEK versions made since open nothing, versions destroyed since come back, and admin sets, policies and datasets are as they were then".to_owned(),
    ]
}

/// What a new root key changes, by the statement alone.
pub(super) fn rekey(body: &Rekey) -> Vec<String> {
    let mut lines = vec![format!(
        "makes a new root key in place of {}; {} of {} shares open it then, and no share that was given out before",
        body.replaces,
        body.threshold,
        body.holders.len()
    )];
    lines.extend(body.holders.iter().map(|holder| {
        format!(
            "a share for {:?}, to share key {}",
            holder.name,
            holder.key.hash()
        )
    }));
    lines
}

/// How the new holders differ from those that stand.
///
/// # Errors
/// Another root key stands.
pub(super) fn rekeyed(body: &Rekey, view: &RootView) -> Result<Vec<String>, Report> {
    // rule: ROOT-7, ADM-5
    if view.root != body.replaces {
        return Err(stale("root key"));
    }
    let mut lines = vec![format!(
        "now {} of {} shares open it",
        view.threshold,
        view.shares.len()
    )];
    for holder in &body.holders {
        match view.shares.iter().find(|row| row.name == holder.name) {
            None => lines.push(format!("ADDS holder {:?}", holder.name)),
            Some(row) if row.key != holder.key => {
                lines.push(format!("ANOTHER share key for {:?}", holder.name));
            }
            Some(_) => {}
        }
    }
    let gone = view.shares.iter().filter(|row| {
        let mut holders = body.holders.iter();
        !holders.any(|holder| holder.name == row.name)
    });
    lines.extend(gone.map(|row| format!("REMOVES holder {:?}", row.name)));
    Ok(lines)
}

/// Who opens a key server again that forgets its root key.
///
/// # Errors
/// Another root key stands.
pub(super) fn sealed(body: &SealServer, view: &RootView) -> Result<Vec<String>, Report> {
    // rule: ROOT-5, ADM-5
    if view.root != body.root {
        return Err(stale("root key"));
    }
    let holders: Vec<String> = view
        .shares
        .iter()
        .map(|row| format!("{:?}", row.name))
        .collect();
    Ok(vec![format!(
        "{} of {} shares open it again; they are held by {}",
        view.threshold,
        view.shares.len(),
        holders.join(", ")
    )])
}

/// One version as it stands, and whether it is the newest.
///
/// # Errors
/// The dataset has no such version.
pub(super) fn one(rows: &[KekRow], kek: KekId) -> Result<(&KekRow, bool), Report> {
    let place = rows.iter().position(|row| row.kek == kek);
    let row = place.and_then(|place| Some((rows.get(place)?, place == 0)));
    row.ok_or_else(|| Report::new(exit::NOT_FOUND, "the dataset has no such KEK version").why(kek))
}

pub(super) fn stands(row: &KekRow) -> String {
    let used = row.last_used;
    format!(
        "it is version {}, {} now, made {}, last used {}, {} wrap(s) left",
        row.version,
        row.state,
        row.created,
        used.map_or_else(|| "never".to_owned(), |time| time.to_string()),
        row.wraps
    )
}

/// What a rotation would make of the versions that stand.
///
/// # Errors
/// Another version is the newest.
pub(super) fn rotated(body: &KekRotate, rows: &[KekRow]) -> Result<Vec<String>, Report> {
    // rule: KEK-2, ADM-5
    let newest = rows.first().filter(|row| row.kek == body.replaces);
    let newest = newest.ok_or_else(|| stale("KEK version"))?;
    let old = match newest.state {
        KekState::Enabled => KekState::DecryptOnly,
        state => state,
    };
    Ok(vec![
        stands(newest),
        format!(
            "version {} is enabled then, and version {} {old}",
            newest.version + 1,
            newest.version
        ),
    ])
}

/// What becomes of a version that is taken out of use or back.
///
/// # Errors
/// There is no such version, or it is to be destroyed, or was.
pub(super) fn was_set(body: &KekSet, rows: &[KekRow]) -> Result<Vec<String>, Report> {
    // rule: KEK-1
    let (row, newest) = one(rows, body.kek)?;
    settable(row)?;
    let to = set_to(newest, body.usable);
    let mut lines = vec![stands(row)];
    lines.push(if to == row.state {
        format!("it stays {to}: nothing changes")
    } else {
        format!("it is {to} then")
    });
    if !body.usable {
        lines.extend(stops(row, newest));
    }
    Ok(lines)
}

/// What becomes of a version whose destruction is taken back.
///
/// # Errors
/// There is no such version, or no destruction of it to take back.
pub(super) fn kept(body: &KekKeep, rows: &[KekRow]) -> Result<Vec<String>, Report> {
    // rule: KEK-4
    let (row, _) = one(rows, body.kek)?;
    keepable(row)?;
    let mut lines = vec![stands(row)];
    lines.extend(
        row.destroyed
            .map(|time| format!("it would be destroyed at {time}")),
    );
    Ok(lines)
}

/// The version that is to be destroyed: with the very wraps that its signers saw, or it is not to be
/// signed.
///
/// # Errors
/// There is no such version, it cannot be destroyed, or its wraps are others.
pub(super) fn seen<'a>(body: &KekDestroy, rows: &'a [KekRow]) -> Result<&'a KekRow, Report> {
    // rule: KEK-4, ADM-5
    let (row, newest) = one(rows, body.kek)?;
    destroyable(row, newest)?;
    if (row.wraps, row.dependants) != (body.wraps, body.dependants) {
        return Err(stale("set of known wraps"));
    }
    Ok(row)
}

/// What a destruction that is carried out at this time would lose, and when.
pub(super) fn destroyed(
    body: &KekDestroy,
    row: &KekRow,
    first: &[WrapRow],
    now: Timestamp,
) -> Vec<String> {
    let mut lines = vec![stands(row)];
    lines.extend(losses(row, first));
    lines.push(format!(
        "carried out now, it is destroyed at {}",
        now.plus(body.days * 86_400)
    ));
    lines
}

#[cfg(test)]
mod tests {
    use ticket_format::Context;
    use ticket_format::ids::ItemDigest;
    use ticket_format::statement::KekOrigin;

    use super::*;

    fn row(wraps: u64) -> KekRow {
        KekRow {
            kek: KekId([1; 16]),
            version: 3,
            state: KekState::DecryptOnly,
            origin: KekOrigin::Generated,
            provenance: None,
            expiry: None,
            created: Timestamp::from_seconds(1),
            public_key: None,
            wraps,
            dependants: [7; 32],
            last_used: None,
            destroyed: None,
            since: None,
        }
    }

    fn body(wraps: u64) -> KekDestroy {
        KekDestroy {
            name: "maps".to_owned(),
            kek: KekId([1; 16]),
            days: 30,
            wraps,
            dependants: [7; 32],
        }
    }

    /// The newest, and the one that the tests are about.
    fn rows(row: KekRow) -> [KekRow; 2] {
        let newest = KekRow {
            kek: KekId([2; 16]),
            version: 4,
            state: KekState::Enabled,
            ..row.clone()
        };
        [newest, row]
    }

    #[test]
    fn a_destruction_of_other_wraps_than_its_signers_saw_is_not_signed() {
        // rule: KEK-4, ADM-5, PRO-3
        let stands = rows(row(2));
        assert_eq!(seen(&body(1), &stands).unwrap_err().exit, exit::CONFLICT);
        let others = KekDestroy {
            dependants: [8; 32],
            ..body(2)
        };
        assert!(seen(&others, &stands).is_err());
        assert!(seen(&body(2), &stands).is_ok());
        let newest = KekDestroy {
            kek: KekId([2; 16]),
            ..body(2)
        };
        assert!(seen(&newest, &stands).is_err());
        let unknown = KekDestroy {
            kek: KekId([3; 16]),
            ..body(2)
        };
        let unknown = seen(&unknown, &stands).unwrap_err();
        assert_eq!(unknown.exit, exit::NOT_FOUND);
    }

    #[test]
    fn who_signs_a_destruction_reads_which_objects_would_be_lost_and_when() {
        // rule: KEK-4, PRO-3, INV-2
        let wrap = |name: &str| WrapRow {
            digest: ItemDigest([2; 32]),
            seen: Timestamp::from_seconds(1),
            dek: None,
            context: Context::named(name).ok(),
        };
        let now = Timestamp::from_seconds(0);
        let lines = destroyed(&body(12), &row(12), &[wrap("a.jpg"), wrap("b.jpg")], now);
        let lines = lines.join("\n");
        assert!(
            lines.contains("it is version 3, decrypt-only now"),
            "{lines}"
        );
        assert!(lines.contains("12 KNOWN WRAP(S)"), "{lines}");
        assert!(lines.contains("lost: a.jpg") && lines.contains("lost: b.jpg"));
        assert!(lines.contains("and 10 more"), "{lines}");
        assert!(
            lines.contains("destroyed at 1970-01-31T00:00:00Z"),
            "{lines}"
        );
        assert!(lines.contains("nobody has brought yet"), "{lines}");
        let none = destroyed(&body(0), &row(0), &[], now).join("\n");
        assert!(none.contains("no wrap under version 3 is known"), "{none}");
    }

    #[test]
    fn a_rotation_is_signed_only_of_the_version_that_is_the_newest() {
        // rule: KEK-2, ADM-5, PRO-3
        let mut stands = rows(row(2));
        let rotate = |kek| KekRotate {
            name: "maps".to_owned(),
            replaces: KekId([kek; 16]),
        };
        assert_eq!(
            rotated(&rotate(1), &stands).unwrap_err().exit,
            exit::CONFLICT
        );
        let lines = rotated(&rotate(2), &stands).unwrap().join("\n");
        assert!(
            lines.contains("version 5 is enabled then, and version 4 decrypt-only"),
            "{lines}"
        );
        stands[0].state = KekState::Disabled;
        let lines = rotated(&rotate(2), &stands).unwrap().join("\n");
        assert!(lines.contains("and version 4 disabled"), "{lines}");
    }

    #[test]
    fn what_becomes_of_a_version_is_said_before_it_is_signed() {
        // rule: KEK-1, KEK-4, PRO-3
        let set = |kek, usable| KekSet {
            name: "maps".to_owned(),
            kek: KekId([kek; 16]),
            usable,
        };
        let mut stands = rows(row(2));
        let said = |set: &KekSet, rows: &[KekRow]| was_set(set, rows).map(|lines| lines.join("\n"));
        assert!(
            said(&set(1, false), &stands)
                .unwrap()
                .contains("it is disabled then")
        );
        assert!(
            said(&set(1, true), &stands)
                .unwrap()
                .contains("nothing changes")
        );
        assert!(
            said(&set(2, false), &stands)
                .unwrap()
                .contains("IT IS THE NEWEST")
        );
        let keep = KekKeep {
            name: "maps".to_owned(),
            kek: KekId([1; 16]),
        };
        assert_eq!(kept(&keep, &stands).unwrap_err().exit, exit::CONFLICT);
        stands[1].state = KekState::PendingDestruction;
        stands[1].destroyed = Some(Timestamp::from_seconds(86_400));
        assert_eq!(
            said(&set(1, true), &stands).unwrap_err().exit,
            exit::CONFLICT
        );
        let lines = kept(&keep, &stands).unwrap().join("\n");
        assert!(lines.contains("destroyed at 1970-01-02"), "{lines}");
    }

    #[test]
    fn a_rotation_rule_is_said_in_words() {
        // rule: KEK-3, PRO-3
        assert_eq!(rotation(&Rotation::default()), "never by itself");
        let all = Rotation {
            age: Some(90 * 86_400),
            wraps: Some(5_000),
            on_denial: true,
        };
        assert_eq!(rotation(&all), "every 90d, after 5000 wraps, on a denial");
    }
}
