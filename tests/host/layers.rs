//! Hostile layers, imported and started through the command line: HARDENING's I01 to I08. An entry lands inside the
//! image's root or the image is refused; the host's directory of each test never changes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::image::{Image, base_layer};
use crate::support::tar::{Header, Tar};
use crate::support::{Host, definition};

/// Imports the layers on top of the probe and, where they are taken, runs `command` in them.
fn try_layers(host: &Host, what: &str, layers: Vec<Vec<u8>>, command: &[&str]) -> Option<Value> {
    let mut all = vec![base_layer().finish()];
    all.extend(layers);
    let imported = host.import(&Image::of(all), "hostile:latest");
    assert!(!imported.stderr.contains("panicked"), "{what}: {}", imported.whole());
    let report = if imported.code() == 0 {
        let ended = host.run(&definition::probe_with(command, &json!({ "image": "hostile:latest" })), &[]);
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.whole());
        host.coracle(["image", "rm", "hostile:latest"]);
        (ended.code() == 0).then(|| ended.report("main"))
    } else {
        assert!(!imported.stderr.trim().is_empty(), "{what} is refused without a word");
        None
    };
    let changes = host.guard.changes();
    assert!(changes.is_empty(), "{what} changed the host: {changes:?}");
    report
}

fn named(name: &[u8]) -> Vec<u8> {
    let header = Header { name, size: 4, mode: 0o666, ..Header::default() };
    Tar::new().entry(&header, b"evil").finish()
}

#[test]
fn i01_names_that_reach_out() {
    let host = Host::new();
    let guard = host.guard.directory.display().to_string();
    let up = "../".repeat(12);
    let marker = format!("{guard}/marker");
    let names: Vec<String> = vec![
        format!("{}{}", "../".repeat(8), marker.trim_start_matches('/')),
        marker.clone(),
        format!("work/../{}{}", "../".repeat(8), marker.trim_start_matches('/')),
        format!("./{marker}"),
        String::new(),
        ".".into(),
        "..".into(),
        "/".into(),
        "work//x/./y".into(),
        "file-with-slash/".into(),
    ];
    for name in &names {
        if name.len() <= 100 {
            try_layers(&host, name, vec![named(name.as_bytes())], &["report"]);
        }
        let long = Tar::new().pax(&[("path", name.as_bytes())]).raw(&[]);
        let header = Header { name: b"short", size: 4, ..Header::default() };
        try_layers(&host, &format!("pax {name}"), vec![long.entry(&header, b"evil").finish()], &["report"]);
    }
    try_layers(&host, "not UTF-8", vec![named(b"work/\xff\xfe")], &["report"]);
    let nul = Tar::new().pax(&[("path", b"work/a\0b")]).entry(&Header { name: b"x", ..Header::default() }, b"");
    try_layers(&host, "NUL", vec![nul.finish()], &["report"]);
    let huge = "d/".repeat(40_000);
    let huge = Tar::new().pax(&[("path", huge.as_bytes())]).entry(&Header { name: b"x", ..Header::default() }, b"");
    try_layers(&host, "a name of 80 kB", vec![huge.finish()], &["report"]);
    let component = "n".repeat(300);
    let component =
        Tar::new().pax(&[("path", component.as_bytes())]).entry(&Header { name: b"x", ..Header::default() }, b"");
    try_layers(&host, "a component of 300 bytes", vec![component.finish()], &["report"]);
    try_layers(&host, "upwards only", vec![named(up.as_bytes())], &["report"]);
    host.finish();
}

#[test]
fn i02_files_through_links() {
    let host = Host::new();
    let guard = host.guard.directory.display().to_string();
    let up = format!("{}{}", "../".repeat(12), guard.trim_start_matches('/'));
    for target in [guard.as_str(), &up] {
        let one = Tar::new().symlink("way", target).file("way/marker", 0o666, b"evil").finish();
        try_layers(&host, "one layer", vec![one], &["report"]);
        let first = Tar::new().symlink("way", target).finish();
        let second = Tar::new().file("way/marker", 0o666, b"evil").finish();
        try_layers(&host, "two layers", vec![first.clone(), second], &["report"]);
        let again =
            Tar::new().file(".wh.way", 0o644, b"").symlink("way", target).file("way/marker", 0o666, b"evil").finish();
        try_layers(&host, "after a whiteout", vec![first.clone(), again], &["report"]);
        let through = Tar::new()
            .directory("way/sub/")
            .symlink("way/sub/up", target)
            .hardlink("way/sub/hard", "way/sub/up/marker");
        try_layers(&host, "a hard link through a link", vec![first, through.finish()], &["report"]);
    }
    host.finish();
}

