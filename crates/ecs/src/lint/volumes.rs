//! Rules about volumes and about who mounts them.

use std::collections::{HashMap, HashSet};

use super::Findings;
use super::place::Place;
use super::shape::known;

/// The members of a volume that say what it is; one of them, or none for a scratch directory.
const KINDS: [&str; 5] = [
    "host",
    "dockerVolumeConfiguration",
    "efsVolumeConfiguration",
    "s3filesVolumeConfiguration",
    "fsxWindowsFileServerVolumeConfiguration",
];

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let volumes = root.items("volumes");
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    let mut at_launch = 0;
    for volume in &volumes {
        names.extend(volume.text("name"));
        if let Some(name) = volume.text("name")
            && !seen.insert(name)
        {
            findings.error(volume.path_of("name"), format!("another volume is named {name:?} as well"));
        }
        at_launch += usize::from(volume.flag("configuredAtLaunch") == Some(true));
        if volume.flag("configuredAtLaunch") == Some(true) && at_launch > 1 {
            findings.error(volume.path_of("configuredAtLaunch"), "a task has one volume that is configured at launch");
        }
        kind(volume, findings);
    }
    // A malformed volume has its own finding; whoever mounts it is not to blame.
    let all_known = volumes.iter().all(|volume| volume.text("name").is_some()) && !findings.is_about("volumes");
    let containers = root.items("containerDefinitions");
    for container in &containers {
        mount_points(container, all_known.then_some(names.as_slice()), findings);
        volumes_from(container, &containers, findings);
    }
}

fn kind(volume: &Place<'_>, findings: &mut Findings) {
    let at_launch = volume.flag("configuredAtLaunch") == Some(true);
    // An empty `host` is what Amazon's answers have beside the other kinds.
    let given = |name: &&str| {
        volume.member(name).is_some_and(|place| place.value.as_object().is_some_and(|members| !members.is_empty()))
    };
    let kinds: Vec<&str> = KINDS.iter().copied().filter(|name| given(name)).collect();
    if kinds.len() + usize::from(at_launch) > 1 {
        let more = if at_launch { ", configuredAtLaunch" } else { "" };
        findings.error(&volume.path, format!("a volume is one of {}{more}", kinds.join(", ")));
        findings.hint("make a volume of each");
    }
    if let Some(host) = volume.member("host")
        && let Some(path) = host.text("sourcePath")
        && !path.starts_with('/')
    {
        findings.error(host.path_of("sourcePath"), "a path of the host is absolute: \"/srv/data\"");
    }
    if at_launch {
        findings.refuse(volume.path_of("configuredAtLaunch"), "there are no services yet that could configure it");
        findings.hint("name a path of the host as host.sourcePath");
    }
    if let Some(docker) = volume.member("dockerVolumeConfiguration") {
        if docker.text("driver").is_some_and(|driver| driver != "local") {
            findings.refuse(docker.path_of("driver"), "only Docker's local driver is built in");
            findings.hint("local mounts NFS, SMB, tmpfs and devices: driverOpts type, device and o");
        }
        // "This field is only used if the scope is shared", API_DockerVolumeConfiguration.
        if docker.flag("autoprovision") == Some(true) && docker.text("scope") != Some("shared") {
            findings.error(docker.path_of("autoprovision"), "only a volume of scope shared is provisioned");
            findings.hint("set \"scope\": \"shared\", or remove autoprovision");
        }
    }
    if let Some(efs) = volume.member("efsVolumeConfiguration") {
        encryption(&efs, findings);
    }
}

/// "Transit encryption must be turned on if Amazon EFS IAM authorization is used", and for an access point as well; "the
/// root directory parameter must either be omitted or set to /" with one (API_EFSVolumeConfiguration,
/// API_EFSAuthorizationConfig). Amazon's words are known for the root directory.
fn encryption(efs: &Place<'_>, findings: &mut Findings) {
    let Some(authorization) = efs.member("authorizationConfig") else { return };
    let point = authorization.text("accessPointId").filter(|id| !id.is_empty());
    let encrypted = efs.text("transitEncryption") == Some("ENABLED");
    if !encrypted && authorization.text("iam") == Some("ENABLED") {
        findings.error(authorization.path_of("iam"), "IAM authorization wants \"transitEncryption\": \"ENABLED\"");
    }
    if !encrypted && point.is_some() {
        findings
            .error(authorization.path_of("accessPointId"), "an access point wants \"transitEncryption\": \"ENABLED\"");
    }
    if point.is_some() && efs.text("rootDirectory").is_some_and(|path| path != "/") {
        let words = "When using an EFS access point, the root directory must either be set to \"/\" or be omitted.";
        findings.client_exception(efs.path_of("rootDirectory"), words);
    }
}

fn mount_points(container: &Place<'_>, volumes: Option<&[&str]>, findings: &mut Findings) {
    let mut paths: HashMap<&str, String> = HashMap::new();
    for point in container.items("mountPoints") {
        if let (Some(name), Some(volumes)) = (point.text("sourceVolume"), volumes)
            && !volumes.contains(&name)
        {
            findings.client_exception(point.path_of("sourceVolume"), format!("Unknown volume '{name}'."));
            findings.hint(match volumes {
                [] => "the task definition has no volumes".to_owned(),
                names => known("volumes", names),
            });
        }
        let Some(path) = point.text("containerPath") else { continue };
        if !path.starts_with('/') {
            findings.error(point.path_of("containerPath"), "a path in a container is absolute: \"/data\"");
        } else if let Some(earlier) = paths.insert(path.trim_end_matches('/'), point.path.clone()) {
            findings.error(point.path_of("containerPath"), format!("{path} is the place of {earlier} as well"));
        }
    }
}

fn volumes_from(container: &Place<'_>, containers: &[Place<'_>], findings: &mut Findings) {
    for from in container.items("volumesFrom") {
        let Some(source) = from.text("sourceContainer") else { continue };
        if !containers.iter().any(|each| each.text("name") == Some(source)) {
            let names: Vec<&str> = containers.iter().filter_map(|each| each.text("name")).collect();
            findings.error(from.path_of("sourceContainer"), format!("no container is named {source:?}"));
            findings.hint(known("containers", &names));
        }
    }
}
