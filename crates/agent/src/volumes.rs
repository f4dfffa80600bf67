//! A definition's volumes, resolved to what is on this host: paths, directories of the store, file systems to be
//! mounted. What is wrong is told before anything of the task is made; only a shared volume that is to be provisioned
//! is made here, for it outlives the task.
//!
//! Options of Docker's local driver: moby's volume/local/local_unix.go. EFS: amazon-ecs-agent's
//! agent/taskresource/volume/dockervolume_efs.go.

mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_protocol::VolumeSpec;
use agent_protocol::task_spec::VolumeSource;
use ecs::Timestamp;
use ecs::task_definition::{DockerVolumeConfiguration, EfsVolumeConfiguration, Scope, Volume};

use crate::compose::Plan;
use crate::host::Host;
pub use store::{Hold, Store, StoreError, StoredVolume, users};

/// Where EFS is mounted from instead of Amazon's names: a server's name or address, in which `{fileSystemId}` stands
/// for the file system's id.
pub const EFS_ENDPOINT: &str = "CORACLE_EFS_ENDPOINT";
const FILE_SYSTEM_ID: &str = "{fileSystemId}";
/// What Amazon recommends for EFS
/// (<https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-mount-cmd-general.html>).
const EFS_OPTIONS: &str = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";
/// amazon-efs-utils'.
const EFS_HELPER: &str = "mount.efs";
const ENABLED: &str = "ENABLED";

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("CannotCreateVolumeError: volume {volume}: {why}")]
    Refused { volume: String, why: String },
    #[error(
        "CannotCreateVolumeError: initialize volume: volume detection failed, volume '{volume}' does not exist and autoprovision is set to false"
    )]
    Missing { volume: String },
    #[error("CannotCreateVolumeError: volume {volume}")]
    Store {
        volume: String,
        #[source]
        source: StoreError,
    },
}

/// A task's volumes. While it is kept, nobody removes the shared ones: until the task is written down, nothing else
/// says that it needs them.
#[derive(Debug, Default)]
pub struct Resolved {
    pub volumes: Vec<VolumeSpec>,
    _holds: Vec<Hold>,
}

pub fn resolve(host: &Host, plan: &Plan, now: Timestamp) -> Result<Resolved, VolumeError> {
    let mut resolved = Resolved::default();
    for volume in &plan.definition.volumes {
        let found = resolve_one(host, &plan.region, volume, now, &mut resolved)?;
        resolved.volumes.push(found);
    }
    Ok(resolved)
}

fn resolve_one(
    host: &Host,
    region: &str,
    volume: &Volume,
    now: Timestamp,
    resolved: &mut Resolved,
) -> Result<VolumeSpec, VolumeError> {
    let refused = |why: String| VolumeError::Refused { volume: volume.name.clone(), why };
    let spec = |source| VolumeSpec { name: volume.name.clone(), source, shared: false, labels: BTreeMap::new() };
    if volume.configured_at_launch == Some(true) {
        return Err(refused("configuredAtLaunch is for volumes of services and there are none yet".to_owned()));
    }
    if volume.fsx_windows_file_server_volume_configuration.is_some() {
        return Err(refused(NO_FSX.to_owned()));
    }
    if let Some(efs) = &volume.efs_volume_configuration {
        let helper = runtime::volumes::find_helper(EFS_HELPER).is_some();
        return efs_source(efs, region, host.efs_endpoint.as_deref(), helper).map(spec).map_err(refused);
    }
    if let Some(docker) = &volume.docker_volume_configuration {
        let driver = docker.driver.as_deref().unwrap_or("local");
        if driver != "local" {
            let why = "only Docker's local driver is built in; with it, driverOpts mount NFS, SMB, tmpfs and devices";
            return Err(refused(format!("dockerVolumeConfiguration.driver {driver:?}: {why}")));
        }
        return match docker.scope {
            Some(Scope::Shared) => {
                let (source, labels, hold) = shared(host, &volume.name, docker, now)?;
                resolved._holds.push(hold);
                Ok(VolumeSpec { name: volume.name.clone(), source, shared: true, labels })
            }
            Some(Scope::Task) | None => {
                let mounted = local_driver(&docker.driver_opts).map_err(refused)?;
                Ok(VolumeSpec { labels: docker.labels.clone(), ..spec(mounted.unwrap_or(VolumeSource::Scratch)) })
            }
        };
    }
    match volume.host.as_ref().and_then(|host| host.source_path.as_ref()).filter(|path| !path.is_empty()) {
        Some(path) if path.starts_with('/') => Ok(spec(VolumeSource::Host { path: PathBuf::from(path) })),
        Some(path) => Err(refused(format!("host.sourcePath {path:?}: a path of the host is absolute"))),
        None => Ok(spec(VolumeSource::Scratch)),
    }
}

