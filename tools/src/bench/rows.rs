//! What is measured, and how it is told.

use serde::Serialize;
use ticket_format::report::{Report, exit};

use crate::targets::{self, Judged};

/// What a row is, for `--help` and the table of results.
#[derive(Debug)]
pub(crate) struct RowInfo {
    /// Its name; never changed, so that results of different days can be compared.
    pub(crate) name: &'static str,
    /// Of the value and the floor.
    pub(crate) unit: &'static str,
    /// What is done.
    pub(crate) what: &'static str,
    /// What the floor does.
    pub(crate) floor: &'static str,
}

/// The measurements of one row, one value and one floor for each round.
#[derive(Debug)]
pub(crate) struct Row {
    info: &'static RowInfo,
    values: Vec<f64>,
    floors: Vec<f64>,
}

impl Row {
    /// A row that was not measured yet.
    pub(crate) fn new(info: &'static RowInfo) -> Self {
        Self {
            info,
            values: Vec::new(),
            floors: Vec::new(),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.info.name
    }

    /// Whether it is measured in microseconds, and not in things a second.
    pub(crate) fn is_a_time(&self) -> bool {
        self.info.unit == "us"
    }

    /// Whether there is anything to tell.
    pub(crate) fn is_measured(&self) -> bool {
        !self.values.is_empty()
    }

    /// Adds one round.
    pub(crate) fn add(&mut self, value: f64, floor: f64) {
        self.values.push(value);
        self.floors.push(floor);
    }

    /// Adds one round of a row for which nothing is unavoidable.
    pub(crate) fn add_alone(&mut self, value: f64) {
        self.values.push(value);
    }

    fn told(&self, suite: &'static str) -> Told {
        let value = median(&self.values);
        let floor = (!self.floors.is_empty()).then(|| median(&self.floors));
        let ratio = floor.map(|floor| rounded(value / floor));
        Told {
            suite,
            row: self.info.name,
            value,
            unit: self.info.unit,
            floor,
            ratio,
            target: targets::of(self.info.name).and_then(|target| target.judge(value, ratio)),
        }
    }
}

/// One row of the JSON list.
#[derive(Debug, Serialize)]
struct Told {
    suite: &'static str,
    row: &'static str,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(flatten)]
    target: Option<Judged>,
}

/// The rows of one suite.
#[derive(Debug)]
pub(crate) struct Group {
    /// The suite's name.
    pub(crate) suite: &'static str,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
}

impl Group {
    fn told(&self) -> impl Iterator<Item = Told> {
        self.rows.iter().map(|row| row.told(self.suite))
    }
}

/// The JSON list.
pub(crate) fn json(groups: &[Group]) -> Result<String, Report> {
    let told: Vec<Told> = groups.iter().flat_map(Group::told).collect();
    match serde_json::to_string_pretty(&told) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Report::new(exit::LOCAL, "cannot write the rows as JSON").why(error)),
    }
}

/// The results as a table in Markdown, ready for RESULTS.md. With several suites each has a line of its own
/// above its rows.
pub(crate) fn table(groups: &[Group]) -> String {
    let mut text =
        "| row | value | min to max | floor | min to max | ratio | target |\n".to_owned();
    text += "|---|---|---|---|---|---|---|\n";
    for group in groups {
        if groups.len() > 1 {
            text += &format!("| **{}** | | | | | | |\n", group.suite);
        }
        for row in &group.rows {
            text += &line(row, &row.told(group.suite));
        }
    }
    text
}

fn line(row: &Row, told: &Told) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "| {} | {} {} | {} | {} | {} | {} | {} |\n",
        told.row,
        grouped(told.value),
        told.unit,
        span(&row.values),
        or_dash(told.floor.map(grouped)),
        span(&row.floors),
        or_dash(told.ratio.map(|ratio| ratio.to_string())),
        or_dash(told.target.as_ref().map(Judged::to_string)),
    )
}

/// How much the rounds differ, in one line.
pub(crate) fn noise(groups: &[Group], rounds: u32) -> String {
    let widest = groups
        .iter()
        .flat_map(|group| &group.rows)
        .flat_map(|row| [&row.values, &row.floors])
        .map(|values| spread(values));
    let widest = widest.fold(0.0, f64::max);
    format!(
        "Median of {rounds} rounds; the rounds of one row differ by up to {:.0} % of their median.",
        widest * 100.0
    )
}

/// The middle value; of two middle ones the mean.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    };
    rounded(median)
}

fn extremes(values: &[f64]) -> Option<(f64, f64)> {
    let min = values.iter().copied().reduce(f64::min)?;
    let max = values.iter().copied().reduce(f64::max)?;
    Some((rounded(min), rounded(max)))
}

fn span(values: &[f64]) -> String {
    extremes(values).map_or("-".to_owned(), |(min, max)| {
        format!("{} to {}", grouped(min), grouped(max))
    })
}

fn spread(values: &[f64]) -> f64 {
    let median = median(values);
    match extremes(values) {
        Some((min, max)) if median > 0.0 => (max - min) / median,
        _ => 0.0,
    }
}

/// Rounded to four significant digits: no measurement here is better than that.
pub(crate) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    // Divided by a power of ten where there is one, so that 0.412 prints as 0.412.
    if scale >= 1.0 {
        (value * scale).round() / scale
    } else {
        (value * scale).round() * (1.0 / scale).round()
    }
}

/// With the thousands set apart.
pub(crate) fn grouped(value: f64) -> String {
    if value < 1_000.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static INFO: RowInfo = RowInfo {
        name: "row",
        unit: "1/s",
        what: "",
        floor: "",
    };

    #[test]
    fn a_row_is_told_by_its_medians_and_their_ratio() {
        let mut row = Row::new(&INFO);
        for (value, floor) in [(300.0, 900.0), (100.0, 1_000.0), (200.0, 800.0)] {
            row.add(value, floor);
        }
        let groups = [Group {
            suite: "suite",
            rows: vec![row],
        }];
        let told: serde_json::Value = serde_json::from_str(&json(&groups).unwrap()).unwrap();
        let expected = serde_json::json!([
            {"suite": "suite", "row": "row", "value": 200.0, "unit": "1/s", "floor": 900.0, "ratio": 0.2222}
        ]);
        assert_eq!(told, expected);
    }

    #[test]
    fn a_table_of_several_suites_names_each_above_its_rows_and_judges_the_targets() {
        static ISSUES: RowInfo = RowInfo {
            name: "issue_per_s",
            ..INFO
        };
        let mut alone = Row::new(&INFO);
        alone.add_alone(7.0);
        let mut judged = Row::new(&ISSUES);
        judged.add(6_000.0, 12_000.0);
        let groups = [("one", alone), ("two", judged)].map(|(suite, row)| Group {
            suite,
            rows: vec![row],
        });
        let table = table(&groups);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        let expected = [
            "| **one** | | | | | | |",
            "| row | 7 1/s | 7 to 7 | - | - | - | - |",
            "| **two** | | | | | | |",
            "| issue_per_s | 6,000 1/s | 6,000 to 6,000 | 12,000 | 12,000 to 12,000 | 0.5 | \
             **missed by 25 %** (at least 8,000) |",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn large_numbers_are_rounded_and_grouped() {
        assert_eq!(grouped(rounded(1_234_567.0)), "1,235,000");
        assert_eq!(grouped(rounded(987.65)), "987.7");
    }
}
