//! The images of a plan: found on this host, built in, or pulled.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_protocol::task_spec::ResolvedImage;
use ecs::task_definition::ContainerDefinition;
use images::{GivenLogin, Image, Lease, NotAReference, Progress, PullError, PullOptions, Reference, Store, hello};

use crate::environment::{self, ResourceInitializationError};
use crate::host::Host;
use crate::resolve::resolved;
use crate::{Plan, registries};

/// A registry that did not answer is not asked again for so long where the image is here.
const UNREACHABLE_FOR: Duration = Duration::from_secs(300);
/// Where the image is here, a registry has this long to say what is newest.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// When a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// For what is not on this host.
    Missing,
    /// For every image; a digest that is there is not fetched.
    Always,
    /// Not at all.
    Never,
    /// For every image, and where that fails what is on this host will do: `default` of Amazon's
    /// ECS_IMAGE_PULL_BEHAVIOR
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-config.html>).
    Newest,
}

/// Registries that could not be reached a moment ago, and when.
#[derive(Debug, Default)]
pub struct Unreachable(Mutex<HashMap<String, Instant>>);

impl Unreachable {
    fn is_known(&self, host: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(host).is_some_and(|since| since.elapsed() < UNREACHABLE_FOR)
    }

    /// The old ones go, so that names that are wrong do not gather.
    fn learn(&self, host: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, since| since.elapsed() < UNREACHABLE_FOR);
        known.insert(host.to_owned(), Instant::now());
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("container {container}: its image's name is wrong")]
    Name {
        container: ecs::ContainerName,
        #[source]
        cause: NotAReference,
    },
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
pub struct Wish {
    definition: ContainerDefinition,
    pub reference: Reference,
}

impl fmt::Display for Wish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "container {}: image {}", self.definition.name, self.reference)
    }
}

/// What the plan's containers want, in their order.
pub struct Wanted {
    /// The store's directory; opened when something is looked for, so that the supervisor is started first.
    directory: PathBuf,
    store: OnceCell<Store>,
    /// Has the logins that `repositoryCredentials` name.
    secrets: secrets::Store,
    wishes: Vec<Wish>,
    pull: Pull,
    unreachable: Arc<Unreachable>,
    progress: Arc<dyn Progress>,
    /// Keep the layers from being collected until the task's own record names them.
    leases: RefCell<Vec<Lease>>,
}

impl Wanted {
    /// # Errors
    /// `Name` alone.
    pub fn of(
        host: &Host,
        plan: &Plan,
        pull: Pull,
        unreachable: Arc<Unreachable>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, ImageError> {
        let wishes = plan.definition.container_definitions.iter().map(|definition| {
            let reference = definition.image.parse();
            let wrong = |cause| ImageError::Name { container: definition.name.clone(), cause };
            reference.map(|reference| Wish { definition: definition.clone(), reference }).map_err(wrong)
        });
        let wishes = wishes.collect::<Result<Vec<_>, ImageError>>()?;
        Ok(Self {
            unreachable,
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
    pub fn find(&self) -> Result<Option<Vec<ResolvedImage>>, ImageError> {
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
            Pull::Always | Pull::Newest => Ok(None),
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
    pub fn pull(&self) -> Result<Vec<ResolvedImage>, ImageError> {
        let mut images = Vec::new();
        for wish in &self.wishes {
            let image = match self.find_one(wish)? {
                Some(image) => image,
                None if self.pull == Pull::Newest => self.newest(wish)?,
                None => self.pull_one(wish, registries::options(None, &[]))?,
            };
            images.push(self.leased(wish, image)?);
        }
        Ok(images)
    }

    fn newest(&self, wish: &Wish) -> Result<Image, ImageError> {
        let host = wish.reference.host();
        let failed = |cause| ImageError::Store { image: Box::new(wish.clone()), cause };
        let options = registries::options(None, &[]);
        let Some(here) = self.store()?.find(&wish.reference).map_err(failed)? else {
            return self.pull_one(wish, options);
        };
        if self.unreachable.is_known(host) {
            return Ok(here);
        }
        let options = self.with_login(wish, options)?;
        let pulled = registries::pull_if_answered(self.store()?, &wish.reference, &options, ANSWER_LIMIT);
        let why = match pulled.map_err(|cause| ImageError::Runtime { cause })? {
            Some(Ok(image)) => return Ok(image),
            Some(Err(error)) => {
                if let PullError::Unreachable { .. } | PullError::Stalled { .. } = &error {
                    self.unreachable.learn(host);
                }
                crate::recovery::chain(&error)
            }
            None => {
                self.unreachable.learn(host);
                format!("registry {host} did not answer within {} s", ANSWER_LIMIT.as_secs())
            }
        };
        tracing::info!(image = %wish.reference, why, "an image cannot be pulled; the one that is here is used");
        Ok(here)
    }

    fn with_login(&self, wish: &Wish, mut options: PullOptions) -> Result<PullOptions, ImageError> {
        let login = environment::registry_login(&self.secrets, &wish.definition)
            .map_err(|cause| ImageError::Login { image: Box::new(wish.clone()), cause })?;
        options.login = login.map(|login| GivenLogin { user: login.username, password: login.password });
        Ok(options)
    }

    fn pull_one(&self, wish: &Wish, options: PullOptions) -> Result<Image, ImageError> {
        let options = self.with_login(wish, options)?;
        match registries::pull(self.store()?, &wish.reference, &options, &self.progress) {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(cause)) => Err(ImageError::Pull { image: Box::new(wish.clone()), cause }),
            Err(cause) => Err(ImageError::Runtime { cause }),
        }
    }
}

pub fn is_hello(reference: &Reference) -> bool {
    hello::NAME.parse::<Reference>().is_ok_and(|hello| hello == *reference)
}