const NO_FSX: &str = "fsxWindowsFileServerVolumeConfiguration: the share's password cannot be handed over in a safe way \
                      yet; mount the share on the host and name it as host.sourcePath";

fn shared(
    host: &Host,
    name: &str,
    docker: &DockerVolumeConfiguration,
    now: Timestamp,
) -> Result<(VolumeSource, BTreeMap<String, String>, Hold), VolumeError> {
    let failed = |source| VolumeError::Store { volume: name.to_owned(), source };
    let store = Store::of(host);
    if docker.autoprovision == Some(true) && store.get(name).map_err(failed)?.is_none() {
        local_driver(&docker.driver_opts).map_err(|why| VolumeError::Refused { volume: name.to_owned(), why })?;
        let new = StoredVolume {
            name: name.to_owned(),
            labels: docker.labels.clone(),
            driver_opts: docker.driver_opts.clone(),
            created_at: now,
        };
        match store.create(&new) {
            // Another task's start was quicker.
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let (stored, hold) =
        store.hold(name).map_err(failed)?.ok_or_else(|| VolumeError::Missing { volume: name.to_owned() })?;
    let mounted =
        local_driver(&stored.driver_opts).map_err(|why| VolumeError::Refused { volume: name.to_owned(), why })?;
    let source = mounted.unwrap_or_else(|| VolumeSource::Shared { path: store.mountpoint(name) });
    Ok((source, stored.labels, hold))
}

/// `driverOpts` as `docker volume create --driver local` takes them; nothing where they ask for a plain directory.
pub fn local_driver(options: &BTreeMap<String, String>) -> Result<Option<VolumeSource>, String> {
    const WITH: [(&str, &[&str]); 3] = [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];
    for (name, value) in options {
        match name.as_str() {
            "type" | "device" | "o" => {}
            "size" => {
                return Err("driverOpts.size: quota size requested but no quota support; ephemeralStorage limits \
                            what a task writes"
                    .to_owned());
            }
            _ => return Err(format!("driverOpts: invalid option: {name:?}; there are type, device and o")),
        }
        if value.contains('\0') {
            return Err(format!("driverOpts.{name} has a NUL character"));
        }
    }
    for (name, wanted) in WITH {
        let missing = wanted.iter().find(|wanted| options.contains_key(name) && !options.contains_key(**wanted));
        if let Some(missing) = missing {
            return Err(format!("driverOpts: missing required option: {missing:?}, beside {name:?}"));
        }
    }
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    let (file_system, device) = (text("type"), text("device"));
    if file_system.is_empty() && device.is_empty() {
        return Ok(None);
    }
    if device.is_empty() {
        return Err("driverOpts: missing device in volume options".to_owned());
    }
    Ok(Some(VolumeSource::Mount { file_system, device, options: text("o") }))
}

/// Over plain NFS as Amazon's agent mounts it without its plugin, or by amazon-efs-utils where that is needed.
fn efs_source(
    efs: &EfsVolumeConfiguration,
    region: &str,
    endpoint: Option<&str>,
    helper: bool,
) -> Result<VolumeSource, String> {
    let id = &efs.file_system_id;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("efsVolumeConfiguration.fileSystemId {id:?} is no id such as fs-0123456789abcdef0"));
    }
    let root = efs.root_directory.as_deref().filter(|root| !root.is_empty()).unwrap_or("/");
    if !root.starts_with('/') || root.contains(',') {
        return Err(format!("efsVolumeConfiguration.rootDirectory {root:?} is no absolute path without commas"));
    }
    let endpoint = endpoint.map(|endpoint| endpoint.replace(FILE_SYSTEM_ID, id));
    let authorization = efs.authorization_config.clone().unwrap_or_default();
    let access_point = authorization.access_point_id.filter(|id| !id.is_empty());
    let encrypted = efs.transit_encryption.as_deref() == Some(ENABLED);
    let iam = authorization.iam.as_deref() == Some(ENABLED);
    let needs = [
        (encrypted, "transitEncryption"),
        (iam, "authorizationConfig.iam"),
        (access_point.is_some(), "authorizationConfig.accessPointId"),
    ];
    let Some((_, field)) = needs.into_iter().find(|(needed, _)| *needed) else {
        let server = endpoint.unwrap_or_else(|| format!("{id}.efs.{region}.{}", dns_suffix(region)));
        let options = format!("addr={server},{EFS_OPTIONS}");
        return Ok(VolumeSource::Mount { file_system: "nfs".to_owned(), device: format!(":{root}"), options });
    };
    if !helper {
        return Err(format!(
            "efsVolumeConfiguration.{field} needs {EFS_HELPER}, which this host does not have; install \
             amazon-efs-utils, or disable it to mount the file system over plain NFS"
        ));
    }
    let mut options = Vec::new();
    options.extend(encrypted.then(|| "tls".to_owned()));
    options.extend(efs.transit_encryption_port.filter(|port| *port != 0).map(|port| format!("tlsport={port}")));
    options.extend(iam.then(|| "iam".to_owned()));
    options.extend(access_point.map(|id| format!("accesspoint={id}")));
    let address = endpoint.filter(|endpoint| endpoint.parse::<std::net::IpAddr>().is_ok());
    options.extend(address.map(|address| format!("mounttargetip={address}")));
    Ok(VolumeSource::Mount {
        file_system: "efs".to_owned(),
        device: format!("{id}:{root}"),
        options: options.join(","),
    })
}

