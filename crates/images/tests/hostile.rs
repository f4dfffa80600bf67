//! Archives made to break out of a layer, to fill the host, or to mean two things at once. Headers are written by hand.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{checksum, end, gzip, header, member, pax, tar, xattr, zstd};
use images::{Image, ImportOptions, Silent, Source, Store, import};
use proptest::prelude::*;

struct Host {
    dir: tempfile::TempDir,
    guard: Vec<(PathBuf, u32, Vec<u8>)>,
}

impl Host {
    /// A store with files around and above it that no archive may touch.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["victim", "x", "images-victim"] {
            fs::write(dir.path().join(name), name).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/victim"), "outside").unwrap();
        let guard = guard(dir.path());
        Host { dir, guard }
    }

    fn import(&self, archive: &[u8]) -> Result<Image, String> {
        let store = Store::open(&self.dir.path().join("images")).unwrap();
        let options = ImportOptions { name: Some("hostile:1".parse().unwrap()), ..ImportOptions::default() };
        let result = import(&store, Source::Reader(Box::new(archive)), &options, &Silent);
        assert_eq!(guard(self.dir.path()), self.guard, "something outside the layer has changed");
        match result {
            Ok(mut images) => Ok(images.pop().unwrap()),
            Err(error) => {
                for part in ["layers", "ingest", "refs", "leases"] {
                    assert_eq!(fs::read_dir(self.dir.path().join("images").join(part)).unwrap().count(), 0, "{part}");
                }
                let mut text = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(each) = cause {
                    text = format!("{text}: {each}");
                    cause = each.source();
                }
                Err(text)
            }
        }
    }
}

/// Everything outside the store: path, mode and content.
fn guard(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if path.ends_with("images") {
                continue;
            }
            if metadata.is_dir() {
                left.push(path.clone());
                found.push((path, metadata.mode(), Vec::new()));
            } else {
                let content = fs::read(&path).unwrap();
                found.push((path, metadata.mode(), content));
            }
        }
    }
    found.sort();
    found
}

fn raw(name: &[u8], flag: u8, link: &[u8], content: &[u8]) -> Vec<u8> {
    member(header(name, 0o644, content.len() as u64, flag, link), content)
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    raw(name, b'0', b"", content)
}

fn dir(name: &[u8]) -> Vec<u8> {
    raw(name, b'5', b"", b"")
}

fn link(name: &[u8], to: &[u8]) -> Vec<u8> {
    raw(name, b'2', to, b"")
}

fn hard(name: &[u8], to: &[u8]) -> Vec<u8> {
    raw(name, b'1', to, b"")
}

fn device(name: &[u8], flag: u8, major: u32, minor: u32) -> Vec<u8> {
    let mut block = header(name, 0o666, 0, flag, b"");
    block[329..336].copy_from_slice(format!("{major:07o}").as_bytes());
    block[337..344].copy_from_slice(format!("{minor:07o}").as_bytes());
    checksum(&mut block);
    block.to_vec()
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [&members.concat()[..], &end()].concat()
}

fn content(image: &Image, path: &str) -> Vec<u8> {
    fs::read(image.layers[0].join(path)).unwrap()
}

#[test]
fn i01_names_stay_inside_or_are_refused() {
    let long = "n".repeat(300);
    let refused: [Vec<u8>; 9] = [
        file(b"../x", b"evil"),
        file(b"a/../../x", b"evil"),
        file(b"/../../../../../../../../../x", b"evil"),
        file(b"..", b"evil"),
        file(b".", b"evil"),
        file(b"/", b"evil"),
        file(b"", b"evil"),
        [pax(&[("path", long.as_bytes())]), file(b"short", b"")].concat(),
        [pax(&[("path", &vec![b'a'; 65_536])]), file(b"short", b"")].concat(),
    ];
    for (number, entry) in refused.into_iter().enumerate() {
        assert!(Host::new().import(&archive(&[entry])).is_err(), "{number}");
    }
    let inside = archive(&[
        file(b"/abs/file", b"1"),
        file(b"./dot//b", b"2"),
        file(b"nul\0../../x", b"3"),
        file(b"\xff\xfe", b"4"),
        file(b"slash/", b"5"),
    ]);
    let host = Host::new();
    let image = host.import(&inside).unwrap();
    for (path, expected) in [("abs/file", "1"), ("dot/b", "2"), ("nul", "3"), ("slash", "5")] {
        assert_eq!(content(&image, path), expected.as_bytes(), "{path}");
    }
}

