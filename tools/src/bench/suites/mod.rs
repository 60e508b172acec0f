//! The suites. A new one is a module with a [`Suite`], listed in [`ALL`].

mod audit;
mod door;
mod feed;
mod flood;
mod hot;
mod keys;
mod login;
mod main;
pub(crate) mod objects;
pub(crate) mod peer;
mod scale;
mod vault;

use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use ticket_format::report::{Report, exit};

use crate::rows::{Row, RowInfo};
use crate::targets;

/// All suites, in the order in which they came.
pub(crate) const ALL: &[&Suite] = &[
    &main::SUITE,
    &feed::SUITE,
    &audit::SUITE,
    &vault::SUITE,
    &hot::SUITE,
    &keys::SUITE,
    &login::SUITE,
    &objects::SUITE,
    &door::SUITE,
    &scale::SUITE,
    &flood::SUITE,
    &peer::SUITE,
];

/// What every suite is given.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where the server programs are.
    pub(crate) binaries: PathBuf,
    /// How often each row is measured.
    pub(crate) rounds: u32,
    /// How long one measurement takes.
    pub(crate) span: Duration,
    /// What the names of the rows that are wanted contain.
    pub(crate) row: String,
}

impl Run {
    /// Whether this row is wanted.
    pub(crate) fn wants(&self, row: &RowInfo) -> bool {
        row.name.contains(&self.row)
    }

    /// Tells the person who waits which round begins.
    pub(crate) fn begins(&self, round: u32) {
        let line = format!("round {} of {}", round + 1, self.rounds);
        // Where stderr is gone nobody waits.
        let _ = writeln!(anstream::stderr().lock(), "{line}");
    }
}

/// Rows that come.
type Rows<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Report>> + 'a>>;

/// One suite.
pub(crate) struct Suite {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is about, in a line.
    pub(crate) about: &'static str,
    /// Its rows.
    pub(crate) rows: &'static [RowInfo],
    /// Measures them.
    pub(crate) run: for<'a> fn(&'a Run) -> Rows<'a>,
}

/// The suite of this name.
pub(crate) fn find(name: &str) -> Result<&'static Suite, Report> {
    let found = ALL.iter().copied().find(|suite| suite.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|suite| suite.name).collect();
        Report::new(exit::USAGE, format!("there is no suite {name:?}"))
            .next(format!("name one of: {EVERY}, {}", names.join(", ")))
    })
}

/// The name that stands for every suite.
pub(crate) const EVERY: &str = "all";

/// The suite of this name, or all of them in their order.
pub(crate) fn wanted(name: &str) -> Result<Vec<&'static Suite>, Report> {
    if name == EVERY {
        return Ok(ALL.to_vec());
    }
    find(name).map(|suite| vec![suite])
}

/// The versions of others' programs that these suites measure.
pub(crate) fn peers(suites: &[&Suite]) -> Vec<String> {
    let measured = suites.iter().any(|suite| suite.name == peer::SUITE.name);
    if measured {
        peer::versions()
    } else {
        Vec::new()
    }
}

/// What each row, its floor and its target are, for `--help`.
pub(crate) fn legend() -> String {
    let mut text = format!("Suite {EVERY}: every suite below, one after the other, in one table\n");
    for suite in ALL {
        text += &format!("Suite {}: {}\n", suite.name, suite.about);
        for row in suite.rows {
            text += &format!("\n  {} ({})\n", row.name, row.unit);
            text += &wrapped(row.what, "    ");
            if !row.floor.is_empty() {
                text += &wrapped(&format!("Floor: {}", row.floor), "    ");
            }
            if let Some(target) = targets::of(row.name) {
                text += &wrapped(&format!("Target: {}.", target.words()), "    ");
            }
        }
    }
    text
}

/// In lines of at most 96 columns.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), indent.to_owned());
    for word in text.split_whitespace() {
        if line.len() + word.len() > 96 {
            lines += &(line.trim_end().to_owned() + "\n");
            line = indent.to_owned();
        }
        line += word;
        line.push(' ');
    }
    lines + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_rows_share_a_name() {
        let names: Vec<&str> = ALL
            .iter()
            .flat_map(|suite| suite.rows)
            .map(|row| row.name)
            .collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn an_unknown_suite_is_answered_with_the_ones_there_are() {
        let report = find("mian").err().unwrap();
        assert_eq!(report.exit, exit::USAGE);
        assert!(report.next.unwrap().contains("main"));
    }
}
