//! Images from files: `docker save` archives, OCI layouts, and a bare root file system.

mod archive;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use serde::Deserialize;

use crate::build;
use crate::digest::Digest;
use crate::document::{self, Config, ConfigFile, Descriptor, Document, DocumentError, Manifest};
use crate::error::{Error, io};
use crate::ingest::{self, Ingest, Keep, Staged, Writeback};
use crate::layer::{self, At, Compression, FileChunks, Promised};
use crate::lease::Lease;
use crate::limits::{MAX_ARCHIVE_IMAGES, MAX_BLOB_BYTES, MAX_DOCUMENT_BYTES, MAX_INDEX_DEPTH, MAX_LAYERS};
use crate::platform::{self, Platform};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{Image, Layer, NewImage, Store};
use archive::Files;

/// Layers unpacked at once. More than a few only compete for the disk.
const MAX_THREADS: usize = 4;

/// Where an archive comes from.
pub enum Source<'a> {
    /// A file, or the folder of an OCI layout.
    Path(&'a Path),
    /// A stream, such as standard input; it is spooled into the store first.
    Reader(Box<dyn Read + 'a>),
}

/// All but `name` and `platform` describe a bare root file system, which cannot say it itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Instead of the name in the archive; needed where there is none.
    pub name: Option<Reference>,
    /// This host's where not given.
    pub platform: Option<Platform>,
    pub cmd: Vec<String>,
    pub entrypoint: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: String,
    /// `80/tcp`.
    pub expose: Vec<String>,
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl ImportOptions {
    fn describes_a_root_file_system(&self) -> bool {
        let plain = ImportOptions { name: None, platform: None, ..self.clone() };
        plain != ImportOptions::default()
    }

    fn config(&self) -> Config {
        let platform = self.platform.clone().unwrap_or_else(Platform::host);
        Config {
            user: self.user.clone(),
            env: self.env.clone(),
            entrypoint: self.entrypoint.clone(),
            cmd: self.cmd.clone(),
            working_dir: self.working_dir.clone(),
            stop_signal: self.stop_signal.clone(),
            volumes: self.volumes.clone(),
            labels: self.labels.clone(),
            exposed_ports: self.expose.clone(),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
        }
    }
}

/// Takes every image of the archive that this platform can run. The kind of archive and its compression are found out.
pub fn import(
    store: &Store,
    source: Source<'_>,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Vec<Image>, Error> {
    let input = archive::open(store, source)?;
    let _writeback = Writeback::start(store)?;
    let work = Import { store, lease: Lease::new(store)?, options, progress };
    if matches!(input, archive::Input::Images(_)) && options.describes_a_root_file_system() {
        return Err(archive_error(
            "the archive holds images, which say themselves what they run; only a bare root file system is told by options",
        ));
    }
    let images = match &input {
        archive::Input::Images(files) if files.has("index.json") => work.oci(files)?,
        archive::Input::Images(files) => work.docker(files)?,
        archive::Input::RootFs(rootfs) => vec![work.rootfs(rootfs)?],
    };
    progress.done();
    Ok(images)
}

struct Import<'a> {
    store: &'a Store,
    lease: Lease,
    options: &'a ImportOptions,
    progress: &'a dyn Progress,
}

/// An image found in an archive, with everything that decides about it but its layers.
struct Found {
    names: Vec<Reference>,
    index_digest: Option<Digest>,
    /// As it was, or `None` where an old docker-save archive has none.
    manifest: Option<Vec<u8>>,
    config_bytes: Vec<u8>,
    config: ConfigFile,
    layers: Vec<FoundLayer>,
}

#[derive(Clone)]
struct FoundLayer {
    path: String,
    blob: Option<(Digest, u64)>,
    diff_id: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn archive_error(what: impl Into<String>) -> Error {
    Error::Archive { what: what.into() }
}

fn document_error(what: &str) -> impl FnOnce(DocumentError) -> Error {
    move |source| Error::Document { what: what.to_owned(), source }
}

impl Import<'_> {
    fn platform(&self) -> Platform {
        self.options.platform.clone().unwrap_or_else(Platform::host)
    }

