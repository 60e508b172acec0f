//! Admin sets in words: what stands in one, what changes, and what is dangerous about it.

use ticket_format::statement::{Act, Admin, AdminSetBody};

fn roles(admin: &Admin) -> String {
    let names: Vec<&str> = admin.roles.iter().map(|role| role.name()).collect();
    names.join(", ")
}

fn key(admin: &Admin) -> String {
    let application = admin.application.as_ref();
    let application = application.map_or_else(String::new, |text| format!(" of {text:?}"));
    format!("{}{application} {}", admin.kind, admin.key)
}

/// A set, line by line.
#[must_use]
pub fn overview(set: &AdminSetBody) -> Vec<String> {
    let mut lines: Vec<String> = set
        .admins
        .iter()
        .map(|admin| format!("admin {:?}: {} ({})", admin.name, roles(admin), key(admin)))
        .collect();
    for act in changing() {
        lines.push(match set.quorums.get(&act) {
            Some(1) => format!("{act}: one admin"),
            Some(many) => format!("{act}: {many} admins"),
            None => format!("{act}: NOBODY may do it"),
        });
    }
    lines
}

/// Acts that change something.
fn changing() -> impl Iterator<Item = Act> {
    Act::ALL.iter().copied().filter(|act| act.role().is_some())
}

/// What another set changes, line by line.
#[must_use]
pub fn changes(old: &AdminSetBody, new: &AdminSetBody) -> Vec<String> {
    let find = |set: &AdminSetBody, wanted: &Admin| {
        set.admins.iter().find(|one| one.key == wanted.key).cloned()
    };
    let mut lines = Vec::new();
    for admin in &new.admins {
        match find(old, admin) {
            None => lines.push(format!(
                "ADDS admin {:?}: {} ({})",
                admin.name,
                roles(admin),
                key(admin)
            )),
            Some(before) => {
                if before.name != admin.name {
                    lines.push(format!(
                        "renames admin {:?} to {:?}",
                        before.name, admin.name
                    ));
                }
                if before.roles != admin.roles {
                    lines.push(format!(
                        "changes the roles of admin {:?}: from {} to {}",
                        admin.name,
                        roles(&before),
                        roles(admin)
                    ));
                }
                if (before.kind, &before.application) != (admin.kind, &admin.application) {
                    lines.push(format!(
                        "changes how admin {:?} signs: from {} to {}",
                        admin.name,
                        key(&before),
                        key(admin)
                    ));
                }
            }
        }
    }
    for admin in old.admins.iter().filter(|admin| find(new, admin).is_none()) {
        lines.push(format!(
            "REMOVES admin {:?}: {} ({})",
            admin.name,
            roles(admin),
            key(admin)
        ));
        lines.push(format!(
            "what {:?} signed counts no more: dataset records among it must be signed anew (postern-admin dataset record NAME)",
            admin.name
        ));
    }
    for act in changing() {
        let (before, after) = (old.quorums.get(&act), new.quorums.get(&act));
        lines.extend(match (before, after) {
            (Some(before), Some(after)) if after < before => Some(format!(
                "LOWERS the number for {act}: from {before} to {after}"
            )),
            (Some(before), Some(after)) if after > before => Some(format!(
                "raises the number for {act}: from {before} to {after}"
            )),
            (None, Some(after)) => Some(format!("lets {after} admins do {act}: nobody could")),
            (Some(_), None) => Some(format!("lets NOBODY do {act} any more")),
            _ => None,
        });
    }
    if lines.is_empty() {
        lines.push("changes nothing".to_owned());
    }
    lines
}

/// What is dangerous about a set: acts that one lost key makes impossible for good.
#[must_use]
pub fn warnings(set: &AdminSetBody) -> Vec<String> {
    let all = |act: Act| set.admins.iter().filter(|admin| admin.may(act)).count() as u64;
    let tight: Vec<&str> = changing()
        .filter(|act| {
            set.quorums
                .get(act)
                .is_some_and(|k| *k > 1 && *k == all(*act))
        })
        .map(Act::name)
        .collect();
    if tight.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "WARNING: every admin who may sign has to sign {}: one lost key ends that for good",
        tight.join(", ")
    )];
    if tight.contains(&Act::AdminSet.name()) {
        lines.push(
            "WARNING: that includes the admin set itself: a lost key locks the realm out"
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use ticket_format::keys::AdminSecret;
    use ticket_format::statement::{AdminKeyKind, AdminRole};

    use super::*;

    fn admin(name: &str, seed: u8, roles: &[AdminRole]) -> Admin {
        Admin {
            name: name.to_owned(),
            kind: AdminKeyKind::File,
            key: AdminSecret::from_seed(&[seed; 32]).public(),
            roles: roles.to_vec(),
            application: None,
        }
    }

    fn set(admins: Vec<Admin>, k: u64) -> AdminSetBody {
        AdminSetBody {
            version: 1,
            follows: AdminSetBody::NOTHING,
            admins,
            quorums: AdminSetBody::usual_quorums(k),
        }
    }

    const MANAGER: &[AdminRole] = &[AdminRole::DatasetOwner, AdminRole::Security];

    #[test]
    fn a_change_names_who_comes_who_goes_and_what_is_lowered() {
        // rule: PRO-3
        let old = set(
            vec![
                admin("ops", 1, &[AdminRole::Operator]),
                admin("ann", 2, MANAGER),
                admin("ben", 3, MANAGER),
                admin("cid", 4, MANAGER),
            ],
            3,
        );
        let mut new = set(
            vec![
                admin("ops", 1, &[AdminRole::Operator]),
                admin("ann", 2, &[AdminRole::Security]),
                admin("ben", 3, MANAGER),
                admin("dora", 5, MANAGER),
            ],
            2,
        );
        new.quorums.remove(&Act::CanarySet);
        let lines = changes(&old, &new).join("\n");
        for wanted in [
            "ADDS admin \"dora\"",
            "REMOVES admin \"cid\"",
            "roles of admin \"ann\": from dataset-owner, security to security",
            "LOWERS the number for admin-set: from 3 to 2",
            "lets NOBODY do canary-set any more",
        ] {
            assert!(lines.contains(wanted), "{wanted}: {lines}");
        }
        assert_eq!(changes(&old, &old), ["changes nothing"]);
    }

    #[test]
    fn a_set_that_needs_every_key_is_warned_of() {
        let two = vec![admin("ann", 2, MANAGER), admin("ben", 3, MANAGER)];
        let lines = warnings(&set(two, 2));
        assert!(
            lines.len() == 2 && lines[1].contains("locks the realm out"),
            "{lines:?}"
        );
        let three = (2..5).map(|seed| admin(&format!("a{seed}"), seed, MANAGER));
        assert!(warnings(&set(three.collect(), 2)).is_empty());
    }
}
