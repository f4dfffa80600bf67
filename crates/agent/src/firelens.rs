//! FireLens: a container that routes the others' output, its generated configuration, and what all of them get for it.
//! Pure.
//!
//! The configuration is what Amazon's agent writes (`generateConfig` of its `taskresource/firelens`), for Fluent Bit or
//! fluentd: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_firelens.html>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_protocol::secrets::SecretValue;
use agent_protocol::task_spec::Bind;
use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use ecs::ContainerName;
use ecs::log_options::{self, AWSFIRELENS};
use ecs::task_definition::{
    ContainerCondition, ContainerDependency, FirelensConfiguration, FirelensType, KeyValuePair, NetworkMode,
};

use crate::describe;

const SOCKET: &str = "/var/run/fluent.sock";
const SOCKET_DIRECTORY: &str = "/var/run";
const PORT: &str = "24224";
const HEALTH_CHECK_PORT: &str = "8877";
const HEALTH_CHECK_TAG: &str = "firelens-healthcheck";
/// What may wait in an input's memory when the router has no memory limit, of which it would be half.
const DEFAULT_BUFFER_MIB: u64 = 25;

const ENABLE_METADATA: &str = "enable-ecs-log-metadata";
const CONFIG_FILE_TYPE: &str = "config-file-type";
const CONFIG_FILE_VALUE: &str = "config-file-value";
const INCLUDE: &str = "include-pattern";
const EXCLUDE: &str = "exclude-pattern";

/// Options of awsfirelens that are not the output plugin's.
const NOT_THE_ROUTERS: [&str; 6] = [
    log_options::BUFFER_LIMIT,
    log_options::MODE,
    log_options::MAX_BUFFER_SIZE,
    log_options::MAX_SIZE,
    log_options::MAX_FILE,
    log_options::MAX_AGE,
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirelensError {
    #[error("container {container}: awsfirelens needs a container with firelensConfiguration")]
    NoRouter { container: ContainerName },
    /// In the agent's words.
    #[error(
        "unable to apply log options of container {container} to firelens config: missing output key {key} which is \
         required for firelens configuration of type {kind}"
    )]
    NoOutput { container: ContainerName, key: &'static str, kind: &'static str },
    #[error(
        "container {container}: option {name} has a line end, which would begin something else in the router's file"
    )]
    LineEnd { container: ContainerName, name: String },
    #[error("container {container}: firelensConfiguration.options: {wrong}")]
    Option { container: ContainerName, wrong: String },
}

/// What lies on the host for a router, below the task's run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// To be made open to everybody: a router need not be root. Nobody else gets through the task's own directory.
    pub directories: Vec<PathBuf>,
    pub files: Vec<(PathBuf, String)>,
}

/// Where a router's own configuration comes from, besides the generated one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum External {
    /// A file of the router's image.
    File(String),
    /// `arn:aws:s3:::bucket/key`.
    S3(String),
}

/// # Errors
/// A type that is none, or one without its value.
pub fn external(container: &ContainerName, router: &FirelensConfiguration) -> Result<Option<External>, FirelensError> {
    let wrong = |wrong: String| FirelensError::Option { container: container.clone(), wrong };
    let option = |name: &str| router.options.get(name).filter(|value| !value.is_empty());
    match (option(CONFIG_FILE_TYPE).map(String::as_str), option(CONFIG_FILE_VALUE)) {
        (None, None) => Ok(None),
        (Some("file"), Some(path)) => Ok(Some(External::File(path.clone()))),
        (Some("s3"), Some(arn)) => Ok(Some(External::S3(arn.clone()))),
        (Some("file" | "s3"), None) => Err(wrong(format!("{CONFIG_FILE_TYPE} wants {CONFIG_FILE_VALUE} beside it"))),
        (Some(other), _) => Err(wrong(format!("{CONFIG_FILE_TYPE} is s3 or file, not {other}"))),
        (None, Some(_)) => Err(wrong(format!("{CONFIG_FILE_VALUE} wants {CONFIG_FILE_TYPE} beside it"))),
    }
}