    fn oci(&self, files: &Files) -> Result<Vec<Image>, Error> {
        let index = files.document("index.json")?.ok_or_else(|| archive_error("the OCI layout has no index.json"))?;
        let Document::Index(entries) =
            document::parse(&index, Some(document::OCI_INDEX)).map_err(document_error("index.json"))?
        else {
            return Err(archive_error("index.json of the OCI layout is not an image index"));
        };
        let docker_names = docker_names(files)?;
        let wanted = self.platform();
        // Either each entry is an image of its own, or together they are one image for several platforms.
        let chosen: Vec<&Descriptor> = match platform::choose(&wanted, &entries) {
            Some(best) if entries.iter().all(|entry| entry_name(entry).is_none()) => vec![best],
            _ => entries
                .iter()
                .filter(|entry| entry.platform.is_none() || platform::choose(&wanted, &[(*entry).clone()]).is_some())
                .collect(),
        };
        if chosen.is_empty() {
            return Err(no_platform(&wanted, &entries));
        }
        if chosen.len() > MAX_ARCHIVE_IMAGES {
            return Err(archive_error(format!("the archive has more than {MAX_ARCHIVE_IMAGES} images")));
        }
        let mut found = Vec::new();
        for entry in chosen {
            found.push(self.oci_image(files, entry, &docker_names)?);
        }
        self.finish(files, found)
    }

    fn oci_image(
        &self,
        files: &Files,
        entry: &Descriptor,
        docker_names: &HashMap<String, Vec<String>>,
    ) -> Result<Found, Error> {
        let mut descriptor = entry.clone();
        let mut index_digest = None;
        for _ in 0..=MAX_INDEX_DEPTH {
            let bytes = blob_document(files, &descriptor)?;
            match document::parse(&bytes, Some(&descriptor.media_type))
                .map_err(document_error(&descriptor.digest.to_string()))?
            {
                Document::Manifest(manifest) => {
                    return self.oci_manifest(files, entry, docker_names, index_digest, bytes, manifest);
                }
                Document::Index(entries) => {
                    index_digest = index_digest.or(Some(descriptor.digest));
                    let wanted = self.platform();
                    descriptor =
                        platform::choose(&wanted, &entries).ok_or_else(|| no_platform(&wanted, &entries))?.clone();
                }
            }
        }
        Err(archive_error(format!("an image index leads to more than {MAX_INDEX_DEPTH} others")))
    }

    fn oci_manifest(
        &self,
        files: &Files,
        entry: &Descriptor,
        docker_names: &HashMap<String, Vec<String>>,
        index_digest: Option<Digest>,
        bytes: Vec<u8>,
        manifest: Manifest,
    ) -> Result<Found, Error> {
        let config_bytes = blob_document(files, &manifest.config)?;
        let config =
            document::parse_config(&config_bytes).map_err(document_error(&manifest.config.digest.to_string()))?;
        check_layer_count(manifest.layers.len(), &config)?;
        let layers = manifest.layers.iter().zip(&config.diff_ids).map(|(layer, diff_id)| FoundLayer {
            path: blob_path(&layer.digest),
            blob: Some((layer.digest, layer.size)),
            diff_id: *diff_id,
        });
        let layers = layers.collect();
        let names = match (&self.options.name, entry_name(entry)) {
            (Some(name), _) => vec![name.clone()],
            (None, Some(name)) => vec![name.parse().map_err(Error::Name)?],
            (None, None) => parse_names(docker_names.get(&manifest.config.digest.hex()).into_iter().flatten())?,
        };
        Ok(Found { names, index_digest, manifest: Some(bytes), config_bytes, config, layers })
    }

    fn docker(&self, files: &Files) -> Result<Vec<Image>, Error> {
        let mut found = Vec::new();
        for image in docker_manifest(files)? {
            let config_bytes = files
                .document(&image.config)?
                .ok_or_else(|| archive_error(format!("the archive has no {}", image.config)))?;
            let config = document::parse_config(&config_bytes).map_err(document_error(&image.config))?;
            let paths = image.layers.unwrap_or_default();
            check_layer_count(paths.len(), &config)?;
            let layers = paths.into_iter().zip(&config.diff_ids);
            let layers = layers.map(|(path, diff_id)| FoundLayer { path, blob: None, diff_id: *diff_id }).collect();
            let names = match &self.options.name {
                Some(name) => vec![name.clone()],
                None => parse_names(image.repo_tags.iter().flatten())?,
            };
            found.push(Found { names, index_digest: None, manifest: None, config_bytes, config, layers });
        }
        self.finish(files, found)
    }

    /// Unpacks the layers of all images, each once, and names the images.
    fn finish(&self, files: &Files, found: Vec<Found>) -> Result<Vec<Image>, Error> {
        if self.options.name.is_some() && found.len() != 1 {
            return Err(archive_error(format!(
                "the archive has {} images, so one name cannot be given to them",
                found.len()
            )));
        }
        for image in &found {
            check_platform(&self.platform(), &image.config.config)?;
            if image.names.is_empty() {
                return Err(archive_error("an image in the archive has no name; give one with --name"));
            }
        }
        let mut wanted: HashMap<Digest, FoundLayer> = HashMap::new();
        for layer in found.iter().flat_map(|image| &image.layers) {
            wanted.entry(layer.diff_id).or_insert_with(|| layer.clone());
        }
        let mut layers = self.unpack_all(files, wanted.into_values().collect())?;
        let mut images = Vec::new();
        for image in found {
            images.extend(self.name(image, &mut layers)?);
        }
        Ok(images)
    }

