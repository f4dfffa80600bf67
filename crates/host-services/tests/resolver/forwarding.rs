//! Other people's names.

use std::net::IpAddr;

use super::scene::{A, AAAA, Client, Example, Scene, query};
use super::upstream::{Manner, Upstream};

async fn scene(servers: &[IpAddr]) -> (Scene, Client) {
    let scene = Scene::new(vec![Example::new(1, "web").task()], servers);
    let client = scene.client(1).await;
    (scene, client)
}

#[tokio::test]
async fn a_name_is_asked_for_once() {
    let upstream = Upstream::start(1, Manner::Answers).await;
    let (_scene, client) = scene(&[upstream.address]).await;
    for name in ["www.example", "WWW.example", "www.EXAMPLE"] {
        assert_eq!(client.ask(name, A).await, "ok 192.0.2.1");
    }
    assert_eq!(client.ask_tcp("www.example", A).await, "ok 192.0.2.1");
    assert_eq!(upstream.heard(), ["udp www.example 1"]);
    assert_eq!(client.ask("www.example", AAAA).await, "ok");
    assert_eq!(client.ask("web", A).await, "ok 10.0.0.1");
    assert_eq!(upstream.heard(), ["udp www.example 1", "udp www.example 28"]);
}

#[tokio::test]
async fn those_who_ask_the_same_at_a_time_share_one_question() {
    let upstream = Upstream::start(1, Manner::Answers).await;
    let (scene, client) = scene(&[upstream.address]).await;
    let other = scene.client(1).await;
    upstream.hold();
    let asking: Vec<_> = [client, other, client]
        .into_iter()
        .map(|client| tokio::spawn(async move { client.ask("www.example", A).await }))
        .collect();
    let over_tcp = tokio::spawn(async move { client.ask_tcp("www.example", A).await });
    upstream.has_heard(1).await;
    // Behind the others in every queue.
    assert_eq!(other.ask("web", A).await, "ok 10.0.0.1", "nobody waits for somebody else's question");
    upstream.go_on();
    for answer in asking {
        assert_eq!(answer.await.expect("no panic"), "ok 192.0.2.1");
    }
    assert_eq!(over_tcp.await.expect("no panic"), "ok 192.0.2.1");
    assert_eq!(upstream.heard(), ["udp www.example 1"]);
}

#[tokio::test]
async fn long_answers_come_over_tcp() {
    let upstream = Upstream::start(1, Manner::IsTerse).await;
    let (_scene, client) = scene(&[upstream.address]).await;
    let whole = client.ask_tcp("many.example", A).await;
    assert_eq!(whole.split(' ').count(), 1 + 40, "{whole}");
    // 12 + 18 bytes, and 16 for each address.
    let cut = client.ask("many.example", A).await;
    assert!(cut.starts_with("ok cut 192.0.2.1 192.0.2.2 "), "{cut}");
    assert_eq!(cut.split(' ').count(), 2 + 30, "{cut}");
    assert_eq!(upstream.heard(), ["udp many.example 1", "tcp many.example 1"]);
    let alone = Upstream::start(1, Manner::IsTerseAlways).await;
    let (_scene, client) = scene(&[alone.address]).await;
    assert_eq!(client.ask("many.example", A).await, "ok cut 192.0.2.1", "what there is, and that it is not all");
}

#[tokio::test]
async fn a_server_that_does_not_know_is_not_the_last() {
    let failing = Upstream::start(1, Manner::Fails).await;
    let silent = Upstream::start(2, Manner::IsSilent).await;
    let good = Upstream::start(3, Manner::Answers).await;
    let nobody = super::scene::address();
    let (_scene, client) = scene(&[nobody, failing.address, silent.address, good.address]).await;
    assert_eq!(client.ask("a.example", A).await, "ok 192.0.2.3");
    assert_eq!(silent.heard(), ["udp a.example 1"]);
    assert_eq!(client.ask("b.example", A).await, "ok 192.0.2.3");
    assert_eq!(silent.heard().len(), 1, "it is not waited for again");
    assert_eq!(failing.heard().len(), 2);
}