/// Gives a task with a router what FireLens is: binds and secrets for the router; a dependency on it, and in bridge and
/// awsvpc mode its address, for those whose output it routes. `fetched` is the external configuration out of S3.
///
/// # Errors
/// A router that is missing, or options out of which there is no configuration.
pub fn prepare(
    spec: &mut TaskSpec,
    secrets: &mut Vec<ContainerSecrets>,
    fetched: Option<String>,
) -> Result<Option<Files>, FirelensError> {
    let is_router = |container: &ContainerSpec| container.definition.firelens_configuration.is_some();
    let Some(place) = spec.containers.iter().position(is_router) else {
        return match spec.containers.iter().find(|container| is_routed(container)) {
            Some(container) => Err(FirelensError::NoRouter { container: container.definition.name.clone() }),
            None => Ok(None),
        };
    };
    let Some(router) = spec.containers[place].definition.firelens_configuration.clone() else { return Ok(None) };
    let name = spec.containers[place].definition.name.clone();
    let moved = move_secrets(spec, &name, secrets);
    let text = configuration(spec, &spec.containers[place], &router, &moved)?;
    let directory = log_shipping::firelens_directory(&spec.places);
    let (config, socket) = (directory.join("config"), directory.join("socket"));
    let target = match router.kind {
        FirelensType::Fluentbit => "/fluent-bit/etc/fluent-bit.conf",
        FirelensType::Fluentd => "/fluentd/etc/fluent.conf",
    };
    let mut files = vec![(config.join("fluent.conf"), text)];
    let bind =
        |source: &Path, target: &str, read_only| Bind { source: source.to_owned(), target: target.into(), read_only };
    let mut binds = vec![bind(&files[0].0, target, true), bind(&socket, SOCKET_DIRECTORY, false)];
    if let Some(content) = fetched {
        let path = config.join("external.conf");
        binds.push(bind(&path, fetched_place(router.kind), true));
        files.push((path, content));
    }
    connect(spec, place, &router, binds);
    Ok(Some(Files { directories: vec![directory, config, socket], files }))
}

fn is_routed(container: &ContainerSpec) -> bool {
    container.definition.log_configuration.as_ref().is_some_and(|log| log.log_driver == AWSFIRELENS)
}

fn fetched_place(kind: FirelensType) -> &'static str {
    match kind {
        FirelensType::Fluentbit => "/fluent-bit/etc/external.conf",
        FirelensType::Fluentd => "/fluentd/etc/external.conf",
    }
}

/// Environment, dependencies and binds.
fn connect(spec: &mut TaskSpec, place: usize, router: &FirelensConfiguration, binds: Vec<Bind>) {
    let mode = spec.network_mode;
    let router_name = spec.containers[place].definition.name.clone();
    let address = match mode {
        NetworkMode::Bridge => spec.containers[place].network.ipv4_address.map(|address| address.to_string()),
        NetworkMode::Awsvpc => Some("127.0.0.1".to_owned()),
        NetworkMode::Host | NetworkMode::None => None,
    };
    let container = &mut spec.containers[place];
    container.binds.extend(binds);
    if router.kind == FirelensType::Fluentd {
        // As the agent does: fluentd's image would else give up root, and with it the socket.
        set(&mut container.injected_environment, "FLUENT_UID", "0");
    }
    for container in spec.containers.iter_mut().filter(|container| is_routed(container)) {
        let depends_on = &mut container.definition.depends_on;
        if !depends_on.iter().any(|dependency| dependency.container_name == router_name) {
            let container_name = router_name.clone();
            depends_on.push(ContainerDependency { container_name, condition: ContainerCondition::Start });
        }
        if let Some(address) = &address {
            set(&mut container.injected_environment, "FLUENT_HOST", address);
            set(&mut container.injected_environment, "FLUENT_PORT", PORT);
        }
    }
}

fn set(environment: &mut Vec<KeyValuePair>, name: &str, value: &str) {
    environment.retain(|variable| variable.name != name);
    environment.push(KeyValuePair { name: name.to_owned(), value: value.to_owned() });
}

