//! `coracle agent`: this host as a further container instance, and the settings that it shares with the one of `serve`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::Host;
use agent::instance::introspection::{self, Introspected, Shown};
use agent::instance::join::{self, Server};
use agent::instance::register;
use agent::instance::{self, Peer, RunError, Settings};
use agent::recovery::chain;
use clap::Args;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::recovery;

/// Run this host as a container instance of a control plane elsewhere
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle agent --server 192.0.2.10:4870 --join TOKEN --ca ca.pem
  sudo coracle agent --server 192.0.2.10:4870
  sudo coracle agent --socket /run/coracle/coracle.sock

The token is for one use; after that this host has a certificate of its own in <data-dir>/agent. SIGTERM ends the agent; its tasks go on, and the next agent takes them over.")]
pub(crate) struct Arguments {
    /// Where the control plane listens.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "socket", conflicts_with = "socket")]
    server: Option<String>,
    /// A single-use token: needed the first time.
    #[arg(long, value_name = "TOKEN", requires = "ca", env = "CORACLE_JOIN_TOKEN", hide_env_values = true)]
    join: Option<String>,
    /// The certificate of the control plane's authority: needed the first time.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The socket of a control plane on this host that has no agent of its own (`coracle serve --no-agent`).
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The account in the introspection API's ARNs.
    #[arg(long, default_value = ACCOUNT_ID, value_name = "DIGITS")]
    account_id: String,
    /// Of this container instance.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", value_name = "NAME", hide_env_values = true)]
    region: String,
    #[command(flatten)]
    instance: InstanceArguments,
}

const ACCOUNT_ID: &str = "123456789012";

/// What may be said of a container instance; each wins over the variable of Amazon's agent.
#[derive(Args, Debug)]
pub(crate) struct InstanceArguments {
    /// The cluster to join, or ECS_CLUSTER; `default` otherwise.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// MiB that no task gets, or ECS_RESERVED_MEMORY.
    #[arg(long, value_name = "MIB")]
    reserved_memory: Option<u64>,
    /// Attributes of this container instance, or ECS_INSTANCE_ATTRIBUTES, which is a JSON object.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    attributes: Vec<String>,
    /// Its availability zone; the region's first otherwise.
    #[arg(long, value_name = "NAME")]
    availability_zone: Option<String>,
    /// Where the introspection API answers, or `none`.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = Introspection::At(introspection::ADDRESS))]
    introspection: Introspection,
}

#[derive(Clone, Copy, Debug)]
enum Introspection {
    At(SocketAddr),
    None,
}

impl std::fmt::Display for Introspection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Introspection::At(address) => address.fmt(out),
            Introspection::None => out.write_str("none"),
        }
    }
}

impl std::str::FromStr for Introspection {
    type Err = String;

    /// "You can't access it from off the host": it says which containers there are, to whoever asks.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Introspection::At(address)),
            Ok(_) => Err("it is for this host alone: a loopback address, such as 127.0.0.1:51678".to_owned()),
            Err(_) if text == "none" => Ok(Introspection::None),
            Err(_) => Err("ADDR:PORT, or none".to_owned()),
        }
    }
}

/// A container instance before it has a connection.
pub(crate) struct Prepared {
    host: Host,
    settings: Settings,
    account_id: String,
    introspection: Introspection,
}

impl InstanceArguments {
    /// # Errors
    /// A setting, here or in the environment, that does not make sense.
    pub(crate) fn prepare(&self, host: Host, region: &str, account_id: &str) -> Result<Prepared, Failure> {
        let bad = |failure: Failure| failure.exit(BAD_INPUT);
        let settings = Settings::from_env(region, |name| std::env::var(name).ok());
        let mut settings = settings.doing("a setting of the agent in the environment is wrong").map_err(bad)?;
        if let Some(cluster) = &self.cluster {
            settings.cluster.clone_from(cluster);
        }
        settings.reserved_memory_mib = self.reserved_memory.unwrap_or(settings.reserved_memory_mib);
        settings.availability_zone.clone_from(&self.availability_zone);
        if !self.attributes.is_empty() {
            let own = self.attributes.iter().map(|text| {
                let pair = text.split_once('=').ok_or("NAME=VALUE");
                let read = pair.and_then(|(name, value)| register::attribute(name.to_owned(), value.to_owned()));
                read.map_err(|wanted| bad(Failure::new(format!("--attributes {text:?}: {wanted}"))))
            });
            settings.attributes = own.collect::<Result<_, Failure>>()?;
        }
        Ok(Prepared { host, settings, account_id: account_id.to_owned(), introspection: self.introspection })
    }
}

