//! The images of a plan: found on this host, built in, or pulled.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::resolve::resolved;
use agent::{Host, Plan};
use agent_protocol::task_spec::ResolvedImage;
use ecs::ContainerName;
use images::{Image, Lease, NotAReference, Progress, PullError, Reference, Store, hello};

use super::Pull;
use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::registries;

#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("the image store in {} cannot be opened", directory.display())]
    Open {
        directory: PathBuf,
        #[source]
        cause: images::Error,
    },
    #[error("container {container}: image {reference} is not on this host, and --pull never forbids to fetch it")]
    Missing { container: ContainerName, reference: Reference },
    #[error("container {container}: image {reference} cannot be used")]
    Store {
        container: ContainerName,
        reference: Reference,
        #[source]
        cause: images::Error,
    },
    #[error("container {container}: image {reference} cannot be pulled")]
    Pull {
        container: ContainerName,
        reference: Reference,
        #[source]
        cause: PullError,
    },
    #[error("a pull cannot be started")]
    Runtime {
        #[source]
        cause: std::io::Error,
    },
}

struct Name {
    container: ContainerName,
    reference: Reference,
}

/// What the plan's containers want, in their order.
pub(super) struct Wanted {
    /// The store's directory; opened when something is looked for, so that the supervisor is started first.
    directory: PathBuf,
    store: OnceCell<Store>,
    names: Vec<Name>,
    pull: Pull,
    progress: Arc<dyn Progress>,
    /// Keep the layers from being collected until the task's own record names them.
    leases: RefCell<Vec<Lease>>,
}

impl Wanted {
    pub(super) fn of(host: &Host, plan: &Plan, pull: Pull, progress: Arc<dyn Progress>) -> Result<Self, Failure> {
        let names = plan.definition.container_definitions.iter().map(|definition| {
            let reference = definition.image.parse::<Reference>();
            reference.map(|reference| Name { container: definition.name.clone(), reference })
        });
        let names = names.collect::<Result<Vec<_>, NotAReference>>().doing("an image's name is wrong");
        let names = names.map_err(|failure| failure.exit(BAD_INPUT))?;
        Ok(Self { directory: host.images(), store: OnceCell::new(), names, pull, progress, leases: RefCell::default() })
    }

    fn store(&self) -> Result<&Store, ImageError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let opened = Store::open(&self.directory)
            .map_err(|cause| ImageError::Open { directory: self.directory.clone(), cause })?;
        Ok(self.store.get_or_init(|| opened))
    }

    /// What is here already; nothing where something has to be fetched first.
    pub(super) fn find(&self) -> Result<Option<Vec<ResolvedImage>>, ImageError> {
        let mut found = Vec::new();
        for name in &self.names {
            match self.find_one(name)? {
                Some(image) => found.push(self.leased(name, image)?),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    fn find_one(&self, name: &Name) -> Result<Option<Image>, ImageError> {
        let failed =
            |cause| ImageError::Store { container: name.container.clone(), reference: name.reference.clone(), cause };
        if is_hello(&name.reference) {
            return hello::ensure(self.store()?, Path::new("/proc/self/exe")).map(Some).map_err(failed);
        }
        match self.pull {
            Pull::Always => Ok(None),
            Pull::Missing | Pull::Never => match self.store()?.find(&name.reference).map_err(failed)? {
                None if self.pull == Pull::Never => {
                    Err(ImageError::Missing { container: name.container.clone(), reference: name.reference.clone() })
                }
                found => Ok(found),
            },
        }
    }

    fn leased(&self, name: &Name, image: Image) -> Result<ResolvedImage, ImageError> {
        let lease = self.store()?.lease(&image).map_err(|cause| ImageError::Store {
            container: name.container.clone(),
            reference: name.reference.clone(),
            cause,
        })?;
        self.leases.borrow_mut().push(lease);
        Ok(resolved(image))
    }

    /// Everything, fetching what is not here; with `--pull always`, everything again.
    pub(super) fn pull(&self) -> Result<Vec<ResolvedImage>, ImageError> {
        let mut images = Vec::new();
        for name in &self.names {
            let image = match self.find_one(name)? {
                Some(image) => image,
                None => self.pull_one(name)?,
            };
            images.push(self.leased(name, image)?);
        }
        Ok(images)
    }

    fn pull_one(&self, name: &Name) -> Result<Image, ImageError> {
        let options = registries::options(None, &[]);
        let (container, reference) = (name.container.clone(), name.reference.clone());
        match registries::pull(self.store()?, &name.reference, &options, &self.progress) {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(cause)) => Err(ImageError::Pull { container, reference, cause }),
            Err(cause) => Err(ImageError::Runtime { cause }),
        }
    }
}

pub(super) fn is_hello(reference: &Reference) -> bool {
    hello::NAME.parse::<Reference>().is_ok_and(|hello| hello == *reference)
}
