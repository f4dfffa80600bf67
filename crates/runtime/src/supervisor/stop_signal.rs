//! An image's STOPSIGNAL as a number. Pure.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// Docker counts real-time signals as glibc does (moby/sys/signal): whatever libc a container has.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A name with or without `SIG`, `RTMIN+n`, `RTMAX-n`, or a number; SIGTERM when empty or not a signal.
pub(crate) fn stop_signal(given: &str) -> i32 {
    parse(given.trim()).unwrap_or(libc::SIGTERM)
}

fn parse(given: &str) -> Option<i32> {
    if let Ok(number) = given.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let name = given.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Ok(signal) = Signal::from_str(&format!("SIG{name}")) {
        return Some(signal as i32);
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => (RTMIN, offset),
        (None, Some(offset)) => (RTMAX, offset),
        (None, None) => return None,
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
    base.checked_add(offset).filter(|number| (RTMIN..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (given, expected) in [
            ("", 15),
            ("SIGQUIT", 3),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-14", 50),
            ("RTMIN", 34),
            ("RTMIN+99", 15),
            ("0", 15),
            ("-9", 15),
            ("65", 15),
            ("SIGNONSENSE", 15),
        ] {
            assert_eq!(stop_signal(given), expected, "{given:?}");
        }
    }
}