#[test]
fn i02_links_on_the_way_are_followed_inside_only() {
    for target in
        ["/outside", "../outside", "../../../../outside", "GUARD/outside", "/proc/self/rootGUARD/outside", "GUARD"]
    {
        let host = Host::new();
        let target = target.replace("GUARD", host.dir.path().to_str().unwrap());
        let bytes = archive(&[link(b"out", target.as_bytes()), file(b"out/victim", b"evil"), dir(b"out/victim2")]);
        // Refused, or somewhere below the layer's root: the guard in `import` tells.
        drop(host.import(&bytes));
    }
    let inside = archive(&[
        dir(b"i02/lib"),
        link(b"lib", b"/i02/lib"),
        file(b"lib/so", b"here"),
        link(b"l2", b"lib"),
        file(b"l2/so2", b"too"),
    ]);
    let host = Host::new();
    let image = host.import(&inside).unwrap();
    assert_eq!((content(&image, "i02/lib/so"), content(&image, "i02/lib/so2")), (b"here".to_vec(), b"too".to_vec()));
    assert!(image.layers[0].join("lib").is_symlink());
    // The last component is replaced, never followed.
    let replaced = archive(&[
        link(b"f", b"/outside/victim"),
        file(b"f", b"mine"),
        link(b"g", b"h"),
        file(b"h", b"keep"),
        file(b"g", b"new"),
    ]);
    let host = Host::new();
    let image = host.import(&replaced).unwrap();
    assert_eq!(
        (content(&image, "f"), content(&image, "g"), content(&image, "h")),
        (b"mine".to_vec(), b"new".to_vec(), b"keep".to_vec())
    );
    let circle = archive(&[link(b"a", b"b"), link(b"b", b"a"), file(b"a/x", b"")]);
    assert!(Host::new().import(&circle).unwrap_err().contains("in a circle"));
    // A directory walked through and then replaced by a link must not be remembered.
    let swapped = archive(&[file(b"d/one", b"1"), link(b"d", b"/outside"), file(b"d/victim", b"evil")]);
    drop(Host::new().import(&swapped));
}

#[test]
fn i03_hard_links_reach_only_files_of_this_layer() {
    let refused: [&[Vec<u8>]; 8] = [
        &[hard(b"l", b"/etc/shadow")],
        &[hard(b"l", b"../../x")],
        &[hard(b"l", b"later"), file(b"later", b"")],
        &[hard(b"l", b"l")],
        &[dir(b"d"), hard(b"l", b"d")],
        &[device(b"dev", b'3', 1, 3), hard(b"l", b"dev")],
        &[hard(b"l", b"")],
        &[link(b"out", b"../outside"), hard(b"l", b"out/victim")],
    ];
    for (number, members) in refused.into_iter().enumerate() {
        assert!(Host::new().import(&archive(members)).is_err(), "{number}");
    }
    let right = archive(&[
        file(b"f", b"content"),
        hard(b"d/l", b"/f"),
        hard(b"f", b"d/l"),
        link(b"s", b"/outside/victim"),
        hard(b"sl", b"s"),
    ]);
    let host = Host::new();
    let image = host.import(&right).unwrap();
    let inode = |path: &str| fs::symlink_metadata(image.layers[0].join(path)).unwrap().ino();
    assert_eq!(inode("f"), inode("d/l"));
    assert_eq!(inode("s"), inode("sl"), "the link itself, not what it points to");
}

