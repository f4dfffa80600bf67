//! Indexes, manifests and image configurations, from bytes that somebody else wrote.
//!
//! Formats: the OCI image specification (<https://github.com/opencontainers/image-spec>) and Docker's image manifest
//! version 2, schema 2. Schema 1 is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, NotADigest};
use crate::limits::{MAX_DOCUMENT_BYTES, MAX_INDEX_ENTRIES, MAX_LAYERS};
use crate::platform::Platform;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Labels of ours in somebody else's image would speak for us, so they are left out.
const OUR_LABELS: &str = "coracle.";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("{what} is malformed: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("{what} is not supported: {why}")]
    Unsupported { what: &'static str, why: String },
    #[error("{what} is too large: {why}")]
    TooLarge { what: &'static str, why: String },
}

fn malformed(what: &'static str, why: impl Into<String>) -> DocumentError {
    DocumentError::Malformed { what, why: why.into() }
}

fn unsupported(what: &'static str, why: impl Into<String>) -> DocumentError {
    DocumentError::Unsupported { what, why: why.into() }
}

/// A checked pointer to content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// Lowest first.
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
    signatures: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    urls: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
}

/// `content_type` is what a registry or a descriptor called it; it must agree with what the document calls itself.
pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document, DocumentError> {
    const WHAT: &str = "the manifest";
    check_size(WHAT, bytes)?;
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|error| malformed(WHAT, error.to_string()))?;
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() || raw.signatures.is_some() {
        return Err(unsupported(
            WHAT,
            "it has schema version 1, which is obsolete; push the image again with a current tool",
        ));
    }
    if raw.schema_version != Some(2) {
        return Err(malformed(WHAT, "its schemaVersion is not 2"));
    }
    // CVE-2021-41190: what is both an index and a manifest means one image to us and another to somebody else.
    if raw.manifests.is_some() && (raw.config.is_some() || raw.layers.is_some()) {
        return Err(malformed(WHAT, "it has both \"manifests\" and \"config\" or \"layers\", so it is ambiguous"));
    }
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let known = content_type.filter(|text| [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].contains(text));
    if let (Some(outer), Some(inner)) = (known, raw.media_type.as_deref())
        && outer != inner
    {
        return Err(malformed(WHAT, format!("it was announced as {outer:?} but calls itself {:?}", short(inner))));
    }
    let is_index = match raw.media_type.as_deref().or(known) {
        Some(OCI_INDEX | DOCKER_LIST) => true,
        Some(OCI_MANIFEST | DOCKER_MANIFEST) => false,
        Some(other) => return Err(unsupported(WHAT, format!("its media type is {:?}", short(other)))),
        None => raw.manifests.is_some(),
    };
    if is_index { index(raw) } else { manifest(raw) }
}

fn index(raw: RawDocument) -> Result<Document, DocumentError> {
    const WHAT: &str = "the image index";
    let manifests = raw.manifests.ok_or_else(|| malformed(WHAT, "it has no \"manifests\""))?;
    if manifests.len() > MAX_INDEX_ENTRIES {
        return Err(DocumentError::TooLarge {
            what: WHAT,
            why: format!("it has more than {MAX_INDEX_ENTRIES} entries"),
        });
    }
    manifests.into_iter().map(|raw| descriptor(WHAT, raw)).collect::<Result<_, _>>().map(Document::Index)
}

fn manifest(raw: RawDocument) -> Result<Document, DocumentError> {
    const WHAT: &str = "the image manifest";
    let config = raw.config.ok_or_else(|| malformed(WHAT, "it has no \"config\""))?;
    let layers = raw.layers.ok_or_else(|| malformed(WHAT, "it has no \"layers\""))?;
    if layers.len() > MAX_LAYERS {
        return Err(DocumentError::TooLarge {
            what: WHAT,
            why: format!("it has {} layers; overlayfs and Docker stop at {MAX_LAYERS}", layers.len()),
        });
    }
    let config = descriptor(WHAT, config)?;
    if ![OCI_CONFIG, DOCKER_CONFIG, ""].contains(&&config.media_type[..]) {
        let kind = raw.artifact_type.unwrap_or(config.media_type);
        return Err(unsupported(WHAT, format!("it is no container image but {:?}", short(&kind))));
    }
    let layers = layers.into_iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Document::Manifest(Manifest { config, layers }))
}

fn layer(raw: RawDescriptor) -> Result<Descriptor, DocumentError> {
    const WHAT: &str = "a layer";
    let foreign = raw.urls.as_ref().is_some_and(|urls| !urls.is_empty());
    let layer = descriptor(WHAT, raw)?;
    if foreign || layer.media_type.contains("foreign") || layer.media_type.contains("nondistributable") {
        return Err(unsupported(WHAT, "it is kept elsewhere than in the registry (a foreign layer)"));
    }
    let suffix = layer.media_type.strip_prefix(OCI_LAYER).or(layer.media_type.strip_prefix(DOCKER_LAYER));
    match suffix {
        Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd") => Ok(layer),
        Some(_) | None => Err(unsupported(
            WHAT,
            format!("its media type is {:?}, not a tar archive, plain, gzip or zstd", short(&layer.media_type)),
        )),
    }
}

