//! A root key that a TPM 2.0 opens while its registers are as they were (ROOT-2; TCG TPM 2.0 Library,
//! part 1, 19.7 and 23): a sealed object below the owner's primary key holds the key that the root key
//! is sealed under (REST-1). Commands are tpm2-tools'; the secret goes through pipes only. On the bus of
//! a TPM that is a chip of its own it is in the clear: who can put a probe there is not kept out.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::file::{TPM_PART, TPM_PCRS, TpmObject};
use super::tpm2_tools::run;
use super::{Tpm2Means, Wrapped};
use crate::files;
use crate::root::RootError;
use crate::sealed::RootKey;

/// Why a TPM does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Tpm2Error {
    /// The tools are not there.
    #[error("{0} is missing; install it with: apt-get install tpm2-tools")]
    Missing(&'static str),
    /// A tool cannot be run.
    #[error("{tool} cannot be run: {error}")]
    Run {
        /// Which.
        tool: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// A tool took too long.
    #[error("{tool} took longer than {limit:?}")]
    Slow {
        /// Which.
        tool: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// A tool said too much.
    #[error("{tool} said more than was to be expected")]
    Loud {
        /// Which.
        tool: &'static str,
    },
    /// A tool failed.
    #[error("{tool} failed: {said}")]
    Failed {
        /// Which.
        tool: &'static str,
        /// What it said.
        said: String,
    },
    /// The TPM keeps the secret: it is another TPM, or its registers are not as they were.
    #[error("the TPM does not open the root key; are its registers {pcrs} as they were? ({said})")]
    Kept {
        /// The registers of the policy.
        pcrs: String,
        /// What the tool said.
        said: String,
    },
    /// Registers that are none.
    #[error("{0:?} is no list of registers, like sha256:0,2,4,7")]
    Pcrs(String),
    /// What a tool wrote is not what it should be.
    #[error("{tool} wrote something unexpected")]
    Unexpected {
        /// Which.
        tool: &'static str,
    },
}

/// `bank:number,number`: the words become arguments of tools.
fn check(pcrs: &str) -> Result<(), Tpm2Error> {
    let wrong = || Tpm2Error::Pcrs(pcrs.chars().take(TPM_PCRS).collect());
    let (bank, numbers) = pcrs.split_once(':').ok_or_else(wrong)?;
    let known = ["sha256", "sha384", "sha512"].contains(&bank);
    let each = |number: &str| {
        let value = number.parse::<u8>();
        value.is_ok_and(|value| value < 24 && value.to_string() == number)
    };
    if pcrs.len() <= TPM_PCRS && known && numbers.split(',').all(each) {
        Ok(())
    } else {
        Err(wrong())
    }
}

/// One use of a TPM: its tools, and the directory for what they leave, which is erased at its end.
struct Tools<'a> {
    tcti: Option<&'a str>,
    work: &'a Path,
}

impl Drop for Tools<'_> {
    fn drop(&mut self) {
        let _ = files::erase_dir(self.work);
    }
}

impl<'a> Tools<'a> {
    fn new(means: &'a Tpm2Means, work: &'a Path) -> Result<Self, RootError> {
        files::erase_dir(work)?;
        files::private_dir(work)?;
        Ok(Self {
            tcti: means.tcti.as_deref(),
            work,
        })
    }

    fn run(
        &self,
        tool: &'static str,
        words: &[&str],
        input: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        run(tool, self.tcti, &words, input, self.work)
    }

    /// Takes objects and sessions that tools leave out of the TPM's few places for them. What is needed
    /// again is in a context file. Behind a resource manager these are this connection's only; without
    /// one a TPM has one user at a time anyway.
    fn flush(&self) -> Result<(), Tpm2Error> {
        for kind in ["-t", "-l"] {
            self.run("tpm2_flushcontext", &[kind], b"")?;
        }
        Ok(())
    }

    /// The owner's primary key: the same for as long as the TPM has the same owner.
    fn primary(&self) -> Result<(), Tpm2Error> {
        let words = [
            "-Q", "-C", "o", "-G", "ecc256", "-g", "sha256", "-c", "primary",
        ];
        self.run("tpm2_createprimary", &words, b"")?;
        self.flush()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, RootError> {
        let path = self.work.join(name);
        Ok(files::read_bounded(&path, TPM_PART as u64)?)
    }
}

/// Wraps a root key for the registers as they are now.
pub(super) fn wrap(
    means: &Tpm2Means,
    place: &str,
    root: &RootKey,
    work: &Path,
    rng: &mut impl CryptoRng,
) -> Result<Wrapped, RootError> {
    // rule: ROOT-2
    check(&means.pcrs)?;
    let tools = Tools::new(means, work)?;
    let secret = RootKey::random(rng);
    tools.primary()?;
    let words = ["-Q", "--policy-pcr", "-l", &means.pcrs, "-L", "policy"];
    let policy = tools.run("tpm2_createpolicy", &words, b"");
    tools.flush()?;
    policy?;
    // No `userwithauth`: without the policy nobody opens it, not with an empty password either.
    let words = [
        "-Q",
        "-C",
        "primary",
        "-g",
        "sha256",
        "-L",
        "policy",
        "-a",
        "fixedtpm|fixedparent|noda",
        "-i",
        "-",
        "-u",
        "public",
        "-r",
        "private",
    ];
    let created = tools.run("tpm2_create", &words, secret.expose());
    tools.flush()?;
    created?;
    let object = TpmObject {
        public: tools.read("public")?,
        private: tools.read("private")?,
        pcrs: means.pcrs.clone(),
    };
    let sealed = secret.seal(place, root.expose(), rng);
    Ok(Wrapped::Tpm2 { object, sealed })
}

/// The key that the TPM keeps.
pub(super) fn open(
    means: &Tpm2Means,
    object: &TpmObject,
    work: &Path,
) -> Result<RootKey, RootError> {
    // rule: ROOT-2
    check(&object.pcrs)?;
    let tools = Tools::new(means, work)?;
    for (name, part) in [("public", &object.public), ("private", &object.private)] {
        let path = tools.work.join(name);
        fs::write(&path, part).map_err(|source| {
            RootError::File(files::FileError::Io {
                path: path.clone(),
                source,
            })
        })?;
    }
    let kept = |error| match error {
        Tpm2Error::Failed { said, .. } => Tpm2Error::Kept {
            pcrs: object.pcrs.clone(),
            said,
        },
        other => other,
    };
    tools.primary()?;
    let words = [
        "-Q", "-C", "primary", "-u", "public", "-r", "private", "-c", "object",
    ];
    let loaded = tools.run("tpm2_load", &words, b"");
    tools.flush()?;
    loaded.map_err(kept)?;
    // The tool begins the policy's session and ends it: one that spans several runs would be flushed
    // between them by the kernel's resource manager.
    let policy = format!("pcr:{}", object.pcrs);
    let words = ["-Q", "-c", "object", "-p", &policy];
    let unsealed = tools.run("tpm2_unseal", &words, b"");
    tools.flush()?;
    let secret = unsealed.map_err(kept)?;
    let unexpected = |_| Tpm2Error::Unexpected {
        tool: "tpm2_unseal",
    };
    let key: &[u8; 32] = secret.as_slice().try_into().map_err(unexpected)?;
    Ok(RootKey::copied(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_a_bank_and_numbers_and_nothing_else() {
        for good in ["sha256:0", "sha256:0,2,4,7", "sha384:23"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:24",
            "sha1:0",
            "sha256:0,",
            "sha256:00",
            "sha256:0 -x",
            "--help:1",
            "sha256:0+sha384:1",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
