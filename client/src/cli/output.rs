//! What commands print: text or JSON on stdout, errors in three parts on stderr, exit codes.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use ticket_format::report::{Printable, Report, exit};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: aligned on a terminal, tab-separated in a pipe.
    #[default]
    Text,
    /// One JSON object, `"v": 1`.
    Json,
    /// One JSON object on each line.
    Jsonl,
}

/// Where results go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output {
    /// How they are printed.
    pub format: Format,
    /// Whether tables go without their first line.
    pub no_header: bool,
}

/// A result that is not printed because nobody reads any more, or the error itself.
pub type Printed = Result<(), Report>;

impl Output {
    /// Prints one line of text, or nothing in the JSON formats.
    ///
    /// # Errors
    /// Stdout failed; a closed pipe ends quietly.
    pub fn line(self, text: impl std::fmt::Display) -> Printed {
        match self.format {
            Format::Text => write_all(&format!("{text}\n")),
            Format::Json | Format::Jsonl => Ok(()),
        }
    }

    /// Prints an object: as `name: value` lines or as one JSON object.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn object(self, object: Map<String, Value>) -> Printed {
        match self.format {
            Format::Text => {
                let width = object.keys().map(String::len).max().unwrap_or(0);
                let mut text = String::new();
                for (name, value) in &object {
                    text += &format!(
                        "{:width$}  {}\n",
                        format!("{}", name.replace('_', " ")),
                        plain(value)
                    );
                }
                write_all(&text)
            }
            Format::Json => write_all(&format!("{:#}\n", versioned(object))),
            Format::Jsonl => write_all(&format!("{}\n", versioned(object))),
        }
    }

    /// Prints rows: a table, `{"v": 1, "<name>": [...]}`, or an object on each line.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn rows(self, name: &str, columns: &[&str], rows: Vec<Vec<Value>>) -> Printed {
        let object = |row: Vec<Value>| {
            columns
                .iter()
                .map(|c| (*c).to_owned())
                .zip(row)
                .collect::<Map<_, _>>()
        };
        match self.format {
            Format::Text => write_all(&self.table(columns, &rows)),
            Format::Json => {
                let rows: Vec<Value> = rows
                    .into_iter()
                    .map(|row| Value::Object(object(row)))
                    .collect();
                write_all(&format!("{:#}\n", json!({ "v": 1, name: rows })))
            }
            Format::Jsonl => {
                let lines = rows
                    .into_iter()
                    .map(|row| format!("{}\n", versioned(object(row))));
                write_all(&lines.collect::<String>())
            }
        }
    }

    fn table(self, columns: &[&str], rows: &[Vec<Value>]) -> String {
        let mut lines: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(plain).collect())
            .collect();
        if !self.no_header {
            lines.insert(
                0,
                columns
                    .iter()
                    .map(|column| column.replace('_', " ").to_uppercase())
                    .collect(),
            );
        }
        if !io::stdout().is_terminal() {
            return lines.iter().map(|line| line.join("\t") + "\n").collect();
        }
        let width = |at: usize| {
            lines
                .iter()
                .map(|line| line[at].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        let pad = |line: &Vec<String>| {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        lines.iter().map(pad).collect()
    }

    /// Prints an error on stderr and gives its exit code.
    #[must_use]
    pub fn error(self, report: &Report) -> ExitCode {
        let mut stderr = anstream::stderr().lock();
        // Where stderr is gone nobody is left to tell.
        let _ = match self.format {
            Format::Text => writeln!(stderr, "{report}"),
            Format::Json | Format::Jsonl => writeln!(stderr, "{}", error_json(report)),
        };
        ExitCode::from(report.exit)
    }
}

/// Prints text as it is, whatever the format.
///
/// # Errors
/// As [`Output::line`].
pub fn print(text: &str) -> Printed {
    write_all(text)
}

/// Bytes as JSON has them: base64url without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn versioned(object: Map<String, Value>) -> Value {
    let mut all = Map::from_iter([("v".to_owned(), json!(1))]);
    all.extend(object);
    Value::Object(all)
}

fn error_json(report: &Report) -> Value {
    let refusal = report
        .refusal
        .map(|refusal| json!({ "number": refusal.number(), "name": refusal.name() }));
    json!({ "v": 1, "error": {
        "what": report.what, "why": report.why, "next": report.next, "exit": report.exit, "refusal": refusal,
    }})
}

/// A value in a table: strings bare and on one line, lists with commas, nothing as `-`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => Printable(text).to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{}={}", Printable(key), plain(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn write_all(text: &str) -> Printed {
    let mut stdout = anstream::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        // Whoever read has seen enough (`postern tickets | head -1`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(i32::from(exit::DONE))
        }
        Err(error) => Err(Report::new(exit::LOCAL, "cannot write to stdout").why(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_json_carries_the_refusal_by_number_and_name() {
        let report = Report::refused("broker", ticket_format::Refusal::Denied, None);
        let json = error_json(&report);
        assert_eq!(
            json["error"]["refusal"],
            json!({ "number": 14, "name": "denied" })
        );
        assert_eq!(json["error"]["exit"], 5);
    }

    #[test]
    fn a_table_in_a_pipe_is_tab_separated() {
        let rows = vec![
            vec![json!("a"), json!(null)],
            vec![json!("b\n"), json!([1, 2])],
        ];
        let table = Output::default().table(&["one_name", "two"], &rows);
        assert_eq!(table, "ONE NAME\tTWO\na\t-\nb\u{fffd}\t1,2\n");
    }
}