    fn unpack_all(&self, files: &Files, wanted: Vec<FoundLayer>) -> Result<HashMap<Digest, Layer>, Error> {
        self.lease.add(&wanted.iter().map(|layer| layer.diff_id).collect::<Vec<_>>())?;
        let (mut done, mut missing) = (HashMap::new(), Vec::new());
        for layer in wanted {
            match self.store.layer(&layer.diff_id)? {
                Some(present) => {
                    self.progress.present(&layer.diff_id);
                    done.insert(layer.diff_id, present);
                }
                None => missing.push(layer),
            }
        }
        // The largest, which are usually the lowest, take longest and go first.
        let queue = Mutex::new(missing.into_iter());
        let results = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().expect("no thread panics with the lock").next();
                        let Some(layer) = next else { return };
                        let staged = self.unpack(files, &layer);
                        results.lock().expect("no thread panics with the lock").push(staged);
                    }
                });
            }
        });
        let staged: Vec<Staged> =
            results.into_inner().expect("every thread has ended").into_iter().collect::<Result<_, _>>()?;
        self.lease.add(&staged.iter().map(|each| each.unpacked.blob).collect::<Vec<_>>())?;
        done.extend(staged.iter().map(|each| (each.unpacked.diff_id, each.layer())));
        ingest::commit(self.store, staged)?;
        Ok(done)
    }

    fn unpack(&self, files: &Files, layer: &FoundLayer) -> Result<Staged, Error> {
        let (content, size) = files
            .open(&layer.path)?
            .ok_or_else(|| archive_error(format!("the archive has no layer {}", layer.path)))?;
        if size > MAX_BLOB_BYTES {
            return Err(archive_error(format!("layer {} has {size} bytes; the limit is {MAX_BLOB_BYTES}", layer.path)));
        }
        self.progress.layer(&layer.diff_id, size);
        let promised = Promised {
            blob: layer.blob.map(|(digest, _)| digest),
            size: layer.blob.map(|(_, size)| size),
            diff_id: Some(layer.diff_id),
        };
        let staged = self.stage(content, size, promised, &layer.diff_id, &layer.path)?;
        self.progress.unpacked(&layer.diff_id);
        Ok(staged)
    }

    fn stage(
        &self,
        content: Box<dyn Read + '_>,
        size: u64,
        promised: Promised,
        shown: &Digest,
        path: &str,
    ) -> Result<Staged, Error> {
        let ingest = Ingest::anonymous(self.store)?;
        let blob = ingest.blob();
        let file = blob.file.try_clone().map_err(io("write", &blob.path))?;
        let counted = Counted { chunks: FileChunks::new(content, size), progress: self.progress, layer: *shown };
        let chunks = Keep { chunks: counted, file, at: 0 };
        let unpacked = layer::unpack(Box::new(chunks), ingest.new_tree()?, promised);
        let unpacked = unpacked.map_err(|source| Error::Layer { layer: path.to_owned(), source })?;
        Ok(Staged { ingest, unpacked })
    }

    fn name(&self, image: Found, layers: &mut HashMap<Digest, Layer>) -> Result<Vec<Image>, Error> {
        let of = |layer: &FoundLayer| -> Layer {
            let mut known = layers[&layer.diff_id].clone();
            // The manifest keeps its own blob's name even where the layer was unpacked from another.
            if let Some((blob, size)) = layer.blob {
                (known.blob, known.blob_bytes) = (blob, size);
            }
            known
        };
        let own: Vec<Layer> = image.layers.iter().map(of).collect();
        let config_digest = Digest::of(&image.config_bytes);
        let manifest =
            image.manifest.unwrap_or_else(|| build::manifest(config_digest, image.config_bytes.len() as u64, &own));
        let digest = Digest::of(&manifest);
        self.lease.add(&[digest, config_digest])?;
        self.store.put_document(&image.config_bytes)?;
        self.store.put_document(&manifest)?;
        let named = image.names.into_iter().map(|reference| {
            self.store.name(NewImage {
                reference,
                digest,
                index_digest: image.index_digest,
                config_digest,
                config: image.config.config.clone(),
                created: image.config.created.clone(),
                layers: own.clone(),
            })
        });
        named.collect()
    }

    fn rootfs(&self, rootfs: &archive::RootFs) -> Result<Image, Error> {
        let name = self.options.name.clone().ok_or_else(|| {
            archive_error("the archive has neither index.json nor manifest.json, so it is a bare root file system: give it a name with --name")
        })?;
        let config = self.options.config();
        let shown = Digest::of(name.to_string().as_bytes());
        self.progress.layer(&shown, rootfs.size);
        let file = rootfs.file.try_clone().map_err(io("read", "the archive"))?;
        let content = Box::new(At { file, offset: 0 });
        let staged = self.stage(content, rootfs.size, Promised::default(), &shown, "the root file system")?;
        if staged.unpacked.extracted.entries == 0 {
            return Err(archive_error("the archive is empty"));
        }
        let layer = staged.layer();
        self.lease.add(&[layer.diff_id, layer.blob])?;
        ingest::commit(self.store, vec![staged])?;
        self.progress.unpacked(&shown);
        build::image(self.store, &self.lease, name, config, vec![layer])
    }
}

