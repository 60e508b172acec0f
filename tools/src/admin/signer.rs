//! The admin's key, wherever it is: in a file that a passphrase opened, or in an OpenSSH agent.

use ticket_format::keys::{AdminKey, AdminSecret};
use ticket_format::report::{Report, exit};
use ticket_format::statement::{AdminSigner, Payload, ReceivedStatement, StatementRefusal};

use super::agent::AgentKey;

/// The key that signs.
#[derive(Debug)]
pub enum Key {
    /// From a file.
    File(Box<AdminSecret>),
    /// In an agent.
    Agent(Box<AgentKey>),
}

impl Key {
    /// Its public part.
    #[must_use]
    pub fn public(&self) -> AdminKey {
        self.signer().key
    }

    /// How its signatures are made and verified.
    #[must_use]
    pub fn signer(&self) -> AdminSigner {
        match self {
            Self::File(secret) => AdminSigner::file(secret.public()),
            Self::Agent(key) => key.signer(),
        }
    }

    /// A statement with this one signature. An agent is waited for.
    ///
    /// # Errors
    /// The statement would not be accepted, or the agent does not sign.
    pub fn sign(&self, payload: &Payload) -> Result<Vec<u8>, Report> {
        let statement = match self {
            Self::File(secret) => payload.sign(&[secret]),
            Self::Agent(key) => {
                let signer = key.signer();
                payload.signed(&signer, &key.sign(&payload.signature_input(&signer))?)
            }
        };
        statement.map_err(cannot)
    }

    /// The statement with one more signature. An agent is waited for.
    ///
    /// # Errors
    /// As [`Key::sign`], or this key signed it already.
    pub fn add(&self, received: &ReceivedStatement) -> Result<Vec<u8>, Report> {
        let statement = match self {
            Self::File(secret) => received.add_by(secret),
            Self::Agent(key) => {
                let signer = key.signer();
                received.add(&signer, &key.sign(&received.signature_input(&signer))?)
            }
        };
        statement.map_err(cannot)
    }
}

fn cannot(error: StatementRefusal) -> Report {
    Report::new(exit::LOCAL, "the statement cannot be made").why(error)
}
