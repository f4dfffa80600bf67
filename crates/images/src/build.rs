//! Makes the documents of an image that has none yet: the hello image, and a bare root file system.

use serde_json::json;

use crate::Reference;
use crate::document::{Config, OCI_CONFIG, OCI_MANIFEST};
use crate::error::Error;
use crate::lease::Lease;
use crate::store::{Image, Layer, NewImage, Store};

/// The layers must be in place already. The same input gives the same digests, so nothing of the day goes in.
pub(crate) fn image(
    store: &Store,
    lease: &Lease,
    reference: Reference,
    config: Config,
    layers: Vec<Layer>,
) -> Result<Image, Error> {
    let set = |list: &[String]| list.iter().map(|each| (each.clone(), json!({}))).collect::<serde_json::Map<_, _>>();
    let mut file = json!({
        "architecture": config.architecture,
        "os": config.os,
        "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "WorkingDir": config.working_dir,
            "StopSignal": config.stop_signal,
            "Volumes": set(&config.volumes),
            "Labels": config.labels,
            "ExposedPorts": set(&config.exposed_ports),
        },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>() },
    });
    if !config.variant.is_empty() {
        file["variant"] = json!(config.variant);
    }
    let file = serde_json::to_vec(&file).expect("the documents are strings and lists");
    let config_digest = crate::Digest::of(&file);
    let manifest = manifest(config_digest, file.len() as u64, &layers);
    let digest = crate::Digest::of(&manifest);
    lease.add(&[config_digest, digest])?;
    store.put_document(&file)?;
    store.put_document(&manifest)?;
    store.name(NewImage { reference, digest, index_digest: None, config_digest, config, created: None, layers })
}

/// An OCI manifest over blobs that are in the store.
pub(crate) fn manifest(config: crate::Digest, config_bytes: u64, layers: &[Layer]) -> Vec<u8> {
    let layers = layers
        .iter()
        .map(|layer| json!({ "mediaType": layer.media_type, "digest": layer.blob, "size": layer.blob_bytes }));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": config, "size": config_bytes },
        "layers": layers.collect::<Vec<_>>(),
    });
    serde_json::to_vec(&manifest).expect("the documents are strings and lists")
}
