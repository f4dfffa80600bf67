//! `coracle hello`: the web server inside `coracle/hello:latest`, the image that needs nothing but this binary.
//!
//! It is the first process of its container, so it takes SIGTERM by itself (the kernel gives PID 1 no default action)
//! and reaps children that it inherits. It shows what ECS's metadata file says of its own task.

mod facts;
mod http;
mod page;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::failure::{Explain, Failure, Outcome};
use facts::Facts;

/// Connections served at once; further ones are closed unread.
const CONNECTIONS: usize = 64;
/// A client has this long to send a request, and to take its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests on one connection.
const REQUESTS: usize = 1000;

/// Serve a page that shows the task's own metadata; this is what the image coracle/hello runs
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  PORT=8080 coracle hello\n  curl http://localhost:8080/json")]
pub(crate) struct Arguments {
    /// The port to listen on.
    #[arg(long, env = "PORT", default_value_t = 80)]
    port: u16,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
    // Before any thread exists: all of them inherit the mask, and only `wait` below takes these signals.
    signals.thread_block().doing("blocking signals")?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, arguments.port))
        .doing(format!("listening on port {}", arguments.port))
        .next("another port: PORT=8080 coracle hello")?;
    println!("hello: listening on port {}", arguments.port);
    let started = Instant::now();
    std::thread::Builder::new()
        .name("accept".to_owned())
        .spawn(move || accept(&listener, started))
        .doing("starting a thread")?;
    loop {
        match signals.wait().doing("waiting for signals")? {
            Signal::SIGTERM | Signal::SIGINT => {
                // The end of the process closes the listener and every connection.
                println!("hello: asked to stop, goodbye");
                return Ok(ExitCode::SUCCESS);
            }
            _ => reap()?,
        }
    }
}

/// As PID 1 this process inherits every orphan of its container.
fn reap() -> Result<(), Failure> {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Failure::from(error).doing("reaping children")),
        }
    }
}

fn accept(listener: &TcpListener, started: Instant) {
    let served = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                eprintln!("hello: accepting a connection: {error}");
                continue;
            }
        };
        if served.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            served.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let count = Arc::clone(&served);
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            if let Err(error) = serve(&connection, started) {
                eprintln!("hello: {error}");
            }
            count.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = thread {
            eprintln!("hello: starting a thread: {error}");
            served.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(connection: &TcpStream, started: Instant) -> std::io::Result<()> {
    connection.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    connection.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    connection.set_nodelay(true)?;
    let mut input = std::io::BufReader::new(connection);
    for _ in 0..REQUESTS {
        let Some(request) = http::read_request(&mut input)? else { return Ok(()) };
        let answer = answer(&request, started);
        http::write_answer(connection, &request, &answer)?;
        if request.close {
            return Ok(());
        }
    }
    Ok(())
}

fn answer(request: &http::Request, started: Instant) -> http::Answer {
    if request.method != "GET" && request.method != "HEAD" {
        return http::Answer::text(405, "only GET and HEAD are answered here\n");
    }
    match request.path.as_str() {
        "/" => {
            http::Answer { status: 200, content_type: "text/html; charset=utf-8", body: page::html(&gather(started)) }
        }
        "/json" => http::Answer {
            status: 200,
            content_type: "application/json",
            body: format!("{:#}\n", gather(started).json()),
        },
        "/healthz" => http::Answer::text(200, "ok\n"),
        _ => http::Answer::text(404, "not here; try /, /json or /healthz\n"),
    }
}

fn gather(started: Instant) -> Facts {
    facts::gather(started.elapsed())
}
