//! What changes: whole records, each under its key. A change is what the store writes, what `State::apply` takes in and what
//! events are made of.

use ecs::tagged::Tagged;
use ecs::{ContainerInstanceId, TaskId};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::records::{
    AccountSetting, CapacityProvider, Cluster, ContainerInstance, Family, ReservedToken, TaskDefinitionRecord,
    TaskRecord,
};

/// Where a record stands in the store. Its text never changes its meaning between versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    Cluster(String),
    CapacityProvider(String),
    Family(String),
    TaskDefinition(String, u32),
    Instance(ContainerInstanceId),
    Task(TaskId),
    /// By principal (empty: the account's default) and name.
    AccountSetting(String, String),
    /// A clientToken that RunTask was given, with its cluster.
    Token(String, String),
}

/// One thing that is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    Cluster(Cluster),
    CapacityProvider(CapacityProvider),
    Family(Family),
    TaskDefinition(Box<TaskDefinitionRecord>),
    Instance(Box<ContainerInstance>),
    Task(Box<TaskRecord>),
    AccountSetting(AccountSetting),
    Token(ReservedToken),
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Record, D::Error> {
        let record = Tagged::read("record", from)?;
        match record.tag.as_str() {
            "cluster" => record.members().map(Record::Cluster),
            "capacityProvider" => record.members().map(Record::CapacityProvider),
            "family" => record.members().map(Record::Family),
            "taskDefinition" => record.members().map(Record::TaskDefinition),
            "instance" => record.members().map(Record::Instance),
            "task" => record.members().map(Record::Task),
            "accountSetting" => record.members().map(Record::AccountSetting),
            "token" => record.members().map(Record::Token),
            other => Err(D::Error::custom(format_args!("there is no record of the kind {other:?}"))),
        }
    }
}

impl Record {
    pub fn key(&self) -> Key {
        match self {
            Record::Cluster(cluster) => Key::Cluster(cluster.name.clone()),
            Record::CapacityProvider(provider) => Key::CapacityProvider(provider.name.clone()),
            Record::Family(family) => Key::Family(family.name.clone()),
            Record::TaskDefinition(definition) => {
                Key::TaskDefinition(definition.definition.family.clone(), definition.revision)
            }
            Record::Instance(instance) => Key::Instance(instance.id.clone()),
            Record::Task(task) => Key::Task(task.id.clone()),
            Record::AccountSetting(setting) => Key::AccountSetting(setting.principal.clone(), setting.name.clone()),
            Record::Token(token) => Key::Token(token.cluster.clone(), token.token.clone()),
        }
    }
}

impl Key {
    /// The key's text in the store: a kind, and the parts with a separator that no name may hold.
    pub fn text(&self) -> String {
        match self {
            Key::Cluster(name) => format!("cluster\u{1f}{name}"),
            Key::CapacityProvider(name) => format!("capacity-provider\u{1f}{name}"),
            Key::Family(name) => format!("family\u{1f}{name}"),
            Key::TaskDefinition(family, revision) => format!("task-definition\u{1f}{family}\u{1f}{revision}"),
            Key::Instance(id) => format!("container-instance\u{1f}{id}"),
            Key::Task(id) => format!("task\u{1f}{id}"),
            Key::AccountSetting(principal, name) => format!("account-setting\u{1f}{principal}\u{1f}{name}"),
            Key::Token(cluster, token) => format!("token\u{1f}{cluster}\u{1f}{token}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "changes are puts but for a few; a box for each would be the dearer")]
pub enum Change {
    Put(Record),
    Remove(Key),
}

impl Change {
    pub fn key(&self) -> Key {
        match self {
            Change::Put(record) => record.key(),
            Change::Remove(key) => key.clone(),
        }
    }
}

/// In order; a later one of the same key is the one that counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes(pub Vec<Change>);

impl Changes {
    pub fn put(&mut self, record: Record) {
        self.0.push(Change::Put(record));
    }

    pub fn remove(&mut self, key: Key) {
        self.0.push(Change::Remove(key));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
