//! Moments as people write them.

use stemedb_model::Millis;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// Reads RFC 3339 (`2024-05-01T12:00:00Z`), a day (`2024-05-01`, its midnight in UTC), or
/// milliseconds since 1970 (`1714521600000`).
pub fn parse(text: &str) -> Result<Millis, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(Millis(ms));
    }
    let day = format_description!("[year]-[month]-[day]");
    let moment = match Date::parse(text, &day) {
        Ok(day) => day.midnight().assume_utc(),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            format!("`{text}` is no time; write 2024-05-01, 2024-05-01T12:00:00Z or milliseconds")
        })?,
    };
    // A calendar of four-digit years is far inside i64 milliseconds.
    Ok(Millis(i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)))
}

/// RFC 3339 in UTC; milliseconds as a number where no calendar reaches.
pub fn format(time: Millis) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| time.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01", Ok("1970-01-01T00:00:00Z")),
            ("2011-12-01", Ok("2011-12-01T00:00:00Z")),
            ("2024-05-01T12:00:00+02:00", Ok("2024-05-01T10:00:00Z")),
            ("2024-05-01T12:00:00.123Z", Ok("2024-05-01T12:00:00.123Z")),
            ("1714521600000", Ok("2024-05-01T00:00:00Z")),
            ("-1000", Ok("1969-12-31T23:59:59Z")),
            ("2024-05-01T12:00:00", Err(())),
            ("2024-13-01", Err(())),
            ("soon", Err(())),
            ("", Err(())),
        ] {
            let found = parse(text).map(format).map_err(|_| ());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
    }
}
