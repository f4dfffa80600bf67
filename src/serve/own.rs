//! `--ephemeral`: directories of its own, and the process with which they go.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use agent::recovery::{self as cleanup, Network};
use nix::unistd::getppid;
use runtime::task_dir::{self, Roots};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::failure::{Explain, Failure};
use crate::options::Options;
use crate::{clock, rm, stop};

/// The directories.
pub(super) struct Own {
    directory: PathBuf,
}

/// Whoever started this process.
pub(super) struct Parent(Option<AsyncFd<OwnedFd>>);

impl Own {
    pub(super) fn make() -> Result<Own, Failure> {
        let name = format!("coracle-{}", server::dice::hex::<8>());
        let directory = std::env::temp_dir().join(name);
        server::files::make_directory(&directory)?;
        Ok(Own { directory })
    }

    pub(super) fn roots(&self, options: &Options) -> Result<Roots, Failure> {
        let directory = std::path::absolute(&self.directory).doing("finding the directory of temporary files")?;
        let name = directory.file_name().unwrap_or_default().to_owned();
        let roots = options.roots()?;
        Ok(Roots {
            data: directory.join("data"),
            run: directory.join("run"),
            // A cgroup of its own keeps its tasks apart from those of others.
            cgroup_parent: roots.cgroup_parent.join(name),
        })
    }

    /// A parent that had gone before is as one that goes now.
    pub(super) fn parent(&self) -> Result<Parent, Failure> {
        let Some(pid) = Pid::from_raw(getppid().as_raw()).filter(|pid| !pid.is_init()) else {
            return Ok(Parent(None));
        };
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).doing("watching the process that started this one")?;
        let watched = AsyncFd::register_with_interest(descriptor, Interest::READABLE);
        Ok(Parent(Some(watched.doing("watching the process that started this one")?)))
    }

    /// Ends what runs and takes everything away.
    pub(super) fn end(self, options: &Options) -> Result<(), Failure> {
        let host = agent::Host::new(self.roots(options)?, |name| std::env::var(name).ok())?;
        let (tasks, _) = task_dir::list(&host.roots).doing("looking for tasks")?;
        for task in tasks {
            stop::kill_and_wait(&task)?;
            rm::forget(&host, &task.spec.id)?;
        }
        cleanup::recover(&host, Network::Always, clock::now());
        std::fs::remove_dir_all(&self.directory).doing(format!("removing {}", self.directory.display()))
    }
}

impl Parent {
    pub(super) async fn ended(&self) {
        match &self.0 {
            // A descriptor that cannot be waited for any more is no reason to end.
            Some(descriptor) => match descriptor.readable().await {
                Ok(_) => {}
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}
