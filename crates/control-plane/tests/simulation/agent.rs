//! A container instance as it should be: it writes an assignment down before it acts on it, acts only on newer ones, and
//! starts no task twice. Its disk and its tasks' supervisors outlive the agent; a reboot ends the tasks; a wiped disk
//! forgets them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_protocol::session::{
    AssignedTask, Assignment, Desired, FromInstance, Generation, Hello, PROTOCOL, TaskReport, ToInstance,
};
use control_plane::observe::CAPACITY_PROVIDER_ATTRIBUTE;
use ecs::operations::shapes::Attribute;
use ecs::task::{Container, ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode, Task};
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::control::PROVIDER;
use crate::dice::Dice;

pub(crate) const CPU: u32 = 2048;
pub(crate) const MEMORY_MIB: u64 = 4096;

/// What truly happened, for the audit.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) starts: BTreeMap<TaskId, u32>,
    pub(crate) exits: BTreeMap<TaskId, i32>,
    /// Tasks whose end nobody could see.
    pub(crate) unseen: BTreeSet<TaskId>,
}

/// One task's supervisor with what it writes down.
#[derive(Clone)]
struct Supervised {
    assigned: AssignedTask,
    version: u64,
    last_status: LastStatus,
    desired_status: DesiredStatus,
    stop: Option<(StopCode, String)>,
    exit_code: Option<i32>,
    started_at: Option<Timestamp>,
    ends_by_itself: bool,
}

#[derive(Default)]
struct Disk {
    instance: Option<ContainerInstanceId>,
    written: Generation,
    assignment: Vec<AssignedTask>,
    tasks: BTreeMap<TaskId, Supervised>,
}

/// A connection: what is under way in both directions.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) up: VecDeque<FromInstance>,
    pub(crate) down: VecDeque<ToInstance>,
    welcomed: bool,
}

pub(crate) struct Agent {
    name: usize,
    boot: u32,
    disk: Disk,
    pub(crate) runs: bool,
    pub(crate) session: Option<Session>,
}

impl Agent {
    pub(crate) fn new(name: usize) -> Agent {
        Agent { name, boot: 0, disk: Disk::default(), runs: true, session: None }
    }

    pub(crate) fn instance(&self) -> Option<&ContainerInstanceId> {
        self.disk.instance.as_ref()
    }

