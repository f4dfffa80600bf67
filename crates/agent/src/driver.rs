//! The one path by which a task of this host starts: directories first, then supervisor, images and network side by
//! side, then `task.json` and `Go`.
//!
//! A step that fails takes back what the steps before it made. A driver that is killed is taken back too: its
//! supervisor sees the start socket close and removes all of the task, and `recovery` removes what no supervisor is
//! left to remove.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::TaskSpec;
use agent_protocol::task_spec::ResolvedImage;
use ecs::arn;
use ecs::size::SizeError;
use ecs::task_definition::{ContainerDefinition, NetworkMode};
use ecs::{TaskId, Timestamp};
use network::Attachment;
use runtime::cgroup::{self, Cgroups};
use runtime::client::ClientError;
use runtime::spawn::{self, Handover, SpawnError, StartHandle};
use runtime::task_dir::{self, NewTask, TaskDirError};

use crate::compose::{self, Interface, Parts, Plan};
use crate::dice::{self, NoDice};
use crate::environment::{self, Fetched, ResourceInitializationError};
use crate::firelens::{self, FirelensError};
use crate::gpu;
use crate::host::Host;
use crate::interface::{self, Choice, InterfaceError};
use crate::recovery;
use crate::shipping::{self, ShippingError};
use crate::volumes::{self, VolumeError};
use crate::vpc_store::{self, Hold, Store};

