//! What containers call by `valueFrom` becomes values: variables, files, options of a log driver, a registry's login.

use std::fmt;
use std::path::{Component, Path};

use agent_protocol::{ContainerSecrets, SecretValue};
use ecs::task_definition::{ContainerDefinition, Secret};
use ecs::value_from::{Name, NotAValueFrom, Selector, ValueFrom};
use secrets::{NotFound, Store};
use serde::Deserialize;

use super::{ResourceInitializationError, Stage};

/// Which service a value is asked of, in the words of Amazon's agent.
const FROM_SSM: &str = "unable to retrieve secrets from ssm";
const FROM_SECRETS_MANAGER: &str = "unable to retrieve secret from asm";
const LOGIN_FROM_SECRETS_MANAGER: &str = "unable to get registry auth from asm";

/// Of one task, all together: a program's whole environment has to fit into two megabytes (execve(2)), and what goes to
/// a supervisor has a limit too, which JSON's escapes must not reach.
const MAX_TASK_BYTES: usize = 1 << 20;

/// Everything that is wrong is told at once.
pub(super) fn of_containers(
    store: &Store,
    containers: &[ContainerDefinition],
) -> Result<Vec<ContainerSecrets>, ResourceInitializationError> {
    let mut problems = Vec::new();
    let mut all = Vec::new();
    for definition in containers {
        let mut own = ContainerSecrets {
            container: definition.name.clone(),
            environment: Vec::new(),
            files: Vec::new(),
            log_options: [].into(),
        };
        let mut resolve = |what: String, secret: &Secret| match value(store, &secret.value_from) {
            Ok(value) => Some(value),
            Err(problem) => {
                problems.push(told(definition, &what, &secret.value_from, &problem));
                None
            }
        };
        for secret in &definition.secrets {
            let Some(value) = resolve(format!("secret {}", secret.name), secret) else { continue };
            match Path::new(&secret.name) {
                path if !path.is_absolute() => own.environment.push((secret.name.clone(), value)),
                path => own.files.push((path.to_owned(), value)),
            }
        }
        let options = definition.log_configuration.iter().flat_map(|logs| &logs.secret_options);
        for secret in options {
            let Some(value) = resolve(format!("log option {}", secret.name), secret) else { continue };
            own.log_options.insert(secret.name.clone(), value);
        }
        problems.extend(own.files.iter().filter(|(path, _)| !is_plain(path)).map(|(path, _)| {
            format!(
                "container {}: {} cannot be a secret's file: give its path without . and ..",
                definition.name,
                path.display()
            )
        }));
        if !own.environment.is_empty() || !own.files.is_empty() || !own.log_options.is_empty() {
            all.push(own);
        }
    }
    let bytes: usize = all.iter().map(size).sum();
    if bytes > MAX_TASK_BYTES {
        problems.push(format!("the task's secrets have {bytes} bytes together; {MAX_TASK_BYTES} are possible"));
    }
    if problems.is_empty() { Ok(all) } else { Err(ResourceInitializationError { stage: Stage::Secrets, problems }) }
}

fn size(secrets: &ContainerSecrets) -> usize {
    let variables = secrets.environment.iter().map(|(_, value)| value);
    let files = secrets.files.iter().map(|(_, value)| value);
    variables.chain(files).chain(secrets.log_options.values()).map(|value| value.0.len()).sum()
}