    pub(crate) fn written(&self) -> Generation {
        self.disk.written
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            instance: self.disk.instance.clone(),
            cluster: "default".to_owned(),
            token: None,
            boot_id: format!("boot-{}-{}", self.name, self.boot),
            agent_version: "1.0.0".to_owned(),
            cpu: CPU,
            memory_mib: MEMORY_MIB,
            reserved_ports: vec![22],
            reserved_ports_udp: Vec::new(),
            gpu_ids: Vec::new(),
            interfaces: 4,
            attributes: vec![member_of_provider()],
            tags: Vec::new(),
            host_name: format!("host-{}", self.name),
            written: self.disk.written,
            reads_logs: true,
        }
    }

    /// The agent dies; its tasks go on.
    pub(crate) fn crash(&mut self) {
        self.runs = false;
        self.session = None;
    }

    /// What it had written down and not yet done, it does now.
    pub(crate) fn start(&mut self, truth: &mut Truth) {
        self.runs = true;
        self.act(truth);
    }

    pub(crate) fn reboot(&mut self, truth: &mut Truth) {
        self.crash();
        self.boot += 1;
        for (id, task) in &mut self.disk.tasks {
            if task.last_status != LastStatus::Stopped {
                truth.unseen.insert(id.clone());
                let reason = "The container instance was restarted".to_owned();
                task.end(None, Some((StopCode::TerminationNotice, reason)));
            }
        }
    }

    /// The disk is lost, and with it everything that runs. `identity`: the id is kept elsewhere, as a certificate.
    pub(crate) fn wipe(&mut self, keeps_identity: bool, truth: &mut Truth) {
        self.crash();
        let living = self.disk.tasks.keys().cloned();
        truth.unseen.extend(living);
        truth.unseen.extend(self.disk.assignment.iter().map(|task| task.id.clone()));
        let instance = self.disk.instance.take().filter(|_| keeps_identity);
        self.disk = Disk { instance, ..Disk::default() };
    }

    pub(crate) fn hear(&mut self, message: ToInstance, truth: &mut Truth) {
        match message {
            ToInstance::Welcome { instance, .. } => {
                self.disk.instance = Some(instance);
                let report = FromInstance::Report { whole: true, tasks: self.reports() };
                let session = self.session.as_mut().expect("it is heard in a session");
                session.welcomed = true;
                session.up.push_back(report);
            }
            ToInstance::Assignment(assignment) => self.assigned(assignment, truth),
            ToInstance::Refused { .. } | ToInstance::StillThere | ToInstance::StillHere => {}
            ToInstance::OpenExec(_)
            | ToInstance::ExecInput { .. }
            | ToInstance::ExecResize { .. }
            | ToInstance::CloseExec { .. }
            | ToInstance::ReadLogs(_)
            | ToInstance::MoreLogs { .. }
            | ToInstance::CloseLogs { .. } => {}
        }
    }

    /// Also from connections that are long gone.
    pub(crate) fn assigned(&mut self, assignment: Assignment, truth: &mut Truth) {
        let before = self.disk.written;
        self.write_down(assignment);
        if self.disk.written != before {
            self.act(truth);
        }
    }

    pub(crate) fn write_down(&mut self, assignment: Assignment) {
        if assignment.generation > self.disk.written {
            self.disk.written = assignment.generation;
            self.disk.assignment = assignment.tasks;
        }
    }

    fn act(&mut self, truth: &mut Truth) {
        let assignment = self.disk.assignment.clone();
        for assigned in &assignment {
            match (&assigned.desired, self.disk.tasks.contains_key(&assigned.id)) {
                (Desired::Running, false) => {
                    let starts = truth.starts.entry(assigned.id.clone()).or_default();
                    *starts += 1;
                    assert!(*starts == 1, "V2: task {} was started {starts} times", assigned.id);
                    let ends_by_itself = ends_by_itself(&assigned.id);
                    self.disk.tasks.insert(assigned.id.clone(), Supervised::new(assigned.clone(), ends_by_itself));
                }
                (Desired::Running, true) => {}
                (Desired::Stopped { code, reason }, false) => {
                    let mut never = Supervised::new(assigned.clone(), true);
                    never.end(None, Some((*code, reason.clone())));
                    self.disk.tasks.insert(assigned.id.clone(), never);
                    self.tell(&assigned.id);
                }
                (Desired::Stopped { code, reason }, true) => self.stop(&assigned.id, *code, reason),
            }
        }
        let assigned: BTreeSet<&TaskId> = assignment.iter().map(|task| &task.id).collect();
        for id in self.disk.tasks.keys().filter(|id| !assigned.contains(id)).cloned().collect::<Vec<_>>() {
            if self.disk.tasks[&id].last_status != LastStatus::Stopped {
                // Nobody will ever hear of it.
                truth.unseen.insert(id.clone());
            }
            self.disk.tasks.remove(&id);
        }
    }

    fn stop(&mut self, id: &TaskId, code: StopCode, reason: &str) {
        let task = self.disk.tasks.get_mut(id).expect("it is asked for one that is here");
        if task.desired_status == DesiredStatus::Running {
            task.desired_status = DesiredStatus::Stopped;
            task.stop = Some((code, reason.to_owned()));
            task.version += 1;
        }
    }

    /// One task of this host, whichever, goes one step on: also while the agent is dead.
    pub(crate) fn task_step(&mut self, now: Timestamp, truth: &mut Truth, dice: &mut Dice) {
        let living: Vec<TaskId> = self
            .disk
            .tasks
            .iter()
            .filter(|(_, task)| task.last_status != LastStatus::Stopped)
            .map(|(id, _)| id.clone())
            .collect();
        if living.is_empty() {
            return;
        }
        let id = living[dice.below(living.len())].clone();
        let task = self.disk.tasks.get_mut(&id).expect("it is one of them");
        match (task.last_status, task.desired_status) {
            (LastStatus::Pending, DesiredStatus::Running) => {
                task.last_status = LastStatus::Running;
                task.started_at = Some(now);
                task.version += 1;
            }
            (LastStatus::Running, DesiredStatus::Running) if !task.ends_by_itself => {
                task.version += 1;
                return;
            }
            (LastStatus::Running, DesiredStatus::Running) => {
                let code = exit_code(&id);
                truth.exits.insert(id.clone(), code);
                let reason = "Essential container in task exited".to_owned();
                task.end(Some(code), Some((StopCode::EssentialContainerExited, reason)));
            }
            (LastStatus::Running, DesiredStatus::Stopped) => {
                truth.exits.insert(id.clone(), 143);
                task.end(Some(143), None);
            }
            (_, DesiredStatus::Stopped) => task.end(None, None),
            (_, DesiredStatus::Running) => {}
        }
        self.tell(&id);
    }

    /// All of its tasks end as soon as they can, for when a run comes to its end.
    pub(crate) fn has_work(&self) -> bool {
        let moves = |task: &Supervised| match (task.last_status, task.desired_status) {
            (LastStatus::Stopped, _) => false,
            (LastStatus::Running, DesiredStatus::Running) => task.ends_by_itself,
            (_, _) => true,
        };
        self.disk.tasks.values().any(moves)
    }

    /// All that an assignment decides.
    pub(crate) fn orders(&self) -> (Generation, Vec<(TaskId, DesiredStatus)>) {
        let tasks = self.disk.tasks.values().map(|task| (task.assigned.id.clone(), task.desired_status)).collect();
        (self.disk.written, tasks)
    }

    pub(crate) fn running(&self) -> BTreeSet<TaskId> {
        let runs = |task: &&Supervised| task.last_status == LastStatus::Running;
        self.disk.tasks.values().filter(runs).map(|task| task.assigned.id.clone()).collect()
    }

    fn tell(&mut self, id: &TaskId) {
        if let Some(session) = self.session.as_mut().filter(|session| session.welcomed) {
            let report = self.disk.tasks[id].report();
            session.up.push_back(FromInstance::Report { whole: false, tasks: vec![report] });
        }
    }

    fn reports(&self) -> Vec<TaskReport> {
        self.disk.tasks.values().map(Supervised::report).collect()
    }
}

