//! An admin's card: the one line by which others put an admin into a set. It holds nothing secret.

use std::fmt;
use std::str::FromStr;

use ticket_format::keys::AdminKey;
use ticket_format::report::hides;
use ticket_format::statement::{Admin, AdminKeyKind, AdminRole, AdminSigner};

/// What a card begins with.
const MARK: &str = "postern-admin-card/1";
/// Longest name or application, in bytes.
pub const NAME: usize = 64;

/// Name, kind of key, public key: `postern-admin-card/1:NAME:KIND:KEY[:APPLICATION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The admin's name.
    pub name: String,
    /// How the admin's signatures are made.
    pub signer: AdminSigner,
}

/// A card, and the roles that its admin is to have: `CARD=ROLE[,ROLE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub card: Card,
    /// What its signatures count for.
    pub roles: Vec<AdminRole>,
}

/// Whether an admin may be called so: what a card, a list of roles or a terminal needs is kept out.
#[must_use]
pub fn name_fits(name: &str) -> bool {
    (1..=NAME).contains(&name.len())
        && name.trim() == name
        && !name
            .chars()
            .any(|c| hides(c) || matches!(c, ':' | '=' | ','))
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdminSigner {
            key,
            kind,
            application,
        } = &self.signer;
        write!(f, "{MARK}:{}:{}:{key}", self.name, kind.name())?;
        application
            .iter()
            .try_for_each(|application| write!(f, ":{application}"))
    }
}

impl FromStr for Card {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}: expected the line that `postern-admin init` printed, {MARK}:NAME:KIND:KEY"
            )
        };
        let mut parts = text.trim().splitn(5, ':');
        let mut next = || parts.next().unwrap_or_default();
        if next() != MARK {
            return Err(wrong("not an admin's card"));
        }
        let name = next();
        if !name_fits(name) {
            return Err(wrong("the name does not fit"));
        }
        let kind = next();
        let kind = AdminKeyKind::ALL
            .iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| wrong("an unknown kind of key"))?;
        let key: AdminKey = next().parse().map_err(|_| wrong("the key is none"))?;
        let application = parts.next().map(str::to_owned);
        if application.is_some() != (*kind == AdminKeyKind::SecurityKey) {
            return Err(wrong("a security key, and no other, has an application"));
        }
        let fits = |text: &String| (1..=NAME).contains(&text.len()) && !text.chars().any(hides);
        if application.as_ref().is_some_and(|text| !fits(text)) {
            return Err(wrong("the application does not fit"));
        }
        Ok(Self {
            name: name.to_owned(),
            signer: AdminSigner {
                key,
                kind: *kind,
                application,
            },
        })
    }
}

/// Roles by name, with commas between them, in a set's order.
///
/// # Errors
/// One is unknown or given twice.
pub fn roles(text: &str) -> Result<Vec<AdminRole>, String> {
    let mut roles = Vec::new();
    for name in text.split(',') {
        let role = AdminRole::ALL.iter().find(|role| role.name() == name);
        let role =
            role.ok_or_else(|| format!("{name:?} is no role: operator, dataset-owner, security"))?;
        if roles.contains(role) {
            return Err(format!("role {name} is given twice"));
        }
        roles.push(*role);
    }
    roles.sort_by_key(|role| role.number());
    Ok(roles)
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (card, given) = text
            .rsplit_once('=')
            .ok_or("expected CARD=ROLE[,ROLE]: which roles is not said")?;
        Ok(Self {
            card: card.parse()?,
            roles: roles(given)?,
        })
    }
}

impl Member {
    /// As a set has it.
    #[must_use]
    pub fn admin(self) -> Admin {
        let AdminSigner {
            key,
            kind,
            application,
        } = self.card.signer;
        Admin {
            name: self.card.name,
            kind,
            key,
            roles: self.roles,
            application,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(kind: AdminKeyKind, application: Option<&str>) -> Card {
        Card {
            name: "ops 1".to_owned(),
            signer: AdminSigner {
                key: ticket_format::keys::AdminSecret::from_seed(&[1; 32]).public(),
                kind,
                application: application.map(str::to_owned),
            },
        }
    }

    #[test]
    fn a_card_is_read_back_as_it_was_printed() {
        for card in [
            card(AdminKeyKind::File, None),
            card(AdminKeyKind::Agent, None),
            card(AdminKeyKind::SecurityKey, Some("ssh:work=1")),
        ] {
            assert_eq!(card.to_string().parse(), Ok(card.clone()));
            let member: Member = format!("{card}=security,dataset-owner").parse().unwrap();
            assert_eq!(
                (member.card, member.roles),
                (card, vec![AdminRole::DatasetOwner, AdminRole::Security])
            );
        }
    }

    #[test]
    fn what_is_no_card_or_no_role_is_told() {
        let good = card(AdminKeyKind::File, None).to_string();
        for bad in [
            String::new(),
            good.replace("card/1", "card/2"),
            good.replace("ops 1", " ops"),
            good.replace(":file:", ":phone:"),
            good.replace(":file:", ":security-key:"),
            format!("{good}:ssh:"),
            good[..good.len() - 1].to_owned(),
        ] {
            assert!(bad.parse::<Card>().is_err(), "{bad}");
        }
        for bad in ["", "=", "=boss", "=operator,operator", "=operator,"] {
            assert!(format!("{good}{bad}").parse::<Member>().is_err(), "{bad}");
        }
    }
}