/// Secret options are the router's: it gets their values as variables of its environment, and its configuration their
/// names, `<option>_<place of the container>`.
fn move_secrets(
    spec: &TaskSpec,
    router: &ContainerName,
    secrets: &mut Vec<ContainerSecrets>,
) -> BTreeMap<ContainerName, Vec<(String, String)>> {
    let mut moved: BTreeMap<ContainerName, Vec<(String, String)>> = BTreeMap::new();
    let mut variables: Vec<(String, SecretValue)> = Vec::new();
    for (place, container) in spec.containers.iter().enumerate().filter(|(_, container)| is_routed(container)) {
        let name = &container.definition.name;
        let Some(own) = secrets.iter_mut().find(|secrets| secrets.container == *name) else { continue };
        for (option, value) in std::mem::take(&mut own.log_options) {
            let variable = format!("{option}_{place}");
            moved.entry(name.clone()).or_default().push((option, variable.clone()));
            variables.push((variable, value));
        }
    }
    if variables.is_empty() {
        return moved;
    }
    match secrets.iter_mut().find(|secrets| secrets.container == *router) {
        Some(own) => own.environment.extend(variables),
        None => secrets.push(ContainerSecrets {
            container: router.clone(),
            environment: variables,
            files: Vec::new(),
            log_options: BTreeMap::new(),
        }),
    }
    moved
}

