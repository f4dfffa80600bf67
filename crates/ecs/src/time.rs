//! A point in time as ECS reports it: epoch seconds with milliseconds on the wire.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z. On the wire a JSON number of seconds with a fraction, as Amazon's
/// JSON 1.1 protocol has it (<https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    pub epoch_ms: u64,
}

impl Timestamp {
    pub const fn from_epoch_ms(epoch_ms: u64) -> Self {
        Self { epoch_ms }
    }

    /// This instant plus a number of milliseconds, without overflow.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self { epoch_ms: self.epoch_ms.saturating_add(ms) }
    }

    /// Milliseconds from `earlier` to this instant; zero where the clock went back.
    pub const fn ms_since(self, earlier: Timestamp) -> u64 {
        self.epoch_ms.saturating_sub(earlier.epoch_ms)
    }
}

/// A point in time on the calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub year: u64,
    /// From 1, as are the days.
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
}

impl Timestamp {
    /// Howard Hinnant's `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
    pub const fn calendar(self) -> Calendar {
        let seconds = self.epoch_ms / 1000;
        let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + (month <= 2) as u64;
        Calendar { year, month, day, hour: of_day / 3_600, minute: of_day / 60 % 60, second: of_day % 60 }
    }
}

impl Timestamp {
    /// `2026-11-23T01:53:57.042Z` (RFC 3339, UTC).
    pub fn rfc3339(self) -> String {
        let Calendar { year, month, day, hour, minute, second } = self.calendar();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.epoch_ms % 1000)
    }

    /// `YYYY-MM-DD[Thh:mm:ss[.fff][Z|+hh:mm|-hh:mm]]`; without a zone it is UTC.
    pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
        let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
        let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
        if let Some((_, zone)) = time.split_once(['+', '-']) {
            let [hours, minutes] = numbers::<2>(zone, ':').filter(|[hours, minutes]| *hours < 24 && *minutes < 60)?;
            let (east, offset_ms) = (time.contains('+'), (hours * 60 + minutes) * 60_000);
            let there = Timestamp::from_rfc3339(&text[..text.len() - zone.len() - 1])?.epoch_ms;
            let here = if east { there.checked_sub(offset_ms) } else { there.checked_add(offset_ms) };
            return here.map(Timestamp::from_epoch_ms);
        }
        let [year, month, day] = numbers::<3>(date, '-')?;
        let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let [hour, minute, second] = numbers::<3>(clock, ':')?;
        let good = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !good {
            return None;
        }
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let era = shifted_year / 400;
        let year_of_era = shifted_year % 400;
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
        Timestamp::from_epoch_text(&format!("{seconds}.{fraction}"))
    }

    /// Seconds since 1970, with or without a fraction.
    pub fn from_epoch_text(text: &str) -> Option<Timestamp> {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(seconds) || !digits(fraction) {
            return None;
        }
        let ms: String = format!("{fraction}000").chars().take(3).collect();
        Some(Timestamp::from_epoch_ms(seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(ms.parse().ok()?)?))
    }
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[u64; N]> {
    let parts: Vec<u64> = text
        .split(separator)
        .map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(self.epoch_ms as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(input)?;
        if !seconds.is_finite() || seconds < 0.0 {
            return Err(serde::de::Error::custom("a timestamp is a number of seconds since 1970, not negative"));
        }
        Ok(Self { epoch_ms: (seconds * 1000.0).round() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_taken_off() {
        let expected = Timestamp::from_rfc3339("2018-06-18T00:00:00Z");
        assert!(expected.is_some());
        let forms = ["2018-06-18", "2018-06-18T00:00:00", "2018-06-18T02:00:00+02:00", "2018-06-17T19:30:00.000-04:30"];
        for form in forms {
            assert_eq!(Timestamp::from_rfc3339(form), expected, "{form}");
        }
        for none in ["", "18", "yesterday", "2018-06-18T", "2018-06-18T00:00:00+2", "2018-06-18T00:00:00+24:00", "+"] {
            assert_eq!(Timestamp::from_rfc3339(none), None, "{none}");
        }
        assert_eq!(Timestamp::from_rfc3339("1970-01-01T00:00:00+01:00"), None);
    }
}
