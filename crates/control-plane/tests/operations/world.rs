//! A control plane with a fixed clock and counted ids.

use agent_protocol::session::{Generation, Hello, PROTOCOL};
use control_plane::{Caller, Changes, Input, State, answer, step};
use ecs::operations::Operation;
use ecs::operations::shapes::Attribute;
use ecs::task_definition::Tag;
use ecs::{ContainerInstanceId, Timestamp};
use serde_json::{Value, json};

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const ROOT: &str = "arn:aws:iam::123456789012:root";

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    pub(crate) caller: Caller,
    ids: u8,
}

impl World {
    pub(crate) fn new() -> World {
        let caller = Caller {
            region: REGION.to_owned(),
            account_id: "123456789012".to_owned(),
            principal_arn: ROOT.to_owned(),
            endpoint: "https://ecs.example:4870".to_owned(),
        };
        World { state: State::default(), now: Timestamp::from_epoch_ms(1_700_000_000_000), caller, ids: 0 }
    }

    /// With the cluster `default`.
    pub(crate) fn with_cluster() -> World {
        let mut world = World::new();
        world.call("CreateCluster", json!({}));
        world
    }

    /// The answer's JSON, or `Exception: message`.
    pub(crate) fn ask(&mut self, operation: &str, request: Value) -> Result<Value, String> {
        let (answer, changes) = self.answered(operation, request);
        self.state.apply(&changes);
        answer
    }

    /// An answer that is no refusal.
    pub(crate) fn call(&mut self, operation: &str, request: Value) -> Value {
        let asked = request.to_string();
        self.ask(operation, request).unwrap_or_else(|refused| panic!("{operation} {asked}: {refused}"))
    }

    /// A refusal, which changes nothing.
    pub(crate) fn refused(&mut self, operation: &str, request: Value) -> String {
        let (answer, changes) = self.answered(operation, request.clone());
        assert!(changes.is_empty(), "{operation} {request} is refused and changes {changes:?}");
        answer.expect_err(&format!("{operation} {request}"))
    }

    /// Every request of a table with its refusal.
    pub(crate) fn refuses(&mut self, operation: &str, table: &[(Value, &str)]) {
        for (request, refusal) in table {
            assert_eq!(self.refused(operation, request.clone()), *refusal, "{operation} {request}");
        }
    }

    fn answered(&mut self, operation: &str, request: Value) -> (Result<Value, String>, Changes) {
        let read = Operation::read(operation, &request).expect("an operation of the model");
        let operation = read.unwrap_or_else(|error| panic!("{operation} {request}: {error}"));
        let is_read = answer::is_read(&operation);
        let input = Input::Operation { caller: self.caller.clone(), operation: Box::new(operation) };
        let mut ids = || {
            self.ids += 1;
            [self.ids; 16]
        };
        let outcome = step(&self.state, &input, self.now, &mut ids);
        assert!(!is_read || outcome.changes.is_empty(), "{input:?} is a read and changes something");
        let answer = outcome.answer.expect("operations are answered");
        let answer = answer.map_err(|refused| refused.to_string()).map(|reply| {
            let body = reply.body().expect("plain data");
            serde_json::from_slice(&body).expect("an answer is JSON")
        });
        (answer, outcome.changes)
    }

    /// A container instance of a cluster, with its agent connected: 2 cores, 4096 MiB.
    pub(crate) fn instance(&mut self, cluster: &str, number: u8) -> ContainerInstanceId {
        let id = ContainerInstanceId::from_bytes([number; 16]);
        let attribute = |name: &str, value: Option<&str>| Attribute {
            name: Some(name.to_owned()),
            value: value.map(str::to_owned),
            ..Attribute::default()
        };
        let hello = Hello {
            protocol: PROTOCOL,
            instance: None,
            cluster: cluster.to_owned(),
            token: None,
            boot_id: "boot".to_owned(),
            agent_version: "0.1.0".to_owned(),
            cpu: 2048,
            memory_mib: 4096,
            reserved_ports: vec![22],
            reserved_ports_udp: Vec::new(),
            gpu_ids: Vec::new(),
            interfaces: 8,
            attributes: vec![attribute("ecs.os-type", Some("linux")), attribute("ecs.capability.task-eni", None)],
            tags: vec![Tag { key: "rack".to_owned(), value: "7".to_owned() }],
            host_name: format!("host-{number}"),
            written: Generation::default(),
            reads_logs: true,
        };
        self.input(Input::Arrived { instance: id.clone(), hello: Box::new(hello) });
        id
    }

    pub(crate) fn input(&mut self, input: Input) {
        let changes = step(&self.state, &input, self.now, &mut || [0xee; 16]).changes;
        self.state.apply(&changes);
    }

    /// Time goes by, and what changes by itself does.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        loop {
            let changes = control_plane::reconcile(&self.state, self.now, &mut || [0xdd; 16]);
            if changes.is_empty() {
                return;
            }
            self.state.apply(&changes);
        }
    }

    /// A task of a new definition on an instance, by StartTask. Its ARN.
    pub(crate) fn task(&mut self, cluster: &str, instance: &ContainerInstanceId) -> String {
        self.call("RegisterTaskDefinition", definition("task"));
        let request =
            json!({"cluster": cluster, "taskDefinition": "task", "containerInstances": [instance.to_string()]});
        let answer = self.call("StartTask", request);
        answer["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {answer}")).to_owned()
    }
}

pub(crate) fn definition(family: &str) -> Value {
    json!({
        "family": family,
        "containerDefinitions": [{"name": "web", "image": "nginx", "cpu": 256, "memory": 512,
            "portMappings": [{"containerPort": 80, "hostPort": 8080}]}],
    })
}

pub(crate) fn arn(resource: &str) -> String {
    format!("arn:aws:ecs:{REGION}:123456789012:{resource}")
}

/// Texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|item| item.as_str().expect("a text")).collect()
}