#[derive(Debug, thiserror::Error)]
pub enum StartError<E: std::error::Error + 'static> {
    #[error("the task cannot be given an id")]
    Dice(#[source] NoDice),
    #[error("the task's directories cannot be made")]
    Directory(#[source] TaskDirError),
    #[error("the name {name:?} belongs to task {owner}, which has not stopped")]
    NameTaken { name: String, owner: TaskId },
    #[error("the task's environment cannot be had")]
    Environment(#[source] ResourceInitializationError),
    #[error("the task's volumes cannot be had")]
    Volumes(#[source] VolumeError),
    #[error("the task's supervisor cannot be started")]
    Spawn(#[source] SpawnError),
    #[error("the task has no images to run")]
    Images(#[source] E),
    #[error("the task cannot be given its network interface")]
    Interface(#[source] InterfaceError),
    #[error("this host's VPC network is not known")]
    VpcNetwork(#[source] vpc_store::StoreError),
    #[error("the task's network cannot be made")]
    Network(#[source] network::Error),
    #[error("RESOURCE:GPU")]
    Gpu(#[source] gpu::GpuError),
    #[error("the task's size cannot be read")]
    Size(#[source] SizeError),
    #[error("the task's log router cannot be set up")]
    Firelens(#[source] FirelensError),
    #[error("cannot write the log router's {path}", path = path.display())]
    RouterFile {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the task's logs would get nowhere")]
    Shipping(#[source] ShippingError),
    #[error("the task was stopped before it was started")]
    Unwanted,
    #[error("the task's supervisor did not take the task over")]
    Handover(#[source] ClientError),
}

/// Where a plan's images come from, in the order of its containers.
pub struct Images<Find, Pull> {
    /// What is on this host already; nothing where one is missing. Quick.
    pub find: Find,
    /// All of them, fetching what is missing. May take minutes.
    pub pull: Pull,
}

/// A task that its supervisor has taken over: from here on the caller may end, however it likes.
#[derive(Debug)]
pub struct Started {
    pub spec: TaskSpec,
    pub stages: Stages,
    /// What a person should know: settings of the host that were changed, what a container lacks, what has no effect.
    pub said: Vec<String>,
}

/// Time spent in each stage, in order. `network` runs beside `spawn` and `images`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages(pub Vec<(String, Duration)>);

impl Stages {
    fn add(&mut self, name: &str, took: Duration) {
        self.0.push((name.to_owned(), took));
    }

    fn measure<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let result = work();
        self.add(name, since.elapsed());
        result
    }
}

/// What a task needs from elsewhere before anything of it is made.
#[derive(Debug)]
pub struct Gathered {
    fetched: Fetched,
    /// A log router's external configuration.
    router: Option<String>,
    volumes: volumes::Resolved,
    stages: Stages,
}

/// Fetches what a task needs. Nothing of the task exists yet, so the caller may be killed, as it may wish to be: a
/// service that does not answer takes half a minute.
pub fn gather<E: std::error::Error>(host: &Host, plan: &Plan, now: Timestamp) -> Result<Gathered, StartError<E>> {
    let mut stages = Stages::default();
    refuse_taken_name(host, plan)?;
    // Nothing is made and nothing pulled for a task that has to be refused. `write_down` chooses for good.
    choose_gpus(host, plan)?;
    let fetch = || environment::fetch(host, plan, now);
    let fetched = stages.measure("environment", fetch).map_err(StartError::Environment)?;
    let router = environment::router_configuration(host, plan, now).map_err(StartError::Environment)?;
    let volumes = volumes::resolve(host, plan, now).map_err(StartError::Volumes)?;
    Ok(Gathered { fetched, router, volumes, stages })
}

/// Starts a task. Images are found and pulled on the caller's thread; `now` reads the clock. `is_wanted` is asked last of
/// all, before the supervisor has its task: where it is not, nothing stays.
pub fn start<E, Find, Pull>(
    host: &Host,
    plan: &Plan,
    gathered: Gathered,
    images: Images<Find, Pull>,
    now: impl Fn() -> Timestamp,
    is_wanted: impl FnOnce() -> bool,
) -> Result<Started, StartError<E>>
where
    E: std::error::Error + 'static,
    Find: FnOnce() -> Result<Option<Vec<ResolvedImage>>, E>,
    Pull: FnOnce() -> Result<Vec<ResolvedImage>, E>,
{
    let Gathered { fetched, router, volumes, mut stages } = gathered;
    let ids = Ids::throw(plan).map_err(StartError::Dice)?;
    let interface = interface(host, plan)?;
    let new = stages
        .measure("directories", || task_dir::create(&host.roots, &plan.task.id))
        .map_err(StartError::Directory)?;
    let pull_started_at = now();
    let wanted = interface.as_ref().map(|interface| interface.choice.request.clone());
    let (said, asked, hold) = match interface {
        None => (Vec::new(), None, None),
        Some(AskedInterface { choice, attachment_id, hold }) => {
            (choice.said, Some(Interface { attachment_id, request: choice.request }), Some(hold))
        }
    };
    let request = compose::network_request(plan, &ids.runtime, wanted);
    let network = Network { request: &request, hold };
    let (supervisor, images, attachment) = prepare(host, new, network, images, &mut stages).inspect_err(|error| {
        // Without a supervisor nobody else takes the network and the directories back.
        if matches!(error, StartError::Spawn(_)) {
            recovery::recover(host, recovery::Network::Always, now());
        }
    })?;
    let pull_stopped_at = now();

    let since = Instant::now();
    let mut said = [said, attachment.said.clone()].concat();
    said.extend(unkept_limits(plan));
    let places = supervisor.places.clone();
    let parts = Parts {
        runtime_ids: ids.runtime,
        endpoint_ids: ids.endpoint,
        credentials_id: ids.credentials,
        interface: asked,
        images,
        attachment,
        fetched,
        volumes: volumes.volumes.clone(),
        places,
    };
    let mut composed = compose::compose(plan, parts).map_err(StartError::Size)?;
    let files = firelens::prepare(&mut composed.spec, &mut composed.secrets, router).map_err(StartError::Firelens)?;
    shipping::check(&composed.spec, &composed.secrets).map_err(StartError::Shipping)?;
    if let Some(files) = files {
        lay_out(&files).map_err(|(path, cause)| StartError::RouterFile { path, cause })?;
    }
    write_down(host, plan, &mut composed.spec)?;
    stages.add("taskFile", since.elapsed());
    if !is_wanted() {
        return Err(StartError::Unwanted);
    }
    shipping::start(&composed.spec, &composed.secrets).map_err(StartError::Shipping)?;
    let handover = Handover {
        network_namespaces: composed.network_namespaces,
        service_sockets: composed.service_sockets,
        held_ports: composed.held_ports,
        pull_started_at: Some(pull_started_at),
        pull_stopped_at: Some(pull_stopped_at),
        secrets: composed.secrets,
    };
    stages.measure("handover", || supervisor.go(handover)).map_err(StartError::Handover)?;
    Ok(Started { spec: composed.spec, stages, said })
}

/// The dice of one task.
struct Ids {
    /// One for each container, as are the endpoints'.
    runtime: Vec<String>,
    endpoint: Vec<String>,
    credentials: String,
}

impl Ids {
    fn throw(plan: &Plan) -> Result<Ids, NoDice> {
        let containers = &plan.definition.container_definitions;
        Ok(Ids {
            runtime: containers.iter().map(|_| dice::runtime_id()).collect::<Result<_, _>>()?,
            endpoint: containers.iter().map(|_| dice::uuid()).collect::<Result<_, _>>()?,
            credentials: dice::uuid()?,
        })
    }
}

/// What is asked of the network, with the lock on the VPC network's configuration until it stands.
struct Network<'a> {
    request: &'a network::Request,
    hold: Option<Hold>,
}

struct AskedInterface {
    choice: Choice,
    attachment_id: String,
    hold: Hold,
}

/// Nothing but in awsvpc mode.
fn interface<E: std::error::Error>(host: &Host, plan: &Plan) -> Result<Option<AskedInterface>, StartError<E>> {
    if plan.network_mode() != NetworkMode::Awsvpc {
        return Ok(None);
    }
    let (network, hold) = Store::of(host).hold_with_defaults(&plan.region).map_err(StartError::VpcNetwork)?;
    let id = vpc_store::network_interface_id().map_err(StartError::Dice)?;
    let choice = interface::choose(&Arc::new(network), &plan.interface, &plan.region, id);
    let choice = choice.map_err(StartError::Interface)?;
    let attachment_id = arn::attachment_id(&plan.task.id);
    Ok(Some(AskedInterface { choice, attachment_id, hold }))
}

/// Where the router's user is not root, its directories must be open; nobody else gets through the task's own.
fn lay_out(files: &firelens::Files) -> Result<(), (PathBuf, io::Error)> {
    for directory in &files.directories {
        let open = fs::Permissions::from_mode(0o777);
        let made = fs::create_dir_all(directory).and_then(|()| fs::set_permissions(directory, open));
        made.map_err(|cause| (directory.clone(), cause))?;
    }
    for (path, text) in &files.files {
        let readable = fs::Permissions::from_mode(0o644);
        let written = fs::write(path, text).and_then(|()| fs::set_permissions(path, readable));
        written.map_err(|cause| (path.clone(), cause))?;
    }
    Ok(())
}

/// Supervisor, images and network side by side. A network that cannot be is told before a pull that may take minutes.
///
/// From here on, dropping the supervisor's handle has it remove everything of the task, its network included.
fn prepare<E, Find, Pull>(
    host: &Host,
    new: NewTask,
    network: Network<'_>,
    images: Images<Find, Pull>,
    stages: &mut Stages,
) -> Result<(StartHandle, Vec<ResolvedImage>, Attachment), StartError<E>>
where
    E: std::error::Error + 'static,
    Find: FnOnce() -> Result<Option<Vec<ResolvedImage>>, E>,
    Pull: FnOnce() -> Result<Vec<ResolvedImage>, E>,
{
    let (supervisor, found, attached) = std::thread::scope(|scope| {
        let network = scope.spawn(move || {
            let since = Instant::now();
            let attached = network::attach(&host.network, network.request);
            drop(network.hold);
            (attached, since.elapsed())
        });
        let supervisor = stages.measure("spawn", || spawn::spawn(new));
        let found = stages.measure("images", images.find);
        match network.join() {
            Ok((attached, took)) => {
                stages.add("network", took);
                (supervisor, found, attached)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let supervisor = supervisor.map_err(StartError::Spawn)?;
    let attachment = attached.map_err(StartError::Network)?;
    for stage in &attachment.stages {
        stages.add(&format!("network: {}", stage.name), stage.took);
    }
    let images = match found.map_err(StartError::Images)? {
        Some(images) => images,
        None => stages.measure("pull", images.pull).map_err(StartError::Images)?,
    };
    Ok((supervisor, images, attachment))
}

/// A name and a GPU belong to whoever writes them down first: another start may have done so during our pull.
fn write_down<E: std::error::Error>(host: &Host, plan: &Plan, spec: &mut TaskSpec) -> Result<(), StartError<E>> {
    let _claims = match plan.name.is_some() || gpu::is_wanted(&plan.definition) {
        true => Some(task_dir::lock_all(&host.roots).map_err(StartError::Directory)?),
        false => None,
    };
    refuse_taken_name(host, plan)?;
    if let Some(choice) = choose_gpus(host, plan)? {
        choice.assign(&mut spec.containers);
    }
    task_dir::write_spec(spec).map_err(StartError::Directory)
}

/// Nobody asks the host where no container says a word of swap.
fn unkept_limits(plan: &Plan) -> Vec<String> {
    let containers = &plan.definition.container_definitions;
    let asks = |container: &ContainerDefinition| {
        container.linux_parameters.as_ref().is_some_and(|parameters| parameters.max_swap.is_some())
    };
    if !containers.iter().any(asks) {
        return Vec::new();
    }
    // A host without cgroups has said so by now.
    Cgroups::detect().map(|cgroups| cgroup::unkept(&cgroups, containers)).unwrap_or_default()
}

/// Nothing where no container wants one.
fn choose_gpus<E: std::error::Error>(host: &Host, plan: &Plan) -> Result<Option<gpu::Choice>, StartError<E>> {
    if !gpu::is_wanted(&plan.definition) {
        return Ok(None);
    }
    let (tasks, _) = task_dir::list(&host.roots).map_err(StartError::Directory)?;
    gpu::choose_for(&plan.definition, &gpu::Sources::default(), &tasks).map(Some).map_err(StartError::Gpu)
}

/// A name means one task among those that have not stopped. Ours is not written down yet.
fn refuse_taken_name<E: std::error::Error>(host: &Host, plan: &Plan) -> Result<(), StartError<E>> {
    let Some(name) = &plan.name else { return Ok(()) };
    let (tasks, _) = task_dir::list(&host.roots).map_err(StartError::Directory)?;
    match tasks.into_iter().find(|task| task.spec.name.as_ref() == Some(name) && !task.is_stopped()) {
        Some(task) => Err(StartError::NameTaken { name: name.clone(), owner: task.spec.id }),
        None => Ok(()),
    }
}
