//! GPUs of this host (`resourceRequirements` of type GPU), handed to containers as device nodes: which there are, which
//! are some task's, and which a new task gets. A GPU is one task's as long as that task lives; whose it is stands in the
//! tasks' own specs and nowhere else.
//!
//! Nothing of the driver's libraries is put into a container: an image for GPUs brings its own, or mounts the host's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_protocol::ContainerSpec;
use ecs::ContainerName;
use ecs::task_definition::{ContainerDefinition, Device, KeyValuePair, ResourceType, TaskDefinition};
use runtime::task_dir::Task;

/// What the libraries of NVIDIA's images read.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// Needed with any GPU, where the driver has made them.
const COMMON: [&str; 5] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps"];

/// Where a host shows its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// `/dev`.
    pub devices: PathBuf,
    /// The driver's own description, a directory for each GPU by its PCI address.
    pub driver: PathBuf,
    /// The kernel's list of render nodes.
    pub render: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self { devices: "/dev".into(), driver: "/proc/driver/nvidia/gpus".into(), render: "/sys/class/drm".into() }
    }
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inventory {
    gpus: Vec<Gpu>,
    common: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Gpu {
    /// The driver's UUID (`GPU-…`), or the number of its node where the driver does not say.
    id: String,
    nodes: Vec<PathBuf>,
}

/// How many GPUs a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Count(usize),
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error("container {container} asks for {value:?} GPUs: resourceRequirements takes a number above 0, or ALL")]
    Value { container: ContainerName, value: String },
    #[error("container {container} asks for {wanted} GPU(s), but this host has {there}, of which {free} are free")]
    TooFew { container: ContainerName, wanted: String, there: usize, free: usize },
    #[error("this host's GPUs cannot be listed in {place}: {why}")]
    List { place: PathBuf, why: String },
}

/// What this definition's container asks for; nothing for most.
///
/// # Errors
/// A number that is none. Other types of resources and shared GPUs are the linter's to refuse.
fn wanted(definition: &ContainerDefinition) -> Result<Option<Wanted>, GpuError> {
    let mut requirements = definition.resource_requirements.iter();
    let Some(requirement) = requirements.find(|requirement| requirement.kind == ResourceType::Gpu) else {
        return Ok(None);
    };
    let value = requirement.value.as_deref().unwrap_or_default();
    match (value, value.parse()) {
        ("ALL", _) => Ok(Some(Wanted::All)),
        (_, Ok(count)) if count > 0 => Ok(Some(Wanted::Count(count))),
        (value, _) => Err(GpuError::Value { container: definition.name.clone(), value: value.to_owned() }),
    }
}

/// The names of all that this host has.
///
/// # Errors
/// They cannot be listed.
pub fn ids(from: &Sources) -> Result<Vec<String>, GpuError> {
    Ok(inventory(from)?.gpus.into_iter().map(|gpu| gpu.id).collect())
}

/// # Errors
/// A directory that is there cannot be read.
fn inventory(from: &Sources) -> Result<Inventory, GpuError> {
    let known = described(from)?;
    let mut numbers: Vec<u32> =
        names(&from.devices)?.iter().filter_map(|name| name.strip_prefix("nvidia")?.parse().ok()).collect();
    numbers.sort_unstable();
    let render_nodes = names(&from.render)?;
    let gpus = numbers.into_iter().map(|number| {
        let mut nodes = vec![from.devices.join(format!("nvidia{number}"))];
        let described = known.get(&number);
        nodes.extend(described.and_then(|gpu| render_node(from, &render_nodes, &gpu.address)));
        let id = described.and_then(|gpu| gpu.uuid.clone()).unwrap_or_else(|| number.to_string());
        Gpu { id, nodes }
    });
    let gpus = gpus.collect();
    let common = COMMON.iter().map(|name| from.devices.join(name)).filter(|path| path.exists()).collect();
    Ok(Inventory { gpus, common })
}

struct Described {
    address: String,
    uuid: Option<String>,
}

/// By number of the node. Nothing where the driver does not describe its GPUs.
fn described(from: &Sources) -> Result<BTreeMap<u32, Described>, GpuError> {
    let mut found = BTreeMap::new();
    for address in names(&from.driver)? {
        let file = from.driver.join(&address).join("information");
        let text = fs::read_to_string(&file).map_err(cannot_list(&file))?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.split_once(':').filter(|(known, _)| known.trim() == name))
                .map(|(_, v)| v.trim())
        };
        if let Some(number) = value("Device Minor").and_then(|number| number.parse().ok()) {
            let uuid = value("GPU UUID").filter(|uuid| uuid.starts_with("GPU-")).map(str::to_owned);
            found.insert(number, Described { address, uuid });
        }
    }
    Ok(found)
}

