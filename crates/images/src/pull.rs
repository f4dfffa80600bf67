//! An image from a registry into the store.
//!
//! Layers come several at once; each is hashed, decompressed, hashed again and unpacked by one thread while it still
//! arrives. What was complete is kept when another layer fails, and a download that was cut is gone on with.

mod download;
mod error;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::digest::Digest;
use crate::document::{self, ConfigFile, Descriptor, Document, DocumentError, Manifest};
use crate::error::Error;
use crate::import::check_layer_count;
use crate::ingest::{self, Staged, Writeback};
use crate::lease::Lease;
use crate::limits::{MAX_BLOB_BYTES, MAX_INDEX_DEPTH};
use crate::platform::{self, Platform};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Fetched, Registry};
use crate::store::{Image, Layer, NewImage, Store};
use download::{Outcome, fetch_layer};
pub use error::PullError;

/// Docker's `max-concurrent-downloads`, plus one: unpacking keeps a core busy for each.
const CONCURRENCY: usize = 4;
/// How often a layer that another process is fetching is looked at.
const BUSY_POLL: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct PullOptions {
    /// This host's where not given.
    pub platform: Option<Platform>,
    /// Docker's config.json or podman's auth.json, the first that knows a registry decides.
    pub auth_files: Vec<PathBuf>,
    /// For this one image; the files are not asked then.
    pub login: Option<GivenLogin>,
    /// Hosts (with their port, as in the image's name) that are spoken to without TLS, beside loopback.
    pub insecure_hosts: Vec<String>,
    /// A folder with `<host>/ca.crt`, such as /etc/docker/certs.d.
    pub certificates: Option<PathBuf>,
    /// Layers at once.
    pub concurrency: usize,
    pub deadlines: Deadlines,
}

/// A login that came with the image's name.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenLogin {
    pub user: String,
    pub password: String,
}

/// Secrets stay out of logs.
impl std::fmt::Debug for GivenLogin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("GivenLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    pub connect: Duration,
    /// Without a byte for so long, a connection is given up.
    pub stall: Duration,
    /// Over which the lowest acceptable speed is measured.
    pub speed_window: Duration,
    /// The pause after a first failure; each further one is twice as long.
    pub retry: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            speed_window: Duration::from_secs(60),
            retry: Duration::from_millis(500),
        }
    }
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions {
            platform: None,
            auth_files: Vec::new(),
            login: None,
            insecure_hosts: Vec::new(),
            certificates: None,
            concurrency: CONCURRENCY,
            deadlines: Deadlines::default(),
        }
    }
}

impl PullOptions {
    /// With the credentials that Docker's and podman's logins leave for this user: DOCKER_CONFIG, REGISTRY_AUTH_FILE,
    /// `~/.docker/config.json`, podman's run-time file; and Docker's folder of certificates.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
        let podman = variable("REGISTRY_AUTH_FILE")
            .or_else(|| variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")));
        PullOptions {
            auth_files: docker.map(|dir| dir.join("config.json")).into_iter().chain(podman).collect(),
            certificates: Some(PathBuf::from("/etc/docker/certs.d")),
            ..PullOptions::default()
        }
    }
}

/// Fetches what is missing of an image and names it. A digest that is in the store is answered from there; a tag is
/// asked for again, as the registry may have moved it. To be called in a tokio runtime.
pub async fn pull(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
) -> Result<Image, PullError> {
    if reference.digest().is_some()
        && let Some(image) = store.find(reference)?
    {
        let image = adopt(store, image)?;
        progress.done();
        return Ok(image);
    }
    let work = Arc::new(Pull {
        store: store.clone(),
        registry: Registry::new(reference, options)?,
        lease: Lease::new(store)?,
        progress,
        platform: options.platform.clone().unwrap_or_else(Platform::host),
        deadlines: options.deadlines,
        slots: Semaphore::new(options.concurrency.max(1)),
    });
    let resolved = work.resolve(reference).await?;
    let layers = work.wanted_layers(&resolved)?;
    work.fetch_layers(layers.clone()).await?;
    let image = in_background({
        let (work, reference) = (Arc::clone(&work), reference.clone());
        move || work.name(reference, resolved, &layers)
    })
    .await?;
    work.progress.done();
    Ok(image)
}

