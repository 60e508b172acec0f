//! Acts on KEK versions and on the root key in words: by their own content, and against what stands.

use ticket_format::report::Report;
use ticket_format::statement::{
    KekDestroy, KekKeep, KekRotate, KekRow, KekSet, Rekey, RootView, Rotation,
};

use super::stale;
use crate::admin::dataset::keks::losses;
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
        "makes the KEK version of dataset {:?} that follows {}, which opens only from then on",
        body.name, body.replaces
    )
}

pub(super) fn set(body: &KekSet) -> String {
    let what = if body.usable {
        "takes back into use"
    } else {
        "TAKES OUT OF USE: nothing under it opens until it is taken back:"
    };
    format!("{what} KEK version {} of dataset {:?}", body.kek, body.name)
}

pub(super) fn destroy(body: &KekDestroy) -> Vec<String> {
    vec![
        format!(
            "DESTROYS KEK version {} of dataset {:?} {} days after it is carried out; nothing under it opens from the first of them on",
            body.kek, body.name, body.days
        ),
        format!(
            "its signers saw {} known wrap(s) that would never open again",
            body.wraps
        ),
    ]
}

pub(super) fn keep(body: &KekKeep) -> String {
    format!(
        "takes the destruction of KEK version {} of dataset {:?} back: it is disabled then",
        body.kek, body.name
    )
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

/// One version as it stands.
pub(super) fn stands(row: &KekRow) -> String {
    format!(
        "it is version {} and {} now, made {}, {} wrap(s) left",
        row.version, row.state, row.created, row.wraps
    )
}

/// What a destruction would lose now: the very wraps that its signers saw, or it is not to be signed.
///
/// # Errors
/// They are others.
pub(super) fn destroyed(
    body: &KekDestroy,
    row: &KekRow,
    first: &[ticket_format::statement::WrapRow],
) -> Result<Vec<String>, Report> {
    // rule: KEK-4, ADM-5
    if (row.wraps, row.dependants) != (body.wraps, body.dependants) {
        return Err(stale("set of known wraps"));
    }
    let mut lines = vec![stands(row)];
    lines.extend(losses(row, first));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use ticket_format::Context;
    use ticket_format::ids::{ItemDigest, KekId};
    use ticket_format::report::exit;
    use ticket_format::statement::{KekOrigin, KekState, WrapRow};
    use ticket_format::time::Timestamp;

    use super::*;

    fn row(wraps: u64) -> KekRow {
        KekRow {
            kek: KekId([1; 16]),
            version: 3,
            state: KekState::DecryptOnly,
            origin: KekOrigin::Generated,
            created: Timestamp::from_seconds(1),
            public_key: None,
            wraps,
            dependants: [7; 32],
            last_used: None,
            destroyed: None,
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

    #[test]
    fn a_destruction_of_other_wraps_than_its_signers_saw_is_not_signed() {
        // rule: KEK-4, ADM-5, PRO-3
        let seen = destroyed(&body(1), &row(2), &[]).unwrap_err();
        assert_eq!(seen.exit, exit::CONFLICT);
        let others = KekDestroy {
            dependants: [8; 32],
            ..body(2)
        };
        assert!(destroyed(&others, &row(2), &[]).is_err());
        assert!(destroyed(&body(2), &row(2), &[]).is_ok());
    }

    #[test]
    fn who_signs_a_destruction_reads_which_objects_would_be_lost() {
        // rule: KEK-4, PRO-3
        let wrap = |name: &str| WrapRow {
            digest: ItemDigest([2; 32]),
            seen: Timestamp::from_seconds(1),
            dek: None,
            context: Context::named(name).ok(),
        };
        let lines = destroyed(&body(12), &row(12), &[wrap("a.jpg"), wrap("b.jpg")]);
        let lines = lines.unwrap().join("\n");
        assert!(lines.contains("12 KNOWN WRAP(S)"), "{lines}");
        assert!(lines.contains("lost: a.jpg") && lines.contains("lost: b.jpg"));
        assert!(lines.contains("and 10 more"), "{lines}");
        let none = destroyed(&body(0), &row(0), &[]).unwrap().join("\n");
        assert!(none.contains("no wrap under version 3 is known"), "{none}");
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
