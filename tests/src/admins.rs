//! The admins of a house: their keys are in the test's hands, and in files for `postern-admin`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use store::sealed::{RootKey, SALT_BYTES};
use ticket_format::ids::{AdminSetDigest, StatementId};
use ticket_format::keys::{AdminKey, AdminSecret};
use ticket_format::messages::Verb;
use ticket_format::seal::{Kem, SealingSecret};
use ticket_format::share_key;
use ticket_format::sign::Channel;
use ticket_format::statement::{
    Act, ActBody, Admin, AdminKeyKind, AdminRole, AdminSet, AdminSetBody, Payload,
};

use crate::house::{PASSPHRASE, REALM, private};
use crate::wire::{Message, now, rng};

/// One operator and two who own datasets and keep security: what changes something takes both.
#[derive(Debug)]
pub struct Admins {
    /// Lets nodes in and denies.
    pub operator: AdminSecret,
    /// Own every dataset, and are security.
    pub owners: [AdminSecret; 2],
}

/// What they are called.
pub const NAMES: [&str; 3] = ["operator", "owner-1", "owner-2"];
/// The roles of those who manage keys.
pub const MANAGERS: [AdminRole; 2] = [AdminRole::DatasetOwner, AdminRole::Security];

/// An admin with a key in a file.
#[must_use]
pub fn admin(name: &str, key: AdminKey, roles: &[AdminRole]) -> Admin {
    Admin {
        name: name.to_owned(),
        kind: AdminKeyKind::File,
        key,
        roles: roles.to_vec(),
        application: None,
    }
}

impl Admins {
    /// Fresh keys.
    #[must_use]
    pub fn fresh() -> Self {
        Self {
            operator: AdminSecret::generate(&mut rng()),
            owners: [
                AdminSecret::generate(&mut rng()),
                AdminSecret::generate(&mut rng()),
            ],
        }
    }

    /// As they stand in an admin set.
    #[must_use]
    pub fn members(&self) -> Vec<Admin> {
        let [first, second] = &self.owners;
        vec![
            admin(
                "test-operator",
                self.operator.public(),
                &[AdminRole::Operator],
            ),
            admin("test-owner-1", first.public(), &MANAGERS),
            admin("test-owner-2", second.public(), &MANAGERS),
        ]
    }

    /// All their keys.
    #[must_use]
    pub fn all(&self) -> [&AdminSecret; 3] {
        let [first, second] = &self.owners;
        [&self.operator, first, second]
    }

    /// The owners' public keys, ascending.
    #[must_use]
    pub fn owner_keys(&self) -> Vec<AdminKey> {
        let mut keys: Vec<_> = self.owners.iter().map(AdminSecret::public).collect();
        keys.sort_by_key(|key| key.to_bytes());
        keys
    }

    /// As many as an act needs.
    #[must_use]
    pub fn for_act(&self, act: Act) -> Vec<&AdminSecret> {
        match act.role() {
            Some(AdminRole::DatasetOwner | AdminRole::Security) => self.owners.iter().collect(),
            Some(AdminRole::Operator) | None => vec![&self.operator],
        }
    }
}

/// Writes the files of `postern-admin`'s, as `spec/admin-key.md` and its configuration want it.
///
/// # Panics
/// When it cannot be written.
fn write_home(dir: &Path, key: &AdminSecret, root: &RootKey, salt: &[u8; SALT_BYTES]) {
    std::fs::create_dir_all(dir).expect("a directory");
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).expect("a mode");
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    let write = |kind: &str, public: String, seed: &[u8]| {
        let sealed = root.seal(&format!("{kind}/{REALM}/{public}"), seed, &mut rng());
        let sealed = URL_SAFE_NO_PAD.encode(sealed);
        private(
            &dir.join(kind),
            format!("format = 1\nrealm = \"{REALM}\"\npublic-key = \"{public}\"\nsalt = \"{salt}\"\nsealed = \"{sealed}\"\n")
                .as_bytes(),
        );
    };
    write("admin-key", key.public().to_string(), key.seed().as_slice());
    let shares = SealingSecret::generate(Kem::XWing, &mut rng());
    let public = shares.public();
    write(
        "share-key",
        public.hash().to_string(),
        shares.seed().expose(),
    );
    std::fs::write(dir.join("share-key.pub"), share_key::write(&public)).expect("written");
    private(
        &dir.join("admin.toml"),
        format!(
            "realm = \"{REALM}\"\nbroker = \"../broker/broker-keys.toml\"\n\
             key-servers = [\"../key-server/server-keys.toml\"]\nadmin-key = \"admin-key\"\n\
             admin-set = \"admin-set.cose\"\nshare-key = \"share-key\"\n"
        )
        .as_bytes(),
    );
}

impl Admins {
    /// The first set with these in it.
    ///
    /// # Panics
    /// When it does not hold.
    #[must_use]
    pub fn first_set(&self) -> AdminSet {
        let mut members = self.members();
        members.sort_by_key(|admin| admin.key.to_bytes());
        AdminSet::new(AdminSetBody {
            version: 1,
            follows: AdminSetDigest([0; 32]),
            admins: members,
            quorums: AdminSetBody::usual_quorums(2),
        })
        .expect("an admin set that holds")
    }

    /// Writes `admin-set.cose`, and below `admin/` what `postern-admin` needs to act as each of them.
    ///
    /// # Panics
    /// When it cannot be signed or written.
    pub fn move_in(&self, dir: &Path) {
        let set = self.first_set();
        let payload = Payload::record(StatementId::random(&mut rng()), REALM, now(), set.body());
        let signed = payload.sign(&self.all()).expect("a statement");
        std::fs::write(dir.join("admin-set.cose"), &signed).expect("written");
        // One derivation for three files: it takes 64 MiB and a while.
        let salt = [7; SALT_BYTES];
        let root = RootKey::from_passphrase(PASSPHRASE.as_bytes(), &salt).expect("a root key");
        for (name, key) in NAMES.iter().zip(self.all()) {
            let home = dir.join(format!("admin-{name}"));
            write_home(&home, key, &root, &salt);
            std::fs::write(home.join("admin-set.cose"), &signed).expect("written");
        }
    }
}

/// An act for the server of a connection, signed by these.
///
/// # Panics
/// When it cannot be signed.
#[must_use]
pub fn statement_by<B: ActBody>(signers: &[&AdminSecret], channel: &Channel, body: &B) -> Message {
    let id = StatementId::random(&mut rng());
    let payload = Payload::act(id, &channel.realm, channel.server, now(), 300, body);
    Message::new(
        Verb::Administer,
        payload.sign(signers).expect("a statement"),
        |_, _| Vec::new(),
    )
}

/// A record for everyone, signed by these.
///
/// # Panics
/// When it cannot be signed.
#[must_use]
pub fn record_by<B: ActBody>(signers: &[&AdminSecret], realm: &str, body: &B) -> Message {
    let payload = Payload::record(StatementId::random(&mut rng()), realm, now(), body);
    Message::new(
        Verb::Administer,
        payload.sign(signers).expect("a statement"),
        |_, _| Vec::new(),
    )
}