/// `/dev/dri/renderD128` of the GPU at this PCI address.
fn render_node(from: &Sources, nodes: &[String], address: &str) -> Option<PathBuf> {
    let of_gpu = |name: &str| {
        let device = fs::read_link(from.render.join(name).join("device"));
        device.is_ok_and(|device| device.file_name().is_some_and(|found| found.eq_ignore_ascii_case(address)))
    };
    let name = nodes.iter().filter(|name| name.starts_with("renderD")).find(|name| of_gpu(name))?;
    Some(from.devices.join("dri").join(name)).filter(|path| path.exists())
}

fn cannot_list(place: &Path) -> impl FnOnce(io::Error) -> GpuError {
    let place = place.to_owned();
    move |error| GpuError::List { place, why: error.to_string() }
}

/// Of a directory that need not be there.
fn names(place: &Path) -> Result<Vec<String>, GpuError> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot_list(place)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(cannot_list(place))?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The GPUs of tasks that have not stopped.
fn taken(tasks: &[Task]) -> BTreeSet<String> {
    let living = tasks.iter().filter(|task| !task.is_stopped());
    living.flat_map(|task| &task.spec.containers).flat_map(|container| container.gpu_ids.iter().cloned()).collect()
}

/// Which GPUs each container gets, in the order asked, the lowest free ones first; no two the same.
///
/// # Errors
/// There are not so many, or others have them.
fn choose(
    asked: &[(ContainerName, Option<Wanted>)],
    inventory: &Inventory,
    taken: &BTreeSet<String>,
) -> Result<Vec<Vec<Gpu>>, GpuError> {
    let mut free: Vec<Gpu> = inventory.gpus.iter().filter(|gpu| !taken.contains(&gpu.id)).cloned().collect();
    let there = inventory.gpus.len();
    let mut chosen = Vec::new();
    for (container, wanted) in asked {
        let too_few =
            |wanted: String| Err(GpuError::TooFew { container: container.clone(), wanted, there, free: free.len() });
        let count = match wanted {
            None => 0,
            Some(Wanted::Count(count)) if *count > free.len() => return too_few(count.to_string()),
            Some(Wanted::All) if there == 0 || free.len() < there => return too_few("ALL".to_owned()),
            Some(Wanted::Count(count)) => *count,
            Some(Wanted::All) => there,
        };
        chosen.push(free.drain(..count).collect());
    }
    Ok(chosen)
}

/// What a task gets, container by container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    gpus: Vec<Vec<Gpu>>,
    inventory: Inventory,
}

pub fn is_wanted(definition: &TaskDefinition) -> bool {
    let mut requirements = definition.container_definitions.iter().flat_map(|one| &one.resource_requirements);
    requirements.any(|requirement| requirement.kind == ResourceType::Gpu)
}

/// Out of what is nobody's at this moment; `tasks` are the host's.
///
/// # Errors
/// As `choose`, or the host's GPUs cannot be listed.
pub fn choose_for(definition: &TaskDefinition, from: &Sources, tasks: &[Task]) -> Result<Choice, GpuError> {
    let containers = definition.container_definitions.iter();
    let asked: Vec<_> =
        containers.map(|container| Ok((container.name.clone(), wanted(container)?))).collect::<Result<_, _>>()?;
    let inventory = inventory(from)?;
    let gpus = choose(&asked, &inventory, &taken(tasks))?;
    Ok(Choice { gpus, inventory })
}

impl Choice {
    /// Writes them into what the task's supervisor is given.
    pub fn assign(&self, containers: &mut [ContainerSpec]) {
        for (container, gpus) in containers.iter_mut().zip(&self.gpus) {
            assign(container, gpus, &self.inventory);
        }
    }
}