#[tokio::test]
async fn silence_is_a_failure_in_the_end() {
    let silent = Upstream::start(2, Manner::IsSilent).await;
    let (_scene, client) = scene(&[silent.address]).await;
    assert_eq!(client.ask("a.example", A).await, "failure");
    assert_eq!(silent.heard(), ["udp a.example 1"; 2], "asked twice");
    assert_eq!(client.ask("web", A).await, "ok 10.0.0.1");
}

#[tokio::test]
async fn servers_of_every_age() {
    let old = Upstream::start(1, Manner::HatesEdns).await;
    let (_scene, client) = scene(&[old.address]).await;
    assert_eq!(client.ask("a.example", A).await, "ok 192.0.2.1");
    assert_eq!(old.heard(), ["udp a.example 1", "udp a.example 1 plain"]);
}

#[tokio::test]
async fn forged_replies_are_passed_over() {
    let upstream = Upstream::start(1, Manner::IsForged).await;
    let (_scene, client) = scene(&[upstream.address]).await;
    assert_eq!(client.ask("www.example", A).await, "ok 192.0.2.1");
}

#[tokio::test]
async fn a_containers_own_servers_are_asked_for_it_alone() {
    let hosts = Upstream::start(1, Manner::Answers).await;
    let own = Upstream::start(2, Manner::Answers).await;
    let with_own = Example { dns_servers: vec![own.address], ..Example::new(2, "other") };
    let scene = Scene::new(vec![Example::new(1, "web").task(), with_own.task()], &[hosts.address]);
    let (first, second) = (scene.client(1).await, scene.client(2).await);
    for _ in 0..2 {
        assert_eq!(first.ask("www.example", A).await, "ok 192.0.2.1");
        assert_eq!(second.ask("www.example", A).await, "ok 192.0.2.2", "not from the other's cache");
    }
    assert_eq!((hosts.heard().len(), own.heard().len()), (1, 1));
    assert_eq!(second.ask("web", A).await, "ok 10.0.0.1", "own names are everybody's");
}

#[tokio::test]
async fn the_hosts_servers_may_change() {
    let (before, after) = (Upstream::start(1, Manner::Answers).await, Upstream::start(2, Manner::Answers).await);
    let (scene, client) = scene(&[before.address]).await;
    assert_eq!(client.ask("www.example", A).await, "ok 192.0.2.1");
    scene.write_resolv_conf(&[after.address]);
    client.ask_until("www.example", "ok 192.0.2.2").await;
    scene.write_resolv_conf(&[]);
    client.ask_until("www.example", "failure").await;
}

#[tokio::test]
async fn a_resolver_never_asks_itself() {
    let (_scene, client) = scene(&["169.254.170.2".parse().expect("an address")]).await;
    assert_eq!(client.ask("www.example", A).await, "failure");
}

#[tokio::test]
async fn the_flood_of_one_is_not_the_others() {
    let silent = Upstream::start(1, Manner::IsSilent).await;
    let good = Upstream::start(2, Manner::Answers).await;
    let flooded = Example { dns_servers: vec![silent.address], ..Example::new(2, "other") };
    let scene = Scene::new(vec![Example::new(1, "web").task(), flooded.task()], &[good.address]);
    let (calm, flooding) = (scene.client(1).await, scene.client(2).await);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for number in 0..3000 {
        socket.send_to(&query(&format!("n{number}.example"), A), flooding.udp).await.expect("a datagram is sent");
    }
    silent.has_heard(32).await;
    for number in 0..100 {
        assert_eq!(calm.ask(&format!("n{number}.example"), A).await, "ok 192.0.2.2");
    }
    assert_eq!(silent.heard().len(), 32, "no more than its share");
    assert_eq!(flooding.ask("web", A).await, "ok 10.0.0.1", "even it gets what needs no waiting");
}
