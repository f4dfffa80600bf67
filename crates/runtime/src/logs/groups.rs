//! Log groups and their streams on this host: where `awslogs` output lies, also after its task is gone.
//!
//! ```text
//! <data>/logs/<group>/<stream>/<task id>/
//!     <container>.json      whose output it is
//!     <container>.log.<n>   its segments
//! ```
//!
//! On ECS a stream outlives its task, so its segments never lie in the task's own directory. Names are spelt so that
//! any of Amazon's is a directory; the true ones are in the JSON file. What ended tasks have left is kept within
//! `Retention`; a task that still has its directory loses nothing but by its own rotation.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::log_options::{self, EventStart};
use ecs::{ContainerName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::task_dir::remove_tree;

const GROUPS_NAME: &str = "logs";

/// One component of a path has at most 255 bytes (NAME_MAX); Amazon's names have up to 512 letters.
const COMPONENT_BYTES: usize = 200;

/// Behind a component whose name goes on in the directory below. No spelt name contains it.
const GOES_ON: char = '+';

/// Far above what the few names take; a larger file is not ours.
const MAX_ABOUT_BYTES: u64 = 64 << 10;

/// When the retention was last looked after.
const PRUNED_NAME: &str = ".pruned";
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// How much is kept of tasks that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub bytes: u64,
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { bytes: 1 << 30, age: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// Whose output a stream holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub log_group_name: String,
    pub log_stream_name: String,
    #[serde(default)]
    pub region: Option<String>,
    pub task_id: ecs::TaskId,
    pub family: String,
    pub revision: u32,
    pub container_name: ContainerName,
    pub runtime_id: String,
    pub creation_time: Timestamp,
    /// How its events begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datetime_format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiline_pattern: Option<String>,
}

impl About {
    /// Nothing where each line is an event.
    pub fn event_start(&self) -> Option<EventStart> {
        event_start(self.datetime_format.as_ref(), self.multiline_pattern.as_ref())
    }
}

/// How the events of a stream begin; nothing where each line is an event.
pub fn event_start(datetime_format: Option<&String>, multiline_pattern: Option<&String>) -> Option<EventStart> {
    let format = datetime_format.map(|format| (log_options::AWSLOGS_DATETIME_FORMAT, format));
    let pattern = multiline_pattern.map(|pattern| (log_options::AWSLOGS_MULTILINE_PATTERN, pattern));
    let options = format.into_iter().chain(pattern).map(|(name, value)| (name.to_owned(), value.clone())).collect();
    // What makes no pattern was refused before the task began.
    EventStart::of(&options).ok().flatten()
}

/// What one container of one task has written to a stream. A stream that several tasks were told to write to has
/// several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    pub about: About,
    pub directory: PathBuf,
}

/// The stream that an `awslogs` container of a task writes to; nothing with another driver, or without a group.
pub fn of_container(task: &TaskSpec, container: &ContainerSpec) -> Option<LogStream> {
    let log = container.definition.log_configuration.as_ref().filter(|log| log.log_driver == log_options::AWSLOGS)?;
    let group = log.options.get(log_options::AWSLOGS_GROUP)?;
    let name = &container.definition.name;
    let stream = log_options::awslogs_stream(&log.options, name.as_str(), task.id.as_str(), &container.runtime_id);
    // `<data>/tasks/<id>` is the task's own directory.
    let data = task.places.state.parent()?.parent()?;
    Some(LogStream {
        directory: data.join(GROUPS_NAME).join(spell(group)).join(spell(&stream)).join(task.id.as_str()),
        about: About {
            log_group_name: group.clone(),
            log_stream_name: stream,
            region: log.options.get(log_options::AWSLOGS_REGION).cloned(),
            task_id: task.id.clone(),
            family: task.family.clone(),
            revision: task.revision,
            container_name: name.clone(),
            runtime_id: container.runtime_id.clone(),
            creation_time: task.created_at,
            datetime_format: log.options.get(log_options::AWSLOGS_DATETIME_FORMAT).cloned(),
            multiline_pattern: log.options.get(log_options::AWSLOGS_MULTILINE_PATTERN).cloned(),
        },
    })
}

/// Makes the stream's directory, and says there whose it is.
pub(crate) fn make(stream: &LogStream) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&stream.directory)?;
    let temporary = stream.directory.join(format!(".{}.new", stream.about.container_name));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(&temporary)?.write_all(&serde_json::to_vec(&stream.about).map_err(io::Error::other)?)?;
    fs::rename(&temporary, stream.directory.join(format!("{}.json", stream.about.container_name)))
}

