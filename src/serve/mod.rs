//! `coracle serve`: the control plane, the API and this host's container instance in one process.

mod own;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use control_plane::Settings;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use runtime::memory;
use runtime::task_dir::Roots;
use server::control::Published;
use server::daemon::{self, Daemon};
use server::events::sink;
use server::tls::Given;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{InstanceArguments, Prepared, beside};
use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::recovery;
use own::Own;

/// Where the API is unless somebody says otherwise.
pub(crate) const ADDRESS: &str = "127.0.0.1:4870";
pub(crate) const REGION: &str = "us-east-1";
const ACCOUNT_ID: &str = "123456789012";
/// Requests are answered by these; the control loop has a thread of its own.
const WORKERS: usize = 2;
const SECOND_MS: u64 = 1_000;
/// So long after the last change nobody is expected to come soon.
const QUIET: Duration = Duration::from_secs(3);
/// Descriptors for the API's connections and for what the container instance does; containers have limits of their own.
const DESCRIPTORS: u64 = 16_384;

/// Run the control plane and its API, and this host as a container instance
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle serve
  eval \"$(sudo coracle credentials)\"; aws ecs run-task --task-definition web
  sudo coracle serve --listen 192.0.2.10:4870
  sudo coracle serve --ephemeral --dev --listen 127.0.0.1:0

