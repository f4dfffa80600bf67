//! Out-of-memory kills: a counter of the cgroup's, looked at when a container has ended.

use std::fs;
use std::path::Path;

use super::{Cgroups, below};

impl Cgroups {
    /// How many processes of this cgroup the kernel has killed for want of memory; none where nobody counts.
    pub fn oom_kills(&self, path: &Path) -> Option<u64> {
        let file = match (self.v1_of("memory"), self.v2_with("memory")) {
            (Some(v1), _) => below(&v1.mount, path).join("memory.oom_control"),
            (None, Some(v2)) => below(&v2.mount, path).join("memory.events"),
            (None, None) => return None,
        };
        count(&fs::read_to_string(file).ok()?)
    }
}

fn count(counters: &str) -> Option<u64> {
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_on_a_line_of_their_own() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 1\n"), Some(2));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
