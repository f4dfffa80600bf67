//! Images for tests: OCI archives and layouts, docker-save archives and the blobs of a registry, honest or not.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::tar::Tar;

/// The name under which tests import the probe.
pub(crate) const PROBE: &str = "probe:latest";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn digest(bytes: &[u8]) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digits: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}

#[derive(Clone)]
pub(crate) struct Image {
    /// Uncompressed layers, the lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
    /// The `config` member of the image configuration.
    pub(crate) config: Value,
    /// What the configuration claims the layers' digests are; the truth when absent.
    pub(crate) diff_ids: Option<Vec<String>>,
    pub(crate) compressed: bool,
}

/// A base to put attacks on: the probe as /bin/probe and /bin/sh, users, and empty directories.
pub(crate) fn base_layer() -> Tar {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| std::fs::read(super::probe()).expect("the probe can be read"));
    Tar::new()
        .directory("bin/")
        .file("bin/probe", 0o755, program)
        .hardlink("bin/sh", "bin/probe")
        .directory("tmp/")
        .directory("home/")
        .directory("work/")
}

/// `base_layer` with the users that tests name.
pub(crate) fn probe_layer() -> Tar {
    base_layer()
        .directory("etc/")
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nana:x:1000:1000:Ana:/home/ana:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nana:x:1000:\nboat:x:2000:ana\noars:x:2001:ana,root\n")
}

pub(crate) fn probe_image() -> Image {
    Image::of(vec![probe_layer().finish()])
}

impl Image {
    /// These layers with the probe as entry point.
    pub(crate) fn of(layers: Vec<Vec<u8>>) -> Self {
        let config = json!({ "Entrypoint": ["/bin/probe"], "Env": ["PATH=/bin"], "WorkingDir": "/" });
        Self { layers, config, diff_ids: None, compressed: false }
    }

    pub(crate) fn with_config(mut self, members: &Value) -> Self {
        for (member, value) in members.as_object().into_iter().flatten() {
            self.config[member] = value.clone();
        }
        self
    }

    pub(crate) fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }

    fn config_blob(&self) -> Vec<u8> {
        let diff_ids = self.diff_ids.clone().unwrap_or_else(|| self.layers.iter().map(|layer| digest(layer)).collect());
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": self.config, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        config.to_string().into_bytes()
    }

    /// The manifest and all blobs by digest, as a registry holds them.
    pub(crate) fn blobs(&self) -> Blobs {
        let mut blobs = BTreeMap::new();
        let mut layers = Vec::new();
        for layer in &self.layers {
            let (bytes, media_type) = if self.compressed {
                (gzip(layer), format!("{LAYER}+gzip"))
            } else {
                (layer.clone(), LAYER.to_owned())
            };
            layers.push(json!({ "mediaType": media_type, "digest": digest(&bytes), "size": bytes.len() }));
            blobs.insert(digest(&bytes), bytes);
        }
        let config = self.config_blob();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": { "mediaType": CONFIG, "digest": digest(&config), "size": config.len() },
        });
        let config_digest = digest(&config);
        blobs.insert(config_digest.clone(), config);
        let manifest = manifest.to_string().into_bytes();
        let layer_digests =
            layers.iter().map(|layer| layer["digest"].as_str().unwrap_or_default().to_owned()).collect();
        Blobs { manifest_digest: digest(&manifest), manifest, config_digest, layer_digests, blobs }
    }

    /// An OCI layout in a tar archive, one image with a name.
    pub(crate) fn oci_archive(&self, name: &str) -> Vec<u8> {
        let mut tar = Tar::new();
        for (path, content) in self.blobs().layout(name) {
            tar = tar.file(&path, 0o644, &content);
        }
        tar.finish()
    }

    pub(crate) fn write_oci_layout(&self, name: &str, folder: &Path) {
        std::fs::create_dir_all(folder.join("blobs/sha256")).expect("a test may write to its own directory");
        for (path, content) in self.blobs().layout(name) {
            std::fs::write(folder.join(path), content).expect("a test may write to its own directory");
        }
    }

    /// What `docker save` writes (<https://github.com/moby/docker-image-spec/blob/main/v1.2.md>).
    pub(crate) fn docker_archive(&self, name: &str) -> Vec<u8> {
        let config = self.config_blob();
        let config_name = format!("{}.json", &digest(&config)["sha256:".len()..]);
        let layer_names: Vec<String> = (0..self.layers.len()).map(|number| format!("{number}/layer.tar")).collect();
        let index = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layer_names }]);
        let mut tar = Tar::new().file(&config_name, 0o644, &config);
        for (path, layer) in layer_names.iter().zip(&self.layers) {
            tar = tar.file(path, 0o644, layer);
        }
        tar.file("manifest.json", 0o644, index.to_string().as_bytes()).finish()
    }
}

#[derive(Clone)]
pub(crate) struct Blobs {
    pub(crate) manifest: Vec<u8>,
    pub(crate) manifest_digest: String,
    pub(crate) config_digest: String,
    pub(crate) layer_digests: Vec<String>,
    /// Configuration and layers.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Path and content of each file of an OCI layout
    /// (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
    pub(crate) fn layout(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST, "digest": self.manifest_digest, "size": self.manifest.len(),
                "annotations": { "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name },
            }],
        });
        let blob = |digest: &str| format!("blobs/sha256/{}", &digest["sha256:".len()..]);
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            (blob(&self.manifest_digest), self.manifest.clone()),
        ];
        files.extend(self.blobs.iter().map(|(digest, content)| (blob(digest), content.clone())));
        files
    }

    /// The same image with one blob's bytes replaced and its digest kept.
    pub(crate) fn with_swapped(mut self, digest: &str, bytes: Vec<u8>) -> Self {
        assert!(self.blobs.contains_key(digest), "the image has the blob {digest}");
        self.blobs.insert(digest.to_owned(), bytes);
        self
    }

    pub(crate) fn archive(&self, name: &str) -> Vec<u8> {
        let mut tar = Tar::new();
        for (path, content) in self.layout(name) {
            tar = tar.file(&path, 0o644, &content);
        }
        tar.finish()
    }
}
