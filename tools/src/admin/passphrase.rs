//! The passphrase of an admin's key or share key: from a private file, from stdin, or asked for. Never from the
//! command line, which every process of the machine can read.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use store::files;
use ticket_format::report::{Report, exit};
use zeroize::Zeroizing;

/// Longest that is read, in bytes: more than a passphrase may have, so that too much is noticed.
const LIMIT: u64 = 4_096;

/// What a passphrase opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The admin's key.
    AdminKey,
    /// A share key.
    ShareKey,
}

/// Whether there is a terminal to ask at.
#[must_use]
pub fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Reads that of the admin's key: as [`of`].
///
/// # Errors
/// As [`of`].
pub fn read(file: Option<&Path>, new: bool) -> Result<Zeroizing<Vec<u8>>, Report> {
    of(Whose::AdminKey, file, new)
}

/// Reads one: from `file` (`-` is stdin); else from stdin where that is no terminal; else from the
/// terminal, twice when it is `new`.
///
/// # Errors
/// The file is missing or open to others, stdin is empty, or the two differ.
pub fn of(whose: Whose, file: Option<&Path>, new: bool) -> Result<Zeroizing<Vec<u8>>, Report> {
    match file {
        Some(path) if path != Path::new("-") => {
            let bytes = files::read_private(path, LIMIT).map_err(|error| {
                Report::new(exit::CONFIG, "the passphrase file cannot be used")
                    .why(error)
                    .next("it must be a plain file of yours with mode 0600")
            })?;
            Ok(one_line(Zeroizing::new(bytes)))
        }
        None if can_ask() => ask(whose, new),
        _ => {
            let mut line = Zeroizing::new(Vec::with_capacity(LIMIT as usize));
            let read = io::stdin().lock().take(LIMIT).read_until(b'\n', &mut line);
            read.map_err(|error| {
                Report::new(exit::LOCAL, "cannot read the passphrase from stdin").why(error)
            })?;
            if line.is_empty() {
                return Err(Report::new(exit::USAGE, "no passphrase was given")
                    .why("stdin is empty and no terminal")
                    .next("give --passphrase-file FILE, or run it in a terminal"));
            }
            Ok(one_line(line))
        }
    }
}

fn ask(whose: Whose, new: bool) -> Result<Zeroizing<Vec<u8>>, Report> {
    let prompt = |text: &str| {
        let typed = rpassword::prompt_password(text).map(Zeroizing::new);
        typed.map_err(|error| Report::new(exit::LOCAL, "cannot ask for the passphrase").why(error))
    };
    let first = prompt(match whose {
        Whose::AdminKey => "Passphrase of the admin's key: ",
        Whose::ShareKey => "Passphrase of the share key: ",
    })?;
    if new && *prompt("The same again: ")? != *first {
        return Err(Report::new(exit::USAGE, "the two passphrases differ").next("run it again"));
    }
    Ok(Zeroizing::new(first.as_bytes().to_vec()))
}

/// Without the line end that editors and `echo` add.
fn one_line(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    bytes
}
