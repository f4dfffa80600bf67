//! `coracle port-forward`: a port of this machine's loopback leads to one of a container's loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use agent_protocol::TaskStatus;
use clap::Args;
use ecs::{ContainerName, TaskId};
use runtime::task_dir::{self, Roots};
use runtime::{client, namespace_socket};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::{output, ps, target};

/// Connections at a time; a further one waits for its turn.
const MAX_CONNECTIONS: usize = 512;
/// Messages about connections that wait to be printed; more are not printed.
const MAX_MESSAGES: usize = 64;

/// Forward ports of this machine's loopback into a container
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle port-forward web 8080:80\n  sudo coracle port-forward web db 5432 0:9000\n\nA port alone is the same on both sides; 0 takes a free one here. Connections begin inside the container's network\nnamespace, so that what listens on its 127.0.0.1 is reached, in every network mode. TCP only. Ends with Ctrl-C, or when\nthe container stops."
)]
pub(crate) struct Arguments {
    /// The task's id, the start of its id, its name or its family.
    task: String,
    /// The container, which may be left out where only one runs; then ports, as LOCAL:REMOTE or PORT.
    #[arg(required = true, value_name = "[CONTAINER] LOCAL:REMOTE")]
    rest: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Forward {
    local: u16,
    remote: u16,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("port-forward")?;
    let (named, forwards) = parse(&arguments.rest)?;
    let task = target::running(options, &arguments.task)?;
    let usage = format!("coracle port-forward {} CONTAINER LOCAL:REMOTE", arguments.task);
    let container = target::container(&task, named, &usage)?;
    target::process(&task, &container)?;
    let watch = client::connect(&task.spec.places)
        .and_then(client::Client::watch)
        .doing(format!("asking the supervisor of task {}", ps::short_id(&task)))?;
    let to = To { roots: options.roots()?, id: task.spec.id.clone(), container };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("starting to listen")?;
    let ended = runtime.block_on(async {
        let mut listeners = Vec::new();
        for forward in forwards {
            let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, forward.local)))
                .await
                .doing(format!("listening on 127.0.0.1:{}", forward.local))
                .next(format!("another port: {}:{}, or 0:{} for a free one", 10_000, forward.remote, forward.remote))?;
            let local = listener.local_addr().doing("listening")?;
            output::print(&format!("{local} -> {}:{}\n", to.container, forward.remote))?;
            listeners.push((listener, forward.remote));
        }
        serve(listeners, to, watch).await
    });
    // A connection that is still being made is not waited for.
    runtime.shutdown_background();
    ended
}

/// Where connections go.
#[derive(Clone)]
struct To {
    roots: Roots,
    id: TaskId,
    container: ContainerName,
}

/// Until Ctrl-C or the container's end.
async fn serve(listeners: Vec<(TcpListener, u16)>, to: To, watch: client::Watch) -> Outcome {
    let (say, mut said) = mpsc::channel::<String>(MAX_MESSAGES);
    let (ended, mut end) = oneshot::channel();
    let container = to.container.clone();
    std::thread::spawn(move || {
        let last = watch.flatten().find(|status| has_stopped(status, &container));
        // Nobody waits any more where Ctrl-C came first.
        let _ = ended.send(last);
    });
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for (listener, remote) in listeners {
        tokio::spawn(accept(listener, remote, to.clone(), room.clone(), say.clone()));
    }
    loop {
        tokio::select! {
            Some(message) = said.recv() => eprintln!("{message}"),
            _ = &mut end => {
                eprintln!("container {} has stopped", to.container);
                return Ok(ExitCode::SUCCESS);
            }
            interrupt = tokio::signal::ctrl_c() => {
                return interrupt.doing("waiting for Ctrl-C").map(|()| ExitCode::SUCCESS);
            }
        }
    }
}

fn has_stopped(status: &TaskStatus, container: &ContainerName) -> bool {
    let container = status.containers.iter().find(|status| status.name == *container);
    container.is_none_or(|status| !target::runs(status))
}

async fn accept(listener: TcpListener, remote: u16, to: To, room: Arc<Semaphore>, say: mpsc::Sender<String>) {
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((here, _)) => {
                let (to, say) = (to.clone(), say.clone());
                tokio::spawn(async move {
                    if let Err(failure) = carry(here, remote, to).await {
                        // A reader that is behind misses a message, never a connection.
                        let _ = say.try_send(failure.to_string().trim_end().to_owned());
                    }
                    drop(place);
                });
            }
            Err(error) => {
                let _ = say.try_send(format!("coracle: a connection was not accepted: {error}"));
                // Out of descriptors, say: others end meanwhile.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn carry(mut here: TcpStream, remote: u16, to: To) -> Result<(), Failure> {
    let connected = tokio::task::spawn_blocking(move || connect(&to, remote)).await;
    let there = connected.doing("connecting")??;
    there.set_nonblocking(true).doing("connecting")?;
    let mut there = TcpStream::from_std(there).doing("connecting")?;
    // Either side may break off; both know by their own connection.
    let _ = copy_bidirectional(&mut here, &mut there).await;
    Ok(())
}

/// To the container as it is now: its restart policy may have started it again.
fn connect(to: &To, remote: u16) -> Result<std::net::TcpStream, Failure> {
    let gone = || Failure::new(format!("task {} is gone", to.id));
    let task = task_dir::read(&to.roots, &to.id)?.ok_or_else(gone)?;
    let process = target::process(&task, &to.container)?;
    namespace_socket::connect(process, remote)
        .doing(format!("connecting to port {remote} in container {}", to.container))
}

/// The container, if the first word is one, and the ports.
fn parse(words: &[String]) -> Result<(Option<&str>, Vec<Forward>), Failure> {
    let (container, ports) = match words {
        [first, ports @ ..] if !ports.is_empty() && forward(first).is_err() && !first.contains(':') => {
            (Some(first.as_str()), ports)
        }
        all => (None, all),
    };
    Ok((container, ports.iter().map(|text| forward(text)).collect::<Result<_, _>>()?))
}

fn forward(text: &str) -> Result<Forward, Failure> {
    let wrong = || {
        Failure::new(format!("{text:?} is no pair of ports"))
            .exit(BAD_INPUT)
            .next("LOCAL:REMOTE, such as 8080:80, or one PORT from 1 to 65535 for both sides; TCP only")
    };
    let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (local, remote) = match text.split_once(':') {
        Some(("", remote)) => (0, port(remote)?),
        Some((local, remote)) => (port(local)?, port(remote)?),
        None => (port(text)?, port(text)?),
    };
    if remote == 0 {
        return Err(wrong());
    }
    Ok(Forward { local, remote })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_container_and_ports() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let parsed = |text: &str| parse(&words(text)).map(|(name, ports)| (name.map(str::to_owned), ports));
        let pair = |local, remote| Forward { local, remote };
        assert_eq!(parsed("8080:80").expect("ports"), (None, vec![pair(8080, 80)]));
        assert_eq!(parsed("80").expect("ports"), (None, vec![pair(80, 80)]));
        assert_eq!(parsed("web :80 0:81").expect("ports"), (Some("web".to_owned()), vec![pair(0, 80), pair(0, 81)]));
        for bad in ["web", "web db", "80:0", "0", "70000", "1:2:3", "web:80", "80/udp", "a:b c"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
