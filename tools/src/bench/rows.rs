//! What is measured, and how it is told.

use serde::Serialize;
use ticket_format::report::{Report, exit};

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

    fn told(&self) -> Told {
        let value = median(&self.values);
        let floor = (!self.floors.is_empty()).then(|| median(&self.floors));
        Told {
            row: self.info.name,
            value,
            unit: self.info.unit,
            floor,
            ratio: floor.map(|floor| rounded(value / floor)),
        }
    }
}

/// One row of the JSON list.
#[derive(Debug, Serialize)]
struct Told {
    row: &'static str,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// The JSON list.
pub(crate) fn json(rows: &[Row]) -> Result<String, Report> {
    let told: Vec<Told> = rows.iter().map(Row::told).collect();
    match serde_json::to_string_pretty(&told) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Report::new(exit::LOCAL, "cannot write the rows as JSON").why(error)),
    }
}

/// The results as a table in Markdown, ready for RESULTS.md.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = "| row | value | min to max | floor | min to max | ratio |\n".to_owned();
    text += "|---|---|---|---|---|---|\n";
    for row in rows {
        let told = row.told();
        text += &format!(
            "| {} | {} {} | {} | {} | {} | {} |\n",
            told.row,
            grouped(told.value),
            told.unit,
            span(&row.values),
            told.floor.map_or("-".to_owned(), grouped),
            span(&row.floors),
            told.ratio.map_or("-".to_owned(), |ratio| ratio.to_string()),
        );
    }
    text
}

/// How much the rounds differ, in one line.
pub(crate) fn noise(rows: &[Row], rounds: u32) -> String {
    let widest = rows
        .iter()
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
fn rounded(value: f64) -> f64 {
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
fn grouped(value: f64) -> String {
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
        let told: serde_json::Value = serde_json::from_str(&json(&[row]).unwrap()).unwrap();
        let expected = serde_json::json!([
            {"row": "row", "value": 200.0, "unit": "1/s", "floor": 900.0, "ratio": 0.2222}
        ]);
        assert_eq!(told, expected);
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