#[test]
fn i03_hard_links() {
    let host = Host::new();
    let marker = host.guard.marker().display().to_string();
    let up = format!("{}{}", "../".repeat(12), marker.trim_start_matches('/'));
    for target in [marker.as_str(), &up, "later", "self", "", "/", "..", "bin"] {
        let layer = Tar::new().hardlink("self", target).file("later", 0o644, b"x").finish();
        if let Some(read) = try_layers(&host, target, vec![layer], &["paths", "/self"]) {
            assert!(!read.to_string().contains("guarded"), "{target} was read: {read}");
        }
    }
    let device = Tar::new().char_device("node", 1, 1).hardlink("again", "node").finish();
    try_layers(&host, "a device", vec![device], &["report"]);
    host.finish();
}

#[test]
fn i04_whiteouts_delete_inside_only() {
    let host = Host::new();
    let guard = host.guard.directory.display().to_string();
    for name in [
        ".wh.",
        ".wh...",
        ".wh..",
        ".wh..wh..opq",
        "way/.wh..wh..opq",
        "way/.wh.marker",
        ".wh.way/..",
        "..wh..",
        ".wh..wh.aufs",
    ] {
        let first = Tar::new().symlink("way", &guard).finish();
        try_layers(&host, name, vec![first, Tar::new().file(name, 0o644, b"").finish()], &["report"]);
    }
    // The right ones do what they are for.
    let lower = Tar::new()
        .directory("gone/")
        .file("gone/a", 0o644, b"a")
        .directory("emptied/")
        .file("emptied/old", 0o644, b"old")
        .file("kept", 0o644, b"kept")
        .finish();
    let upper = Tar::new()
        .file(".wh.gone", 0o644, b"")
        .directory("emptied/")
        .file("emptied/.wh..wh..opq", 0o644, b"")
        .file("emptied/new", 0o644, b"new")
        .finish();
    let seen = try_layers(
        &host,
        "good whiteouts",
        vec![lower, upper],
        &["paths", "/gone", "/emptied", "/kept", "/emptied/new"],
    );
    let seen = seen.expect("good whiteouts are taken");
    assert_eq!(seen["/gone"], Value::Null);
    assert_eq!(seen["/emptied"]["entries"], json!(["new"]));
    assert_eq!(seen["/kept"]["content"], "kept");
    host.finish();
}

#[test]
fn i04_overlay_attributes_of_an_image_mean_nothing() {
    let host = Host::new();
    let lower = Tar::new().directory("d/").file("d/inside", 0o644, b"x").finish();
    for attribute in
        ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"]
    {
        let record = format!("SCHILY.xattr.{attribute}");
        let value: &[u8] = if attribute.ends_with("redirect") { b"/bin" } else { b"y" };
        let upper = Tar::new()
            .pax(&[(&record, value)])
            .entry(&Header { name: b"d/", kind: b'5', mode: 0o755, ..Header::default() }, b"")
            .finish();
        if let Some(seen) = try_layers(&host, attribute, vec![lower.clone(), upper], &["paths", "/d"]) {
            assert_eq!(seen["/d"]["entries"], json!(["inside"]), "{attribute}");
        }
    }
    let device = Tar::new().char_device("d/inside", 0, 0).finish();
    try_layers(&host, "a whiteout as overlayfs has it", vec![lower, device], &["report"]);
    host.finish();
}

#[test]
fn i05_devices_of_an_image_cannot_be_opened() {
    const EPERM: i64 = 1;
    let host = Host::new();
    let nodes =
        Tar::new().char_device("mem", 1, 1).char_device("tun", 10, 200).char_device("loops", 10, 237).fifo("fifo");
    let seen = try_layers(&host, "devices", vec![nodes.finish()], &["paths", "/mem", "/tun", "/loops"]);
    for (path, look) in seen.expect("devices are taken or left out").as_object().expect("paths") {
        if !look.is_null() && look["kind"] == "char" {
            assert_eq!(look["content"]["errno"], EPERM, "{path}: {look}");
            assert_eq!(look["write_errno"], EPERM, "{path}: {look}");
        }
    }
    host.finish();
}

