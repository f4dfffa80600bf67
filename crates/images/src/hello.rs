//! `coracle/hello:latest`, the image that needs no network: one layer made of the running binary.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Reference;
use crate::build;
use crate::document::Config;
use crate::error::{Error, io as failed};
use crate::ingest::{self, Ingest, Keep, Staged};
use crate::layer::{self, Chunks, FileChunks, Promised};
use crate::platform::Platform;
use crate::store::{Image, Store};
use crate::tar::write;

pub const NAME: &str = "coracle/hello:latest";

/// Which binary the image was made of.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// Makes the image unless it is there and `binary` is the file it was made of: then this costs a stat and two small reads.
pub fn ensure(store: &Store, binary: &Path) -> Result<Image, Error> {
    let reference: Reference = NAME.parse().expect("the name is right");
    let file = File::open(binary).map_err(failed("open", binary))?;
    let metadata = file.metadata().map_err(failed("look at", binary))?;
    let stamp = Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified_s: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
    };
    let stamp_path = store.dir.join("hello.json");
    // A stamp that cannot be read only means that the image is made again.
    let made_of: Option<Stamp> = std::fs::read(&stamp_path).ok().and_then(|json| serde_json::from_slice(&json).ok());
    if made_of.as_ref() == Some(&stamp)
        && let Some(image) = store.find(&reference)?
    {
        return Ok(image);
    }
    let image = make(store, reference, file, metadata.len())?;
    store.write_file(&stamp_path, &serde_json::to_vec(&stamp).expect("a stamp is numbers"))?;
    Ok(image)
}

fn make(store: &Store, reference: Reference, binary: File, size: u64) -> Result<Image, Error> {
    let lease = crate::lease::Lease::new(store)?;
    let ingest = Ingest::anonymous(store)?;
    let chunks = Keep {
        chunks: Archive { parts: parts(size), binary: FileChunks::new(binary, size), next: 0 },
        file: ingest.blob().file.try_clone().map_err(failed("write", &ingest.blob().path))?,
        at: 0,
    };
    let unpacked = layer::unpack(Box::new(chunks), ingest.new_tree()?, Promised::default())
        .map_err(|source| Error::Layer { layer: format!("of {NAME}"), source })?;
    let staged = Staged { ingest, unpacked };
    let layer = staged.layer();
    lease.add(&[layer.diff_id, layer.blob])?;
    ingest::commit(store, vec![staged])?;
    let host = Platform::host();
    let config = Config {
        entrypoint: vec!["/coracle".to_owned()],
        cmd: vec!["hello".to_owned()],
        env: vec!["PATH=/".to_owned()],
        working_dir: "/".to_owned(),
        exposed_ports: vec!["80/tcp".to_owned()],
        architecture: host.architecture,
        variant: host.variant,
        os: host.os,
        ..Config::default()
    };
    build::image(store, &lease, reference, config, vec![layer])
}

/// The archive's bytes before and after the binary's own.
fn parts(size: u64) -> [Vec<u8>; 2] {
    let infallible = "writing to memory does not fail";
    let mut before = Vec::new();
    write::directory(&mut before, "etc/", 0o755).expect(infallible);
    let passwd = b"root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
    write::file(&mut before, "etc/passwd", 0o644, passwd).expect(infallible);
    write::file(&mut before, "etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n").expect(infallible);
    write::directory(&mut before, "root/", 0o700).expect(infallible);
    write::directory(&mut before, "tmp/", 0o1777).expect(infallible);
    before.extend_from_slice(&write::header("coracle", 0o755, write::Member::File { size }));
    let mut after = Vec::new();
    write::pad(&mut after, size).expect(infallible);
    write::end(&mut after).expect(infallible);
    [before, after]
}

struct Archive<R> {
    parts: [Vec<u8>; 2],
    binary: FileChunks<R>,
    next: usize,
}

impl<R: Read> Chunks for Archive<R> {
    fn next(&mut self) -> io::Result<Bytes> {
        if self.next == 1 {
            let chunk = self.binary.next()?;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
            self.next = 2;
        }
        let part = match self.next {
            0 => &mut self.parts[0],
            _ => &mut self.parts[1],
        };
        self.next += usize::from(self.next == 0);
        Ok(Bytes::from(std::mem::take(part)))
    }
}