fn member_of_provider() -> Attribute {
    Attribute {
        name: Some(CAPACITY_PROVIDER_ATTRIBUTE.to_owned()),
        value: Some(PROVIDER.to_owned()),
        ..Attribute::default()
    }
}

/// 1 to 250, told by the task's id.
pub(crate) fn exit_code(id: &TaskId) -> i32 {
    1 + i32::from_str_radix(&id.as_str()[..4], 16).expect("hexadecimal digits") % 250
}

/// Three of five, told by the task's id.
fn ends_by_itself(id: &TaskId) -> bool {
    id.as_str().bytes().map(u32::from).sum::<u32>() % 5 < 3
}

impl Supervised {
    fn new(assigned: AssignedTask, ends_by_itself: bool) -> Supervised {
        Supervised {
            assigned,
            version: 1,
            last_status: LastStatus::Pending,
            desired_status: DesiredStatus::Running,
            stop: None,
            exit_code: None,
            started_at: None,
            ends_by_itself,
        }
    }

    fn end(&mut self, exit_code: Option<i32>, cause: Option<(StopCode, String)>) {
        self.last_status = LastStatus::Stopped;
        self.desired_status = DesiredStatus::Stopped;
        self.stop = self.stop.take().or(cause);
        self.exit_code = exit_code;
        self.version += 1;
    }

    fn report(&self) -> TaskReport {
        let last_status = match self.last_status {
            LastStatus::Stopped => ContainerLastStatus::Stopped,
            LastStatus::Running => ContainerLastStatus::Running,
            _ => ContainerLastStatus::Pending,
        };
        let container = Container {
            container_arn: String::new(),
            task_arn: String::new(),
            name: self.assigned.definition.container_definitions[0].name.clone(),
            image: "x".to_owned(),
            image_digest: None,
            runtime_id: Some("r".to_owned()),
            last_status,
            health_status: HealthStatus::Unknown,
            exit_code: self.exit_code,
            reason: None,
            network_bindings: Vec::new(),
            network_interfaces: Vec::new(),
            cpu: "0".to_owned(),
            memory: None,
            memory_reservation: None,
            gpu_ids: Vec::new(),
            managed_agents: Vec::new(),
        };
        let stop = self.stop.clone().unzip();
        let task = Task {
            last_status: self.last_status,
            desired_status: self.desired_status,
            version: self.version,
            started_at: self.started_at,
            stop_code: stop.0,
            stopped_reason: stop.1,
            containers: vec![container],
            ..blank(&self.assigned)
        };
        TaskReport { id: self.assigned.id.clone(), task: Box::new(task) }
    }
}

/// Without what a supervisor says.
fn blank(assigned: &AssignedTask) -> Task {
    Task {
        task_arn: String::new(),
        task_definition_arn: String::new(),
        cluster_arn: String::new(),
        group: assigned.group.clone(),
        launch_type: assigned.launch_type.clone(),
        last_status: LastStatus::Pending,
        desired_status: DesiredStatus::Running,
        health_status: HealthStatus::Unknown,
        version: 0,
        created_at: assigned.created_at,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        stop_code: None,
        stopped_reason: None,
        cpu: None,
        memory: None,
        containers: Vec::new(),
        availability_zone: None,
        attachments: Vec::new(),
        tags: Vec::new(),
        attributes: Vec::new(),
        capacity_provider_name: None,
        connectivity: None,
        connectivity_at: None,
        container_instance_arn: None,
        enable_execute_command: None,
        ephemeral_storage: None,
        overrides: None,
        platform_version: None,
        platform_family: None,
        started_by: None,
    }
}