/// Of Amazon's partitions.
fn dns_suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The rules of `docker volume create --driver local`, in moby's words.
    #[test]
    fn driver_options_are_those_of_dockers_local_driver() {
        assert_eq!(local_driver(&options(&[])), Ok(None));
        assert_eq!(
            local_driver(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=5")])),
            Ok(Some(VolumeSource::Mount {
                file_system: "tmpfs".to_owned(),
                device: "tmpfs".to_owned(),
                options: "size=1m,uid=5".to_owned()
            }))
        );
        for (given, words) in [
            (&[("type", "nfs")][..], "missing required option: \"device\""),
            (&[("device", "/dev/x")][..], "missing required option: \"type\""),
            (&[("o", "ro")][..], "missing required option: \"device\""),
            (&[("type", "nfs"), ("device", "")][..], "missing device"),
            (&[("size", "1g")][..], "no quota support"),
            (&[("mode", "1g")][..], "invalid option: \"mode\""),
        ] {
            let error = local_driver(&options(given)).expect_err("refused");
            assert!(error.contains(words), "{given:?}: {error}");
        }
    }

    fn efs(value: serde_json::Value, endpoint: Option<&str>, helper: bool) -> Result<(String, String, String), String> {
        let config = serde_json::from_value(value).expect("an EFS configuration");
        match efs_source(&config, "eu-west-1", endpoint, helper)? {
            VolumeSource::Mount { file_system, device, options } => Ok((file_system, device, options)),
            other => panic!("{other:?}"),
        }
    }

    /// What amazon-ecs-agent makes of them (dockervolume_efs_test.go has the same cases).
    #[test]
    fn efs_is_plain_nfs_unless_it_is_encrypted() {
        let (kind, device, options) = efs(json!({"fileSystemId": "fs-123"}), None, false).expect("plain");
        assert_eq!((kind.as_str(), device.as_str()), ("nfs", ":/"));
        let server = "addr=fs-123.efs.eu-west-1.amazonaws.com";
        assert_eq!(
            options,
            format!("{server},nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport")
        );
        let own = efs(json!({"fileSystemId": "fs-123", "rootDirectory": "/a"}), Some("{fileSystemId}.lan"), false);
        let (_, device, options) = own.expect("plain");
        assert!(device == ":/a" && options.starts_with("addr=fs-123.lan,"), "{device} {options}");
        let encrypted = json!({
            "fileSystemId": "fs-123", "transitEncryption": "ENABLED", "transitEncryptionPort": 2049,
            "authorizationConfig": {"iam": "ENABLED", "accessPointId": "fsap-1"}
        });
        let made = efs(encrypted.clone(), Some("10.0.0.9"), true).expect("there is a helper");
        let options = "tls,tlsport=2049,iam,accesspoint=fsap-1,mounttargetip=10.0.0.9";
        assert_eq!(made, ("efs".to_owned(), "fs-123:/".to_owned(), options.to_owned()));
        let error = efs(encrypted, None, false).expect_err("no helper");
        assert!(error.contains("efsVolumeConfiguration.transitEncryption needs mount.efs"), "{error}");
        assert!(efs(json!({"fileSystemId": "fs-1,x"}), None, false).is_err());
    }
}
