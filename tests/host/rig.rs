//! The rig itself: that the audit finds what is left, and that the helpers do what they say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::support::netns::{LAN_ADDRESS_OF_HOST, Namespace};
use crate::support::registry::{Fault, Registry, Repository};
use crate::support::{Host, Running, audit, cgroups, image, netlink, probe, wait_for};

#[test]
fn an_untouched_host_passes_the_audit() {
    Host::new().finish();
}

#[test]
fn the_audit_sees_processes_cgroups_sockets_and_a_touched_guard() {
    let host = Host::new();
    let mut pause = Command::new(probe());
    pause.arg("forever");
    host.place(&mut pause);
    let pause = Running::start(&mut pause);
    // The child enters the namespace before it executes; from then on the audit must name it.
    wait_for("the process in the namespace", || {
        audit::processes(&host.places, &host.namespace).contains(&pause.pid()).then_some(())
    });
    let parent = cgroups::hierarchies()[0].join(&host.places.cgroup_parent);
    std::fs::create_dir_all(parent.join("left")).expect("tests run as root");
    let socket = host.namespace.enter(|| TcpListener::bind("127.0.0.1:0")).expect("loopback is up");
    let found = audit::leftovers(&host.places, &host.namespace).join("\n");
    for kind in ["process ", "cgroup ", "socket tcp"] {
        assert!(found.contains(kind), "{kind}is not found among:\n{found}");
    }
    assert_eq!(host.guard.changes(), Vec::<String>::new());
    std::fs::write(host.guard.marker(), "touched").expect("tests run as root");
    assert!(host.guard.changes()[0].contains("marker"));
    std::fs::write(host.guard.marker(), "guarded marker\n").expect("tests run as root");
    drop(socket);
    std::fs::remove_dir(parent.join("left")).expect("it is empty");
    std::fs::remove_dir(parent).expect("it is empty");
    drop(pause);
    host.finish();
}

#[test]
fn the_audit_sees_links_and_nftables_elements() {
    let namespace = Namespace::new();
    let other = Namespace::new();
    namespace.enter(|| netlink::add_veth("stray", "far", other.descriptor())).expect("a veth pair can be made");
    assert!(namespace.links().contains(&"stray".to_owned()));
    assert_eq!(namespace.enter(netlink::nft_tables).expect("nftables answers"), Vec::<String>::new());
    assert!(namespace.enter(netlink::nft_elements).expect("nftables answers").is_empty());
    let rules = "table inet t { map m { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1, 81 : 10.0.0.2 } }; \
                 set none { type ipv4_addr; }; chain c { tcp dport { 1, 2, 3 } accept; }; }";
    let loaded = namespace.enter(|| Command::new("nft").arg(rules).status()).expect("nft is installed");
    assert!(loaded.success());
    assert_eq!(namespace.enter(netlink::nft_tables).expect("nftables answers"), ["t"]);
    let counted = namespace.enter(netlink::nft_elements).expect("nftables answers");
    assert_eq!(counted.into_iter().collect::<Vec<_>>(), [("t m".to_owned(), 2), ("t none".to_owned(), 0)]);
}

#[test]
fn a_neighbour_reaches_the_host_over_the_lan() {
    let host = Host::new();
    let neighbour = host.neighbour();
    let listener = host.namespace.enter(|| TcpListener::bind("0.0.0.0:80")).expect("the port is free in there");
    std::thread::scope(|scope| {
        scope.spawn(|| listener.accept().expect("the neighbour comes").0.write_all(b"hello").expect("it listens"));
        let mut heard = String::new();
        let mut stream =
            neighbour.namespace.enter(|| TcpStream::connect((LAN_ADDRESS_OF_HOST, 80))).expect("the LAN is up");
        stream.read_to_string(&mut heard).expect("the host says something");
        assert_eq!(heard, "hello");
    });
    drop(listener);
    host.finish();
}

#[test]
fn the_registry_serves_an_image_and_half_of_one() {
    let host = Host::new();
    let blobs = image::Image::of(vec![b"a layer".to_vec()]).blobs();
    let repository = |name: &str, fault| Repository { name: name.to_owned(), blobs: blobs.clone(), fault };
    let registry =
        Registry::start(&host, vec![repository("good", Fault::None), repository("a/short", Fault::ShortLayer)]);
    let get = |path: &str| {
        host.namespace.enter(|| {
            let mut stream = TcpStream::connect(registry.address()).expect("it listens");
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            answer
        })
    };
    assert!(get("/v2/good/manifests/latest").contains("\"schemaVersion\":2"));
    assert!(get(&format!("/v2/good/blobs/{}", blobs.layer_digests[0])).ends_with("\r\n\r\na layer"));
    assert!(get(&format!("/v2/a/short/blobs/{}", blobs.layer_digests[0])).ends_with("\r\n\r\na l"));
    assert!(get("/v2/none/manifests/latest").starts_with("HTTP/1.1 404"));
    assert_eq!(registry.requests().len(), 4);
    registry.stop(&host);
    host.finish();
}

/// Known without the program under test: sha256 of nothing, a tar header's parts, and a PAX record's own length.
#[test]
fn images_are_made_right() {
    assert_eq!(image::digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let tar = crate::support::tar::Tar::new().file("x", 0o755, b"hello").finish();
    assert_eq!(tar.len(), 4 * 512);
    assert_eq!(&tar[..2], b"x\0");
    assert_eq!(&tar[100..108], b"0000755\0");
    assert_eq!(&tar[124..136], b"00000000005\0");
    assert_eq!(&tar[257..265], b"ustar\x0000");
    assert_eq!(&tar[512..518], b"hello\0");
    let record = crate::support::tar::Tar::new().pax(&[("path", b"x")]).unfinished();
    assert_eq!(&record[512..521], b"9 path=x\n");
}