#[test]
fn i04_whiteouts_only_hide_and_only_by_their_names() {
    for name in [&b".wh."[..], b".wh...", b".wh..", b"d/.wh.."] {
        assert!(Host::new().import(&archive(&[file(name, b"")])).is_err(), "{name:?}");
    }
    assert!(Host::new().import(&archive(&[file(b".wh.x/..", b"")])).is_err());
    assert!(Host::new().import(&archive(&[device(b"zero", b'3', 0, 0)])).unwrap_err().contains("whiteout"));
    // AUFS's own files are left out.
    let host = Host::new();
    let image = host.import(&archive(&[dir(b".wh..wh.plnk"), file(b"a", b"")])).unwrap();
    assert_eq!(fs::read_dir(&image.layers[0]).unwrap().count(), 1);

    let bytes = archive(&[
        file(b".wh.gone", b""),
        file(b"kept", b"this layer's"),
        file(b".wh.kept", b""),
        file(b".wh.later", b""),
        dir(b"later"),
        dir(b"earlier"),
        file(b"earlier/f", b""),
        file(b".wh.earlier", b""),
        link(b"linked", b"earlier"),
        file(b"linked/.wh..wh..opq", b""),
        file(b"deep/.wh..wh..opq", b""),
    ]);
    let host = Host::new();
    let image = host.import(&bytes).unwrap();
    let root = &image.layers[0];
    let gone = fs::symlink_metadata(root.join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(content(&image, "kept"), b"this layer's");
    let opaque = |path: &str| xattr(&root.join(path), "trusted.overlay.opaque").is_some();
    assert!(opaque("later") && opaque("earlier") && opaque("deep"));
    assert!(root.join("earlier/f").exists());
    let forged: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
    ];
    let host = Host::new();
    let image = host.import(&archive(&[pax(forged), dir(b"d"), pax(forged), file(b"f", b"")])).unwrap();
    for (name, path) in ["opaque", "redirect", "metacopy"].into_iter().flat_map(|name| [(name, "d"), (name, "f")]) {
        for prefix in ["trusted.overlay.", "user.overlay."] {
            assert_eq!(xattr(&image.layers[0].join(path), &format!("{prefix}{name}")), None, "{path} {prefix}{name}");
        }
    }
}

#[test]
fn i05_modes_capabilities_and_devices_are_as_docker_has_them() {
    // cap_net_raw=ep as `setcap` writes it: version 2 of linux/capability.h's vfs_cap_data.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let acl: &[u8] =
        &[2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255];
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0\0"),
        ("SCHILY.xattr.security.ima", b"x"),
        ("SCHILY.xattr.user.mine", b"1"),
        ("SCHILY.xattr.trusted.x", b"1"),
        ("SCHILY.xattr.system.posix_acl_access", acl),
        ("uid", b"70000"),
    ];
    let mut setuid = header(b"su", 0o6755, 2, b'0', b"");
    checksum(&mut setuid);
    let bytes = archive(&[
        pax(records),
        member(setuid, b"#!"),
        device(b"null", b'3', 1, 3),
        device(b"sda", b'4', 8, 0),
        raw(b"fifo", b'6', b"", b""),
        member(header(b"setgid", 0o2775, 0, b'5', b""), b""),
        file(b"setgid/inside", b""),
    ]);
    let host = Host::new();
    let image = host.import(&bytes).unwrap();
    let path = |name: &str| image.layers[0].join(name);
    let su = fs::metadata(path("su")).unwrap();
    // The ACL (rw-r--r--) is set after the mode, and it decides.
    assert_eq!((su.mode() & 0o7777, su.uid()), (0o6644, 70_000));
    assert_eq!(xattr(&path("su"), "security.capability").as_deref(), Some(capability));
    assert_eq!(xattr(&path("su"), "user.mine").as_deref(), Some(&b"1"[..]));
    for dropped in ["security.selinux", "security.ima", "trusted.x"] {
        assert_eq!(xattr(&path("su"), dropped), None, "{dropped}");
    }
    assert_eq!(fs::metadata(path("null")).unwrap().rdev(), 0x103);
    assert!(fs::metadata(path("sda")).unwrap().file_type().is_block_device());
    assert!(fs::metadata(path("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(path("setgid")).unwrap().mode() & 0o7777, 0o2775);
    assert_eq!(fs::metadata(path("setgid/inside")).unwrap().gid(), 0);
}

#[test]
fn i06_two_headers_that_disagree_are_read_as_go_reads_them() {
    // CVE-2025-62518: the header says 0 bytes, the PAX record 1,536. A reader that believes the header takes the
    // file's content for members.
    let inner = [file(b"smuggled", b"evil"), vec![0; 512]].concat();
    assert_eq!(inner.len(), 1536);
    let bytes = [
        pax(&[("size", b"1536")]),
        header(b"outer", 0o644, 0, b'0', b"").to_vec(),
        inner.clone(),
        file(b"after", b"1"),
        end(),
    ]
    .concat();
    let host = Host::new();
    let image = host.import(&bytes).unwrap();
    assert_eq!(content(&image, "outer"), inner);
    assert!(!image.layers[0].join("smuggled").exists() && image.layers[0].join("after").exists());
    // A size on a link stands for no data.
    let bytes = [header(b"l", 0o777, 512, b'2', b"x").to_vec(), file(b"after", b"1"), end()].concat();
    assert!(Host::new().import(&bytes).is_ok());
    // Global headers change nothing; the later of two records counts; a GNU long name beats PAX.
    let mut global = pax(&[("path", b"global")]);
    global[156] = b'g';
    let mut block: [u8; 512] = global[..512].try_into().unwrap();
    checksum(&mut block);
    global[..512].copy_from_slice(&block);
    let bytes = archive(&[
        global,
        file(b"plain", b"1"),
        pax(&[("path", b"first"), ("path", b"second")]),
        file(b"x", b"2"),
        raw(b"././@LongLink", b'L', b"", b"gnu-long\0"),
        pax(&[("path", b"pax")]),
        file(b"x", b"3"),
    ]);
    let host = Host::new();
    let image = host.import(&bytes).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&image.layers[0]).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["gnu-long", "plain", "second"]);
    // A duplicate entry: the later one stays.
    let host = Host::new();
    let image = host
        .import(&archive(&[
            file(b"f", b"long content"),
            file(b"f", b"short"),
            dir(b"f2"),
            file(b"f2/in", b""),
            file(b"f2", b"flat"),
        ]))
        .unwrap();
    assert_eq!((content(&image, "f"), content(&image, "f2")), (b"short".to_vec(), b"flat".to_vec()));
}

