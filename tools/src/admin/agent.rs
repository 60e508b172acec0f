//! An admin's key in an OpenSSH agent: an Ed25519 key that the agent holds, or one in a security key
//! (`sk-ssh-ed25519`) that it speaks to. The key never comes here; what is signed is SSHSIG's blob
//! (SET-7), so that no signature of another use, git's or a file's, can be one of ours.

use std::env;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use ssh_agent_client_rs::{Client, Identity};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, PublicKey};
use ticket_format::keys::AdminKey;
use ticket_format::report::{Report, exit};
use ticket_format::statement::{AdminKeyKind, AdminSigner};

/// Where OpenSSH tells of its agent.
const SOCKET: &str = "SSH_AUTH_SOCK";
/// How long the agent may take: somebody has to find the security key and touch it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A key that an agent holds, by its public part.
#[derive(Clone, Debug)]
pub struct AgentKey {
    public: PublicKey,
    key: AdminKey,
    application: Option<String>,
}

/// Text that names no key of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAgentKey {
    /// Not OpenSSH's one line.
    #[error("expected an OpenSSH public key: `ssh-ed25519 AAAA...`")]
    Malformed,
    /// Another algorithm, or no key of it.
    #[error("only ssh-ed25519 and sk-ssh-ed25519@openssh.com keys sign statements")]
    Algorithm,
}

impl AgentKey {
    fn of(public: PublicKey) -> Result<Self, NotAnAgentKey> {
        let (bytes, application) = match public.key_data() {
            KeyData::Ed25519(key) => (key.0, None),
            KeyData::SkEd25519(key) => (key.public_key().0, Some(key.application().to_owned())),
            _ => return Err(NotAnAgentKey::Algorithm),
        };
        let key = AdminKey::from_bytes(&bytes).map_err(|_| NotAnAgentKey::Algorithm)?;
        Ok(Self {
            public,
            key,
            application,
        })
    }

    /// As OpenSSH writes it, without a comment.
    ///
    /// # Errors
    /// It cannot be written: not of a key that was read.
    pub fn to_text(&self) -> Result<String, Report> {
        let mut public = self.public.clone();
        public.set_comment("");
        let text = public.to_openssh();
        text.map_err(|error| Report::new(exit::LOCAL, "cannot write the public key").why(error))
    }

    /// How its signatures are made and verified.
    #[must_use]
    pub fn signer(&self) -> AdminSigner {
        let kind = match self.application {
            None => AdminKeyKind::Agent,
            Some(_) => AdminKeyKind::SecurityKey,
        };
        AdminSigner {
            key: self.key,
            kind,
            application: self.application.clone(),
        }
    }

    /// The agent's signature over these bytes: 64 bytes; of a security key flags and counter after them.
    /// It blocks until the agent answers.
    ///
    /// # Errors
    /// There is no agent, it does not hold the key, or it does not want to sign.
    pub fn sign(&self, blob: &[u8]) -> Result<Vec<u8>, Report> {
        // rule: SET-7
        let refused = |why: String| {
            Report::new(exit::LOCAL, "the OpenSSH agent did not sign")
                .why(why)
                .next("see with `ssh-add -L` that it holds the admin's key, and touch the security key if it is one")
        };
        let signature = connect()?
            .sign(&self.public, blob)
            .map_err(|error| refused(error.to_string()))?;
        let expected = match self.application {
            None => Algorithm::Ed25519,
            Some(_) => Algorithm::SkEd25519,
        };
        if signature.algorithm() != expected {
            return Err(refused(format!(
                "it signed with {}, not {expected}",
                signature.algorithm()
            )));
        }
        Ok(signature.as_bytes().to_vec())
    }
}

impl FromStr for AgentKey {
    type Err = NotAnAgentKey;

    fn from_str(text: &str) -> Result<Self, NotAnAgentKey> {
        let public = PublicKey::from_openssh(text.trim()).map_err(|_| NotAnAgentKey::Malformed)?;
        Self::of(public)
    }
}

fn connect() -> Result<Client, Report> {
    let missing = |why: String| {
        Report::new(exit::CONFIG, "there is no OpenSSH agent to sign")
            .why(why)
            .next("start one (`eval $(ssh-agent)`), and give it the admin's key with ssh-add")
    };
    let socket = env::var_os(SOCKET).filter(|path| !path.is_empty());
    let socket = socket.ok_or_else(|| missing(format!("{SOCKET} is not set")))?;
    let failed =
        |error: std::io::Error| missing(format!("{}: {error}", Path::new(&socket).display()));
    let stream = UnixStream::connect(&socket).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    Ok(Client::with_read_write(Box::new(stream)))
}

/// The one key of the two kinds that the agent holds.
///
/// # Errors
/// There is no agent, or it holds none or several.
pub fn only_key() -> Result<AgentKey, Report> {
    let all = connect()?.list_all_identities().map_err(|error| {
        Report::new(exit::LOCAL, "the OpenSSH agent does not tell its keys").why(error)
    })?;
    let mut usable: Vec<AgentKey> = all
        .into_iter()
        .filter_map(|identity| match identity {
            Identity::PublicKey(public) => AgentKey::of(public.into_owned()).ok(),
            Identity::Certificate(_) => None,
        })
        .collect();
    match (usable.pop(), usable.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(
            Report::new(exit::CONFIG, "the OpenSSH agent holds no Ed25519 key")
                .next("give it one: ssh-keygen -t ed25519 (or ed25519-sk), then ssh-add"),
        ),
        (Some(_), more) => Err(
            Report::new(exit::USAGE, "which of the agent's keys is not said")
                .why(format!("it holds {} Ed25519 keys", more + 1))
                .next("give --agent-key with one line of `ssh-add -L`, or a .pub file"),
        ),
    }
}
