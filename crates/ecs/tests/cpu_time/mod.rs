//! How long a thread has computed: what others do on this machine does not count.

use std::time::Duration;

/// The first number of `/proc/thread-self/schedstat`, nanoseconds on a processor (Documentation/scheduler/sched-stats).
pub(crate) fn of_this_thread() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    let nanoseconds = told.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    Duration::from_nanos(nanoseconds)
}
