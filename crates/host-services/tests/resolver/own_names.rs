//! Tasks' names, with and without anybody else to ask.

use serde_json::json;

use super::scene::{A, AAAA, Example, Scene, task};

const SRV: u16 = 33;

#[tokio::test]
async fn own_names_need_no_name_server() {
    let scene = Scene::new(vec![Example::new(1, "web").task(), Example::new(2, "web").task()], &[]);
    let client = scene.client(1).await;
    let own = format!("main.{}", Example::id(1));
    assert_eq!(client.ask(&own, A).await, "ok 10.0.0.1");
    assert_eq!(client.ask(&own, AAAA).await, "ok");
    assert_eq!(client.ask(&format!("{own}.coracle.internal"), A).await, "ok 10.0.0.1");
    let mut stream = client.connect().await;
    assert_eq!(client.ask_over(&mut stream, &own, A).await, "ok 10.0.0.1");
    let srv = client.ask_over(&mut stream, "_http._tcp.web", SRV).await;
    assert!(srv.contains(&format!("{own}:80")), "two questions over one connection: {srv}");
    // Everybody comes first at some time.
    let answers = [client.ask("web", A).await, client.ask("web", A).await];
    assert!(answers.contains(&"ok 10.0.0.1 10.0.0.2".to_owned()), "{answers:?}");
    assert!(answers.contains(&"ok 10.0.0.2 10.0.0.1".to_owned()), "{answers:?}");
    assert_eq!(client.ask("example.com", A).await, "failure");
    assert_eq!(client.ask_tcp("example.com", A).await, "failure");
    assert_eq!(client.ask("nobody.coracle.internal", A).await, "no such name");
}

#[tokio::test]
async fn who_has_stopped_or_is_ill_is_not_found() {
    let example = Example::new(1, "web");
    let scene = Scene::new(vec![example.task()], &[]);
    let client = scene.client(1).await;
    let own = format!("main.{}", Example::id(1));
    let set = |member: &str, value: &str| {
        let mut status = example.status();
        status[member] = json!(value);
        scene.set_tasks(vec![task(example.spec(), status)]);
    };
    assert_eq!(client.ask("web", A).await, "ok 10.0.0.1");
    set("health_status", "UNHEALTHY");
    assert_eq!(client.ask("web", A).await, "no such name");
    assert_eq!(client.ask(&own, A).await, "no such name");
    set("last_status", "PENDING");
    assert_eq!(client.ask("web", A).await, "no such name", "a task that starts does not speak for its family");
    assert_eq!(client.ask(&own, A).await, "ok 10.0.0.1", "but its containers find each other");
    set("desired_status", "STOPPED");
    assert_eq!(client.ask(&own, A).await, "no such name");
    set("last_status", "DEACTIVATING");
    assert_eq!(client.ask("web", A).await, "no such name");
    scene.set_tasks(Vec::new());
    assert_eq!(client.ask(&own, A).await, "no such name", "a task that is gone fails at once");
    assert_eq!(client.ask("web", A).await, "failure", "anybody's name, and nobody to ask");
}

/// A client with a search domain asks `web.lan` first. musl's ends there if that fails, unless there is no such name.
#[tokio::test]
async fn a_search_domain_is_not_in_the_way_of_own_names() {
    let example =
        Example { resolv_conf: "nameserver 169.254.170.2\nsearch lan corp.example\n", ..Example::new(1, "web") };
    let scene = Scene::new(vec![example.task()], &[]);
    let client = scene.client(1).await;
    assert_eq!(client.ask("web.lan", A).await, "no such name");
    assert_eq!(client.ask("web.corp.example", A).await, "no such name");
    assert_eq!(client.ask("db.lan", A).await, "failure");
    assert_eq!(client.ask("web.example", A).await, "failure");
}

#[tokio::test]
async fn addresses_by_network_mode() {
    let mut with_interface = Example::new(1, "vpc").spec();
    with_interface["network_mode"] = json!("awsvpc");
    with_interface["network_interface"] = json!({
        "attachmentId": "a", "networkInterfaceId": "eni-00000000000000001", "subnetId": "subnet-00000000000000001",
        "availabilityZone": "xx-test-1a",
        "securityGroups": ["sg-00000000000000001"], "macAddress": "02:42:0a:00:01:05", "privateIpv4Address": "10.0.1.5",
        "ipv6Address": "fd00::5", "privateDnsName": "ip-10-0-1-5.xx-test-1.compute.internal",
        "subnetIpv4CidrBlock": "10.0.1.0/24", "subnetGateway": "10.0.1.1", "hostLink": "eni0a000105",
    });
    let mut alone = Example::new(2, "alone").spec();
    alone["network_mode"] = json!("none");
    alone["containers"][0]["network"]["ipv4_address"] = json!(null);
    alone["containers"][0]["definition"]["portMappings"] = json!([]);
    let tasks = vec![
        task(with_interface, Example::new(1, "vpc").status()),
        task(alone, Example::new(2, "alone").status()),
        Example::new(3, "bridge").task(),
    ];
    let scene = Scene::new(tasks, &[]);
    let client = scene.client(2).await;
    assert_eq!(client.ask("vpc", A).await, "ok 10.0.1.5");
    assert_eq!(client.ask("vpc", AAAA).await, "ok fd00::5");
    assert_eq!(client.ask("ip-10-0-1-5.xx-test-1.compute.internal", A).await, "ok 10.0.1.5");
    assert_eq!(client.ask("alone", A).await, "ok", "it is there, and has no address");
    assert_eq!(client.ask("bridge", A).await, "ok 10.0.0.3");
}
