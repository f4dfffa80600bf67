//! `--ephemeral`: directories of its own, and the process with which they go.

use std::path::PathBuf;

use agent::recovery::{self as cleanup, Network};
use nix::unistd::getppid;
use runtime::task_dir::{self, Roots};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;

use crate::failure::{Explain, Failure};
use crate::options::Options;
use crate::{clock, rm, stop};

/// The directories.
pub(super) struct Own {
    directory: PathBuf,
}

/// The end of whoever started this process.
pub(super) struct Parent(oneshot::Receiver<()>);

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

    /// One that has gone already left this process to init, whose end nobody waits for.
    pub(super) fn parent(&self) -> Result<Parent, Failure> {
        let watching = "watching the process that started this one";
        let (gone, ended) = oneshot::channel();
        if let Some(pid) = Pid::from_raw(getppid().as_raw()).filter(|pid| !pid.is_init()) {
            let parent = pidfd_open(pid, PidfdFlags::empty()).doing(watching)?;
            let watch = move || {
                // A descriptor that cannot be waited for is no reason to end.
                while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&parent, PollFlags::IN)], None) {}
                // Nobody waits any more.
                let _ = gone.send(());
            };
            std::thread::Builder::new().name("parent".to_owned()).spawn(watch).doing(watching)?;
        }
        Ok(Parent(ended))
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
    pub(super) async fn ended(self) {
        if self.0.await.is_err() {
            std::future::pending().await
        }
    }
}