/// The streams of a group, oldest first; only those of one name where it is given. `data` is coracle's data directory.
pub fn find(data: &Path, group: &str, stream: Option<&str>) -> io::Result<Vec<LogStream>> {
    let group = data.join(GROUPS_NAME).join(spell(group));
    let streams = match stream {
        Some(stream) => vec![group.join(spell(stream))],
        None => named(&group)?,
    };
    let mut found = Vec::new();
    for stream in streams {
        for writer in directories(&stream)? {
            found.extend(writers(&writer)?);
        }
    }
    found.sort_by(|one, other| {
        let key = |stream: &LogStream| (stream.about.creation_time, stream.directory.clone());
        key(one).cmp(&key(other)).then_with(|| one.about.container_name.cmp(&other.about.container_name))
    });
    Ok(found)
}

/// Every group that has a stream, with how many it has.
pub fn list(data: &Path) -> io::Result<BTreeMap<String, usize>> {
    let mut groups = BTreeMap::new();
    for writer in all_writers(data)? {
        for stream in writers(&writer)? {
            *groups.entry(stream.about.log_group_name).or_default() += 1;
        }
    }
    Ok(groups)
}

/// Removes what is more than `retention` allows, oldest first; `exists` says whether a task still has its directory.
/// Looks at most once in `PRUNE_EVERY`.
pub(crate) fn prune(data: &Path, retention: Retention, exists: impl Fn(&str) -> bool) -> io::Result<()> {
    let root = data.join(GROUPS_NAME);
    let marker = root.join(PRUNED_NAME);
    let now = SystemTime::now();
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    match fs::metadata(&marker) {
        Ok(looked) if age(looked.modified()?) < PRUNE_EVERY => return Ok(()),
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        Ok(_) | Err(_) => {}
    }
    match fs::write(&marker, "") {
        // No group at all.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    prune_now(data, retention, now, exists)
}

fn prune_now(data: &Path, retention: Retention, now: SystemTime, exists: impl Fn(&str) -> bool) -> io::Result<()> {
    let root = data.join(GROUPS_NAME);
    let mut kept = Vec::new();
    for directory in all_writers(data)? {
        if directory.file_name().and_then(|name| name.to_str()).is_some_and(&exists) {
            continue;
        }
        let (mut bytes, mut newest) = (0, SystemTime::UNIX_EPOCH);
        for entry in fs::read_dir(&directory)? {
            let metadata = entry?.metadata()?;
            bytes += metadata.len();
            newest = newest.max(metadata.modified()?);
        }
        kept.push((newest, directory, bytes));
    }
    kept.sort_unstable();
    let mut total: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
    for (newest, directory, bytes) in kept {
        if total <= retention.bytes && now.duration_since(newest).unwrap_or_default() <= retention.age {
            break;
        }
        total -= bytes;
        remove_tree(&directory)?;
        // What is not empty, another stream's or group's, stays.
        for above in directory.ancestors().skip(1).take_while(|above| *above != root) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// A name as a path of one component, or of several where it is long.
fn spell(name: &str) -> PathBuf {
    let mut spelt = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => spelt.push(char::from(byte)),
            other => spelt.push_str(&format!("%{other:02X}")),
        }
    }
    let mut path = PathBuf::new();
    let mut rest = spelt.as_str();
    while rest.len() > COMPONENT_BYTES {
        let (first, more) = rest.split_at(COMPONENT_BYTES);
        path.push(format!("{first}{GOES_ON}"));
        rest = more;
    }
    path.push(if rest.is_empty() { "%" } else { rest });
    path
}

/// The directories directly in one, however their names are spelt; none where it does not exist.
fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(cause),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The directories in one whose names `spell` has made, long ones at their end.
fn named(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        for directory in directories(&next)? {
            let goes_on = directory.file_name().is_some_and(|name| name.to_string_lossy().ends_with(GOES_ON));
            if goes_on { open.push(directory) } else { found.push(directory) }
        }
    }
    Ok(found)
}

/// The directories `<group>/<stream>/<task id>` of all groups.
fn all_writers(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for group in named(&data.join(GROUPS_NAME))? {
        for stream in named(&group)? {
            found.extend(directories(&stream)?);
        }
    }
    Ok(found)
}

