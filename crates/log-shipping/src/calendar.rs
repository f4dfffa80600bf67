//! Dates as syslog writes them, in UTC. Pure. The calendar is Howard Hinnant's `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>).

use ecs::Timestamp;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: u64 = 86_400;

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

fn civil(time: Timestamp) -> Civil {
    let seconds = time.epoch_ms / 1000;
    let days = seconds / DAY_S + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let of_day = seconds % DAY_S;
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted + 2) / 5 + 1,
        hour: of_day / 3600,
        minute: of_day % 3600 / 60,
        second: of_day % 60,
    }
}

/// `Oct 11 22:14:15`, the day padded with a space: RFC 3164, section 4.1.2.
pub(crate) fn bsd(time: Timestamp) -> String {
    let Civil { month, day, hour, minute, second, .. } = civil(time);
    // civil_from_days gives months 1 to 12.
    let name = MONTHS[(month as usize).saturating_sub(1).min(11)];
    format!("{name} {day:>2} {hour:02}:{minute:02}:{second:02}")
}

/// `2003-10-11T22:14:15Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    format!("{}Z", to_the_second(time))
}

/// `2003-10-11T22:14:15.003000Z`: RFC 5424 allows six digits of a second.
pub(crate) fn rfc3339_micro(time: Timestamp) -> String {
    format!("{}.{:06}Z", to_the_second(time), time.epoch_ms % 1000 * 1000)
}

fn to_the_second(time: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second } = civil(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @N` says the same.
    #[test]
    fn dates_are_those_of_date_1() {
        let time = Timestamp::from_epoch_ms(1_065_910_455_003);
        assert_eq!(bsd(time), "Oct 11 22:14:15");
        assert_eq!(rfc3339(time), "2003-10-11T22:14:15Z");
        assert_eq!(rfc3339_micro(time), "2003-10-11T22:14:15.003000Z");
        assert_eq!(rfc3339(Timestamp::from_epoch_ms(951_782_400_000)), "2000-02-29T00:00:00Z");
        assert_eq!(bsd(Timestamp::from_epoch_ms(0)), "Jan  1 00:00:00");
    }
}
