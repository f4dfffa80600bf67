//! The introspection API of Amazon's agent: what this instance is and which tasks it has, for this host alone
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-introspection.html>).

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{ContainerSpec, ContainerStatus};
use bytes::Bytes;
use ecs::ContainerInstanceId;
use ecs::task::{DesiredStatus, LastStatus};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::task_dir::{self, Task};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::disk::Disk;
use crate::describe;
use crate::host::Host;
use crate::recovery::chain;

/// Where Amazon's agent answers.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 51_678);
/// At one time; the next waits in the kernel's queue.
const CONNECTIONS: usize = 32;
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// After an accept that failed, as it does where there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEAD_BYTES: usize = 16 << 10;

/// What is told of the instance itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub cluster: String,
    /// Nothing before the first registration.
    pub instance: Option<ContainerInstanceId>,
}

/// What answers are made from.
#[derive(Clone, Debug)]
pub struct Introspected {
    pub host: Host,
    pub region: String,
    pub account_id: String,
    pub shown: watch::Receiver<Shown>,
}

/// Answers for as long as it is polled.
///
/// # Errors
/// The address belongs to somebody else.
pub async fn serve(address: SocketAddr, introspected: Introspected) -> io::Result<Infallible> {
    let listener = TcpListener::bind(address).await?;
    let introspected = Arc::new(introspected);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => {
                let introspected = Arc::clone(&introspected);
                tokio::spawn(async move {
                    converse(stream, introspected).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the introspection API cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, introspected: Arc<Introspected>) {
    let service = service_fn(move |request| {
        let introspected = Arc::clone(&introspected);
        async move { Ok::<_, Infallible>(respond(request, introspected).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that went away knows it.
    if let Err(error) = served.await {
        tracing::debug!(%error, "a client of the introspection API has gone");
    }
}

async fn respond(request: Request<Incoming>, introspected: Arc<Introspected>) -> Response<Full<Bytes>> {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    // The disk is read: not on the thread that all others wait for.
    let answering = tokio::task::spawn_blocking(move || answer(&path, &query, &introspected));
    let (status, body) = match (is_read, answering.await) {
        (false, _) => (StatusCode::METHOD_NOT_ALLOWED, json!({})),
        (true, Ok(answer)) => answer,
        (true, Err(_)) => (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn answer(path: &str, query: &str, introspected: &Introspected) -> (StatusCode, Value) {
    match path {
        "/" => (StatusCode::OK, json!({"AvailableCommands": ["/v1/metadata", "/v1/tasks", "/license"]})),
        "/license" => (StatusCode::OK, json!("Apache-2.0")),
        "/v1/metadata" => (StatusCode::OK, metadata(introspected)),
        "/v1/tasks" => match tasks(introspected) {
            Ok(tasks) => choose(tasks, query),
            Err(error) => {
                tracing::warn!(error, "the introspection API cannot list tasks");
                (StatusCode::INTERNAL_SERVER_ERROR, json!({}))
            }
        },
        _ => (StatusCode::NOT_FOUND, json!({})),
    }
}

fn metadata(introspected: &Introspected) -> Value {
    let Introspected { region, account_id, shown, host: _ } = introspected;
    let Shown { cluster, instance } = shown.borrow().clone();
    let arn = instance.map(|id| format!("arn:aws:ecs:{region}:{account_id}:container-instance/{cluster}/{id}"));
    json!({
        "Cluster": cluster,
        "ContainerInstanceArn": arn,
        "Version": format!("Amazon ECS Agent - v{} (coracle)", env!("CARGO_PKG_VERSION")),
    })
}

fn tasks(introspected: &Introspected) -> Result<Vec<Task>, String> {
    let roots = &introspected.host.roots;
    let disk = Disk::open(&roots.data).map_err(|error| chain(&error))?;
    let marks = disk.marks().map_err(|error| chain(&error))?;
    // One that cannot be read, or has no directory yet, is told of when it can be.
    Ok(marks.keys().filter_map(|id| task_dir::read(roots, id).ok().flatten()).collect())
}

/// One task by its ARN or by the start of a container's id, or all.
fn choose(tasks: Vec<Task>, query: &str) -> (StatusCode, Value) {
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| unescaped(value)).next()
    };
    let chosen: Vec<&Task> = match (parameter("taskarn"), parameter("dockerid")) {
        (None, None) => {
            return (StatusCode::OK, json!({"Tasks": tasks.iter().map(shown).collect::<Vec<_>>()}));
        }
        (Some(_), Some(_)) => return (StatusCode::BAD_REQUEST, json!({})),
        (Some(arn), None) => tasks.iter().filter(|task| describe::task_arn(&task.spec) == arn).collect(),
        (None, Some(start)) => {
            let has = |container: &ContainerSpec| container.runtime_id.starts_with(&start);
            tasks.iter().filter(|task| task.spec.containers.iter().any(has)).collect()
        }
    };
    match chosen.as_slice() {
        [] => (StatusCode::NOT_FOUND, json!({})),
        [one] => (StatusCode::OK, shown(one)),
        _ => (StatusCode::BAD_REQUEST, json!({})),
    }
}

/// The colons and slashes of an ARN may come as `%3A` and `%2F` (RFC 3986); nothing else of it needs to.
fn unescaped(value: &str) -> String {
    value.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/")
}

fn shown(task: &Task) -> Value {
    let (spec, status) = (&task.spec, task.status.as_ref());
    let of_container = |container: &ContainerSpec| {
        let statuses = status.iter().flat_map(|status| &status.containers);
        container_shown(container, statuses.into_iter().find(|known| known.name == container.definition.name))
    };
    json!({
        "Arn": describe::task_arn(spec),
        "DesiredStatus": status.map_or(DesiredStatus::Running, |status| status.desired_status),
        "KnownStatus": status.map_or(LastStatus::Pending, |status| status.last_status),
        "Family": spec.family,
        "Version": spec.revision.to_string(),
        "Containers": spec.containers.iter().map(of_container).collect::<Vec<_>>(),
    })
}

fn container_shown(container: &ContainerSpec, status: Option<&ContainerStatus>) -> Value {
    let definition = &container.definition;
    let ports = container.network.bindings.iter().map(|binding| {
        json!({
            "ContainerPort": binding.container_port,
            "Protocol": binding.protocol,
            "HostPort": binding.host_port,
        })
    });
    let addresses: Vec<String> = container.network.ipv4_address.iter().map(ToString::to_string).collect();
    json!({
        "DockerId": container.runtime_id,
        "DockerName": definition.name,
        "Name": definition.name,
        "Image": definition.image,
        "ImageID": container.image.digest,
        "CreatedAt": status.and_then(|status| status.created_at).map(|at| at.rfc3339()),
        "StartedAt": status.and_then(|status| status.started_at).map(|at| at.rfc3339()),
        "Ports": ports.collect::<Vec<_>>(),
        "Networks": [{"IPv4Addresses": addresses}],
        "Volumes": [],
        "RestartCount": status.map_or(0, |status| status.restart_count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn one_task_is_told_by_its_arn_or_the_start_of_a_containers_id() {
        let task = || Task { spec: example::spec(&["web"]), status: Some(example::status(&["web"])) };
        let arn = describe::task_arn(&task().spec);
        let escaped = arn.replace(':', "%3A");
        let docker_id = task().spec.containers[0].runtime_id.clone();
        for (query, status) in [
            (String::new(), StatusCode::OK),
            (format!("taskarn={arn}"), StatusCode::OK),
            (format!("taskarn={escaped}"), StatusCode::OK),
            (format!("dockerid={}", &docker_id[..12]), StatusCode::OK),
            (format!("dockerid={docker_id}&taskarn={arn}"), StatusCode::BAD_REQUEST),
            ("taskarn=x".to_owned(), StatusCode::NOT_FOUND),
            ("dockerid=zz".to_owned(), StatusCode::NOT_FOUND),
        ] {
            assert_eq!(choose(vec![task()], &query).0, status, "{query}");
        }
        // A start that two have is no name.
        assert_eq!(choose(vec![task(), task()], &format!("dockerid={docker_id}")).0, StatusCode::BAD_REQUEST);
        let (_, one) = choose(vec![task()], &format!("taskarn={arn}"));
        assert_eq!((&one["Arn"], &one["Containers"][0]["DockerId"]), (&json!(arn), &json!(docker_id)));
    }
}
