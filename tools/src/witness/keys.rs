//! The witness's keys on disk: `witness.keys`, mode 0600: the name and the two seeds, a line each.

use std::fmt::Write as _;
use std::path::Path;

use audit_log::witness::Witness;
use rand_core::CryptoRng;
use store::files::{self, FileError};
use ticket_format::report::{Report, exit};
use ticket_format::tlog::WitnessSecret;
use zeroize::Zeroizing;

const FILE: &str = "witness.keys";
/// The directory of what was cosigned.
pub const STATE: &str = "cosigned";
const LIMIT: u64 = 1_024;

/// A witness's name and seeds.
pub struct Keys {
    name: String,
    ed25519: Zeroizing<[u8; 32]>,
    ml_dsa: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keys of witness {}", self.name)
    }
}

impl Keys {
    /// Draws keys and writes them, with an empty state, to a new directory.
    ///
    /// # Errors
    /// The name is none, the directory exists, or the system refused.
    pub fn make(name: &str, dir: &Path, rng: &mut impl CryptoRng) -> Result<Self, Report> {
        let mut keys = Self {
            name: name.to_owned(),
            ed25519: Zeroizing::new([0; 32]),
            ml_dsa: Zeroizing::new([0; 32]),
        };
        rng.fill_bytes(&mut *keys.ed25519);
        rng.fill_bytes(&mut *keys.ml_dsa);
        keys.secret().map_err(|report| Report {
            exit: exit::USAGE,
            ..report
        })?;
        let refused = |why: &dyn std::fmt::Display, exists: bool| {
            let code = if exists { exit::CONFLICT } else { exit::LOCAL };
            Report::new(code, "no witness was made")
                .why(why)
                .next("give a new directory; keys that exist are never overwritten")
        };
        if dir.join(FILE).exists() {
            return Err(refused(&FileError::Exists(dir.join(FILE)), true));
        }
        files::private_dir(dir).map_err(|error| refused(&error, false))?;
        // The state first: where there are keys there is what they signed.
        Witness::create(&dir.join(STATE)).map_err(|error| {
            let exists = matches!(error, audit_log::witness::StateError::Exists { .. });
            refused(&error, exists)
        })?;
        let mut text = Zeroizing::new(String::with_capacity(512));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}");
        for seed in [&keys.ed25519, &keys.ml_dsa] {
            for byte in seed.iter() {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        files::create_private(&dir.join(FILE), text.as_bytes())
            .map_err(|error| refused(&error, matches!(error, FileError::Exists(_))))?;
        Ok(keys)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// They are not there, open to others, or do not hold.
    pub fn open(dir: &Path) -> Result<Self, Report> {
        let path = dir.join(FILE);
        let bad = |why: &dyn std::fmt::Display, next: &str| {
            Report::new(exit::CONFIG, "the witness's keys cannot be used")
                .why(why)
                .next(next)
        };
        let bytes = files::read_private(&path, LIMIT).map_err(|error| {
            let next = match &error {
                FileError::Missing(_) => "make a witness with `postern-witness init`",
                FileError::NotPrivate(_) => "chmod 600 the file and ask who could read it",
                _ => "check the path",
            };
            bad(&error, next)
        })?;
        let bytes = Zeroizing::new(bytes);
        parse(&bytes).ok_or_else(|| {
            let why = format!(
                "{} does not hold a name and two seeds of 64 hexadecimal digits",
                path.display()
            );
            bad(&why, "restore the file from its copy")
        })
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys, ready to sign.
    ///
    /// # Errors
    /// The name cannot be that of a key.
    pub fn secret(&self) -> Result<WitnessSecret, Report> {
        WitnessSecret::from_seeds(&self.name, &self.ed25519, &self.ml_dsa).map_err(|error| {
            Report::new(exit::CONFIG, "the witness cannot have this name")
                .why(error)
                .next("give a URL without its scheme, without spaces or plus signs, such as witness.example/w1")
        })
    }
}

fn parse(bytes: &[u8]) -> Option<Keys> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut lines = text.split('\n');
    let keys = Keys {
        name: lines.next()?.to_owned(),
        ed25519: seed(lines.next()?)?,
        ml_dsa: seed(lines.next()?)?,
    };
    lines.next().is_none().then_some(keys)
}

fn seed(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = line.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(seed)
}
