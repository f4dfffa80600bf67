//! Environment files of a task's containers: each fetched once, from S3 or from this host, then merged.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ecs::Timestamp;
use ecs::environment_file::{self, Source};
use ecs::task_definition::{ContainerDefinition, KeyValuePair};

use super::s3::{self, Object, Settings};
use super::{ResourceInitializationError, Stage};

/// All variables and arguments of a program have to fit into two megabytes (execve(2)), and Amazon names no limit.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

pub(super) fn of_containers(
    settings: &Settings,
    region: &str,
    containers: &[ContainerDefinition],
    now: Timestamp,
) -> Result<Vec<Vec<KeyValuePair>>, ResourceInitializationError> {
    let mut problems = Vec::new();
    let mut wanted: Vec<Vec<Source>> = Vec::new();
    for definition in containers {
        let sources = definition.environment_files.iter().filter_map(|file| match Source::parse(&file.value) {
            Ok(source) => Some(source),
            Err(error) => {
                problems.push(format!("container {}: {error}", definition.name));
                None
            }
        });
        wanted.push(sources.collect());
    }
    let contents = fetch_once(settings, region, &wanted, now);
    let mut merged = Vec::new();
    for (definition, sources) in containers.iter().zip(&wanted) {
        let mut files = Vec::new();
        for source in sources {
            match &contents[source] {
                Ok(variables) => files.push(variables.clone()),
                Err(error) => problems.push(format!("container {}: {error}", definition.name)),
            }
        }
        merged.push(environment_file::merge(&definition.environment, files));
    }
    if problems.is_empty() {
        Ok(merged)
    } else {
        Err(ResourceInitializationError { stage: Stage::EnvironmentFiles, problems })
    }
}

type Content = Result<Vec<KeyValuePair>, String>;

/// A file that several containers name is fetched for all of them at once.
fn fetch_once(settings: &Settings, region: &str, wanted: &[Vec<Source>], now: Timestamp) -> HashMap<Source, Content> {
    let mut contents: HashMap<Source, Content> = HashMap::new();
    let mut objects: Vec<Object> = Vec::new();
    for source in wanted.iter().flatten() {
        match source {
            Source::Local(path) => {
                contents.entry(source.clone()).or_insert_with(|| {
                    let failed = |why: String| format!("unable to read env file {}, error: {why}", path.display());
                    let bytes = read(path).map_err(|error| failed(error.to_string()))?;
                    environment_file::parse(&bytes).map_err(|error| failed(error.to_string()))
                });
            }
            Source::S3 { bucket, key } => {
                let object = Object { bucket: bucket.clone(), key: key.clone() };
                if !objects.contains(&object) {
                    objects.push(object);
                }
            }
        }
    }
    let fetched = s3::fetch_all(settings, region, &objects, now);
    for (Object { bucket, key }, result) in objects.into_iter().zip(fetched) {
        // The words of Amazon's agent, in agent/taskresource/envFiles/envfile.go.
        let failed =
            |why: String| format!("unable to download env file with key {key} from bucket {bucket}, error: {why}");
        let content = result
            .map_err(|error| failed(crate::recovery::chain(&error)))
            .and_then(|bytes| environment_file::parse(&bytes).map_err(|error| failed(error.to_string())));
        contents.insert(Source::S3 { bucket, key }, content);
    }
    contents
}

/// Opened without waiting, for a pipe without a writer would wait for ever.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const O_NONBLOCK: i32 = 0o4000;
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(name: &str, files: &[&str]) -> ContainerDefinition {
        let files: Vec<_> = files.iter().map(|value| json!({"value": value, "type": "s3"})).collect();
        let definition = json!({"name": name, "image": "x", "environment": [{"name": "A", "value": "own"}],
            "environmentFiles": files});
        serde_json::from_value(definition).expect("a container definition")
    }

    fn fetch(containers: &[ContainerDefinition]) -> Result<Vec<Vec<KeyValuePair>>, ResourceInitializationError> {
        of_containers(&Settings::default(), "eu-central-1", containers, Timestamp::from_epoch_ms(1))
    }

    #[test]
    fn local_files_are_merged_for_each_container() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("a test may write");
            path.display().to_string()
        };
        let (one, two) = (file("one.env", "A=1\nB=1\n"), file("two.env", "B=2\nC=2\n"));
        let containers =
            [container("web", &[&one, &format!("file://{two}")]), container("worker", &[&two]), container("x", &[])];
        let fetched = fetch(&containers).expect("the files are there");
        let shown: Vec<Vec<String>> = fetched
            .iter()
            .map(|variables| variables.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect())
            .collect();
        assert_eq!(shown, [vec!["B=1", "C=2"], vec!["B=2", "C=2"], vec![]]);
    }

    #[test]
    fn every_problem_names_its_container_and_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let large = directory.path().join("large.env");
        std::fs::write(&large, vec![b'#'; MAX_FILE_BYTES as usize + 1]).expect("a test may write");
        let secret = directory.path().join("secret.env");
        std::fs::write(&secret, b"PASSWORD=hunter2\0").expect("a test may write");
        let folder = directory.path().join("folder.env");
        std::fs::create_dir(&folder).expect("a test may write");
        let shown = |path: &Path| path.display().to_string();
        let containers = [
            container("web", &["/none.env", &shown(&large), &shown(&folder), "web.txt"]),
            container("worker", &[&shown(&secret), "arn:aws:s3:::bucket/a/b.env"]),
        ];
        let error = fetch(&containers).expect_err("none is right");
        let text = error.to_string();
        for part in [
            "ResourceInitializationError: failed to download env files: ",
            "container web: unable to read env file /none.env, error: No such file or directory",
            "large.env, error: it is larger than 1048576 bytes",
            "folder.env, error: it is not a file",
            "container web: invalid s3 arn: \"web.txt\"",
            "container worker: unable to read env file",
            "line 1 has a NUL character",
            "container worker: unable to download env file with key a/b.env from bucket bucket, error: no S3 endpoint",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