/// The path of a file that can only be where it says.
fn is_plain(path: &Path) -> bool {
    path.file_name().is_some()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

#[derive(Debug)]
struct Problem {
    service: &'static str,
    why: String,
}

fn told(definition: &ContainerDefinition, what: &str, value_from: &str, problem: &Problem) -> String {
    let Problem { service, why } = problem;
    format!("{service}: container {}: {what}: {value_from}: {why}", definition.name)
}

fn value(store: &Store, value_from: &str) -> Result<SecretValue, Problem> {
    let wanted = ValueFrom::parse(value_from).map_err(|error: NotAValueFrom| Problem {
        service: if value_from.starts_with("arn:aws:secretsmanager") { FROM_SECRETS_MANAGER } else { FROM_SSM },
        why: format!("trying to retrieve secret with value {value_from} resulted in error: {error}"),
    })?;
    let service = match wanted {
        ValueFrom::Parameter { .. } => FROM_SSM,
        ValueFrom::Secret(_) => FROM_SECRETS_MANAGER,
    };
    let found = found(store, &wanted).map_err(|why| Problem { service, why })?;
    Ok(SecretValue(found.0))
}

fn found(store: &Store, wanted: &ValueFrom) -> Result<secrets::Value, String> {
    let put_it = |error: NotFound| match error {
        NotFound::Parameter { .. } => hint(&error, wanted.name()),
        NotFound::Secret => hint(&error, &wanted.name().without_suffix().unwrap_or_else(|| wanted.name().clone())),
        NotFound::Stage { .. }
        | NotFound::Version { .. }
        | NotFound::StageOfVersion
        | NotFound::JsonKey { .. }
        | NotFound::NotAnObject { .. } => error.to_string(),
    };
    match store.get(wanted) {
        Ok(found) => found.map_err(put_it),
        Err(error) => Err(crate::recovery::chain(&error)),
    }
}

fn hint(error: &NotFound, name: &Name) -> String {
    format!("{error} (`coracle secret put {name}` puts it into this host's store)")
}

/// What a registry is told by whoever may pull from it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct RegistryLogin {
    pub username: String,
    pub password: String,
}

/// Secrets stay out of logs.
impl fmt::Debug for RegistryLogin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RegistryLogin")
    }
}

/// `repositoryCredentials`: "the Amazon Resource Name (ARN) of the secret containing the private repository
/// credentials. When you are using the Amazon ECS API, AWS CLI, or AWS SDK, if the secret exists in the same Region as
/// the task that you are launching then you can use either the full ARN or the name of the secret"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RepositoryCredentials.html>).
pub fn registry_login(
    store: &Store,
    definition: &ContainerDefinition,
) -> Result<Option<RegistryLogin>, ResourceInitializationError> {
    let Some(credentials) = &definition.repository_credentials else { return Ok(None) };
    let parameter = &credentials.credentials_parameter;
    login(store, parameter).map(Some).map_err(|why| {
        let problem = Problem { service: LOGIN_FROM_SECRETS_MANAGER, why };
        let problems = vec![told(definition, "repositoryCredentials", parameter, &problem)];
        ResourceInitializationError { stage: Stage::Secrets, problems }
    })
}

fn login(store: &Store, parameter: &str) -> Result<RegistryLogin, String> {
    let wanted = if parameter.starts_with("arn:") {
        ValueFrom::parse(parameter).map_err(|error| error.to_string())?
    } else {
        ValueFrom::Secret(Selector::current(Name::parse(parameter).map_err(|error| error.to_string())?))
    };
    let value = found(store, &wanted)?;
    // The words of Amazon's agent, in agent/asm/asm.go.
    let login: RegistryLogin = serde_json::from_str(&value.0).map_err(|_| {
        "asm fetching authorization data: unable to unmarshal secret value, invalid schema; it is JSON with a username and a password".to_owned()
    })?;
    for (member, value) in [("username", &login.username), ("password", &login.password)] {
        if value.is_empty() {
            return Err(format!("asm fetching {member}: AuthorizationData is malformed, empty field"));
        }
    }
    Ok(login)
}

#[cfg(test)]
mod tests {
    use ecs::Timestamp;
    use secrets::Kind;
    use serde_json::json;

    use super::*;

    struct Temporary {
        _directory: tempfile::TempDir,
        store: Store,
    }

    fn store(entries: &[(&str, &str)]) -> Temporary {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::new(directory.path().join("secrets"));
        for (name, value) in entries {
            let name = Name::parse(name).expect("a good name");
            let value = secrets::Value((*value).to_owned());
            store.put(&name, Kind::Ssm, value, Timestamp::from_epoch_ms(1)).expect("it can be put");
        }
        Temporary { _directory: directory, store }
    }

    fn container(members: serde_json::Value) -> ContainerDefinition {
        let mut all = json!({"name": "web", "image": "x"});
        all.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        serde_json::from_value(all).expect("a container definition")
    }

    const ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret";