/// The same image under one more name.
fn adopt(store: &Store, image: Image) -> Result<Image, PullError> {
    Ok(store.name(NewImage {
        reference: image.reference,
        digest: image.digest,
        index_digest: image.index_digest,
        config_digest: image.config_digest,
        config: image.config,
        created: image.created,
        layers: image.layer_digests,
    })?)
}

pub(crate) struct Pull {
    store: Store,
    registry: Registry,
    lease: Lease,
    progress: Arc<dyn Progress>,
    platform: Platform,
    deadlines: Deadlines,
    /// How many layers may come at once.
    slots: Semaphore,
}

struct Resolved {
    index_digest: Option<Digest>,
    fetched: Fetched,
    manifest: Manifest,
    config_bytes: Vec<u8>,
    config: ConfigFile,
}

/// A layer with everything promised about it.
#[derive(Clone)]
pub(crate) struct Wanted {
    descriptor: Descriptor,
    diff_id: Digest,
}

impl Pull {
    async fn resolve(&self, reference: &Reference) -> Result<Resolved, PullError> {
        let mut wanted = reference.wanted();
        let (mut index_digest, mut size) = (None, None);
        for _ in 0..=MAX_INDEX_DEPTH {
            let fetched = self.registry.manifest(&wanted).await?;
            let what = format!("manifest {wanted} of {reference}");
            if let Some(size) = size.filter(|size| *size != fetched.bytes.len() as u64) {
                let why = format!("it has {} bytes, not {size} as the index says", fetched.bytes.len());
                return Err(PullError::Corrupt { what, why, source: None });
            }
            let document = document::parse(&fetched.bytes, fetched.content_type.as_deref());
            match document.map_err(|source| unusable(&what, source))? {
                Document::Manifest(manifest) => return self.with_config(index_digest, fetched, manifest).await,
                Document::Index(entries) => {
                    index_digest = index_digest.or(Some(fetched.digest));
                    let chosen = platform::choose(&self.platform, &entries)
                        .ok_or_else(|| self.no_platform(reference, &entries))?;
                    (wanted, size) = (chosen.digest.to_string(), Some(chosen.size));
                }
            }
        }
        let why = format!("its index leads to more than {MAX_INDEX_DEPTH} others");
        Err(PullError::Unsupported { what: reference.to_string(), why })
    }

    async fn with_config(
        &self,
        index_digest: Option<Digest>,
        fetched: Fetched,
        manifest: Manifest,
    ) -> Result<Resolved, PullError> {
        let what = format!("configuration {}", manifest.config.digest);
        let config_bytes = self.registry.document(&manifest.config.digest, manifest.config.size).await?;
        let config = document::parse_config(&config_bytes).map_err(|source| unusable(&what, source))?;
        check_layer_count(manifest.layers.len(), &config)?;
        let offered = Platform {
            os: config.config.os.clone(),
            architecture: config.config.architecture.clone(),
            variant: config.config.variant.clone(),
        };
        let says_nothing = offered.os.is_empty() && offered.architecture.is_empty();
        if !says_nothing && !self.platform.can_run(&offered) {
            return Err(PullError::Unsupported {
                what: "the image".to_owned(),
                why: format!("it is for {offered}, not {}", self.platform),
            });
        }
        Ok(Resolved { index_digest, fetched, manifest, config_bytes, config })
    }

    fn no_platform(&self, reference: &Reference, entries: &[Descriptor]) -> PullError {
        let offered: Vec<String> =
            entries.iter().filter_map(|entry| entry.platform.as_ref()).take(20).map(Platform::to_string).collect();
        let why = format!("it has no image for {}, only for {}", self.platform, offered.join(", "));
        PullError::Unsupported { what: reference.to_string(), why }
    }

    fn wanted_layers(&self, resolved: &Resolved) -> Result<Vec<Wanted>, PullError> {
        let pairs = resolved.manifest.layers.iter().zip(&resolved.config.diff_ids);
        let wanted: Vec<Wanted> =
            pairs.map(|(descriptor, diff_id)| Wanted { descriptor: descriptor.clone(), diff_id: *diff_id }).collect();
        if let Some(large) = wanted.iter().find(|layer| layer.descriptor.size > MAX_BLOB_BYTES) {
            return Err(PullError::TooLarge {
                what: format!("layer {}", large.descriptor.digest),
                limit: MAX_BLOB_BYTES,
            });
        }
        let mut digests = vec![resolved.fetched.digest, resolved.manifest.config.digest];
        digests.extend(wanted.iter().flat_map(|layer| [layer.diff_id, layer.descriptor.digest]));
        self.lease.add(&digests)?;
        Ok(wanted)
    }

