//! Builds archives byte by byte, apart from the crate's own writer.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod registry;

use std::io::Write;
use std::path::Path;

use serde_json::json;

/// A ustar header block with its checksum.
pub(crate) fn header(name: &[u8], mode: u32, size: u64, flag: u8, link: &[u8]) -> [u8; 512] {
    let mut block = [0u8; 512];
    block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = flag;
    block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
    block[257..265].copy_from_slice(b"ustar\x0000");
    checksum(&mut block);
    block
}

pub(crate) fn checksum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

pub(crate) fn member(header: [u8; 512], content: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A PAX header with these records, to be put before a member.
pub(crate) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    member(header(b"PaxHeaders/x", 0o644, body.len() as u64, b'x', b""), &body)
}

pub(crate) fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// Files with their content, directories without.
pub(crate) fn tar(members: &[(&str, u32, Option<&[u8]>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, mode, content) in members {
        bytes.extend(match content {
            Some(content) => member(header(name.as_bytes(), *mode, content.len() as u64, b'0', b""), content),
            None => member(header(name.as_bytes(), *mode, 0, b'5', b""), b""),
        });
    }
    bytes.extend(end());
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn config(layers: &[&[u8]]) -> Vec<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["A=1"], "Cmd": ["/bin/sh"], "Labels": { "coracle.x": "forged", "mine": "1" }, "Volumes": { "/../../data/": {} } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    serde_json::to_vec(&config).unwrap()
}

pub(crate) fn manifest(config: &[u8], blobs: &[Vec<u8>]) -> Vec<u8> {
    let layers: Vec<_> = blobs
        .iter()
        .map(|blob| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": format!("sha256:{}", sha256(blob)),
                "size": blob.len(),
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{}", sha256(config)),
            "size": config.len(),
        },
        "layers": layers,
    });
    serde_json::to_vec(&manifest).unwrap()
}

/// The files of an OCI layout with one image: `blobs` are what is stored, `layers` what the configuration promises.
pub(crate) fn oci_layout(name: &str, blobs: &[Vec<u8>], layers: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let config = config(layers);
    let manifest = manifest(&config, blobs);
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", sha256(&manifest)),
            "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }],
    });
    let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", sha256(bytes)), bytes.to_vec());
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
        blob(&config),
        blob(&manifest),
    ];
    files.extend(blobs.iter().map(|bytes| blob(bytes)));
    files
}

/// As `docker save` wrote it before version 25.
pub(crate) fn docker_archive(names: &[&str], layers: &[&[u8]]) -> Vec<u8> {
    let config = config(layers);
    let config_name = format!("{}.json", sha256(&config));
    let paths: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", sha256(layer))).collect();
    let manifest = serde_json::to_vec(&json!([{ "Config": config_name, "RepoTags": names, "Layers": paths }])).unwrap();
    let mut members: Vec<(&str, u32, Option<&[u8]>)> = vec![];
    for (path, layer) in paths.iter().zip(layers) {
        members.push((path, 0o644, Some(layer)));
    }
    members.push((&config_name, 0o644, Some(&config)));
    members.push(("manifest.json", 0o644, Some(&manifest)));
    tar(&members)
}

pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => Some(value[..length].to_vec()),
        Err(rustix::io::Errno::NODATA) => None,
        Err(error) => panic!("{path:?}: {error}"),
    }
}

/// Content that does not compress away.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
