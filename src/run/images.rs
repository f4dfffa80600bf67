//! The images of a plan: found on this host, built in, or pulled.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::environment::{self, ResourceInitializationError};
use agent::resolve::resolved;
use agent::{Host, Plan};
use agent_protocol::task_spec::ResolvedImage;
use ecs::task_definition::ContainerDefinition;
use images::{GivenLogin, Image, Lease, NotAReference, Progress, PullError, Reference, Store, hello};

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
    #[error("{image} is not on this host, and --pull never forbids to fetch it")]
    Missing { image: Box<Wish> },
    #[error("{image} cannot be used")]
    Store {
        image: Box<Wish>,
        #[source]
        cause: images::Error,
    },
    #[error("{image} cannot be pulled")]
    Pull {
        image: Box<Wish>,
        #[source]
        cause: PullError,
    },
    #[error("{image} cannot be pulled")]
    Login {
        image: Box<Wish>,
        #[source]
        cause: ResourceInitializationError,
    },
    #[error("a pull cannot be started")]
    Runtime {
        #[source]
        cause: std::io::Error,
    },
}

/// One container's image, by name.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    definition: ContainerDefinition,
    pub(super) reference: Reference,
}

impl fmt::Display for Wish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "container {}: image {}", self.definition.name, self.reference)
    }
}

/// What the plan's containers want, in their order.
pub(super) struct Wanted {
    /// The store's directory; opened when something is looked for, so that the supervisor is started first.
    directory: PathBuf,
    store: OnceCell<Store>,
    /// Has the logins that `repositoryCredentials` name.
    secrets: secrets::Store,
    wishes: Vec<Wish>,
    pull: Pull,
    progress: Arc<dyn Progress>,
    /// Keep the layers from being collected until the task's own record names them.
    leases: RefCell<Vec<Lease>>,
}

impl Wanted {
    pub(super) fn of(host: &Host, plan: &Plan, pull: Pull, progress: Arc<dyn Progress>) -> Result<Self, Failure> {
        let wishes = plan.definition.container_definitions.iter().map(|definition| {
            let reference = crate::definition::image_name(&definition.image);
            reference.map(|reference| Wish { definition: definition.clone(), reference })
        });
        let wishes = wishes.collect::<Result<Vec<_>, NotAReference>>().doing("an image's name is wrong");
        let wishes = wishes.map_err(|failure| failure.exit(BAD_INPUT))?;
        Ok(Self {
            directory: host.images(),
            store: OnceCell::new(),
            secrets: host.secrets(),
            wishes,
            pull,
            progress,
            leases: RefCell::default(),
        })
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
        for wish in &self.wishes {
            match self.find_one(wish)? {
                Some(image) => found.push(self.leased(wish, image)?),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    fn find_one(&self, wish: &Wish) -> Result<Option<Image>, ImageError> {
        let failed = |cause| ImageError::Store { image: Box::new(wish.clone()), cause };
        if is_hello(&wish.reference) {
            return hello::ensure(self.store()?, Path::new("/proc/self/exe")).map(Some).map_err(failed);
        }
        match self.pull {
            Pull::Always => Ok(None),
            Pull::Missing | Pull::Never => match self.store()?.find(&wish.reference).map_err(failed)? {
                None if self.pull == Pull::Never => Err(ImageError::Missing { image: Box::new(wish.clone()) }),
                found => Ok(found),
            },
        }
    }

    fn leased(&self, wish: &Wish, image: Image) -> Result<ResolvedImage, ImageError> {
        let lease =
            self.store()?.lease(&image).map_err(|cause| ImageError::Store { image: Box::new(wish.clone()), cause })?;
        self.leases.borrow_mut().push(lease);
        Ok(resolved(image))
    }

    /// Everything, fetching what is not here; with `--pull always`, everything again.
    pub(super) fn pull(&self) -> Result<Vec<ResolvedImage>, ImageError> {
        let mut images = Vec::new();
        for wish in &self.wishes {
            let image = match self.find_one(wish)? {
                Some(image) => image,
                None => self.pull_one(wish)?,
            };
            images.push(self.leased(wish, image)?);
        }
        Ok(images)
    }

    fn pull_one(&self, wish: &Wish) -> Result<Image, ImageError> {
        let login = environment::registry_login(&self.secrets, &wish.definition)
            .map_err(|cause| ImageError::Login { image: Box::new(wish.clone()), cause })?;
        let mut options = registries::options(None, &[]);
        options.login = login.map(|login| GivenLogin { user: login.username, password: login.password });
        match registries::pull(self.store()?, &wish.reference, &options, &self.progress) {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(cause)) => Err(ImageError::Pull { image: Box::new(wish.clone()), cause }),
            Err(cause) => Err(ImageError::Runtime { cause }),
        }
    }
}

pub(super) fn is_hello(reference: &Reference) -> bool {
    hello::NAME.parse::<Reference>().is_ok_and(|hello| hello == *reference)
}
