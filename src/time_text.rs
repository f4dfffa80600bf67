//! Times as people write and read them. Pure: the present is an argument.

use ecs::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `2026-11-23T01:53:57.042Z` (RFC 3339, UTC).
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.rfc3339()
}

/// `4s`, `12m`, `3h`, `5d`: the largest unit that fits.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    if seconds >= DAY {
        format!("{}d", seconds / DAY)
    } else if seconds >= HOUR {
        format!("{}h", seconds / HOUR)
    } else if seconds >= MINUTE {
        format!("{}m", seconds / MINUTE)
    } else {
        format!("{seconds}s")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a span (90s, 10m, 1h30m, 2d), nor seconds since 1970, nor a time as 2026-11-23T01:53:57Z")]
pub(crate) struct NotATime {
    pub(crate) text: String,
}

/// What `--since` takes: how long ago, seconds since 1970, or an RFC 3339 time in UTC.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<Timestamp, NotATime> {
    span_ms(text)
        .map(|ms| Timestamp::from_epoch_ms(now.epoch_ms.saturating_sub(ms)))
        .or_else(|| Timestamp::from_epoch_text(text))
        .or_else(|| Timestamp::from_rfc3339(text))
        .ok_or_else(|| NotATime { text: text.to_owned() })
}

fn span_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).filter(|length| *length > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => MINUTE * 1000,
            "h" => HOUR * 1000,
            "d" => DAY * 1000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(ms)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_epoch_ms(1_795_398_837_042);

    /// From `date -u -d @N`.
    #[test]
    fn the_calendar() {
        for (epoch_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_epoch_ms(epoch_ms)), text);
            assert_eq!(since(text, NOW), Ok(Timestamp::from_epoch_ms(epoch_ms)), "{text}");
        }
    }

    #[test]
    fn since_takes_what_people_write() {
        assert_eq!(since("10m", NOW), Ok(Timestamp::from_epoch_ms(NOW.epoch_ms - 600_000)));
        assert_eq!(since("1h30m", NOW), Ok(Timestamp::from_epoch_ms(NOW.epoch_ms - 5_400_000)));
        assert_eq!(since("1795398837", NOW), Ok(Timestamp::from_epoch_ms(1_795_398_837_000)));
        assert_eq!(since("1795398837.5", NOW), Ok(Timestamp::from_epoch_ms(1_795_398_837_500)));
        for bad in ["", "yesterday", "10", "m", "1x", "2026-13-01", "2026-1", "18446744073709551615d"] {
            let result = since(bad, NOW);
            assert!(bad == "10" || result.is_err(), "{bad}: {result:?}");
        }
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([0, 59_999, 60_000, 7_200_000, 200_000_000].map(span), ["0s", "59s", "1m", "2h", "2d"]);
    }
}