#[test]
fn i06_headers_that_disagree() {
    let host = Host::new();
    // The size of the PAX header wins over the one of the old header; an unpacker that mixes them up sees the
    // content as further entries (CVE-2025-62518).
    let inner = Tar::new().file("smuggled", 0o644, b"evil").finish();
    let size = inner.len().to_string();
    let header = Header { name: b"outer", size: 0, ..Header::default() };
    let nested = Tar::new().pax(&[("size", size.as_bytes())]).entry(&header, &inner).finish();
    if let Some(seen) = try_layers(&host, "two sizes", vec![nested], &["paths", "/smuggled", "/outer"]) {
        assert_eq!(seen["/smuggled"], Value::Null, "{seen}");
    }
    let claims = |size: u64| Tar::new().entry(&Header { name: b"x", size, ..Header::default() }, b"short").finish();
    for size in [512 * 1024, 0o77777777777] {
        try_layers(&host, "a size beyond the end", vec![claims(size)], &["report"]);
    }
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("a header of noise", vec![0xa5; 1536]),
        ("no end", Tar::new().file("x", 0o644, b"y").unfinished()),
        ("half a header", vec![b'x'; 100]),
        ("a wrong checksum", {
            let mut tar = Tar::new().file("x", 0o644, b"y").finish();
            tar[0] ^= 1;
            tar
        }),
        ("an unknown kind", Tar::new().entry(&Header { name: b"x", kind: b'Z', ..Header::default() }, b"").finish()),
        ("a PAX record that lies about its length", {
            let header = Header { name: b"pax", kind: b'x', size: 20, ..Header::default() };
            Tar::new().entry(&header, b"999999999 path=x\n123").file("x", 0o644, b"").finish()
        }),
        ("a long name of another size", {
            let header = Header { name: b"././@LongLink", kind: b'L', size: 1 << 30, ..Header::default() };
            Tar::new().entry(&header, b"x").file("x", 0o644, b"").finish()
        }),
        ("a negative base-256 size", {
            let mut tar = Tar::new().file("x", 0o644, b"").finish();
            tar[124..136].fill(0xff);
            let sum: u32 = tar[..512]
                .iter()
                .enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                .sum();
            tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            tar
        }),
    ];
    for (what, layer) in broken {
        try_layers(&host, what, vec![layer], &["report"]);
    }
    host.finish();
}

#[test]
fn i07_a_folder_over_a_link_changes_no_mode_outside() {
    let host = Host::new();
    let guard = host.guard.directory.display().to_string();
    let layer = Tar::new()
        .symlink("way", &guard)
        .entry(&Header { name: b"way", kind: b'5', mode: 0o777, uid: 1000, ..Header::default() }, b"")
        .finish();
    try_layers(&host, "a folder over a link", vec![layer], &["report"]);
    host.finish();
}

#[test]
fn i08_bombs_are_bounded() {
    const QUICK: Duration = Duration::from_secs(60);
    let host = Host::new();
    let begun = Instant::now();
    let deep = "d/".repeat(2_000);
    let deep = Tar::new()
        .pax(&[("path", deep.as_bytes())])
        .entry(&Header { name: b"x", kind: b'5', ..Header::default() }, b"");
    try_layers(&host, "2,000 folders deep", vec![deep.finish()], &["report"]);
    // A sparse file as GNU tar's PAX form 1.0 has it: one TiB of nothing.
    let sparse = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"big"),
            ("GNU.sparse.realsize", b"1099511627776"),
        ])
        .file("GNUSparseFile.0/big", 0o644, b"0\n");
    try_layers(&host, "a sparse TiB", vec![sparse.finish()], &["report"]);
    let many = (0..200).map(|_| Tar::new().file("x", 0o644, b"y").finish()).collect();
    try_layers(&host, "200 layers", many, &["report"]);
    assert!(begun.elapsed() < QUICK, "it took {:?}", begun.elapsed());
    host.finish();
}
