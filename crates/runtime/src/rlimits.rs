//! Resource limits of a container's processes (getrlimit(2)): every one of them is set, so that nothing of whoever
//! called `coracle run` is inherited.
//!
//! Where the definition is silent, a container has what systemd gives Docker's: 1,024 open files, which every program
//! can raise to 524,288; as many processes as the task's cgroup allows; 8 MiB of locked memory, the kernel's own default.

use std::io;

use ecs::task_definition::Ulimit;

/// `setrlimit`'s for no limit.
const NONE: u64 = u64::MAX;
const MIB: u64 = 1 << 20;

/// Docker's name, and what a container gets without a word; the place is the number in `asm-generic/resource.h`.
const RESOURCES: [(&str, Default); 16] = [
    ("cpu", Default::Of(NONE, NONE)),
    ("fsize", Default::Of(NONE, NONE)),
    ("data", Default::Of(NONE, NONE)),
    ("stack", Default::Of(8 * MIB, NONE)),
    ("core", Default::Of(NONE, NONE)),
    ("rss", Default::Of(NONE, NONE)),
    ("nproc", Default::Of(NONE, NONE)),
    ("nofile", Default::Of(1_024, 524_288)),
    ("memlock", Default::Of(8 * MIB, 8 * MIB)),
    ("as", Default::Of(NONE, NONE)),
    ("locks", Default::Of(NONE, NONE)),
    ("sigpending", Default::OfProcessOne),
    ("msgqueue", Default::Of(819_200, 819_200)),
    ("nice", Default::Of(0, 0)),
    ("rtprio", Default::Of(0, 0)),
    ("rttime", Default::Of(NONE, NONE)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Default {
    /// Soft and hard.
    Of(u64, u64),
    /// The kernel makes it at boot, out of the machine's memory.
    OfProcessOne,
}

/// One limit to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    resource: u32,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Asked { soft: u64, hard: u64 },
    Silent(Default),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLimit {
    #[error("ulimits: there is no resource {0:?}; getrlimit(2) lists them")]
    NoSuchResource(String),
    #[error("ulimits: {name}: the soft limit {soft} is above the hard limit {hard}")]
    SoftAboveHard { name: String, soft: i64, hard: i64 },
}

/// Every resource's limit: what the definition asks for, and the default of the rest, the launch type's before ours. Pure.
///
/// # Errors
/// The definition asks for what is no limit.
pub(crate) fn plan(asked: &[Ulimit], of_launch_type: &[Ulimit]) -> Result<Vec<Limit>, NoLimit> {
    let numbered = RESOURCES.iter().zip(0_u32..);
    let mut limits: Vec<Limit> =
        numbered.map(|((_, default), resource)| Limit { resource, origin: Origin::Silent(*default) }).collect();
    for ulimit in of_launch_type {
        let (place, soft, hard) = read(ulimit)?;
        limits[place].origin = Origin::Silent(Default::Of(soft, hard));
    }
    for ulimit in asked {
        let (place, soft, hard) = read(ulimit)?;
        limits[place].origin = Origin::Asked { soft, hard };
    }
    Ok(limits)
}

/// The resource's place, its soft and its hard limit.
fn read(ulimit: &Ulimit) -> Result<(usize, u64, u64), NoLimit> {
    let place = RESOURCES.iter().position(|(name, _)| *name == ulimit.name);
    let place = place.ok_or_else(|| NoLimit::NoSuchResource(ulimit.name.clone()))?;
    // -1 is unlimited, as in Docker and setrlimit(2).
    let value = |limit: i64| u64::try_from(limit).unwrap_or(NONE);
    let (soft, hard) = (value(ulimit.soft_limit), value(ulimit.hard_limit));
    if soft > hard {
        let (name, soft, hard) = (ulimit.name.clone(), ulimit.soft_limit, ulimit.hard_limit);
        return Err(NoLimit::SoftAboveHard { name, soft, hard });
    }
    Ok((place, soft, hard))
}

impl Limit {
    /// Sets it for the calling process. A default that this host does not grant becomes what it does grant.
    ///
    /// # Errors
    /// What setrlimit(2) says of a limit that the definition asks for.
    pub(crate) fn set(self) -> io::Result<()> {
        match self.origin {
            Origin::Asked { soft, hard } => self.write(soft, hard),
            Origin::Silent(Default::Of(soft, hard)) => self.write_as_far_as_granted(soft, hard),
            Origin::Silent(Default::OfProcessOne) => match self.read(1) {
                Ok(limit) => self.write_as_far_as_granted(limit.rlim_cur, limit.rlim_max),
                // Not ours to look at, in a container: what we have is what it has.
                Err(_) => Ok(()),
            },
        }
    }

    /// Without CAP_SYS_RESOURCE, or above fs.nr_open, a hard limit cannot be raised.
    fn write_as_far_as_granted(self, soft: u64, hard: u64) -> io::Result<()> {
        match self.write(soft, hard) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let granted = self.read(0)?.rlim_max.min(hard);
                self.write(soft.min(granted), granted)
            }
            answer => answer,
        }
    }

    fn write(self, soft: u64, hard: u64) -> io::Result<()> {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the limit outlives the call. The resource's type differs between C libraries.
        let answer = unsafe { libc::prlimit(0, self.resource as _, &raw const limit, std::ptr::null_mut()) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn read(self, pid: i32) -> io::Result<libc::rlimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: as above.
        let answer = unsafe { libc::prlimit(pid, self.resource as _, std::ptr::null(), &raw mut limit) };
        if answer == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulimit(name: &str, soft_limit: i64, hard_limit: i64) -> Ulimit {
        Ulimit { name: name.to_owned(), soft_limit, hard_limit }
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        for (name, number) in
            [("core", libc::RLIMIT_CORE), ("nofile", libc::RLIMIT_NOFILE), ("rttime", libc::RLIMIT_RTTIME)]
        {
            assert_eq!(RESOURCES[number as usize].0, name);
        }
    }

    #[test]
    fn what_is_asked_for_replaces_the_default() {
        let limits = plan(&[ulimit("nofile", 2_048, -1)], &[ulimit("nofile", 9, 9), ulimit("core", 9, 9)]).unwrap();
        assert_eq!(limits.len(), 16);
        assert_eq!(limits[7].origin, Origin::Asked { soft: 2_048, hard: NONE });
        assert_eq!(limits[4].origin, Origin::Silent(Default::Of(9, 9)));
        assert_eq!(limits[12].origin, Origin::Silent(Default::Of(819_200, 819_200)));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        assert_eq!(plan(&[ulimit("files", 1, 1)], &[]), Err(NoLimit::NoSuchResource("files".to_owned())));
        let above = plan(&[ulimit("core", -1, 5)], &[]);
        assert_eq!(above, Err(NoLimit::SoftAboveHard { name: "core".to_owned(), soft: -1, hard: 5 }));
    }
}
