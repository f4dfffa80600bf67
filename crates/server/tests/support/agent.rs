//! A container instance that is none: the agent's side of a session, message by message.

#![allow(dead_code, reason = "each test binary uses its part")]

use agent_protocol::session::{Assignment, FromInstance, Generation, Hello, MAX_FRAME_BYTES, PROTOCOL, ToInstance};
use ecs::ContainerInstanceId;
use server::frames;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::support::{Rig, response};

pub(crate) struct Agent {
    pub(crate) stream: UnixStream,
}

pub(crate) fn hello(instance: Option<ContainerInstanceId>) -> Hello {
    Hello {
        protocol: PROTOCOL,
        instance,
        cluster: "default".to_owned(),
        token: None,
        boot_id: "11111111-2222-3333-4444-555555555555".to_owned(),
        agent_version: "0.1.0".to_owned(),
        cpu: 2_048,
        memory_mib: 4_096,
        reserved_ports: vec![22],
        reserved_ports_udp: Vec::new(),
        gpu_ids: Vec::new(),
        interfaces: 10,
        attributes: Vec::new(),
        tags: Vec::new(),
        host_name: "here".to_owned(),
        written: Generation::default(),
        reads_logs: true,
    }
}

pub(crate) async fn connect(rig: &Rig, instance: Option<ContainerInstanceId>) -> Agent {
    let mut agent = upgraded(rig).await;
    agent.say(&FromInstance::Hello(Box::new(hello(instance)))).await;
    agent
}

pub(crate) async fn upgraded(rig: &Rig) -> Agent {
    let mut stream = rig.unix().await;
    let asked = b"GET /agent HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade: coracle-agent\r\n\r\n";
    stream.write_all(asked).await.expect("written");
    assert_eq!(response(&mut stream).await.expect("a head").status, 101);
    Agent { stream }
}

impl Agent {
    pub(crate) async fn say(&mut self, message: &FromInstance) {
        frames::write(&mut self.stream, message).await.expect("written");
    }

    pub(crate) async fn hear(&mut self) -> Result<ToInstance, frames::Error> {
        frames::read(&mut self.stream, MAX_FRAME_BYTES).await
    }

    pub(crate) async fn welcome(&mut self) -> (ContainerInstanceId, Assignment) {
        let instance = match self.hear().await.expect("a message") {
            ToInstance::Welcome { instance, .. } => instance,
            other => panic!("no welcome: {other:?}"),
        };
        (instance, self.assignment().await)
    }

    pub(crate) async fn assignment(&mut self) -> Assignment {
        match self.hear().await.expect("a message") {
            ToInstance::Assignment(assignment) => assignment,
            other => panic!("no assignment: {other:?}"),
        }
    }
}