/// Who has written to a directory of a task in a stream.
fn writers(directory: &Path) -> io::Result<Vec<LogStream>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") || fs::metadata(&path)?.len() > MAX_ABOUT_BYTES
        {
            continue;
        }
        let about = serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)?;
        found.push(LogStream { about, directory: directory.to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(data: &Path, group: &str, stream: &str, task: &str) -> LogStream {
        let task_id = ecs::TaskId::try_from(task.to_owned()).expect("an id");
        LogStream {
            directory: data.join(GROUPS_NAME).join(spell(group)).join(spell(stream)).join(task),
            about: About {
                log_group_name: group.to_owned(),
                log_stream_name: stream.to_owned(),
                region: None,
                task_id,
                family: "f".to_owned(),
                revision: 1,
                container_name: ContainerName::try_from("app".to_owned()).expect("a name"),
                runtime_id: "0".repeat(64),
                creation_time: Timestamp::from_epoch_ms(1),
                datetime_format: None,
                multiline_pattern: None,
            },
        }
    }

    const ONE: &str = "11111111111111111111111111111111";
    const TWO: &str = "22222222222222222222222222222222";

    #[test]
    fn any_name_is_a_directory_of_its_own() {
        let long = "g".repeat(512);
        let names = ["/ecs/web", "..", ".", "a", "a+", "A", "ü", "", long.as_str(), &long[..200], &long[..201]];
        let spelt: std::collections::BTreeSet<PathBuf> = names.iter().map(|name| spell(name)).collect();
        assert_eq!(spelt.len(), names.len());
        assert_eq!(spell("/ecs/web"), Path::new("%2Fecs%2Fweb"));
        assert_eq!(spell(".."), Path::new("%2E%2E"));
        for component in spelt.iter().flat_map(|path| path.components()) {
            assert!(component.as_os_str().len() < 255);
            assert!(matches!(component, std::path::Component::Normal(_)));
        }
    }

    #[test]
    fn streams_are_found_by_their_names() {
        let data = tempfile::tempdir().expect("a directory");
        let long = "s".repeat(512);
        let made = [
            ("/ecs/web", "p/app/1", ONE),
            ("/ecs/web", long.as_str(), ONE),
            ("/ecs/web", "p/app/1", TWO),
            ("/ecs", "x", ONE),
        ];
        for (group, name, task) in made {
            make(&stream(data.path(), group, name, task)).expect("made");
        }
        let tasks = |group, name| {
            let found = find(data.path(), group, name).expect("readable");
            found.into_iter().map(|stream| stream.about.task_id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(tasks("/ecs/web", Some("p/app/1")), [ONE, TWO]);
        assert_eq!(tasks("/ecs/web", Some(&long)), [ONE]);
        assert_eq!(tasks("/ecs/web", None).len(), 3);
        assert!(tasks("/ecs/we", None).is_empty());
        let counted = list(data.path()).expect("readable");
        assert_eq!(counted.into_iter().collect::<Vec<_>>(), [("/ecs".to_owned(), 1), ("/ecs/web".to_owned(), 3)]);
    }

    #[test]
    fn the_oldest_of_what_nobody_owns_goes() {
        let data = tempfile::tempdir().expect("a directory");
        let ids: Vec<String> = (1..=4).map(|digit| digit.to_string().repeat(32)).collect();
        let now = SystemTime::now();
        for (place, id) in ids.iter().enumerate() {
            let made = stream(data.path(), "/g", &format!("stream-{id}"), id);
            make(&made).expect("made");
            let segment = fs::File::create(made.directory.join("app.log.0")).expect("made");
            segment.set_len(1000).expect("sized");
            let age = Duration::from_secs(1000 * (10 - place as u64));
            for file in fs::read_dir(&made.directory).expect("listed") {
                let file = fs::File::options().write(true).open(file.expect("listed").path()).expect("opened");
                file.set_modified(now - age).expect("dated");
            }
        }
        let left = || {
            let found = find(data.path(), "/g", None).expect("readable");
            found.into_iter().map(|stream| stream.about.task_id.to_string()).collect::<Vec<_>>()
        };
        let age = Duration::from_secs(100_000);
        prune_now(data.path(), Retention { bytes: 3000, age }, now, |task| task == ids[0]).expect("pruned");
        // The first still has its task; each stream is some hundred bytes more than its segment.
        assert_eq!(left(), [ids[0].as_str(), &ids[2], &ids[3]]);
        prune_now(data.path(), Retention { bytes: 1 << 20, age: Duration::from_secs(7500) }, now, |_| false)
            .expect("pruned");
        assert_eq!(left(), [ids[3].as_str()]);
        prune_now(data.path(), Retention { bytes: 0, age }, now, |_| false).expect("pruned");
        assert_eq!(fs::read_dir(data.path().join(GROUPS_NAME)).expect("listed").count(), 0);
    }
}