fn assign(container: &mut ContainerSpec, gpus: &[Gpu], inventory: &Inventory) {
    if gpus.is_empty() {
        return;
    }
    let node = |path: &PathBuf| Device {
        host_path: path.display().to_string(),
        container_path: None,
        permissions: Vec::new(),
    };
    container.gpu_ids = gpus.iter().map(|gpu| gpu.id.clone()).collect();
    container.devices.extend(gpus.iter().flat_map(|gpu| &gpu.nodes).chain(&inventory.common).map(node));
    let value = container.gpu_ids.join(",");
    container.injected_environment.push(KeyValuePair { name: VISIBLE_DEVICES.to_owned(), value });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// A directory with files in the places of a driver's, for two GPUs of which one is described.
    fn host() -> (tempfile::TempDir, Sources) {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let from = Sources { devices: at("dev"), driver: at("driver"), render: at("drm") };
        for folder in ["dev/dri", "driver/0000:65:00.0", "drm/renderD129", "pci/0000:65:00.0"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for node in ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps", "dri/renderD129", "null"] {
            fs::write(at("dev").join(node), "").unwrap();
        }
        let information = "Model: \t\t Some GPU\nGPU UUID:   \t GPU-41c1\nDevice Minor: \t 1\n";
        fs::write(at("driver/0000:65:00.0/information"), information).unwrap();
        std::os::unix::fs::symlink(at("pci/0000:65:00.0"), at("drm/renderD129/device")).unwrap();
        (root, from)
    }

    fn asked(wanted: &[Option<Wanted>]) -> Vec<(ContainerName, Option<Wanted>)> {
        wanted.iter().enumerate().map(|(number, wanted)| (example::name(&format!("c{number}")), *wanted)).collect()
    }

    fn ids(chosen: Vec<Vec<Gpu>>) -> Vec<Vec<String>> {
        chosen.into_iter().map(|gpus| gpus.into_iter().map(|gpu| gpu.id).collect()).collect()
    }

    #[test]
    fn the_host_is_read_as_its_driver_shows_it() {
        let (root, from) = host();
        let inventory = inventory(&from).unwrap();
        let dev = |name: &str| root.path().join("dev").join(name);
        let [zero, one] = inventory.gpus.as_slice() else { panic!("two GPUs: {inventory:?}") };
        assert_eq!((zero.id.as_str(), &zero.nodes), ("0", &vec![dev("nvidia0")]));
        assert_eq!((one.id.as_str(), &one.nodes), ("GPU-41c1", &vec![dev("nvidia1"), dev("dri/renderD129")]));
        assert_eq!(inventory.common, [dev("nvidiactl"), dev("nvidia-uvm"), dev("nvidia-caps")]);
        let none = Sources { devices: dev("none"), driver: dev("none"), render: dev("none") };
        assert_eq!(super::inventory(&none), Ok(Inventory::default()));
    }

    #[test]
    fn no_gpu_is_given_twice() {
        let (_root, from) = host();
        let inventory = inventory(&from).unwrap();
        let nobodys = BTreeSet::new();
        let both = choose(&asked(&[Some(Wanted::Count(1)), None, Some(Wanted::Count(1))]), &inventory, &nobodys);
        assert_eq!(ids(both.unwrap()), [vec!["0".to_owned()], vec![], vec!["GPU-41c1".to_owned()]]);
        let taken = BTreeSet::from(["0".to_owned()]);
        assert_eq!(ids(choose(&asked(&[Some(Wanted::Count(1))]), &inventory, &taken).unwrap()), [["GPU-41c1"]]);
        let refused = |wanted: Wanted, taken: &BTreeSet<String>| choose(&asked(&[Some(wanted)]), &inventory, taken);
        let container = example::name("c0");
        let too_few = |wanted: &str, free| {
            Err(GpuError::TooFew { container: container.clone(), wanted: wanted.to_owned(), there: 2, free })
        };
        assert_eq!(refused(Wanted::Count(2), &taken), too_few("2", 1));
        assert_eq!(refused(Wanted::All, &taken), too_few("ALL", 1));
        assert_eq!(ids(refused(Wanted::All, &nobodys).unwrap()), [["0", "GPU-41c1"]]);
        let none = choose(&asked(&[Some(Wanted::All)]), &Inventory::default(), &nobodys);
        assert!(matches!(none, Err(GpuError::TooFew { there: 0, .. })));
    }

    #[test]
    fn a_container_is_told_of_its_gpus() {
        let (root, from) = host();
        let inventory = inventory(&from).unwrap();
        let mut container = example::spec(&["a"]).containers.remove(0);
        assign(&mut container, &inventory.gpus[1..], &inventory);
        assert_eq!(container.gpu_ids, ["GPU-41c1"]);
        let paths: Vec<_> = container.devices.iter().map(|device| device.host_path.clone()).collect();
        let dev = |name: &str| root.path().join("dev").join(name).display().to_string();
        assert_eq!(paths, ["nvidia1", "dri/renderD129", "nvidiactl", "nvidia-uvm", "nvidia-caps"].map(dev));
        let variable = container.injected_environment.last().unwrap();
        assert_eq!((variable.name.as_str(), variable.value.as_str()), (VISIBLE_DEVICES, "GPU-41c1"));
    }
}