/// One section of a configuration, in either language.
enum Section {
    Input { name: &'static str, tag: Option<&'static str>, options: Vec<(&'static str, String)> },
    Keep { tag: String, pattern: String },
    Drop { tag: String, pattern: String },
    AddFields { tag: String, fields: Vec<(&'static str, String)> },
    Include { path: String },
    Output { name: String, tag: String, options: Vec<(String, String)> },
}

fn configuration(
    spec: &TaskSpec,
    container: &ContainerSpec,
    router: &FirelensConfiguration,
    secrets: &BTreeMap<ContainerName, Vec<(String, String)>>,
) -> Result<String, FirelensError> {
    let kind = router.kind;
    let mut sections = inputs(spec, container, kind);
    let (mut filters, mut outputs) = (Vec::new(), Vec::new());
    let listens = matches!(spec.network_mode, NetworkMode::Bridge | NetworkMode::Awsvpc);
    if listens && kind == FirelensType::Fluentbit {
        let tag = HEALTH_CHECK_TAG.to_owned();
        outputs.push(Section::Output { name: "null".to_owned(), tag, options: Vec::new() });
    }
    for routed in spec.containers.iter().filter(|container| is_routed(container)) {
        let own = secrets.get(&routed.definition.name).map(Vec::as_slice).unwrap_or_default();
        route(routed, kind, own, &mut filters, &mut outputs)?;
    }
    // The order of the agent's templates: what keeps, what drops, what adds.
    let (keeps, others): (Vec<_>, Vec<_>) =
        filters.into_iter().partition(|section| matches!(section, Section::Keep { .. }));
    sections.extend(keeps.into_iter().chain(others));
    if router.options.get(ENABLE_METADATA).is_some_and(|value| value == "true") {
        sections.push(Section::AddFields {
            tag: any(kind).to_owned(),
            fields: vec![
                ("ecs_cluster", spec.cluster.clone()),
                ("ecs_task_arn", describe::task_arn(spec)),
                ("ecs_task_definition", format!("{}:{}", spec.family, spec.revision)),
            ],
        });
    }
    match external(&container.definition.name, router)? {
        Some(External::File(path)) => sections.push(Section::Include { path }),
        Some(External::S3(_)) => sections.push(Section::Include { path: fetched_place(kind).to_owned() }),
        None => {}
    }
    sections.extend(outputs);
    let mut text = String::new();
    for section in &sections {
        match kind {
            FirelensType::Fluentbit => fluent_bit(section, &mut text),
            FirelensType::Fluentd => fluentd(section, &mut text),
        }
    }
    Ok(text)
}

fn any(kind: FirelensType) -> &'static str {
    match kind {
        FirelensType::Fluentbit => "*",
        FirelensType::Fluentd => "**",
    }
}

fn inputs(spec: &TaskSpec, container: &ContainerSpec, kind: FirelensType) -> Vec<Section> {
    let listen = match spec.network_mode {
        NetworkMode::Bridge => Some("0.0.0.0"),
        NetworkMode::Awsvpc => Some("127.0.0.1"),
        NetworkMode::Host | NetworkMode::None => None,
    };
    let text = |text: &str| text.to_owned();
    if kind == FirelensType::Fluentd {
        let mut inputs = vec![Section::Input { name: "unix", tag: None, options: vec![("path", text(SOCKET))] }];
        if let Some(listen) = listen {
            let options = vec![("bind", text(listen)), ("port", text(PORT))];
            inputs.push(Section::Input { name: "forward", tag: None, options });
        }
        return inputs;
    }
    let buffer = container.definition.memory.map_or(DEFAULT_BUFFER_MIB, |mib| (mib / 2).max(1));
    let limit = || ("Mem_Buf_Limit", format!("{buffer}MB"));
    let options = vec![limit(), ("unix_path", text(SOCKET))];
    let mut inputs = vec![Section::Input { name: "forward", tag: None, options }];
    if let Some(listen) = listen {
        let options = vec![("Listen", text(listen)), limit(), ("Port", text(PORT))];
        inputs.push(Section::Input { name: "forward", tag: None, options });
        let options = vec![("Listen", text("127.0.0.1")), ("Port", text(HEALTH_CHECK_PORT))];
        inputs.push(Section::Input { name: "tcp", tag: Some(HEALTH_CHECK_TAG), options });
    }
    inputs
}

/// A container's filters and its output, out of its log options.
fn route(
    container: &ContainerSpec,
    kind: FirelensType,
    secrets: &[(String, String)],
    filters: &mut Vec<Section>,
    outputs: &mut Vec<Section>,
) -> Result<(), FirelensError> {
    let name = &container.definition.name;
    let tag = format!("{name}-firelens{}", any(kind));
    let (key, kind_name) = match kind {
        FirelensType::Fluentbit => ("Name", "fluentbit"),
        FirelensType::Fluentd => ("@type", "fluentd"),
    };
    let given = container.definition.log_configuration.iter().flat_map(|log| &log.options);
    let (mut plugin, mut options) = (None, Vec::new());
    for (option, value) in given.filter(|(option, _)| !NOT_THE_ROUTERS.contains(&option.as_str())) {
        if option.contains(['\n', '\r']) || value.contains(['\n', '\r']) {
            return Err(FirelensError::LineEnd { container: name.clone(), name: option.clone() });
        }
        let (tag, pattern) = (tag.clone(), value.clone());
        match option.as_str() {
            own if own == key => plugin = Some(value.clone()),
            INCLUDE => filters.push(Section::Keep { tag, pattern }),
            EXCLUDE => filters.push(Section::Drop { tag, pattern }),
            _ => options.push((option.clone(), value.clone())),
        }
    }
    for (option, variable) in secrets {
        let value = match kind {
            FirelensType::Fluentbit => format!("${{{variable}}}"),
            FirelensType::Fluentd => format!("\"#{{ENV['{variable}']}}\""),
        };
        options.push((option.clone(), value));
    }
    options.sort_unstable();
    match plugin {
        Some(plugin) => outputs.push(Section::Output { name: plugin, tag, options }),
        // Its output may be in the external configuration.
        None if options.is_empty() => {}
        None => return Err(FirelensError::NoOutput { container: name.clone(), key, kind: kind_name }),
    }
    Ok(())
}

/// <https://docs.fluentbit.io/manual/administration/configuring-fluent-bit/classic-mode/format-schema>
fn fluent_bit(section: &Section, out: &mut String) {
    match section {
        Section::Input { name, tag, options } => {
            out.push_str(&format!("\n[INPUT]\n    Name {name}\n"));
            out.extend(tag.iter().map(|tag| format!("    Tag {tag}\n")));
            out.extend(options.iter().map(|(key, value)| format!("    {key} {value}\n")));
        }
        Section::Keep { tag, pattern } => {
            out.push_str(&format!("\n[FILTER]\n    Name   grep\n    Match {tag}\n    Regex  log {pattern}\n"));
        }
        Section::Drop { tag, pattern } => {
            out.push_str(&format!("\n[FILTER]\n    Name   grep\n    Match {tag}\n    Exclude log {pattern}\n"));
        }
        Section::AddFields { tag, fields } => {
            out.push_str(&format!("\n[FILTER]\n    Name record_modifier\n    Match {tag}\n"));
            out.extend(fields.iter().map(|(key, value)| format!("    Record {key} {value}\n")));
        }
        Section::Include { path } => out.push_str(&format!("\n@INCLUDE {path}\n")),
        Section::Output { name, tag, options } => {
            out.push_str(&format!("\n[OUTPUT]\n    Name {name}\n    Match {tag}\n"));
            out.extend(options.iter().map(|(key, value)| format!("    {key} {value}\n")));
        }
    }
}

/// <https://docs.fluentd.org/configuration/config-file>
fn fluentd(section: &Section, out: &mut String) {
    match section {
        Section::Input { name, tag, options } => {
            out.push_str(&format!("\n<source>\n    @type {name}\n"));
            out.extend(tag.iter().map(|tag| format!("    tag {tag}\n")));
            out.extend(options.iter().map(|(key, value)| format!("    {key} {value}\n")));
            out.push_str("</source>\n");
        }
        Section::Keep { tag, pattern } => out.push_str(&grep(tag, "regexp", pattern)),
        Section::Drop { tag, pattern } => out.push_str(&grep(tag, "exclude", pattern)),
        Section::AddFields { tag, fields } => {
            out.push_str(&format!("\n<filter {tag}>\n    @type record_transformer\n    <record>\n"));
            out.extend(fields.iter().map(|(key, value)| format!("        {key} {value}\n")));
            out.push_str("    </record>\n</filter>\n");
        }
        Section::Include { path } => out.push_str(&format!("\n@include {path}\n")),
        Section::Output { name, tag, options } => {
            out.push_str(&format!("\n<match {tag}>\n    @type {name}\n"));
            out.extend(options.iter().map(|(key, value)| format!("    {key} {value}\n")));
            out.push_str("</match>\n");
        }
    }
}

fn grep(tag: &str, what: &str, pattern: &str) -> String {
    format!(
        "\n<filter {tag}>\n    @type  grep\n    <{what}>\n        key log\n        pattern /{pattern}/\n    </{what}>\n</filter>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use serde_json::json;

    fn task(router: serde_json::Value, options: serde_json::Value, mode: NetworkMode) -> TaskSpec {
        let mut spec = example::spec(&["log_router", "app"]);
        spec.network_mode = mode;
        let (router_spec, app) = spec.containers.split_at_mut(1);
        router_spec[0].definition.firelens_configuration = serde_json::from_value(router).expect("a router");
        let log = json!({ "logDriver": "awsfirelens", "options": options });
        app[0].definition.log_configuration = serde_json::from_value(log).expect("a log configuration");
        spec
    }

    fn text(spec: &mut TaskSpec) -> String {
        prepare(spec, &mut Vec::new(), None).expect("good").expect("a router").files.remove(0).1
    }

    /// The shape of the agent's `expectedFluentBitConfig` in bridge mode with metadata, in its firelensconfig tests; the
    /// container has 64 MiB.
    #[test]
    fn fluent_bit_in_bridge_mode() {
        let router = json!({ "type": "fluentbit", "options": { "enable-ecs-log-metadata": "true",
            "config-file-type": "file", "config-file-value": "/tmp/dummy.conf" } });
        let options = json!({ "Name": "kinesis_firehose", "region": "us-west-2", "delivery_stream": "my-stream",
            "include-pattern": "*failure*", "exclude-pattern": "*success*", "log-driver-buffer-limit": "5m" });
        let mut spec = task(router, options, NetworkMode::Bridge);
        let arn = describe::task_arn(&spec);
        let expected = format!(
            "\n[INPUT]\n    Name forward\n    Mem_Buf_Limit 32MB\n    unix_path /var/run/fluent.sock\n\
             \n[INPUT]\n    Name forward\n    Listen 0.0.0.0\n    Mem_Buf_Limit 32MB\n    Port 24224\n\
             \n[INPUT]\n    Name tcp\n    Tag firelens-healthcheck\n    Listen 127.0.0.1\n    Port 8877\n\
             \n[FILTER]\n    Name   grep\n    Match app-firelens*\n    Regex  log *failure*\n\
             \n[FILTER]\n    Name   grep\n    Match app-firelens*\n    Exclude log *success*\n\
             \n[FILTER]\n    Name record_modifier\n    Match *\n    Record ecs_cluster default\n    Record ecs_task_arn {arn}\n    Record ecs_task_definition shop:3\n\
             \n@INCLUDE /tmp/dummy.conf\n\
             \n[OUTPUT]\n    Name null\n    Match firelens-healthcheck\n\
             \n[OUTPUT]\n    Name kinesis_firehose\n    Match app-firelens*\n    delivery_stream my-stream\n    region us-west-2\n"
        );
        assert_eq!(text(&mut spec), expected);
    }

    #[test]
    fn fluentd_in_host_mode_listens_on_its_socket_only() {
        let router = json!({ "type": "fluentd" });
        let options = json!({ "@type": "stdout", "exclude-pattern": "debug" });
        let mut spec = task(router, options, NetworkMode::Host);
        let expected = "\n<source>\n    @type unix\n    path /var/run/fluent.sock\n</source>\n\
            \n<filter app-firelens**>\n    @type  grep\n    <exclude>\n        key log\n        pattern /debug/\n    </exclude>\n</filter>\n\
            \n<match app-firelens**>\n    @type stdout\n</match>\n";
        assert_eq!(text(&mut spec), expected);
        let injected = &spec.containers[0].injected_environment;
        assert!(injected.iter().any(|variable| variable.name == "FLUENT_UID" && variable.value == "0"));
        assert!(spec.containers[1].injected_environment.is_empty());
    }

    #[test]
    fn containers_get_the_routers_address_and_wait_for_it_and_it_gets_its_files() {
        let mut spec = task(json!({ "type": "fluentbit" }), json!({ "Name": "stdout" }), NetworkMode::Bridge);
        prepare(&mut spec, &mut Vec::new(), Some("[OUTPUT]".to_owned())).expect("good");
        let app = &spec.containers[1];
        let environment: Vec<(&str, &str)> =
            app.injected_environment.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
        assert_eq!(environment, [("FLUENT_HOST", "172.29.0.2"), ("FLUENT_PORT", "24224")]);
        assert_eq!(app.definition.depends_on[0].container_name, example::name("log_router"));
        let targets: Vec<_> = spec.containers[0].binds.iter().map(|bind| bind.target.display().to_string()).collect();
        assert_eq!(targets, ["/fluent-bit/etc/fluent-bit.conf", "/var/run", "/fluent-bit/etc/external.conf"]);
    }

    #[test]
    fn secret_options_become_the_routers_environment_and_leave_the_container() {
        let mut spec = task(json!({ "type": "fluentbit" }), json!({ "Name": "datadog" }), NetworkMode::Bridge);
        let secret = |name: &str, value: &str| (name.to_owned(), SecretValue(value.to_owned()));
        let mut secrets = vec![ContainerSecrets {
            container: example::name("app"),
            environment: Vec::new(),
            files: Vec::new(),
            log_options: BTreeMap::from([secret("apikey", "hidden")]),
        }];
        let files = prepare(&mut spec, &mut secrets, None).expect("good").expect("a router");
        assert!(files.files[0].1.contains("    apikey ${apikey_1}\n") && !files.files[0].1.contains("hidden"));
        assert!(secrets[0].log_options.is_empty());
        assert_eq!(secrets[1].environment, [secret("apikey_1", "hidden")]);
        assert_eq!(secrets[1].container, example::name("log_router"));
    }

    #[test]
    fn options_without_an_output_a_line_end_and_a_missing_router_are_refused() {
        let error = |options| {
            let mut spec = task(json!({ "type": "fluentbit" }), options, NetworkMode::Bridge);
            prepare(&mut spec, &mut Vec::new(), None).expect_err("bad options").to_string()
        };
        assert!(error(json!({ "region": "x" })).contains("missing output key Name"));
        assert!(error(json!({ "Name": "x\n[OUTPUT]" })).contains("line end"));
        let mut spec = task(json!(null), json!({ "Name": "x" }), NetworkMode::Bridge);
        let missing = prepare(&mut spec, &mut Vec::new(), None).expect_err("no router");
        assert_eq!(missing, FirelensError::NoRouter { container: example::name("app") });
        let router = json!({ "type": "fluentbit", "options": { "config-file-type": "ftp", "config-file-value": "x" } });
        let mut spec = task(router, json!({}), NetworkMode::Bridge);
        assert!(prepare(&mut spec, &mut Vec::new(), None).expect_err("bad type").to_string().contains("s3 or file"));
    }
}
