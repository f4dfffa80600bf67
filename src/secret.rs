//! `coracle secret …`: this host's store of what `secrets` and `repositoryCredentials` name.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ecs::value_from::{Name, ValueFrom};
use secrets::{Entry, Kind, MAX_VALUE_BYTES, Store, Value, Version};
use serde_json::json;

use crate::failure::{BAD_INPUT, Explain, FAILED, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{clock, output, recovery, time_text};

/// Keep secrets for containers: what valueFrom names
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  printf %s \"$PASSWORD\" | sudo coracle secret put /prod/db/password\n\nA definition then has:\n  \"secrets\": [{\"name\": \"PASSWORD\", \"valueFrom\": \"/prod/db/password\"}]"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Put(Put),
    Get(Get),
    Ls(Ls),
    Rm(Rm),
}

/// Store a value; what was there stays as the previous version
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  printf %s \"$PASSWORD\" | sudo coracle secret put /prod/db/password
  sudo coracle secret put registry --value-file login.json --type secretsmanager

One line end at the end of standard input is left out, as echo adds it; a file is taken as it is. The value never goes on the command line, where everybody can read it.")]
struct Put {
    /// A name, or the ARN of a parameter or secret: one entry answers to all of them. Under the ARN of an IAM role:
    /// what a task with this taskRoleArn gets as its credentials, {"AccessKeyId", "SecretAccessKey", "SessionToken"}.
    name: String,
    /// Where the value is; - is standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    value_file: PathBuf,
    /// The service that it is at home in; `ssm` unless the name is a secret's ARN or the entry says otherwise.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Type>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    Ssm,
    #[value(name = "secretsmanager")]
    SecretsManager,
}

/// Show a secret's versions, and its value if asked to
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle secret get /prod/db/password
  sudo coracle secret get --reveal arn:aws:secretsmanager:eu-central-1:123456789012:secret:db:password::")]
struct Get {
    /// A valueFrom: a name or an ARN, with :json-key:version-stage:version-id after a secret's.
    name: String,
    /// Print the value, and nothing else.
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    output: Output,
}

/// List secrets, without their values
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle secret ls")]
struct Ls {
    #[command(flatten)]
    output: Output,
}

/// Remove secrets with all their versions
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle secret rm /prod/db/password")]
struct Rm {
    /// Names or ARNs.
    #[arg(required = true)]
    names: Vec<String>,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("secret")?;
    let store = recovery::host(options)?.secrets();
    match &arguments.command {
        Command::Put(arguments) => put(&store, arguments),
        Command::Get(arguments) => get(&store, arguments),
        Command::Ls(arguments) => ls(&store, arguments),
        Command::Rm(arguments) => rm(&store, arguments),
    }
}

const NAMES: &str = "a name such as /prod/db/password, or the ARN of a parameter, a secret or an IAM role";

fn value_from(text: &str) -> Result<ValueFrom, Failure> {
    if let Some(name) = Name::of_role(text) {
        return Ok(ValueFrom::Parameter { name });
    }
    ValueFrom::parse(text).map_err(|error| Failure::from(error).doing(format!("{text:?}")).exit(BAD_INPUT).next(NAMES))
}

/// The name that an entry has or gets: of a secret's ARN without Amazon's six characters, as one in use may have.
fn entry_name(store: &Store, text: &str) -> Result<Name, Failure> {
    let name = match value_from(text)? {
        ValueFrom::Parameter { name } => return Ok(name),
        ValueFrom::Secret(selector) => {
            if selector.json_key.is_some() || selector.version_stage.is_some() || selector.version_id.is_some() {
                return Err(Failure::new(format!("{text:?} names a part of a secret, and this is about all of it"))
                    .exit(BAD_INPUT)
                    .next("the ARN up to the secret's name"));
            }
            selector.name
        }
    };
    match store.find(&name)? {
        Some(_) => Ok(name),
        None => Ok(name.without_suffix().unwrap_or(name)),
    }
}