Root of this host is answered at <run-dir>/coracle.sock without a signature. SIGTERM ends the daemon; running tasks do not notice, and the next daemon takes them over.")]
pub(crate) struct Arguments {
    /// Where the API listens; port 0 is a free one. With an address that is not this host's own: TLS.
    #[arg(long, default_value = ADDRESS, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Accept any access key, for tests; on loopback addresses alone.
    #[arg(long)]
    dev: bool,
    /// No container instance on this host.
    #[arg(long)]
    no_agent: bool,
    /// Own directories and state, which end with this process or the one that started it.
    #[arg(long)]
    ephemeral: bool,
    /// A certificate for the API instead of one of coracle's own authority, with those that certify it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A further name by which clients reach this host, for coracle's own certificate and the Host header; may be given more
    /// than once.
    #[arg(long, value_name = "NAME")]
    tls_name: Vec<String>,
    /// The account in every ARN.
    #[arg(long, default_value = ACCOUNT_ID, value_name = "DIGITS")]
    account_id: String,
    /// The region of requests that name none, and of container instances.
    #[arg(long, default_value = REGION, value_name = "NAME")]
    region: String,
    /// Append state changes to a file, a line of JSON each; may be given more than once.
    #[arg(long, value_name = "FILE")]
    events_file: Vec<PathBuf>,
    /// POST state changes to a URL, one each; may be given more than once.
    #[arg(long, value_name = "URL")]
    events_webhook: Vec<String>,
    /// Seconds for which stopped tasks are described; three hours otherwise.
    #[arg(long, value_name = "SECONDS")]
    keep_stopped: Option<u64>,
    /// How many stopped tasks are described at most.
    #[arg(long, value_name = "NUMBER")]
    keep_stopped_count: Option<usize>,
    #[command(flatten)]
    instance: InstanceArguments,
    /// Seconds after which a container instance that has no connection counts as lost, with its tasks; never otherwise.
    #[arg(long, value_name = "SECONDS")]
    lost_after: Option<u64>,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("serve")?;
    let own = if arguments.ephemeral { Some(Own::make()?) } else { None };
    let roots = match &own {
        Some(own) => own.roots(options)?,
        None => options.roots()?,
    };
    let server = server_options(&roots, arguments)?;
    raise_descriptors()?;
    let instance = match arguments.no_agent {
        true => None,
        false => {
            let host = recovery::host_of(roots)?;
            Some(arguments.instance.prepare(host, &arguments.region, &arguments.account_id)?)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.doing("starting the threads that answer")?;
    let outcome = runtime.block_on(serve(&server, instance, own.as_ref()));
    // What is still being answered has had its time.
    runtime.shutdown_background();
    let gone = own.map_or(Ok(()), |own| own.end(options));
    outcome.and(gone)?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(options: &daemon::Options, instance: Option<Prepared>, own: Option<&Own>) -> Result<(), Failure> {
    let daemon = daemon::open(options).await.map_err(|error| advice(error, options))?;
    let (until, connector, ready, told) = (end(own)?, daemon.connector(), daemon.ready(), told(&daemon, options));
    tokio::spawn(give_back_memory(daemon.published()));
    let mut running = tokio::spawn(daemon.run(until));
    let refused = async {
        match instance {
            Some(instance) => beside(instance, connector)?.await.doing("waiting for the agent's thread"),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ready => daemon::tell_ready(),
        // The API is there all the same; the agent has said why it is not.
        refused = refused => refused?,
        ended = &mut running => return ended_as(ended),
    }
    eprint!("{told}");
    ended_as(running.await)
}

/// What the start and each round of changes needed of the program's code is not what waiting needs.
async fn give_back_memory(published: Arc<Published>) {
    loop {
        published.quiet(QUIET).await;
        if let Err(cause) = memory::shed() {
            tracing::debug!(%cause, "no memory given back");
        }
    }
}

fn ended_as(ended: Result<Result<(), daemon::Error>, tokio::task::JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(ended) => ended.map_err(Failure::from),
        Err(broken) => Err(Failure::from(broken)),
    }
}

/// As far as the hard limit lets it; a shell's soft limit is for programs that use select(2).
fn raise_descriptors() -> Result<(), Failure> {
    let doing = "raising the limit of open files";
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    let wanted = DESCRIPTORS.min(hard);
    if wanted > soft { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).doing(doing) } else { Ok(()) }
}

/// What to do about what can be done something about.
fn advice(error: daemon::Error, options: &daemon::Options) -> Failure {
    match &error {
        daemon::Error::AnyKeyAbroad(_) => Failure::from(error).exit(BAD_INPUT).next("leave --dev or --listen out"),
        daemon::Error::Lock(server::lock::Error::Taken(_)) => Failure::from(error)
            .next("stop that daemon first, or give this one other directories: --data-dir, --run-dir"),
        daemon::Error::Listen(_) => Failure::from(error).next(format!("--listen {}:0", options.listen.ip())),
        daemon::Error::Store(_) => Failure::from(error)
            .next("coracle restore FILE puts a backup in its place, and keeps the old one beside it"),
        _ => Failure::from(error),
    }
}

fn server_options(roots: &Roots, arguments: &Arguments) -> Result<daemon::Options, Failure> {
    if arguments.account_id.len() != 12 || !arguments.account_id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::new(format!("{:?} is no account id", arguments.account_id))
            .exit(BAD_INPUT)
            .next("twelve digits, such as 123456789012"));
    }
    let files = arguments
        .events_file
        .iter()
        .map(|path| Ok(sink::Target { text: path.display().to_string(), kind: sink::Kind::File(path.clone()) }));
    let webs = arguments.events_webhook.iter().map(|url| {
        let uri: Result<_, _> = url.parse();
        let uri = uri.doing(format!("--events-webhook {url:?}")).map_err(|failure| failure.exit(BAD_INPUT))?;
        Ok(sink::Target { text: url.clone(), kind: sink::Kind::Web(uri) })
    });
    let event_sinks = files.chain(webs).collect::<Result<_, Failure>>()?;
    let default = Settings::default();
    let ms = |seconds: u64| seconds.saturating_mul(SECOND_MS);
    Ok(daemon::Options {
        data_directory: roots.data.clone(),
        run_directory: roots.run.clone(),
        listen: arguments.listen,
        own_instance: !arguments.no_agent,
        certificate: arguments
            .tls_cert
            .clone()
            .zip(arguments.tls_key.clone())
            .map(|(certificate, key)| Given { certificate, key }),
        names: arguments.tls_name.clone(),
        any_key: arguments.dev,
        ephemeral: arguments.ephemeral,
        account_id: arguments.account_id.clone(),
        region: arguments.region.clone(),
        patience: server::http::Patience::default(),
        settings: Settings {
            stopped_task_ms: arguments.keep_stopped.map_or(default.stopped_task_ms, ms),
            stopped_tasks: arguments.keep_stopped_count.unwrap_or(default.stopped_tasks),
            lost_instance_ms: arguments.lost_after.map(ms),
            ..default
        },
        event_sinks,
    })
}

/// Whoever reads it may ask for a task.
fn told(daemon: &Daemon, options: &daemon::Options) -> String {
    let mut told = format!("coracle: the API is at {} and {}\n", daemon.endpoint, daemon.socket.display());
    if options.ephemeral {
        let directory = options.data_directory.display();
        told += &format!("coracle: everything in {directory} goes with this process\n");
    } else {
        let directory = options.data_directory.join(daemon::STATE_DIRECTORY);
        told += &format!("coracle: state is in {}\n", directory.display());
    }
    if let Some(authority) = &daemon.certificate_authority {
        told += &format!("coracle: clients trust it with AWS_CA_BUNDLE={}\n", authority.display());
    }
    if options.any_key {
        told += "coracle: every access key is accepted (--dev)\n";
    }
    told
}

/// SIGTERM, Ctrl-C, or with --ephemeral the end of whoever started this process.
fn end(own: Option<&Own>) -> Result<impl Future<Output = ()> + use<>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).doing("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).doing("waiting for Ctrl-C")?;
    let parent = own.map(Own::parent).transpose()?;
    Ok(async move {
        let orphaned = async {
            match parent {
                Some(parent) => parent.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = orphaned => {}
        }
    })
}
