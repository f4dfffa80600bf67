//! How many operations a second the control plane decides by itself, without a disk or a network, and how that grows with
//! the tasks that there are: `cargo run --release -p control-plane --example step_rate`.

use std::time::{Duration, Instant};

use agent_protocol::session::{Generation, Hello, PROTOCOL};
use control_plane::{Caller, Input, Settings, State, answer, reconcile, step};
use ecs::operations::{Operation, Reply};
use ecs::{ContainerInstanceId, Timestamp};
use serde_json::{Value, json};

const TASKS: [usize; 3] = [1, 10_000, 100_000];
const TASKS_OF_INSTANCE: usize = 500;
const MEASURED: Duration = Duration::from_millis(500);

struct Plane {
    state: State,
    now: Timestamp,
    caller: Caller,
    number: u128,
}

impl Plane {
    fn new() -> Plane {
        let caller = Caller {
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            principal_arn: "arn:aws:iam::123456789012:root".to_owned(),
            endpoint: "http://127.0.0.1:4870".to_owned(),
        };
        let now = Timestamp::from_epoch_ms(1_700_000_000_000);
        Plane { state: State::new(1, Settings::default()), now, caller, number: 0 }
    }

    /// A step with its changes, and the reconciliation after it.
    fn input(&mut self, input: &Input) -> Option<Reply> {
        let Plane { state, now, number, .. } = self;
        let mut ids = || {
            *number += 1;
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
        };
        let outcome = step(state, input, *now, &mut ids);
        state.apply(&outcome.changes);
        loop {
            let changes = reconcile(state, *now, &mut ids);
            if changes.is_empty() {
                break;
            }
            state.apply(&changes);
        }
        outcome.answer.map(|answer| answer.expect("it is not refused"))
    }

    fn ask(&mut self, name: &str, request: &Value) -> Reply {
        let input = Input::Operation { caller: self.caller.clone(), operation: Box::new(operation(name, request)) };
        self.input(&input).expect("operations are answered")
    }

    fn read(&self, operation: &Operation) -> usize {
        let reply = answer::answer(&self.state, &self.caller, operation, self.now, &mut || [0; 16]);
        reply.expect("it is not refused").0.body().expect("plain data").len()
    }

    fn instances(&mut self, count: usize) {
        for number in 0..count {
            let id = ContainerInstanceId::from_bytes((number as u128 + 1).to_be_bytes());
            let hello = Hello {
                protocol: PROTOCOL,
                instance: None,
                cluster: "default".to_owned(),
                token: None,
                boot_id: "boot".to_owned(),
                agent_version: "1.0.0".to_owned(),
                cpu: 1 << 20,
                memory_mib: 1 << 20,
                reserved_ports: vec![22],
                reserved_ports_udp: Vec::new(),
                gpu_ids: Vec::new(),
                interfaces: 1000,
                attributes: Vec::new(),
                tags: Vec::new(),
                host_name: format!("host-{number}"),
                written: Generation::default(),
                reads_logs: true,
            };
            self.input(&Input::Arrived { instance: id, hello: Box::new(hello) });
        }
    }
}

fn operation(name: &str, request: &Value) -> Operation {
    Operation::read(name, request).expect("it is in the model").expect("it reads")
}

fn rate(mut once: impl FnMut()) -> u64 {
    let start = Instant::now();
    let mut times = 0;
    while start.elapsed() < MEASURED {
        once();
        times += 1;
    }
    (f64::from(times) / start.elapsed().as_secs_f64()) as u64
}

fn main() {
    println!("| tasks | RunTask/s | DescribeTasks/s | ListTasks/s | ListTasks by family/s | snapshot, ns |");
    println!("|---|---|---|---|---|---|");
    for tasks in TASKS {
        let mut plane = Plane::new();
        plane.instances(tasks.div_ceil(TASKS_OF_INSTANCE) + 4);
        let definition = json!({"family": "web", "containerDefinitions": [
            {"name": "web", "image": "nginx", "cpu": 1, "memory": 6, "environment": [{"name": "A", "value": "b"}]}]});
        plane.ask("RegisterTaskDefinition", &definition);
        while plane.state.tasks.size() < tasks {
            let count = (tasks - plane.state.tasks.size()).min(10);
            plane.ask("RunTask", &json!({"taskDefinition": "web", "count": count}));
        }
        let some = plane.state.tasks.keys().next().expect("there is one").to_string();
        let describe = operation("DescribeTasks", &json!({"tasks": [some]}));
        let list = operation("ListTasks", &json!({}));
        let by_family = operation("ListTasks", &json!({"family": "none"}));
        let described = rate(|| {
            std::hint::black_box(plane.read(&describe));
        });
        let listed = rate(|| {
            std::hint::black_box(plane.read(&list));
        });
        let filtered = rate(|| {
            std::hint::black_box(plane.read(&by_family));
        });
        let snapshots = rate(|| drop(std::hint::black_box(plane.state.clone())));
        let run = rate(|| drop(plane.ask("RunTask", &json!({"taskDefinition": "web"}))));
        println!("| {tasks} | {run} | {described} | {listed} | {filtered} | {} |", 1_000_000_000 / snapshots.max(1));
    }
}