fn put(store: &Store, arguments: &Put) -> Outcome {
    let name = entry_name(store, &arguments.name)?;
    let value = read_value(&arguments.value_file)?;
    let kind = match (arguments.kind, store.find(&name)?) {
        (Some(Type::Ssm), _) => Kind::Ssm,
        (Some(Type::SecretsManager), _) => Kind::SecretsManager,
        (None, Some(entry)) => entry.kind,
        (None, None) if matches!(value_from(&arguments.name)?, ValueFrom::Secret(_)) => Kind::SecretsManager,
        (None, None) => Kind::Ssm,
    };
    let id = store.put(&name, kind, value, clock::now()).doing(format!("storing the secret {name}"))?;
    output::print(&format!("{name}\t{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn read_value(file: &Path) -> Result<Value, Failure> {
    // One byte more than is stored, so that the store says what is wrong; and a line end.
    let limit = MAX_VALUE_BYTES as u64 + 2;
    let mut bytes = Vec::new();
    let from_input = file == Path::new("-");
    if from_input {
        if std::io::stdin().is_terminal() {
            return Err(Failure::new("standard input is a terminal, which would show the value while it is typed")
                .exit(BAD_INPUT)
                .next("read -rs VALUE; printf %s \"$VALUE\" | coracle secret put NAME, or --value-file FILE"));
        }
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).doing("reading the value from standard input")?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
    } else {
        let reading = || format!("reading the value from {}", file.display());
        File::open(file).doing(reading())?.take(limit).read_to_end(&mut bytes).doing(reading())?;
    }
    // The bytes are in the error's value, and must not be told.
    String::from_utf8(bytes).map(Value).map_err(|_| {
        Failure::new("the value is not UTF-8 text").exit(BAD_INPUT).next("encode it, for example with base64")
    })
}

fn get(store: &Store, arguments: &Get) -> Outcome {
    let wanted = value_from(&arguments.name)?;
    if arguments.reveal {
        let value = store.get(&wanted)?.doing(format!("getting {}", arguments.name))?;
        if arguments.output.is_json() {
            output::print_json(&json!({"name": wanted.name().as_str(), "value": value.0}))?;
        } else {
            output::print(&format!("{}\n", value.0))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = match &wanted {
        ValueFrom::Parameter { name } => store.find(name)?,
        ValueFrom::Secret(selector) => store.with_suffix_or_without(&selector.name)?,
    };
    let entry = found.ok_or_else(|| {
        Failure::new(format!("there is no secret {}", arguments.name)).next("coracle secret ls shows what there is")
    })?;
    if arguments.output.is_json() {
        output::print_json(&entry_json(&entry))?;
    } else {
        let rows = entry.versions.iter().rev().map(version_row).collect();
        output::print(&output::table(&["VERSION", "STAGES", "CREATED"], rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn version_row(version: &Version) -> Vec<String> {
    vec![version.id.clone(), version.stages.join(","), time_text::rfc3339(version.created_at)]
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Ssm => "ssm",
        Kind::SecretsManager => "secretsmanager",
    }
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    let versions = entry
        .versions
        .iter()
        .map(|version| json!({"id": version.id, "stages": version.stages, "createdAt": version.created_at}));
    json!({"name": entry.name, "type": kind_text(entry.kind), "versions": versions.collect::<Vec<_>>()})
}

fn ls(store: &Store, arguments: &Ls) -> Outcome {
    let entries = store.list().doing("reading the secrets of this host")?;
    if arguments.output.is_json() {
        output::print_json(&entries.iter().map(entry_json).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = entries.iter().map(|entry| {
        let changed = entry.current().map(|version| time_text::rfc3339(version.created_at)).unwrap_or_default();
        vec![entry.name.clone(), kind_text(entry.kind).to_owned(), entry.versions.len().to_string(), changed]
    });
    output::print(&output::table(&["NAME", "TYPE", "VERSIONS", "CHANGED"], rows.collect()))?;
    Ok(ExitCode::SUCCESS)
}

fn rm(store: &Store, arguments: &Rm) -> Outcome {
    let mut exit = ExitCode::SUCCESS;
    for text in &arguments.names {
        let removed = entry_name(store, text).and_then(|name| {
            let was_there = store.remove(&name).doing(format!("removing the secret {name}"))?;
            if was_there { Ok(name) } else { Err(Failure::new(format!("there is no secret {text}")).exit(FAILED)) }
        });
        match removed {
            Ok(name) => output::print(&format!("{name}\n"))?,
            Err(failure) => {
                eprint!("{failure}");
                exit = ExitCode::from(failure.exit);
            }
        }
    }
    Ok(exit)
}
