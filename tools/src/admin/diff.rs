//! A change of a text, as people read one: a unified diff.

use similar::TextDiff;

/// Lines of context around a change.
const AROUND: usize = 3;

/// The unified diff, line by line; none when nothing changes.
#[must_use]
pub fn unified(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let text = diff
        .unified_diff()
        .context_radius(AROUND)
        .header("in force", "proposed")
        .to_string();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_shown_with_what_stands_around_it() {
        let old: String = (1..20).map(|line| format!("line {line}\n")).collect();
        let new = old.replace("line 10\n", "another\n");
        let lines = unified(&old, &new);
        assert_eq!(lines[..2], ["--- in force", "+++ proposed"]);
        assert!(lines.contains(&"-line 10".to_owned()) && lines.contains(&"+another".to_owned()));
        assert!(lines.contains(&" line 7".to_owned()) && !lines.contains(&" line 6".to_owned()));
        assert!(unified(&old, &old).is_empty());
        assert_eq!(unified("", "a\n").last().map(String::as_str), Some("+a"));
    }
}
