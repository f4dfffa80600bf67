//! Images out of the store, as archives that Docker, podman, containerd and this program's own `import` take.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use crate::build;
use crate::digest::{Digest, Hasher};
use crate::document::{OCI_INDEX, OCI_MANIFEST};
use crate::error::{Error, io as failed};
use crate::layer::{self, FileChunks};
use crate::lease::Lease;
use crate::limits::BUFFER_BYTES;
use crate::reference::Reference;
use crate::store::{Image, Layer, Store};
use crate::tar::write::{self, Member};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout in a tar file: blobs as they were pulled, digests unchanged.
    OciArchive,
    /// As `docker save` wrote it before version 25: layers decompressed.
    DockerArchive,
}

/// Writes all images into one archive; a blob that several share goes in once. What was written before an error is no
/// archive.
pub fn export(store: &Store, references: &[Reference], to: &mut dyn Write, format: Format) -> Result<(), Error> {
    let mut sources = Vec::new();
    for reference in references {
        let not_found = || Error::NotFound { reference: Box::new(reference.clone()) };
        let image = store.find(reference)?.ok_or_else(not_found)?;
        let lease = store.lease(&image)?;
        sources.push(Exported { layers: blobs(store, &image)?, _lease: lease, image });
    }
    let mut archive = Archive { store, to, written: HashSet::new() };
    match format {
        Format::OciArchive => archive.oci(&sources)?,
        Format::DockerArchive => archive.docker(&sources)?,
    }
    write::end(archive.to).map_err(failed("write", "the archive"))
}

struct Exported {
    image: Image,
    /// With the blobs that the store really has.
    layers: Vec<Layer>,
    _lease: Lease,
}

/// An image may share an unpacked layer whose blob came from another image; then that blob stands in.
fn blobs(store: &Store, image: &Image) -> Result<Vec<Layer>, Error> {
    let present = |layer: &Layer| store.blob_path(&layer.blob).is_file();
    let mut layers = Vec::new();
    for layer in &image.layer_digests {
        let layer = match store.layer(&layer.diff_id)? {
            _ if present(layer) => layer.clone(),
            Some(known) if present(&known) => known,
            Some(_) | None => {
                return Err(Error::BlobGone { reference: Box::new(image.reference.clone()), digest: layer.blob });
            }
        };
        layers.push(layer);
    }
    Ok(layers)
}

struct Archive<'a> {
    store: &'a Store,
    to: &'a mut dyn Write,
    written: HashSet<String>,
}

impl Archive<'_> {
    fn oci(&mut self, sources: &[Exported]) -> Result<(), Error> {
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for dir in ["blobs/", "blobs/sha256/"] {
            write::directory(self.to, dir, 0o755).map_err(failed("write", "the archive"))?;
        }
        let mut entries: Vec<Value> = Vec::new();
        for Exported { image, layers, .. } in sources {
            let config = self.store.read_blob(&image.reference, &image.config_digest)?;
            let manifest = match *layers == image.layer_digests {
                true => self.store.read_blob(&image.reference, &image.digest)?,
                // Its own blobs are gone, so it gets a manifest for those that stand in.
                false => build::manifest(image.config_digest, config.len() as u64, layers),
            };
            let media_type = media_type(&manifest);
            entries.push(json!({
                "mediaType": media_type,
                "digest": Digest::of(&manifest),
                "size": manifest.len(),
                "platform": { "os": image.config.os, "architecture": image.config.architecture },
                "annotations": {
                    "io.containerd.image.name": image.reference.to_string(),
                    "org.opencontainers.image.ref.name": image.reference.tag().unwrap_or_default(),
                },
            }));
            self.file(&blob_name(&Digest::of(&manifest)), &manifest)?;
            self.file(&blob_name(&image.config_digest), &config)?;
            for layer in layers {
                self.blob(image, layer)?;
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        self.file("index.json", &serde_json::to_vec(&index).expect("an index is strings and numbers"))
    }

    fn docker(&mut self, sources: &[Exported]) -> Result<(), Error> {
        let mut entries: Vec<Value> = Vec::new();
        for Exported { image, layers, .. } in sources {
            let config = self.store.read_blob(&image.reference, &image.config_digest)?;
            let config_name = format!("{}.json", image.config_digest.hex());
            self.file(&config_name, &config)?;
            let mut names = Vec::new();
            for layer in layers {
                let name = format!("{}/layer.tar", layer.diff_id.hex());
                self.plain_layer(image, layer, &name)?;
                names.push(name);
            }
            let tags: Vec<String> = image.reference.tag().map(|_| image.reference.to_string()).into_iter().collect();
            entries.push(json!({ "Config": config_name, "RepoTags": tags, "Layers": names }));
        }
        self.file("manifest.json", &serde_json::to_vec(&entries).expect("a manifest is strings"))
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        write::file(self.to, name, 0o644, content).map_err(failed("write", "the archive"))
    }

    /// A blob as it is; a bit that has changed at rest makes the export fail rather than spread.
    fn blob(&mut self, image: &Image, layer: &Layer) -> Result<(), Error> {
        let name = blob_name(&layer.blob);
        if !self.written.insert(name.clone()) {
            return Ok(());
        }
        let path = self.store.blob_path(&layer.blob);
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        self.content(image, &name, layer.blob_bytes, &mut file, layer.blob)
    }

    fn plain_layer(&mut self, image: &Image, layer: &Layer, name: &str) -> Result<(), Error> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        write::directory(self.to, &format!("{}/", layer.diff_id.hex()), 0o755)
            .map_err(failed("write", "the archive"))?;
        let path = self.store.blob_path(&layer.blob);
        let open = || File::open(&path).map_err(failed("open", &path));
        // A tar header says the size first, so the layer is decompressed once to measure it.
        let plain = |file: File| {
            let chunks = Box::new(FileChunks::new(file, layer.blob_bytes));
            layer::decompressed(chunks).map_err(failed("read", &path))
        };
        let size = io::copy(&mut plain(open()?)?, &mut io::sink()).map_err(failed("read", &path))?;
        self.content(image, name, size, &mut plain(open()?)?, layer.diff_id)
    }

    fn content(
        &mut self,
        image: &Image,
        name: &str,
        size: u64,
        from: &mut dyn Read,
        digest: Digest,
    ) -> Result<(), Error> {
        let cannot_write = || failed("write", "the archive");
        self.to.write_all(&write::header(name, 0o644, Member::File { size })).map_err(cannot_write())?;
        let (mut hasher, mut buffer, mut left) = (Hasher::new(), vec![0; BUFFER_BYTES], size);
        while left > 0 {
            let most = usize::try_from(left.min(BUFFER_BYTES as u64)).expect("no more than a buffer");
            let read = from.read(&mut buffer[..most]).map_err(failed("read", name))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            self.to.write_all(&buffer[..read]).map_err(cannot_write())?;
            left -= read as u64;
        }
        if left > 0 || hasher.finish() != digest {
            return Err(Error::BlobGone { reference: Box::new(image.reference.clone()), digest });
        }
        write::pad(self.to, size).map_err(cannot_write())
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Docker's manifests keep their own media type, which the digest covers.
fn media_type(manifest: &[u8]) -> String {
    let manifest: Option<Value> = serde_json::from_slice(manifest).ok();
    let own = manifest.as_ref().and_then(|manifest| manifest.get("mediaType")?.as_str());
    own.unwrap_or(OCI_MANIFEST).to_owned()
}