/// Reports what passes.
struct Counted<'a, C> {
    chunks: C,
    progress: &'a dyn Progress,
    layer: Digest,
}

impl<C: layer::Chunks> layer::Chunks for Counted<'_, C> {
    fn next(&mut self) -> std::io::Result<bytes::Bytes> {
        let chunk = self.chunks.next()?;
        self.progress.bytes(&self.layer, chunk.len() as u64);
        Ok(chunk)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn blob_document(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let path = blob_path(&descriptor.digest);
    let bytes = files.document(&path)?.ok_or_else(|| archive_error(format!("the archive has no {path}")))?;
    if Digest::of(&bytes) != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(archive_error(format!("{path} in the archive is not what its digest and size say")));
    }
    Ok(bytes)
}

/// A whole name, as containerd, Docker and podman annotate it. A bare tag, which is what the specification has in mind
/// for `ref.name`, names nothing on its own.
fn entry_name(entry: &Descriptor) -> Option<&str> {
    let containerd = entry.annotations.get("io.containerd.image.name");
    let plain = entry.annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']));
    containerd.or(plain).map(String::as_str)
}

fn docker_manifest(files: &Files) -> Result<Vec<DockerManifest>, Error> {
    let Some(bytes) = files.document("manifest.json")? else { return Ok(Vec::new()) };
    let images: Vec<DockerManifest> = serde_json::from_slice(&bytes)
        .map_err(|error| archive_error(format!("manifest.json in the archive is malformed: {error}")))?;
    if images.is_empty() || images.len() > MAX_ARCHIVE_IMAGES {
        return Err(archive_error(format!(
            "manifest.json in the archive names {} images; 1 to {MAX_ARCHIVE_IMAGES} make sense",
            images.len()
        )));
    }
    Ok(images)
}

/// A docker-save archive that is an OCI layout, too, has its names in both; by the configuration's digest.
fn docker_names(files: &Files) -> Result<HashMap<String, Vec<String>>, Error> {
    let names = docker_manifest(files)?.into_iter().map(|image| {
        let file = image.config.rsplit('/').next().unwrap_or_default();
        (file.trim_end_matches(".json").to_owned(), image.repo_tags.unwrap_or_default())
    });
    Ok(names.collect())
}

fn parse_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<Vec<Reference>, Error> {
    names.map(|name| name.parse().map_err(Error::Name)).collect()
}

pub(crate) fn check_layer_count(layers: usize, config: &ConfigFile) -> Result<(), Error> {
    if layers != config.diff_ids.len() || layers > MAX_LAYERS {
        return Err(archive_error(format!(
            "the manifest has {layers} layers and the configuration {}; they must be as many, and {MAX_LAYERS} at most",
            config.diff_ids.len()
        )));
    }
    Ok(())
}

fn check_platform(wanted: &Platform, config: &Config) -> Result<(), Error> {
    if config.os.is_empty() && config.architecture.is_empty() {
        return Ok(());
    }
    let offered =
        Platform { os: config.os.clone(), architecture: config.architecture.clone(), variant: config.variant.clone() };
    if wanted.can_run(&offered) {
        return Ok(());
    }
    Err(archive_error(format!(
        "the image is for {offered}, not {wanted}; take one for this platform, or ask for that one with --platform"
    )))
}

fn no_platform(wanted: &Platform, entries: &[Descriptor]) -> Error {
    let offered: Vec<String> =
        entries.iter().filter_map(|entry| entry.platform.as_ref()).take(20).map(Platform::to_string).collect();
    archive_error(format!("the image index has nothing for {wanted}; it has {}", offered.join(", ")))
}