#[test]
fn i06_malformed_headers_are_refused() {
    let mut bad_sum = file(b"f", b"");
    bad_sum[0] ^= 1;
    let field = |range: std::ops::Range<usize>, value: &[u8]| {
        let mut block = header(b"f", 0o644, 0, b'0', b"");
        block[range].copy_from_slice(value);
        checksum(&mut block);
        block.to_vec()
    };
    let refused: [(&str, Vec<u8>); 14] = [
        ("checksum", bad_sum),
        ("size not octal", field(124..136, b"0000000009x\0")),
        ("size negative in base 256", field(124..136, &[0xff; 12])),
        ("size over 64 bits", field(124..136, &[0x80, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])),
        ("unknown type", field(156..157, b"Z")),
        ("uid out of range", field(108..116, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
        ("PAX without line feed", [pax(&[("path", b"x")])[..512].to_vec(), vec![b'9'; 512], file(b"f", b"")].concat()),
        ("PAX size negative", [pax(&[("size", b"-1")]), file(b"f", b"")].concat()),
        ("PAX size no number", [pax(&[("size", b"1e3")]), file(b"f", b"")].concat()),
        ("PAX path with NUL", [pax(&[("path", b"a\0b")]), file(b"f", b"")].concat()),
        ("PAX header of 2 MiB", raw(b"p", b'x', b"", &vec![b'1'; 2 << 20])),
        ("cut in a header", file(b"f", b"")[..300].to_vec()),
        ("cut in data", file(b"f", &[1; 2000])[..1024].to_vec()),
        ("one block of zeros and then more", [vec![0; 512], file(b"f", b"")].concat()),
    ];
    for (what, bytes) in refused {
        assert!(Host::new().import(&bytes).is_err(), "{what}");
    }
}

#[test]
fn i06_sparse_files_of_every_format_have_their_bytes_where_they_belong() {
    let mut old = header(b"old", 0o644, 1024, b'S', b"");
    old[257..265].copy_from_slice(b"ustar  \0");
    old[386..398].copy_from_slice(b"00000001000\0");
    old[398..410].copy_from_slice(b"00000001000\0");
    old[410..422].copy_from_slice(b"00000004000\0");
    old[422..434].copy_from_slice(b"00000001000\0");
    old[483..495].copy_from_slice(b"00000010000\0");
    checksum(&mut old);
    let data = [vec![b'A'; 512], vec![b'B'; 512]].concat();
    let v00 = pax(&[
        ("GNU.sparse.size", b"4096"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"512"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"2048"),
        ("GNU.sparse.numbytes", b"512"),
    ]);
    let v01 = pax(&[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.name", b"v01"),
        ("GNU.sparse.size", b"4096"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", b"512,512,2048,512"),
    ]);
    let v10 = pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"v10"),
        ("GNU.sparse.realsize", b"4096"),
    ]);
    let mut map = b"2\n512\n512\n2048\n512\n".to_vec();
    map.resize(512, 0);
    let bytes = archive(&[
        member(old, &data),
        [v00, file(b"v00", &data)].concat(),
        [v01, file(b"x", &data)].concat(),
        [v10, file(b"y", &[&map[..], &data].concat())].concat(),
        file(b"after", b"1"),
    ]);
    let mut expected = vec![0; 4096];
    expected[512..1024].fill(b'A');
    expected[2048..2560].fill(b'B');
    let host = Host::new();
    let image = host.import(&bytes).unwrap();
    for name in ["old", "v00", "v01", "v10"] {
        assert_eq!(content(&image, name), expected, "{name}");
    }
    let lies: [&[(&str, &[u8])]; 6] = [
        &[("GNU.sparse.size", b"4096"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,2048")],
        &[("GNU.sparse.size", b"100"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,1024")],
        &[("GNU.sparse.size", b"4096"), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"512,512,0,512")],
        &[("GNU.sparse.size", b"4096"), ("GNU.sparse.numblocks", b"3"), ("GNU.sparse.map", b"0,1024")],
        &[("GNU.sparse.size", b"-1"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,1024")],
        &[
            ("GNU.sparse.size", b"9223372036854775807"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.map", b"9223372036854775807,1024"),
        ],
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        assert!(Host::new().import(&archive(&[pax(lie), file(b"f", &data)])).is_err(), "{number}");
    }
}

#[test]
fn i07_a_directory_entry_does_not_change_what_a_link_points_to() {
    let host = Host::new();
    let victim = host.dir.path().join("outside");
    let mode = fs::metadata(&victim).unwrap().mode();
    let bytes =
        archive(&[link(b"d", victim.to_str().unwrap().as_bytes()), member(header(b"d", 0o777, 0, b'5', b""), b"")]);
    let image = host.import(&bytes).unwrap();
    assert_eq!(fs::metadata(&victim).unwrap().mode(), mode);
    assert!(fs::symlink_metadata(image.layers[0].join("d")).unwrap().is_dir());
    // The other way round: the directory's mode waits for the end, and then a link stands there.
    let host = Host::new();
    let bytes =
        archive(&[member(header(b"d", 0o777, 0, b'5', b""), b""), link(b"d", victim.to_str().unwrap().as_bytes())]);
    host.import(&bytes).unwrap();
    assert_eq!(fs::metadata(&victim).unwrap().mode(), mode);
}

#[test]
fn i08_bombs_stop_at_a_limit() {
    // 2 GiB of zeros; nested gzip is data like any other.
    let zeros = vec![0u8; 16 << 20];
    let mut bomb = header(b"bomb", 0o644, 2 << 30, b'0', b"").to_vec();
    for _ in 0..128 {
        bomb.extend_from_slice(&zeros[..1 << 20]);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &bomb).unwrap();
    let error = Host::new().import(&encoder.finish().unwrap()).unwrap_err();
    assert!(error.contains("300 times"), "{error}");
    let error = Host::new().import(&zstd(&bomb)).unwrap_err();
    assert!(error.contains("300 times"), "{error}");
    // `zstd --long=31`.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(30).unwrap();
    std::io::Write::write_all(&mut encoder, &bomb).unwrap();
    assert!(Host::new().import(&encoder.finish().unwrap()).is_err());
    // A sparse file of 1 TiB costs nothing on disk, but everything to whoever copies it.
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"1099511627776"),
        ("GNU.sparse.numblocks", b"0"),
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
    ];
    let error = Host::new().import(&archive(&[pax(records), file(b"sparse", b"")])).unwrap_err();
    assert!(error.contains("bytes of files"), "{error}");
    let deep = "d/".repeat(1000);
    assert!(
        Host::new().import(&archive(&[pax(&[("path", deep.as_bytes())]), dir(b"x")])).unwrap_err().contains("deep")
    );
    let attributes: Vec<(String, Vec<u8>)> =
        (0..65).map(|n| (format!("SCHILY.xattr.user.{n}"), b"1".to_vec())).collect();
    let attributes: Vec<(&str, &[u8])> = attributes.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert!(Host::new().import(&archive(&[pax(&attributes), file(b"f", b"")])).is_err());
}

#[test]
fn i08_a_tree_deeper_than_any_path_can_be_removed() {
    // Each link shortens the way to the last directory, so 60 hops of 200 directories make 12,000 levels.
    let mut members = Vec::new();
    let mut at = String::new();
    for hop in 0..60 {
        let deeper = format!("{at}{}", "d/".repeat(200));
        members.push([pax(&[("path", deeper.as_bytes())]), dir(b"x")].concat());
        let name = format!("l{hop}");
        let target = if hop == 0 { deeper.clone() } else { format!("l{}/{}", hop - 1, "d/".repeat(200)) };
        members.push([pax(&[("linkpath", target.as_bytes())]), link(name.as_bytes(), b"x")].concat());
        at = format!("{name}/");
    }
    let host = Host::new();
    match host.import(&archive(&members)) {
        Ok(image) => {
            let store = Store::open(&host.dir.path().join("images")).unwrap();
            store.remove(&image.reference, || Ok(Vec::new())).unwrap();
        }
        Err(error) => assert!(error.contains("circle"), "{error}"),
    }
    for part in ["layers", "ingest"] {
        assert_eq!(fs::read_dir(host.dir.path().join("images").join(part)).unwrap().count(), 0);
    }
}

#[test]
fn trailing_bytes_and_missing_ends_are_read_as_others_read_them() {
    let members = archive(&[file(b"f", b"1")]);
    // No end at all, and rubbish after the end: Go stops at the end and never looks further.
    for bytes in [members[..1024].to_vec(), [&members[..], &[7; 5000]].concat(), members[..513].to_vec()] {
        let host = Host::new();
        assert_eq!(content(&host.import(&bytes).unwrap(), "f"), b"1");
    }
    assert!(Host::new().import(&gzip(&members)[..60]).is_err());
    assert!(Host::new().import(b"").is_err());
    assert!(Host::new().import(&tar(&[])).unwrap_err().contains("empty"));
}

/// A member with a name and a target from small sets, so that they meet.
fn hostile_member() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec!["a", "b", "..", ".", "outside", "victim", ".wh.a", ".wh..wh..opq", ""]);
    let wild = prop::collection::vec(part, 0..5).prop_map(|parts| parts.join("/"));
    let likely = prop::sample::select(vec!["a", "b", "a/b", "a/victim", "b/victim", "a/b/victim", "b/outside/victim"]);
    let name = prop_oneof![1 => wild.clone(), 1 => wild.clone().prop_map(|path| format!("/{path}")), 4 => likely.prop_map(str::to_owned)];
    // From a layer in the making, and from one in its place, the guarded files are so many directories up.
    let way_out = prop::sample::select(vec![
        "../../../../outside",
        "../../../../outside/victim",
        "../../../..",
        "../../../../victim",
    ]);
    let target = prop_oneof![wild, way_out.prop_map(str::to_owned), name.clone()];
    let flag =
        prop_oneof![2 => prop::sample::select(b"0125".to_vec()), 1 => prop::sample::select(b"012345670SxgLK".to_vec())];
    (name, target, flag, 0u32..0o10000).prop_map(|(name, link, flag, mode)| {
        let content: &[u8] = if matches!(flag, b'0' | b'7') { b"evil" } else { b"" };
        member(header(name.as_bytes(), mode, content.len() as u64, flag, link.as_bytes()), content)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_archive_reaches_outside(members in prop::collection::vec(hostile_member(), 1..12)) {
        // The guard in `import` fails the test when something outside has changed.
        drop(Host::new().import(&archive(&members)));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        members in prop::collection::vec(hostile_member(), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        fix in any::<bool>(),
    ) {
        let mut bytes = archive(&members);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
            if fix {
                let start = at / 512 * 512;
                let mut block: [u8; 512] = bytes[start..start + 512].try_into().unwrap();
                checksum(&mut block);
                bytes[start..start + 512].copy_from_slice(&block);
            }
        }
        drop(Host::new().import(&bytes));
    }
}
