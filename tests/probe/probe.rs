//! The program inside the tests' images: one static binary that reports what a container can see and do, as JSON,
//! and that behaves badly on request. It decides nothing: what is right stands in the tests.
//!
//! `probe VERB [ARGUMENT...]`. As `/bin/sh -c "VERB ARGUMENT..."` it takes the words of its third argument.
#![allow(unsafe_code, reason = "the probe exists to make raw system calls")]

mod ask;
mod attack;
mod devices;
mod family;
mod identity;
mod load;
mod metadata;
mod names;
mod output;
mod serve;
mod syscalls;

use serde_json::Value;

const USAGE: i32 = 64;

fn main() {
    let mut arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.get(1).is_some_and(|second| second == "-c") {
        let words: Vec<String> = arguments[2].split_whitespace().map(str::to_owned).collect();
        arguments.splice(1.., words);
    }
    let verb = arguments.get(1).cloned().unwrap_or_default();
    let rest: Vec<&str> = arguments.iter().skip(2).map(String::as_str).collect();
    std::process::exit(perform(&verb, &rest));
}

fn perform(verb: &str, rest: &[&str]) -> i32 {
    match verb {
        "report" => print(&identity::report()),
        "arguments" => print(&serde_json::json!(rest)),
        "environment" => print(&identity::environment()),
        "paths" => print(&identity::paths(rest)),
        "read" => return identity::read(rest[0]),
        "write" => return identity::write(rest[0], rest.get(1).copied().unwrap_or("x")),
        "sysctl" => return identity::read(&format!("/proc/sys/{}", rest[0].replace('.', "/"))),
        "syscalls" => print(&syscalls::sweep(number(rest[0]), number(rest[1]))),
        "foreign-syscalls" => print(&syscalls::foreign_abis()),
        "keyring" => print(&syscalls::session_keyring()),
        "devices" => print(&devices::sweep()),
        "attempts" => print(&attack::attempts()),
        "reach-sockets" => print(&attack::reach_sockets(rest)),
        "watch-exe" => print(&attack::watch_exe(number(rest[0]))),
        "watch-processes" => print(&attack::watch_processes(number(rest[0]), rest[1])),
        "exit" => return number(rest[0]),
        "signal" => return load::die_by_signal(number(rest[0])),
        "wait" => return load::wait_for_sigterm(number(rest.first().unwrap_or(&"0"))),
        "ignore-sigterm" => load::ignore_sigterm(),
        "forever" => load::forever(),
        "stubborn" => load::stubborn(number(rest[0])),
        "leave-open" => return load::leave_open(number(rest[0])),
        "say" => return load::say(rest),
        "long-line" => return load::long_line(number(rest[0]) as usize),
        "bytes" => return load::bytes(rest),
        "memory" => return load::memory(number(rest[0]) as usize),
        "forks" => print(&load::forks(number(rest[0]))),
        "fill" => print(&load::fill(rest[0], rest.get(1).map_or(1024, |mib| number(mib) as usize))),
        "files" => print(&load::files(rest[0])),
        "take-room" => print(&load::take_room(rest[0], rest[1].parse().expect("take-room takes bytes"))),
        "descriptors" => print(&load::descriptors()),
        "flood" => return load::flood(rest[0].parse().expect("flood takes a number of lines")),
        "orphans" => print(&family::orphans(number(rest[0]))),
        "say-signals" => return family::say_signals(number(rest[0])),
        "kill-self" => return family::kill_self(number(rest[0])),
        "leave-behind" => return family::leave_behind(number(rest[0])),
        "message-queue" => print(&serde_json::json!(family::message_queue(number(rest[0])))),
        "spin" => print(&load::spin(number(rest[0]))),
        "terminal" => print(&load::terminal()),
        "tcp-echo" => return serve::tcp_echo(rest[0]),
        "udp-echo" => return serve::udp_echo(rest[0]),
        "http" => return serve::http(rest[0], rest.get(1).copied().unwrap_or("hello from the probe")),
        "http-get" => return serve::http_get(rest[0], rest[1]),
        "tcp-say" => return serve::tcp_say(rest[0], rest[1]),
        "ask-on" => return ask::ask_on(rest[0]),
        "flood-services" => return ask::flood(),
        "get-all" => print(&metadata::get_all(rest)),
        "ask" => print(&metadata::ask(rest[0], rest[1], rest.get(2).copied().unwrap_or_default())),
        "shared-socket" => return metadata::shared_socket(rest[0]),
        "child" => return metadata::child(rest),
        "resolve" => print(&names::resolve(rest)),
        "interfaces" => print(&serve::interfaces()),
        "count" => {
            let line = |place: usize| rest.get(place).and_then(|text| text.parse().ok()).unwrap_or(0);
            let code = output::count(line(0), line(1), line(2));
            return if rest.contains(&"wait") { load::wait_for_sigterm(0) } else { code };
        }
        "router" => return output::router(rest[0], rest[1]),
        other => {
            eprintln!("probe: no verb {other:?}");
            return USAGE;
        }
    }
    0
}

fn print(report: &Value) {
    println!("{report}");
}

fn number(text: &str) -> i32 {
    text.parse().unwrap_or_else(|_| {
        eprintln!("probe: {text:?} is not a number");
        std::process::exit(USAGE)
    })
}

/// The calling thread's last error number.
fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// 0, or the error number of what failed.
fn outcome<T>(result: std::io::Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}
