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
