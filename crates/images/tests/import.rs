//! Archives into the store and out of `find`: what an operator without a network does.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use common::{docker_archive, gzip, oci_layout, tar, zstd};
use images::{Error, Format, ImportOptions, Reference, Silent, Source, Store, export, hello, import};

fn store(dir: &Path) -> Store {
    Store::open(&dir.join("images")).unwrap()
}

fn named(name: &str) -> ImportOptions {
    ImportOptions { name: Some(name.parse().unwrap()), ..ImportOptions::default() }
}

#[test]
fn hello_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("binary");
    fs::write(&binary, vec![7; 3_000_000]).unwrap();
    let store = store(dir.path());
    let image = hello::ensure(&store, &binary).unwrap();
    let inside = image.layers[0].join("coracle");
    assert_eq!(fs::read(&inside).unwrap(), vec![7; 3_000_000]);
    assert_eq!(fs::metadata(&inside).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(image.layers[0].join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(
        (&image.config.entrypoint[..], &image.config.cmd[..]),
        (&["/coracle".to_owned()][..], &["hello".to_owned()][..])
    );
    assert_eq!(image.config.exposed_ports, ["80/tcp"]);
    let made = fs::metadata(&inside).unwrap().ino();
    let again = hello::ensure(&store, &binary).unwrap();
    assert_eq!((again, fs::metadata(&inside).unwrap().ino()), (image.clone(), made));
    let found = store.find(&"coracle/hello".parse().unwrap()).unwrap();
    assert_eq!(found.as_ref(), Some(&image));
    // Another binary is another image.
    fs::write(&binary, b"short").unwrap();
    let changed = hello::ensure(&store, &binary).unwrap();
    assert_ne!(changed.digest, image.digest);
}

#[test]
fn a_bare_root_file_system_becomes_an_image_however_it_is_compressed() {
    let archive =
        tar(&[("etc/", 0o755, None), ("etc/hostname", 0o644, Some(b"box\n")), ("bin/sh", 0o4755, Some(b"#!"))]);
    let packed = [archive.clone(), gzip(&archive), zstd(&archive)];
    let mut diff_ids = Vec::new();
    for (number, bytes) in packed.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut options = named("rootfs:1");
        options.cmd = vec!["/bin/sh".to_owned()];
        let path = dir.path().join("rootfs");
        fs::write(&path, &bytes).unwrap();
        let source = if number == 1 { Source::Reader(Box::new(&bytes[..])) } else { Source::Path(&path) };
        let images = import(&store, source, &options, &Silent).unwrap();
        let image = store.find(&"rootfs:1".parse().unwrap()).unwrap().unwrap();
        assert_eq!(images, std::slice::from_ref(&image));
        assert_eq!(fs::read(image.layers[0].join("etc/hostname")).unwrap(), b"box\n");
        assert_eq!(fs::metadata(image.layers[0].join("bin/sh")).unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(image.config.cmd, ["/bin/sh"]);
        assert_eq!(image.size_bytes, 6);
        diff_ids.push(image.layer_digests[0].diff_id);
        assert_eq!(fs::read_dir(dir.path().join("images/ingest")).unwrap().count(), 0);
    }
    assert!(diff_ids.iter().all(|diff_id| *diff_id == diff_ids[0]));
}

#[test]
fn an_oci_layout_is_imported_from_a_tar_and_from_a_folder() {
    let lower = tar(&[
        ("a", 0o644, Some(b"lower")),
        ("gone", 0o644, Some(b"x")),
        ("d/", 0o755, None),
        ("d/x", 0o600, Some(b"1")),
    ]);
    let upper = tar(&[("a", 0o600, Some(b"upper")), (".wh.gone", 0, Some(b"")), ("d/.wh..wh..opq", 0, Some(b""))]);
    let layout = oci_layout("example.org/team/app:7", &[gzip(&lower), zstd(&upper)], &[&lower, &upper]);
    for as_folder in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layout");
        if as_folder {
            for (name, content) in &layout {
                let path = path.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        } else {
            let members: Vec<_> = layout.iter().map(|(name, content)| (&name[..], 0o644, Some(&content[..]))).collect();
            fs::write(&path, tar(&members)).unwrap();
        }
        let store = store(dir.path());
        let images = import(&store, Source::Path(&path), &ImportOptions::default(), &Silent).unwrap();
        assert_eq!(images[0].reference.to_string(), "example.org/team/app:7");
        assert_eq!(images[0].config.env, ["A=1"]);
        assert_eq!(images[0].layers.len(), 2);
        assert_eq!(fs::read(images[0].layers[0].join("a")).unwrap(), b"lower");
        let whiteout = fs::symlink_metadata(images[0].layers[1].join("gone")).unwrap();
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        assert_eq!(common::xattr(&images[0].layers[1].join("d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
        assert_eq!(common::xattr(&images[0].layers[1], "trusted.overlay.opaque"), None);
    }
}

#[test]
fn what_is_no_archive_is_told_from_one_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let whole = tar(&[("etc/", 0o755, None), ("etc/large", 0o644, Some(&[7; 4096]))]);
    let refused = |bytes: &[u8]| {
        let source = Source::Reader(Box::new(bytes));
        import(&store, source, &named("rootfs:1"), &Silent).unwrap_err()
    };
    for foreign in [&b""[..], b"hello", &[7; 4096], &gzip(b"hello")] {
        let error = refused(foreign);
        assert!(error.to_string().starts_with("this is no image archive"), "{foreign:?}: {error}");
    }
    for damaged in [&whole[..2048], &gzip(&whole)[..64]] {
        let error = refused(damaged);
        assert!(matches!(error, Error::ArchiveRead { .. }), "{error}");
    }
}

#[test]
fn a_docker_archive_gives_every_name_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let layer = tar(&[("x", 0o644, Some(b"x"))]);
    let archive = docker_archive(&["one:1", "example.org/two"], &[&layer]);
    let images = import(&store, Source::Reader(Box::new(&archive[..])), &ImportOptions::default(), &Silent).unwrap();
    let names: Vec<String> = images.iter().map(|image| image.reference.to_string()).collect();
    assert_eq!(names, ["docker.io/library/one:1", "example.org/two:latest"]);
    assert_eq!(images[0].digest, images[1].digest);
    let pinned: Reference = format!("elsewhere/x@{}", images[0].digest).parse().unwrap();
    assert_eq!(store.find(&pinned).unwrap().unwrap().layers, images[0].layers);
    assert_eq!(store.list().unwrap().len(), 2);
    let inspected = store.inspect(&images[0].reference).unwrap();
    assert_eq!(inspected.config["rootfs"]["diff_ids"][0], images[0].layer_digests[0].diff_id.to_string());
}

#[test]
fn a_layer_that_is_not_what_the_documents_say_is_refused_and_leaves_nothing() {
    let right = tar(&[("x", 0o644, Some(b"right"))]);
    let wrong = tar(&[("x", 0o644, Some(b"wrong"))]);
    // The blob's digest is right, the diff id is another layer's.
    let lying_config = oci_layout("a:1", &[gzip(&wrong)], &[&right]);
    let mut flipped = oci_layout("a:1", &[gzip(&right)], &[&right]);
    let blob = flipped.iter_mut().find(|(_, content)| content.starts_with(&[0x1f, 0x8b])).unwrap();
    let middle = blob.1.len() / 2;
    blob.1[middle] ^= 1;
    for (layout, expected) in [(lying_config, "has diff id"), (flipped, "has digest")] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let members: Vec<_> = layout.iter().map(|(name, content)| (&name[..], 0o644, Some(&content[..]))).collect();
        let archive = tar(&members);
        let error =
            import(&store, Source::Reader(Box::new(&archive[..])), &ImportOptions::default(), &Silent).unwrap_err();
        let Error::Layer { source, .. } = &error else { panic!("{error}") };
        assert!(source.to_string().contains(expected), "{source}");
        for part in ["layers", "blobs/sha256", "refs", "ingest", "leases"] {
            assert_eq!(fs::read_dir(dir.path().join("images").join(part)).unwrap().count(), 0, "{part}");
        }
    }
}

#[test]
fn the_store_is_roots_alone_and_a_layer_is_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let archive = tar(&[("x", 0o644, Some(b"x"))]);
    let images = import(&store, Source::Reader(Box::new(&archive[..])), &named("x"), &Silent).unwrap();
    for part in ["", "blobs", "blobs/sha256", "layers", "refs", "ingest", "leases"] {
        let mode = fs::metadata(dir.path().join("images").join(part)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{part}");
    }
    assert_eq!(fs::metadata(&images[0].layers[0]).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn garbage_is_what_no_name_and_no_task_uses() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let shared = tar(&[("shared", 0o644, Some(&[1; 1000]))]);
    let own = tar(&[("own", 0o644, Some(&[2; 500]))]);
    let both = docker_archive(&["both"], &[&shared, &own]);
    let one = docker_archive(&["one"], &[&shared]);
    for archive in [&both, &one] {
        import(&store, Source::Reader(Box::new(&archive[..])), &ImportOptions::default(), &Silent).unwrap();
    }
    let both: Reference = "both".parse().unwrap();
    let image = store.find(&both).unwrap().unwrap();
    // A task may know the store by another path.
    let in_use = image.layers[1].strip_prefix(dir.path()).unwrap().to_owned();
    let freed = store.remove(&both, || Ok(vec![in_use])).unwrap();
    assert_eq!(freed.layers, []);
    assert_eq!(freed.blobs.len(), 2, "its manifest and configuration");
    let lease = store.lease(&image).unwrap();
    assert_eq!(store.gc(|| Ok(Vec::new())).unwrap().layers, []);
    drop(lease);
    let freed = store.gc(|| Ok(Vec::new())).unwrap();
    assert_eq!(freed.layers, [image.layer_digests[1].diff_id]);
    assert_eq!(freed.bytes, 500 + image.layer_digests[1].blob_bytes);
    assert!(!image.layers[1].exists() && image.layers[0].exists());
    assert!(store.find(&"one".parse().unwrap()).unwrap().is_some());
    assert!(matches!(store.remove(&both, || Ok(Vec::new())), Err(Error::NotFound { .. })));
    assert_eq!(fs::read_dir(dir.path().join("images/ingest")).unwrap().count(), 0);
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let lower = tar(&[("a", 0o644, Some(b"lower"))]);
    let upper = tar(&[("b", 0o600, Some(b"upper"))]);
    // The second image has the same lower layer in another compression, whose blob therefore never came in.
    let layouts = [
        oci_layout("one:1", &[gzip(&lower), zstd(&upper)], &[&lower, &upper]),
        oci_layout("two:1", &[zstd(&lower)], &[&lower]),
    ];
    let mut originals = Vec::new();
    for layout in &layouts {
        let members: Vec<_> = layout.iter().map(|(name, content)| (&name[..], 0o644, Some(&content[..]))).collect();
        let archive = tar(&members);
        let source = Source::Reader(Box::new(&archive[..]));
        originals.extend(import(&store, source, &ImportOptions::default(), &Silent).unwrap());
    }
    let names: Vec<Reference> = originals.iter().map(|image| image.reference.clone()).collect();
    for format in [Format::OciArchive, Format::DockerArchive] {
        let mut archive = Vec::new();
        export(&store, &names, &mut archive, format).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let other = Store::open(&dir.path().join("images")).unwrap();
        let source = Source::Reader(Box::new(&archive[..]));
        let images = import(&other, source, &ImportOptions::default(), &Silent).unwrap();
        assert_eq!(images.iter().map(|image| &image.reference).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        assert_eq!(images[0].config, originals[0].config);
        assert_eq!(fs::read(images[0].layers[1].join("b")).unwrap(), b"upper");
        assert_eq!(images[0].layers[0], images[1].layers[0]);
        if format == Format::OciArchive {
            assert_eq!(images[0].digest, originals[0].digest);
        }
    }
    let blob = dir.path().join("images/blobs/sha256").join(originals[0].layer_digests[1].blob.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    fs::write(&blob, bytes).unwrap();
    assert!(export(&store, &names, &mut Vec::new(), Format::OciArchive).is_err());
}
