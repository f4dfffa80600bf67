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
