//! The type that a text's value has.

use datafusion::arrow::datatypes::{DataType, TimeUnit};

/// What a text can be read as without a loss, as DuckDB decides it but for integers of more than 64 bits and times of day,
/// which stay text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Guess {
    /// Nothing but NULLs.
    #[default]
    Null,
    Boolean,
    /// Of 64 bits. Without leading zeros: `007` is a name.
    Integer {
        /// Whether a double holds it.
        is_double: bool,
    },
    Double,
    Date,
    Timestamp {
        nanoseconds: bool,
        zone: bool,
    },
    Text,
}

impl Guess {
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes.first() {
            None => Guess::Null,
            Some(b't' | b'T' | b'f' | b'F')
                if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") =>
            {
                Guess::Boolean
            }
            _ => number(text).or_else(|| time(bytes)).unwrap_or(Guess::Text),
        }
    }

    /// What holds the values of both.
    pub(super) fn or(self, other: Self) -> Self {
        use Guess::*;
        match (self, other) {
            (a, b) if a == b => a,
            (Null, other) | (other, Null) => other,
            (Integer { is_double: a }, Integer { is_double: b }) => Integer { is_double: a && b },
            (Integer { is_double: true }, Double) | (Double, Integer { is_double: true }) => Double,
            (Date, Timestamp { zone: false, nanoseconds }) | (Timestamp { zone: false, nanoseconds }, Date) => {
                Timestamp { zone: false, nanoseconds }
            }
            (Timestamp { nanoseconds: a, zone }, Timestamp { nanoseconds: b, zone: same }) if zone == same => {
                Timestamp { nanoseconds: a || b, zone }
            }
            _ => Text,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Guess::Null | Guess::Text => DataType::Utf8,
            Guess::Boolean => DataType::Boolean,
            Guess::Integer { .. } => DataType::Int64,
            Guess::Double => DataType::Float64,
            Guess::Date => DataType::Date32,
            Guess::Timestamp { nanoseconds, zone } => {
                let unit = if nanoseconds { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
                DataType::Timestamp(unit, zone.then(|| "UTC".into()))
            }
        }
    }

    /// Whether a column of `data_type`, which was guessed, holds such a value.
    pub(super) fn fits(self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (Guess::Null, _) | (_, DataType::Utf8) => true,
            (Guess::Integer { is_double }, DataType::Float64) => is_double,
            (Guess::Date, DataType::Timestamp(_, None)) => true,
            (Guess::Timestamp { nanoseconds, zone }, DataType::Timestamp(unit, other)) => {
                zone == other.is_some() && (!nanoseconds || *unit == TimeUnit::Nanosecond)
            }
            (guess, data_type) => guess.data_type() == *data_type,
        }
    }
}

/// Whether a text in a column of another type looks like a way to write NULL.
pub(crate) fn is_marker(text: &str) -> bool {
    const MARKERS: [&str; 10] = [r"\N", "NA", "N/A", "#N/A", "NULL", "None", "nil", "-", "?", "."];
    MARKERS.iter().any(|marker| marker.eq_ignore_ascii_case(text))
}

fn number(text: &str) -> Option<Guess> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    if ["nan", "inf", "infinity"].iter().any(|name| name.as_bytes().eq_ignore_ascii_case(digits)) {
        return Some(Guess::Double);
    }
    match digits {
        [] => None,
        [b'0', b'0'..=b'9', ..] => None,
        digits if digits.iter().all(u8::is_ascii_digit) => {
            let integer: i64 = text.parse().ok()?;
            Some(Guess::Integer { is_double: integer as f64 as i128 == i128::from(integer) })
        }
        [b'0'..=b'9' | b'.', ..]
            if digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) =>
        {
            text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|_| Guess::Double)
        }
        _ => None,
    }
}

/// `2026-01-31`, and with a time of day after a space or a `T`, a fraction of up to nine digits, and a zone.
fn time(bytes: &[u8]) -> Option<Guess> {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_date =
        bytes.len() >= 10 && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(is_digit) && bytes[4] == b'-' && bytes[7] == b'-';
    if !is_date {
        return None;
    }
    let day = std::str::from_utf8(&bytes[..10]).ok()?;
    chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
    let clock = match bytes.get(10) {
        None => return Some(Guess::Date),
        Some(b' ' | b'T') => std::str::from_utf8(&bytes[11..]).ok()?,
        Some(_) => return None,
    };
    let (clock, zone) = match clock.find(['Z', '+', '-']) {
        Some(at) => {
            let zone = clock[at..].replace(':', "");
            let known =
                zone == "Z" || (matches!(zone.len(), 3 | 5) && zone[1..].bytes().all(|byte| byte.is_ascii_digit()));
            (&clock[..at], known.then_some(true)?)
        }
        None => (clock, false),
    };
    let fraction = clock.split_once('.').map_or("", |(_, fraction)| fraction);
    chrono::NaiveTime::parse_from_str(clock, "%H:%M:%S%.f").ok().filter(|_| fraction.len() <= 9)?;
    Some(Guess::Timestamp { nanoseconds: fraction.len() > 6, zone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_it_can_be_read_as() {
        let integer = Guess::Integer { is_double: true };
        let timestamp = |nanoseconds, zone| Guess::Timestamp { nanoseconds, zone };
        for (text, guess) in [
            ("", Guess::Null),
            ("7", integer),
            ("-0", integer),
            ("007", Guess::Text),
            ("-007", Guess::Text),
            ("+5", Guess::Text),
            ("9007199254740993", Guess::Integer { is_double: false }),
            ("9223372036854775808", Guess::Text),
            ("0.5", Guess::Double),
            (".5", Guess::Double),
            ("1e5", Guess::Double),
            ("1e400", Guess::Text),
            ("NaN", Guess::Double),
            ("-inf", Guess::Double),
            ("1.2.3", Guess::Text),
            ("True", Guess::Boolean),
            ("t", Guess::Text),
            ("2026-02-28", Guess::Date),
            ("2026-02-30", Guess::Text),
            ("2026-02-28 10:00:00", timestamp(false, false)),
            ("2026-02-28T10:00:00.1234567Z", timestamp(true, true)),
            ("2026-02-28 10:00:00+02:00", timestamp(false, true)),
            ("2026-02-28 x", Guess::Text),
            (" 7", Guess::Text),
        ] {
            assert_eq!(Guess::of(text), guess, "{text}");
        }
        assert_eq!(integer.or(Guess::Double), Guess::Double);
        assert_eq!(Guess::of("9007199254740993").or(Guess::Double), Guess::Text);
        assert_eq!(Guess::Date.or(integer), Guess::Text);
    }
}
