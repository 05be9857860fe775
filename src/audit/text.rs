//! Figures for people: numbers in few digits, rows as an aligned table.

use serde_json::Value;

use super::figures::JsonRow;

/// Aligned columns under their names, each line indented. Columns without a value are left out, and so are those of
/// `hidden`; a single row is turned on its side, a line a column.
pub(super) fn table(columns: &[String], rows: &[JsonRow], hidden: &[&str]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let has_value = |column: &&str| rows.iter().any(|row| !row[*column].is_null());
    let shown = columns.iter().map(String::as_str).filter(|column| !hidden.contains(column));
    let shown: Vec<&str> = shown.filter(has_value).collect();
    let lines: Vec<Vec<String>> = match rows {
        [row] => shown.iter().map(|column| vec![(*column).to_owned(), cell(&row[*column])]).collect(),
        _ => {
            let heading = shown.iter().map(|column| (*column).to_owned()).collect();
            let body = rows.iter().map(|row| shown.iter().map(|column| cell(&row[*column])).collect());
            std::iter::once(heading).chain(body).collect()
        }
    };
    let count = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let is_left = |column: usize| match rows {
        [_] => column == 0,
        _ => rows.iter().any(|row| row[shown[column]].is_string()),
    };
    let left: Vec<bool> = (0..count).map(is_left).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| match left[column] {
            true => format!("{cell:<width$}", width = widths[column]),
            false => format!("{cell:>width$}", width = widths[column]),
        });
        text.push_str(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
        text.push('\n');
    }
    text
}

/// A segment's name, for people and as a label: its value as it is, and `NULL` where it has none. A value that is empty,
/// is the word NULL or is in quotes stands in quotes, so that no two segments have one name.
pub(super) fn segment_name(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() || text == "NULL" || (text.starts_with('\'') && text.ends_with('\'')) => {
            format!("'{text}'")
        }
        Some(text) => text.to_owned(),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\""),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => thousands(integer),
            None => number.as_f64().map_or_else(|| number.to_string(), short),
        },
        other => other.to_string(),
    }
}

fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut result = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    result
}

/// A number in about four digits.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e15).contains(&size) {
        return format!("{number:.2e}");
    }
    if size >= 999.95 {
        return thousands(number.round() as i64);
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The same with its sign.
pub(super) fn signed(number: f64) -> String {
    let sign = if number > 0.0 { "+" } else { "" };
    format!("{sign}{}", short(number))
}

/// A share in per cent.
pub(super) fn percent(share: f64) -> String {
    match share.abs() {
        small if small > 0.0 && small < 0.001 => format!("{:.1e} %", share * 100.0),
        _ => format!("{:.1} %", share * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows_of(value: Value) -> Vec<JsonRow> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 1.0, -2.5, 0.123456, 0.00123456, 3.1e-5, 12.3456, 1234.56, 9999.6, 1234567.8, -1e20];
        let shorts = ["0", "1", "-2.5", "0.1235", "0.001235", "3.10e-5", "12.35", "1,235", "10,000", "1,234,568"];
        for (number, expected) in numbers.into_iter().zip(shorts) {
            assert_eq!(short(number), expected);
        }
        assert_eq!(short(-1e20), "-1.00e20");
        assert_eq!([0.05, -2.0, 0.0].map(signed), ["+0.05", "-2", "0"]);
        assert_eq!(thousands(-1234567), "-1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(percent(0.4123), "41.2 %");
        assert_eq!(percent(0.00001), "1.0e-3 %");
    }

    #[test]
    fn tables_are_aligned_and_leave_empty_columns_out() {
        let columns = ["name", "n", "value", "gap", "all"].map(str::to_owned);
        let rows = rows_of(json!([
            {"name": "ips", "n": 1200, "value": 0.25, "gap": null, "all": 1},
            {"name": "snips", "n": 7, "value": -1e-9, "gap": null, "all": 1},
        ]));
        let expected = "  name       n     value\n  ips    1,200      0.25\n  snips      7  -1.00e-9\n";
        assert_eq!(table(&columns, &rows, &["all"]), expected);
        assert_eq!(table(&columns, &rows[..1], &["all"]), "  name     ips\n  n      1,200\n  value   0.25\n");
        assert_eq!(table(&columns, &[], &[]), "");
    }

    #[test]
    fn a_line_break_in_a_segment_stays_on_its_line() {
        let rows = rows_of(json!([{"segment": "a\nb"}, {"segment": "it's \"c\""}]));
        assert_eq!(table(&["segment".to_owned()], &rows, &[]), "  segment\n  a\\nb\n  it's \"c\"\n");
    }
}
