//! What the GPU bundle found, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// How a test ended that is not listed by name.
const PASSED: &str = "ok";

/// A record with more fields is a table of its own, a line for each field.
const MOST_COLUMNS: usize = 9;

/// The whole report.
pub fn markdown(report: &Value) -> String {
    let mut text = format!(
        "# GPU bundle of commit {}{}\n\n{}",
        text_of(&report["commit"]),
        if report["quick"] == true { ", quick: too little is run for figures" } else { "" },
        summary(report)
    );
    for part in list(&report["parts"]) {
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}\n",
            text_of(&part["name"]),
            text_of(&part["about"]),
            text_of(&part["state"])
        );
        let tests = list(&part["tests"]);
        if !tests.is_empty() {
            let passed = tests.iter().filter(|test| test[1] == PASSED).count();
            let _ = write!(text, "\n{passed} of {} tests passed.\n", tests.len());
            for test in tests.iter().filter(|test| test[1] != PASSED) {
                let _ = writeln!(text, "- {}: {}", text_of(&test[0]), text_of(&test[1]));
            }
        }
        text += &records(list(&part["records"]));
        let mut in_table = false;
        for line in list(&part["text"]).iter().map(text_of) {
            let table = line.starts_with('|');
            // A table has lines of its own; other lines are paragraphs.
            if !(table && in_table) {
                text.push('\n');
            }
            in_table = table;
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// A line for each part.
pub fn summary(report: &Value) -> String {
    let mut text = "| part | seconds | result |\n|---|---|---|\n".to_owned();
    for part in list(&report["parts"]) {
        let seconds = part["seconds"].as_f64().unwrap_or_default();
        let state = text_of(&part["state"]).replace('|', "\\|");
        let _ = writeln!(text, "| {} | {seconds:.1} | {state} |", text_of(&part["name"]));
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.replace('\n', " "),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_u64() && !number.is_i64() => {
                if float.abs() >= 100.0 {
                    format!("{float:.0}")
                } else {
                    format!("{float:.3}")
                }
            }
            _ => number.to_string(),
        },
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// Records that follow each other and have the same keys are the rows of a table.
fn records(records: &[Value]) -> String {
    let mut text = String::new();
    let mut columns = Vec::new();
    let (timings, others): (Vec<&Value>, Vec<&Value>) =
        records.iter().partition(|record| !record["kernel"].is_null());
    for record in others {
        let mut cells = BTreeMap::new();
        flatten("", record, &mut cells);
        if cells.len() > MOST_COLUMNS && record["prompt"].is_null() {
            text += "\n| | |\n|---|---|\n";
            for (key, cell) in cells {
                let _ = writeln!(text, "| {key} | {} |", cell.replace('|', "\\|"));
            }
            columns.clear();
            continue;
        }
        let keys: Vec<_> = cells.keys().cloned().collect();
        if keys != columns {
            let _ = write!(text, "\n| {} |\n|{}\n", keys.join(" | "), "---|".repeat(keys.len()));
            columns = keys;
        }
        let cells: Vec<_> = cells.into_values().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text + &race(&timings)
}

/// `{"a": {"b": 1}}` is the cell 1 in the column `a.b`.
fn flatten(prefix: &str, value: &Value, cells: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, field, cells);
            }
        }
        other => {
            cells.insert(prefix.to_owned(), text_of(other));
        }
    }
}

/// The race's timings: a column for each matrix, a row for each kernel, microseconds.
fn race(timings: &[&Value]) -> String {
    let mut text = String::new();
    for tokens in [1, 64] {
        let (mut matrices, mut kernels) = (Vec::new(), Vec::new());
        let of = timings.iter().filter(|timing| timing["tokens"] == tokens);
        let mut cells = BTreeMap::new();
        for timing in of {
            let matrix = format!("{} {}", text_of(&timing["matrix"]), text_of(&timing["type"]));
            let kernel = text_of(&timing["kernel"]);
            let time =
                timing["ms"].as_f64().map_or("does not compile".to_owned(), |ms| format!("{:.1}", 1e3 * ms));
            let right = if timing["right"] == true { "" } else { " WRONG" };
            cells.insert((kernel.clone(), matrix.clone()), format!("{time}{right}"));
            for (list, name) in [(&mut matrices, matrix), (&mut kernels, kernel)] {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
        if kernels.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n| {tokens} tokens, µs | {} |\n|{}\n",
            matrices.join(" | "),
            "---|".repeat(matrices.len() + 1)
        );
        for kernel in kernels {
            let row = matrices
                .iter()
                .map(|matrix| cells.get(&(kernel.clone(), matrix.clone())).cloned().unwrap_or_default());
            let _ = writeln!(text, "| {kernel} | {} |", row.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn records_become_tables() {
        let text = super::records(&[
            json!({ "a": 1, "b": { "c": 0.5 } }),
            json!({ "a": 2, "b": { "c": "x|y" } }),
            json!({ "other": null }),
            json!({ "kernel": "rows", "matrix": "2x3", "type": "Q8_0", "tokens": 64, "ms": 0.002, "right": false }),
        ]);
        let want = "\n| a | b.c |\n|---|---|\n| 1 | 0.500 |\n| 2 | x\\|y |\n\n| other |\n|---|\n| – |\n\
            \n| 64 tokens, µs | 2x3 Q8_0 |\n|---|---|\n| rows | 2.0 WRONG |\n";
        assert_eq!(text, want);
    }
}