fn descriptor(what: &'static str, raw: RawDescriptor) -> Result<Descriptor, DocumentError> {
    let digest = raw.digest.parse().map_err(|error: NotADigest| match &error {
        NotADigest::Algorithm { .. } => unsupported(what, error.to_string()),
        NotADigest::Malformed { .. } => malformed(what, error.to_string()),
    })?;
    let size = u64::try_from(raw.size).map_err(|_| malformed(what, "a size is negative"))?;
    let platform = raw.platform.map(|raw| Platform {
        os: raw.os,
        architecture: raw.architecture,
        variant: raw.variant.unwrap_or_default(),
    });
    Ok(Descriptor {
        media_type: raw.media_type.unwrap_or_default(),
        digest,
        size,
        platform,
        annotations: raw.annotations.unwrap_or_default(),
    })
}

/// The part of an image configuration that decides how a process starts
/// (<https://github.com/opencontainers/image-spec/blob/main/config.md>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: String,
    /// Clean absolute paths.
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    pub architecture: String,
    pub variant: String,
    pub os: String,
}

/// A configuration file: what starts, when it was made, and the layers it is for, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) config: Config,
    pub(crate) created: Option<String>,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfigFile {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

pub(crate) fn parse_config(bytes: &[u8]) -> Result<ConfigFile, DocumentError> {
    const WHAT: &str = "the image configuration";
    check_size(WHAT, bytes)?;
    let raw: RawConfigFile = serde_json::from_slice(bytes).map_err(|error| malformed(WHAT, error.to_string()))?;
    let diff_ids = raw.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    if diff_ids.len() > MAX_LAYERS {
        return Err(DocumentError::TooLarge { what: WHAT, why: format!("it names more than {MAX_LAYERS} layers") });
    }
    let diff_ids = diff_ids.iter().map(|text| text.parse());
    let diff_ids = diff_ids.collect::<Result<_, NotADigest>>().map_err(|error| malformed(WHAT, error.to_string()))?;
    let config = raw.config.unwrap_or_default();
    let mut labels = config.labels.unwrap_or_default();
    labels.retain(|name, _| !name.starts_with(OUR_LABELS));
    let config = Config {
        user: config.user.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        stop_signal: config.stop_signal.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default().into_keys().map(clean_path).collect::<Result<_, _>>()?,
        labels,
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
        architecture: raw.architecture.unwrap_or_default(),
        variant: raw.variant.unwrap_or_default(),
        os: raw.os.unwrap_or_default(),
    };
    check_strings(&config)?;
    Ok(ConfigFile { config, created: raw.created, diff_ids })
}

/// `/a/../../b/` is `/b`, as Docker cleans it: nothing lies above the root.
fn clean_path(path: String) -> Result<String, DocumentError> {
    if !path.starts_with('/') {
        return Err(malformed("the image configuration", format!("volume {:?} is not an absolute path", short(&path))));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// No string that starts a process may have a NUL; users, directories and signals are one line.
fn check_strings(config: &Config) -> Result<(), DocumentError> {
    let with_nul = [&config.env, &config.entrypoint, &config.cmd, &config.volumes];
    let one_line =
        [&config.user, &config.working_dir, &config.stop_signal, &config.architecture, &config.variant, &config.os];
    if with_nul.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(malformed("the image configuration", "an environment variable, argument or volume has a NUL"));
    }
    if one_line.into_iter().any(|text| text.contains(['\0', '\n'])) {
        return Err(malformed(
            "the image configuration",
            "its user, directory, signal or platform has a NUL or a line feed",
        ));
    }
    Ok(())
}

fn check_size(what: &'static str, bytes: &[u8]) -> Result<(), DocumentError> {
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(DocumentError::TooLarge {
            what,
            why: format!("it has {} bytes; the limit is {MAX_DOCUMENT_BYTES}", bytes.len()),
        });
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_may_leave_out_everything_and_hide_nothing() {
        let empty = parse_config(br#"{"config":null,"rootfs":null,"created":null}"#).unwrap();
        assert_eq!((empty.config, empty.diff_ids), (Config::default(), Vec::new()));
        let nulls = br#"{"config":{"Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null,"User":null}}"#;
        assert_eq!(parse_config(nulls).unwrap().config, Config::default());
        let odd = br#"{"config":{"Labels":{"coracle.logger":"binary:///bin/sh","x":"$(id)\n"},"Volumes":{"/a/../..//b/":{}},"Env":["A=\n../"]}}"#;
        let config = parse_config(odd).unwrap().config;
        assert_eq!(config.labels.into_iter().collect::<Vec<_>>(), [("x".to_owned(), "$(id)\n".to_owned())]);
        assert_eq!((config.volumes, config.env), (vec!["/b".to_owned()], vec!["A=\n../".to_owned()]));
    }

    #[test]
    fn a_configuration_that_could_mislead_is_refused() {
        let refused = [
            r#"{"config":{"Env":["A=\u0000"]}}"#,
            r#"{"config":{"Cmd":["a\u0000b"]}}"#,
            r#"{"config":{"Entrypoint":["\u0000"]}}"#,
            r#"{"config":{"User":"root\nx"}}"#,
            r#"{"config":{"WorkingDir":"/\u0000"}}"#,
            r#"{"config":{"StopSignal":"TERM\n"}}"#,
            r#"{"config":{"Volumes":{"relative":{}}}}"#,
            r#"{"config":{"Volumes":{"/a\u0000":{}}}}"#,
            r#"{"config":{"User":1}}"#,
            r#"{"config":{"User":"a","User":"b"}}"#,
            r#"{"rootfs":{"diff_ids":["sha256:abc"]}}"#,
            "{",
            "null",
        ];
        for json in refused {
            assert!(parse_config(json.as_bytes()).is_err(), "{json}");
        }
        let long = format!(r#"{{"created":"{}"}}"#, "x".repeat(5 << 20));
        assert!(matches!(parse_config(long.as_bytes()), Err(DocumentError::TooLarge { .. })));
    }
}
