//! Configuration files: TOML of at most 64 KiB; an unknown key is an error with its line and the
//! nearest known name.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::files::{self, FileError};

const LIMIT: u64 = 64 * 1024;
/// Most characters of what a file has that are said again, and of all that is said.
const SAID_AGAIN: usize = 64;
const SAID: usize = 1_024;

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not UTF-8.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// A line that does not hold.
    #[error("{path}, line {line}: {message}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What was found and what was expected.
        message: String,
    },
}

/// Reads a configuration whose type refuses unknown fields.
///
/// # Errors
/// The file, or the first line that does not hold.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = files::read_bounded(path, LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText(path.to_owned()))?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        ConfigError::Line {
            path: path.to_owned(),
            line,
            message: brief(&explain(error.message())),
        }
    })
}

/// serde says ``unknown field `lisen`, expected one of `listen`, `realm` ``; the nearest name goes in front.
fn explain(message: &str) -> String {
    let one_line = message.replace('\n', " ");
    let mut quoted = one_line.split('`').skip(1).step_by(2);
    if !one_line.starts_with("unknown field") {
        return one_line;
    }
    let Some(unknown) = quoted.next() else {
        return one_line;
    };
    let nearest = quoted.min_by_key(|known| distance(unknown, known));
    match nearest {
        Some(nearest) if distance(unknown, nearest) <= 3 => {
            format!("unknown key {unknown:?}, did you mean {nearest:?}?")
        }
        _ => one_line,
    }
}

/// One short line, however long the name or the value is that stands in the file: what is quoted is cut, and
/// the whole too, in case what is quoted has quotes.
fn brief(message: &str) -> String {
    let quoted = |mark: char, text: &str| {
        let pieces = text.split(mark).enumerate();
        let pieces = pieces.map(|(place, piece)| match place % 2 {
            1 => cut(piece, SAID_AGAIN),
            _ => piece.to_owned(),
        });
        pieces.collect::<Vec<_>>().join(&mark.to_string())
    };
    cut(&quoted('"', &quoted('`', message)), SAID)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// Levenshtein distance: insertions, deletions, substitutions.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        listen: String,
        #[allow(dead_code)]
        port: u16,
    }

    fn error_of(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = read::<Sample>(file.path()).unwrap_err().to_string();
        error.replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn an_error_names_file_line_and_what_was_expected() {
        assert_eq!(
            error_of("listen = \"x\"\nprot = 1\n"),
            "FILE, line 2: unknown key \"prot\", did you mean \"port\"?"
        );
        assert!(
            error_of("listen = \"x\"\nport = \"y\"\n")
                .starts_with("FILE, line 2: invalid type: string \"y\", expected u16")
        );
        assert!(error_of("listen = \n").starts_with("FILE, line 1: "));
        assert!(error_of("listen = \"x\"\n").contains("missing field `port`"));
    }

    #[test]
    fn an_error_is_short_however_long_a_name_or_a_value_is() {
        let long = "x".repeat(50_000);
        let name = error_of(&format!("{long} = 1\n"));
        assert!(
            name.len() < 256 && name.ends_with("`, expected `listen` or `port`"),
            "{name}"
        );
        let value = error_of(&format!("listen = \"x\"\nport = \"{long}\"\n"));
        assert!(
            value.len() < 256 && value.ends_with(", expected u16"),
            "{value}"
        );
        let marks = error_of(&format!("\"`{long}\" = 1\n"));
        assert!(marks.len() < 4_096, "{marks}");
    }
}
