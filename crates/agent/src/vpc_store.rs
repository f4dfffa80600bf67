//! This host's VPC network as it is configured: `<data>/network.json`.
//!
//! A reader sees a whole file, by a rename. Who changes it has the lock (flock(2) on `network.lock`) to itself until
//! the change is carried out; who starts an awsvpc task shares the lock until its interface stands. So no interface is
//! made by rules that are older than the running tasks'.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws::ec2::changes::Uses;
use aws::ec2::defaults::{self, NewIds};
use aws::ec2::{self, FORMAT, NetworkInterfaceId, SecurityGroupId, SecurityGroupRuleId, SubnetId, VpcId, VpcNetwork};

use runtime::task_dir;

use crate::dice::{self, NoDice};
use crate::host::Host;

const FILE: &str = "network.json";
const LOCK: &str = "network.lock";
const NEW: &str = "network.json.new";
/// The largest `network.json` that is read, bytes: some ten thousand rules.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a network's configuration", path = path.display())]
    Content {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} has format {found}; this coracle knows formats up to {FORMAT}", path = path.display())]
    Newer { path: PathBuf, found: u32 },
    #[error("{path} is wrong", path = path.display())]
    Wrong {
        path: PathBuf,
        #[source]
        source: ec2::Problem,
    },
    #[error("the default VPC cannot be made")]
    Dice(#[source] NoDice),
    #[error("the default VPC cannot be made")]
    Look(#[source] network::Error),
    #[error("this host has a route to every network that a default VPC could have")]
    NoBlock,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Keeps the configuration as it is while it is there.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

#[derive(Clone, Debug)]
pub struct Store {
    data: PathBuf,
}

impl Store {
    pub fn of(host: &Host) -> Store {
        Store::at(host.roots.data.clone())
    }

    pub fn at(data: PathBuf) -> Store {
        Store { data }
    }

    /// What was written last; an empty configuration where nothing was.
    pub fn read(&self) -> Result<VpcNetwork, StoreError> {
        let path = self.data.join(FILE);
        let bytes = match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_BYTES => {
                return Err(failed("read", &path)(io::Error::other(format!("more than {MAX_BYTES} bytes"))));
            }
            Ok(_) => fs::read(&path),
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VpcNetwork::default()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        // Before its members are looked at, of which a newer format has others.
        #[derive(serde::Deserialize)]
        struct Format {
            #[serde(default)]
            format: u32,
        }
        let content = |source| StoreError::Content { path: path.clone(), source };
        let Format { format } = serde_json::from_slice(&bytes).map_err(content)?;
        if format > FORMAT {
            return Err(StoreError::Newer { path, found: format });
        }
        let mut network: VpcNetwork = serde_json::from_slice(&bytes).map_err(content)?;
        network.format = FORMAT;
        ec2::check(&network).map_err(|source| StoreError::Wrong { path, source })?;
        Ok(network)
    }

    /// The configuration, kept from change; with the defaults where nobody has configured anything.
    pub fn hold_with_defaults(&self, region: &str) -> Result<(VpcNetwork, Hold), StoreError> {
        let network = self.read()?;
        if network.vpcs.is_empty() {
            self.make_defaults(region)?;
        }
        self.hold()
    }

    /// The configuration, kept from change: for whoever brings running tasks' rules to it.
    pub fn hold(&self) -> Result<(VpcNetwork, Hold), StoreError> {
        let lock = self.lock_file()?;
        lock.lock_shared().map_err(failed("lock", &self.data.join(LOCK)))?;
        Ok((self.read()?, Hold { _lock: lock }))
    }

    fn make_defaults(&self, region: &str) -> Result<(), StoreError> {
        self.change(
            |network| match network.vpcs.is_empty() {
                true => with_defaults(network, region),
                false => Ok(network.clone()),
            },
            |_, _| {},
        )
    }

    /// Replaces the configuration, then has the change carried out on what runs, given the old one and the new one.
    pub fn change<T, E: From<StoreError>>(
        &self,
        decide: impl FnOnce(&VpcNetwork) -> Result<VpcNetwork, E>,
        carry_out: impl FnOnce(&VpcNetwork, &VpcNetwork) -> T,
    ) -> Result<T, E> {
        let lock = self.lock_file()?;
        lock.lock().map_err(failed("lock", &self.data.join(LOCK)))?;
        let old = self.read()?;
        let new = decide(&old)?;
        if new != old {
            self.write(&new)?;
        }
        Ok(carry_out(&old, &new))
    }

    fn lock_file(&self) -> Result<File, StoreError> {
        let path = self.data.join(LOCK);
        DirBuilder::new().mode(0o700).recursive(true).create(&self.data).map_err(failed("make", &self.data))?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        opened.map_err(failed("open", &path))
    }

    /// Under the lock, so that `NEW` is ours alone.
    fn write(&self, network: &VpcNetwork) -> Result<(), StoreError> {
        let (path, new) = (self.data.join(FILE), self.data.join(NEW));
        let mut text = serde_json::to_vec_pretty(network).map_err(|error| failed("encode", &path)(error.into()))?;
        text.push(b'\n');
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed("make", &new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("replace", &path))?;
        File::open(&self.data).and_then(|directory| directory.sync_all()).map_err(failed("write", &self.data))
    }
}

/// A default VPC beside what else is configured.
fn with_defaults(network: &VpcNetwork, region: &str) -> Result<VpcNetwork, StoreError> {
    let in_use = network::networks_in_use().map_err(StoreError::Look)?;
    let block = defaults::default_block(&in_use).ok_or(StoreError::NoBlock)?;
    let made = defaults::defaults(block, &availability_zone(region), new_ids().map_err(StoreError::Dice)?);
    Ok(VpcNetwork { overlay: network.overlay.clone(), remote_interfaces: network.remote_interfaces.clone(), ..made })
}

/// Which subnets and groups the interfaces of living tasks stand on.
pub fn uses(host: &Host) -> Result<Uses, StoreError> {
    let (tasks, unreadable) = task_dir::list(&host.roots)
        .map_err(|error| failed("list the tasks of", &host.roots.data)(io::Error::other(error)))?;
    let mut uses = Uses { starting: unreadable.first().map(|error| format!("a task ({error})")), ..Uses::default() };
    for task in tasks.iter().filter(|task| !task.is_stopped()) {
        let Some(interface) = &task.spec.network_interface else { continue };
        let who = format!("task {} ({}:{})", task.spec.id, task.spec.family, task.spec.revision);
        uses.subnets.push((interface.subnet_id.clone(), who.clone()));
        uses.groups.extend(interface.security_groups.iter().map(|group| (group.clone(), who.clone())));
    }
    // A namespace that is held for a task which is not written down yet.
    let namespaces = &host.network.namespaces;
    let held = match fs::read_dir(namespaces).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("look at", namespaces)(error)),
    };
    let mut names = held.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let starting = names.find(|name| !tasks.iter().any(|task| task.spec.id.as_str() == name));
    uses.starting = uses.starting.or(starting.map(|id| format!("task {id}, which is being started or removed,")));
    Ok(uses)
}

