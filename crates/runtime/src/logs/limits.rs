//! How much of a container's output is kept, and what happens when it cannot be shipped as fast as it comes.

use std::collections::BTreeMap;

use ecs::log_options::{self, Mode};
use ecs::task_definition::LogConfiguration;

/// Of a shipped container, this many segments hold what may wait to be shipped: what is dropped at once is small.
const SEGMENTS_PER_BUFFER: u64 = 4;

/// A smaller segment would be more name than content.
const SMALLEST_SEGMENT_BYTES: u64 = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The driver `none` keeps nothing.
    pub kept: bool,
    pub segment_bytes: u64,
    pub segments: u64,
    /// Older output goes when something is written; milliseconds.
    pub max_age_ms: Option<u64>,
    /// Nothing for what stays on this host.
    pub shipping: Option<Shipping>,
}

/// For output that another process ships over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipping {
    pub mode: Mode,
    /// How much may wait to be shipped before writers wait (blocking) or the oldest is lost (non-blocking).
    pub buffer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { kept: true, segment_bytes: 20 << 20, segments: 5, max_age_ms: None, shipping: None }
    }
}

impl Limits {
    /// The json-file driver's `max-size` (`10m`; k, m, g) and `max-file`, for every driver
    /// (<https://docs.docker.com/engine/logging/drivers/json-file/>), and coracle's own `max-age`; ours where they are
    /// absent or make no sense. `mode` and `max-buffer-size` count for what is shipped: local output never waits.
    pub fn of(log: Option<&LogConfiguration>) -> Limits {
        let ours = Limits::default();
        let Some(log) = log else { return ours };
        let options = &log.options;
        let size = options.get(log_options::MAX_SIZE).and_then(|size| log_options::size_bytes(size));
        let count = options.get(log_options::MAX_FILE).and_then(|count| count.trim().parse().ok());
        let mut limits = Limits {
            kept: log.log_driver != log_options::NONE,
            segment_bytes: size.filter(|size| *size > 0).unwrap_or(ours.segment_bytes),
            segments: count.filter(|count| *count > 0).unwrap_or(ours.segments),
            max_age_ms: options.get(log_options::MAX_AGE).and_then(|age| log_options::span_ms(age)),
            shipping: is_shipped(&log.log_driver).then(|| Shipping::of(options)),
        };
        if let Some(shipping) = limits.shipping {
            let kept = limits.segment_bytes.saturating_mul(limits.segments);
            let most = (shipping.buffer_bytes / SEGMENTS_PER_BUFFER).max(SMALLEST_SEGMENT_BYTES);
            limits.segment_bytes = limits.segment_bytes.min(most);
            limits.segments = kept / limits.segment_bytes;
        }
        limits
    }
}

impl Shipping {
    fn of(options: &BTreeMap<String, String>) -> Shipping {
        Shipping { mode: log_options::mode(options), buffer_bytes: log_options::buffer_bytes(options) }
    }
}

fn is_shipped(driver: &str) -> bool {
    !matches!(driver, log_options::AWSLOGS | log_options::JSON_FILE | log_options::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(driver: &str, options: &[(&str, &str)]) -> Limits {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Limits::of(Some(&LogConfiguration { log_driver: driver.to_owned(), options, secret_options: Vec::new() }))
    }

    #[test]
    fn dockers_options_set_the_limits_and_nonsense_does_not() {
        let sized = |size: &str, count: &str| limits("json-file", &[("max-size", size), ("max-file", count)]);
        let ours = Limits::default();
        assert_eq!(sized("10m", "3"), Limits { segment_bytes: 10 << 20, segments: 3, ..ours });
        assert_eq!(sized("4096", "2"), Limits { segment_bytes: 4096, segments: 2, ..ours });
        assert_eq!(sized("-1", "0"), ours);
        assert_eq!(sized("99999999999999999999g", "many"), ours);
        assert_eq!(limits("awslogs", &[("max-age", "2h")]).max_age_ms, Some(7_200_000));
        assert_eq!(Limits::of(None), ours);
    }

    #[test]
    fn what_is_shipped_has_a_buffer_of_small_segments() {
        let shipped = limits("fluentd", &[]);
        let buffer_bytes = 10 << 20;
        assert_eq!(shipped.shipping, Some(Shipping { mode: Mode::NonBlocking, buffer_bytes }));
        assert_eq!((shipped.segment_bytes, shipped.segments), (buffer_bytes / 4, 40));
        let small = limits("splunk", &[("mode", "blocking"), ("max-buffer-size", "1k")]);
        assert_eq!(small.shipping, Some(Shipping { mode: Mode::Blocking, buffer_bytes: 1024 }));
        assert_eq!(small.segment_bytes, 4096);
        assert_eq!(limits("json-file", &[("mode", "blocking")]).shipping, None);
    }
}