    /// Until every layer is in place. A layer that another process works on is waited for, without holding any lock
    /// meanwhile, so that two pulls can never wait for each other.
    async fn fetch_layers(self: &Arc<Self>, wanted: Vec<Wanted>) -> Result<(), PullError> {
        let mut seen = std::collections::HashSet::new();
        let mut missing: Vec<Wanted> = wanted.into_iter().filter(|layer| seen.insert(layer.diff_id)).collect();
        let mut announced = false;
        loop {
            let mut rest = Vec::new();
            for layer in missing {
                match self.store.layer(&layer.diff_id)? {
                    Some(_) => self.progress.present(&layer.descriptor.digest),
                    None => rest.push(layer),
                }
            }
            if rest.is_empty() {
                return Ok(());
            }
            if !announced {
                rest.iter().for_each(|layer| self.progress.layer(&layer.descriptor.digest, layer.descriptor.size));
                announced = true;
            }
            missing = self.round(rest).await?;
            if missing.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(BUSY_POLL).await;
        }
    }

    /// One attempt at all of them; gives those that somebody else has in hand.
    async fn round(self: &Arc<Self>, layers: Vec<Wanted>) -> Result<Vec<Wanted>, PullError> {
        let writeback = Writeback::start(&self.store)?;
        let mut tasks = JoinSet::new();
        for layer in layers {
            let work = Arc::clone(self);
            tasks.spawn(async move {
                let _slot = work.slots.acquire().await.expect("nobody closes the semaphore");
                fetch_layer(&work, layer).await
            });
        }
        let (mut staged, mut busy, mut failure): (Vec<Staged>, Vec<Wanted>, Option<PullError>) = Default::default();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok(Ok(Outcome::Staged(layer))) => staged.push(layer),
                Ok(Ok(Outcome::Busy(layer))) => busy.push(layer),
                Ok(Err(error)) => {
                    failure.get_or_insert(error);
                    tasks.abort_all();
                }
                Err(aborted) if aborted.is_cancelled() => {}
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        drop(writeback);
        let digests: Vec<Digest> = staged.iter().map(|layer| layer.unpacked.blob).collect();
        let store = self.store.clone();
        // Also after a failure: whoever tries again need not fetch these.
        in_background(move || ingest::commit(&store, staged)).await?;
        match failure {
            Some(failure) => Err(failure),
            None => {
                digests.iter().for_each(|digest| self.progress.unpacked(digest));
                Ok(busy)
            }
        }
    }

    fn name(&self, reference: Reference, resolved: Resolved, wanted: &[Wanted]) -> Result<Image, Error> {
        let mut layers = Vec::new();
        for layer in wanted {
            let known = self
                .store
                .layer(&layer.diff_id)?
                .ok_or_else(|| Error::NotFound { reference: Box::new(reference.clone()) })?;
            layers.push(Layer { blob: layer.descriptor.digest, blob_bytes: layer.descriptor.size, ..known });
        }
        let config_digest = self.store.put_document(&resolved.config_bytes)?;
        let digest = self.store.put_document(&resolved.fetched.bytes)?;
        self.store.name(NewImage {
            reference,
            digest,
            index_digest: resolved.index_digest,
            config_digest,
            config: resolved.config.config,
            created: resolved.config.created,
            layers,
        })
    }
}

fn unusable(what: &str, source: DocumentError) -> PullError {
    match source {
        DocumentError::Malformed { .. } => PullError::Corrupt {
            what: what.to_owned(),
            why: "it is not what an image has".to_owned(),
            source: Some(Box::new(source)),
        },
        DocumentError::Unsupported { why, .. } => PullError::Unsupported { what: what.to_owned(), why },
        DocumentError::TooLarge { why, .. } => PullError::Unsupported { what: what.to_owned(), why },
    }
}

/// Files are not waited for on the threads that wait for sockets.
pub(crate) async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