/// The only one of a host: the first of its region's.
pub fn availability_zone(region: &str) -> String {
    format!("{region}a")
}

fn new_ids() -> Result<NewIds, NoDice> {
    Ok(NewIds {
        vpc: VpcId::from_random(dice::random()?),
        subnet: SubnetId::from_random(dice::random()?),
        group: SecurityGroupId::from_random(dice::random()?),
        ingress: SecurityGroupRuleId::from_random(dice::random()?),
        egress: SecurityGroupRuleId::from_random(dice::random()?),
    })
}

pub fn network_interface_id() -> Result<NetworkInterfaceId, NoDice> {
    Ok(NetworkInterfaceId::from_random(dice::random()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a directory");
        let store = Store::at(folder.path().join("data"));
        (folder, store)
    }

    fn configured() -> VpcNetwork {
        let block = "10.9.0.0/16".parse().expect("a network");
        defaults::defaults(block, "us-east-1a", new_ids().expect("dice"))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (_folder, store) = store();
        assert_eq!(store.read().expect("nothing yet"), VpcNetwork::default());
        let network = configured();
        let new = network.clone();
        store.change(|_| Ok::<_, StoreError>(new), |old, _| assert!(old.vpcs.is_empty())).expect("it can be written");
        assert_eq!(store.read().expect("written"), network);
        let (held, hold) = store.hold().expect("it can be held");
        assert_eq!(held, network);
        // Others that only start tasks do not wait.
        drop((store.hold_with_defaults("us-east-1").expect("twice"), hold));
        let refused = store.change(|_| Err(StoreError::NoBlock), |_, _| ());
        assert!(matches!(refused, Err(StoreError::NoBlock)));
        assert_eq!(store.read().expect("still"), network);
    }

    #[test]
    fn files_of_other_versions() {
        let (_folder, store) = store();
        fs::create_dir_all(&store.data).expect("a directory");
        let path = store.data.join(FILE);
        fs::write(&path, r#"{"format": 2, "zones": []}"#).expect("write");
        assert!(matches!(store.read(), Err(StoreError::Newer { found: 2, .. })));
        fs::write(&path, r#"{"vpcs": []}"#).expect("write");
        assert_eq!(store.read().expect("an old file").format, FORMAT);
        fs::write(&path, r#"{"format": 1, "vpc": []}"#).expect("write");
        assert!(matches!(store.read(), Err(StoreError::Content { .. })));
    }
}
