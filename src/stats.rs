//! `coracle stats`: what running containers use, live.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ecs::{ContainerName, TaskId};
use runtime::cgroup::{self, Cgroups};
use runtime::stats::{self, StatsError, Traffic, Usage};
use runtime::task_dir::{self, Task};
use serde_json::{Value, json};

use crate::failure::{Explain, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{clock, output, ps, target};

/// How far apart the two looks of the first answer are, milliseconds: a share of the CPU is a difference.
const FIRST_INTERVAL_MS: u64 = 500;

/// Cursor to the top left; clear from the cursor to the end of the line, of the screen (ECMA-48, CUP, EL, ED).
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Show what running containers use: CPU, memory, network, block devices, processes
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle stats\n  sudo coracle stats web --no-stream --output json\n\nCPU is of one core: 200% are two cores. Memory is without the file cache that the kernel would give up first. A network\nthat is the host's, and what this host does not count, show as `-`. With --output json each round is one line for each\ncontainer."
)]
pub(crate) struct Arguments {
    /// Tasks, each by its id, the start of its id, its name or its family; all that run otherwise.
    tasks: Vec<String>,
    /// Look once and end.
    #[arg(long)]
    no_stream: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("stats")?;
    let wanted = wanted(options, arguments)?;
    let cgroups = Cgroups::detect()?;
    let host_memory = stats::host_memory_bytes()?;
    let mut before = look(options, &wanted, &cgroups)?;
    let mut screen = Screen { live: std::io::stdout().is_terminal() && !arguments.no_stream, drawn: false };
    let mut pause = Duration::from_millis(FIRST_INTERVAL_MS);
    loop {
        std::thread::sleep(pause);
        pause = Duration::from_secs(arguments.interval);
        let now = look(options, &wanted, &cgroups)?;
        let lines: Vec<Line> = now.iter().map(|look| Line::new(look, &before, host_memory)).collect();
        let goes_on = if arguments.output.is_json() {
            print_json(&lines, arguments.no_stream)?
        } else {
            screen.draw(&output::table(&HEADER, lines.iter().map(Line::row).collect()))?
        };
        if arguments.no_stream || !goes_on || (lines.is_empty() && wanted.is_some()) {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// The tasks that were asked for; none are all.
fn wanted(options: &Options, arguments: &Arguments) -> Result<Option<Vec<TaskId>>, Failure> {
    if arguments.tasks.is_empty() {
        return Ok(None);
    }
    let ids = arguments.tasks.iter().map(|wanted| Ok(target::running(options, wanted)?.spec.id));
    ids.collect::<Result<_, Failure>>().map(Some)
}

struct Look {
    at: Instant,
    task: TaskId,
    container: ContainerName,
    usage: Usage,
    short_id: String,
    task_name: String,
}

/// Oldest task first, containers as in the definition.
fn look(options: &Options, wanted: &Option<Vec<TaskId>>, cgroups: &Cgroups) -> Result<Vec<Look>, Failure> {
    let (tasks, _) = task_dir::list(&options.roots()?)?;
    let mut looks = Vec::new();
    for task in tasks.iter().filter(|task| wanted.as_ref().is_none_or(|ids| ids.contains(&task.spec.id))) {
        for container in &task.spec.containers {
            let container = &container.definition.name;
            if let Some(usage) = usage(task, container, cgroups)? {
                looks.push(Look {
                    at: Instant::now(),
                    task: task.spec.id.clone(),
                    container: container.clone(),
                    usage,
                    short_id: ps::short_id(task),
                    task_name: task.spec.name.clone().unwrap_or_else(|| task.spec.family.clone()),
                });
            }
        }
    }
    Ok(looks)
}

fn usage(task: &Task, container: &ContainerName, cgroups: &Cgroups) -> Result<Option<Usage>, Failure> {
    let Some(status) = target::status(task, container).filter(|status| target::runs(status)) else { return Ok(None) };
    match stats::read(cgroups, &cgroup::of_container(&task.spec, container), status.process.as_ref()) {
        Ok(usage) => Ok(Some(usage)),
        // It has ended since its status was written.
        Err(StatsError::Gone) => Ok(None),
        Err(error) => Err(error).doing(format!("looking at container {container} of task {}", ps::short_id(task))),
    }
}

const HEADER: [&str; 9] =
    ["TASK", "NAME", "CONTAINER", "CPU %", "MEMORY", "LIMIT", "NET IN/OUT", "BLOCK READ/WRITE", "PIDS"];

struct Line<'a> {
    look: &'a Look,
    /// Of one core.
    cpu_percent: Option<f64>,
    limit: u64,
}

impl<'a> Line<'a> {
    fn new(look: &'a Look, before: &[Look], host_memory: u64) -> Self {
        let before = before.iter().find(|before| (&before.task, &before.container) == (&look.task, &look.container));
        let cpu_percent = before.and_then(|before| {
            let elapsed = look.at.duration_since(before.at).as_nanos();
            cpu_percent(before.usage.cpu_ns?, look.usage.cpu_ns?, elapsed)
        });
        Line { look, cpu_percent, limit: look.usage.memory_limit_bytes.unwrap_or(host_memory) }
    }

    fn row(&self) -> Vec<String> {
        let none = || "-".to_owned();
        let usage = &self.look.usage;
        let traffic =
            |traffic: Traffic| format!("{} / {}", output::bytes(traffic.read), output::bytes(traffic.written));
        vec![
            self.look.short_id.clone(),
            output::printable(&self.look.task_name),
            self.look.container.to_string(),
            self.cpu_percent.map_or_else(none, |percent| format!("{percent:.1}%")),
            usage.memory_bytes.map_or_else(none, |used| {
                format!("{} ({:.0}%)", output::bytes(used), used as f64 / self.limit.max(1) as f64 * 100.0)
            }),
            output::bytes(self.limit),
            usage.network.map_or_else(none, traffic),
            usage.block.map_or_else(none, traffic),
            usage.pids.map_or_else(none, |pids| pids.to_string()),
        ]
    }

    fn json(&self) -> Value {
        let usage = &self.look.usage;
        json!({
            "at": clock::now(),
            "task": self.look.task,
            "container": self.look.container,
            "cpuPercent": self.cpu_percent,
            "cpuNs": usage.cpu_ns,
            "memoryBytes": usage.memory_bytes,
            "memoryLimitBytes": self.limit,
            "networkReceivedBytes": usage.network.map(|traffic| traffic.read),
            "networkSentBytes": usage.network.map(|traffic| traffic.written),
            "blockReadBytes": usage.block.map(|traffic| traffic.read),
            "blockWrittenBytes": usage.block.map(|traffic| traffic.written),
            "pids": usage.pids,
        })
    }
}

/// A container that was started again between the looks counts from zero: nothing is known of the time before.
fn cpu_percent(before_ns: u64, now_ns: u64, elapsed_ns: u128) -> Option<f64> {
    let used = now_ns.checked_sub(before_ns)?;
    (elapsed_ns > 0).then(|| used as f64 / elapsed_ns as f64 * 100.0)
}

/// Whether somebody still reads.
fn print_json(lines: &[Line<'_>], whole: bool) -> Result<bool, Failure> {
    let values: Vec<Value> = lines.iter().map(Line::json).collect();
    if whole {
        output::print_json(&values)?;
        return Ok(false);
    }
    write(&values.iter().map(|value| format!("{value}\n")).collect::<String>())
}

struct Screen {
    /// The table is drawn over the last one.
    live: bool,
    drawn: bool,
}

impl Screen {
    /// Whether somebody still reads.
    fn draw(&mut self, table: &str) -> Result<bool, Failure> {
        if !self.live {
            return write(table);
        }
        let first =
            if std::mem::replace(&mut self.drawn, true) { String::new() } else { format!("{HOME}{CLEAR_BELOW}") };
        let lines: String = table.lines().map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
        write(&format!("{first}{HOME}{lines}{CLEAR_BELOW}"))
    }
}

fn write(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        result => result.doing("writing to standard output").map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_cpu_is_of_one_core() {
        assert_eq!(cpu_percent(0, 500_000_000, 1_000_000_000), Some(50.0));
        assert_eq!(cpu_percent(1_000, 2_000_001_000, 1_000_000_000), Some(200.0));
        assert_eq!(cpu_percent(5, 4, 1_000), None, "it was started again");
        assert_eq!(cpu_percent(5, 5, 0), None);
    }
}