impl Prepared {
    /// Until the control plane refuses it.
    pub(crate) async fn run<Connect, Connecting, Stream>(
        self,
        peer: Peer,
        connect: Connect,
    ) -> Result<Infallible, RunError>
    where
        Connect: Fn() -> Connecting,
        Connecting: Future<Output = io::Result<Stream>>,
        Stream: AsyncRead + AsyncWrite + Unpin,
    {
        let Prepared { host, settings, account_id, introspection } = self;
        let (shown, showing) = watch::channel(Shown::default());
        let introspected =
            Introspected { host: host.clone(), region: settings.region.clone(), account_id, shown: showing };
        tokio::select! {
            ended = instance::run(host, &settings, peer, connect, shown) => ended,
            never = introspected_at(introspection, introspected) => match never {},
        }
    }
}

/// A container instance is one without it, too.
async fn introspected_at(introspection: Introspection, introspected: Introspected) -> Infallible {
    if let Introspection::At(address) = introspection
        && let Err(error) = introspection::serve(address, introspected).await
    {
        tracing::warn!(%address, %error, "the introspection API cannot answer there");
    }
    std::future::pending().await
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("agent")?;
    let host = recovery::host(options)?;
    let prepared = arguments.instance.prepare(host, &arguments.region, &arguments.account_id)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing("starting the agent's thread")?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            ended = connected(prepared, arguments) => ended,
            ended = until_signal() => ended,
        }
    });
    // A start that is under way goes on in its supervisor, or is taken back by it.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn connected(prepared: Prepared, arguments: &Arguments) -> Result<(), Failure> {
    let ended = match (&arguments.socket, &arguments.server) {
        (Some(socket), _) => prepared.run(Peer::Local, || join::connect_here(socket)).await,
        (None, server) => {
            let server = server_of(server.as_deref().unwrap_or_default())?;
            let data = &prepared.host.roots.data;
            let dial = join::dial(data, server, arguments.join.as_deref(), arguments.ca.as_deref()).await;
            let dial = dial.doing("this host cannot join")?;
            prepared.run(Peer::Remote, || dial.connect()).await
        }
    };
    match ended {
        Ok(never) => match never {},
        Err(error) => Err(Failure::from(error)),
    }
}

/// `192.0.2.10:4870`, `[2001:db8::1]:4870` or `control.example:4870`.
fn server_of(text: &str) -> Result<Server, Failure> {
    let read = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok()?;
        (!host.is_empty()).then(|| Server { host: host.to_owned(), port })
    });
    read.ok_or_else(|| {
        Failure::new(format!("--server {text:?} is no HOST:PORT")).exit(BAD_INPUT).next("--server 192.0.2.10:4870")
    })
}

async fn until_signal() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).doing("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).doing("waiting for Ctrl-C")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The container instance of `coracle serve`, on a thread of its own: what a start costs is not the API's. What is returned
/// comes when it is none any more.
///
/// # Errors
/// There is no thread for it.
pub(crate) fn beside<Connect, Stream>(prepared: Prepared, connect: Connect) -> Result<oneshot::Receiver<()>, Failure>
where
    Connect: Fn() -> Stream + Send + 'static,
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing("starting the agent's thread")?;
    let (end, ended) = oneshot::channel();
    let work = move || match runtime.block_on(prepared.run(Peer::Local, || std::future::ready(Ok(connect())))) {
        Ok(never) => match never {},
        Err(error) => {
            let why = chain(&error);
            tracing::error!(why, "this host is no container instance any more; its tasks go on");
            // Whoever waited for it has ended.
            end.send(()).ok();
        }
    };
    std::thread::Builder::new().name("agent".to_owned()).spawn(work).doing("starting the agent's thread")?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (text, host) in [
            ("192.0.2.10:4870", "192.0.2.10"),
            ("[2001:db8::1]:4870", "2001:db8::1"),
            ("control.example:4870", "control.example"),
        ] {
            let server = server_of(text).expect(text);
            assert_eq!((server.host.as_str(), server.port), (host, 4870));
            assert_eq!(server.to_string(), text);
        }
        for bad in ["", "host", "host:", ":1", "host:x"] {
            assert!(server_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn introspection_stays_on_this_host() {
        assert!(matches!("none".parse(), Ok(Introspection::None)));
        assert!(matches!("127.0.0.1:1".parse(), Ok(Introspection::At(_))));
        assert!("0.0.0.0:51678".parse::<Introspection>().is_err());
    }
}