    #[test]
    fn secrets_become_variables_files_and_log_options() {
        let Temporary { store, _directory } = store(&[("/prod/token", "t0ken"), ("db", r#"{"password":"hunter2"}"#)]);
        let definition = container(json!({
            "secrets": [
                {"name": "TOKEN", "valueFrom": "/prod/token"},
                {"name": "/run/secrets/password", "valueFrom": format!("{ARN}:db-AbCdEf:password::")}
            ],
            "logConfiguration": {"logDriver": "splunk", "secretOptions": [
                {"name": "splunk-token", "valueFrom": "arn:aws:ssm:eu-central-1:1:parameter/prod/token"}
            ]}
        }));
        let plain = container(json!({"name": "plain"}));
        let fetched = of_containers(&store, &[plain, definition]).expect("all are there");
        let value = |text: &str| SecretValue(text.to_owned());
        assert_eq!(fetched.len(), 1);
        assert_eq!(fetched[0].container.as_str(), "web");
        assert_eq!(fetched[0].environment, [("TOKEN".to_owned(), value("t0ken"))]);
        assert_eq!(fetched[0].files, [("/run/secrets/password".into(), value("hunter2"))]);
        assert_eq!(fetched[0].log_options, [("splunk-token".to_owned(), value("t0ken"))].into());
    }

    #[test]
    fn every_problem_is_told_with_its_container_and_variable_and_no_value() {
        let Temporary { store, _directory } = store(&[("db", "hunter2")]);
        let wanted = [
            ("A", "/none"),
            ("B", &format!("{ARN}:none-AbCdEf")),
            ("C", &format!("{ARN}:db:key::")),
            ("D", &format!("{ARN}:db:key")),
            ("/a/../b", "db"),
        ];
        let secrets: Vec<_> = wanted.iter().map(|(name, from)| json!({"name": name, "valueFrom": from})).collect();
        let error = of_containers(&store, &[container(json!({ "secrets": secrets }))]).expect_err("all are wrong");
        assert_eq!(error.problems.len(), 5, "{error}");
        let text = error.to_string();
        for part in [
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: \
             unable to retrieve secrets from ssm: container web: secret A: /none: invalid parameters: none",
            &format!(
                "unable to retrieve secret from asm: container web: secret B: {ARN}:none-AbCdEf: \
                 ResourceNotFoundException: Secrets Manager can't find the specified secret."
            ),
            &format!("secret C: {ARN}:db:key::: retrieved secret from Secrets Manager is not a JSON object"),
            "secret D: ",
            "an invalid ARN format for the AWS Secrets Manager secret was specified",
            "/a/../b cannot be a secret's file",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_task_has_only_so_much_of_secrets() {
        let Temporary { store, _directory } = store(&[("large", &"x".repeat(65_536))]);
        let of = |count: usize| {
            let secrets: Vec<_> =
                (0..count).map(|number| json!({"name": format!("A{number}"), "valueFrom": "large"})).collect();
            of_containers(&store, &[container(json!({ "secrets": secrets }))])
        };
        assert!(of(16).is_ok());
        let error = of(17).expect_err("a mebibyte and more");
        assert!(error.to_string().ends_with("the task's secrets have 1114112 bytes together; 1048576 are possible"));
    }

    #[test]
    fn a_login_is_a_username_and_a_password() {
        let Temporary { store, _directory } = store(&[
            ("good", r#"{"username":"u","password":"p"}"#),
            ("empty", r#"{"username":"u","password":""}"#),
            ("text", "hunter2"),
        ]);
        let login = |parameter: &str| {
            let definition = container(json!({"repositoryCredentials": {"credentialsParameter": parameter}}));
            registry_login(&store, &definition).map_err(|error| error.to_string())
        };
        let good = RegistryLogin { username: "u".to_owned(), password: "p".to_owned() };
        for parameter in ["good", &format!("{ARN}:good"), &format!("{ARN}:good-AbCdEf")] {
            assert_eq!(login(parameter), Ok(Some(good.clone())), "{parameter}");
        }
        assert_eq!(registry_login(&store, &container(json!({}))), Ok(None));
        for (parameter, expected) in [
            ("empty", "asm fetching password: AuthorizationData is malformed, empty field"),
            ("text", "unable to unmarshal secret value, invalid schema"),
            ("none", "unable to get registry auth from asm: container web: repositoryCredentials: none: "),
            ("a b", "is no name of a secret"),
        ] {
            let error = login(parameter).expect_err(parameter);
            assert!(
                error.starts_with("ResourceInitializationError: unable to pull secrets or registry auth: "),
                "{error}"
            );
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }
}
