//! What clients ask for over the `ctl` socket.

use std::os::fd::{OwnedFd, RawFd};

use agent_protocol::{Answer, Command};
use ecs::task::StopCode;
use task_lifecycle::Event;

use super::super::container::Container;
use super::super::execution::{Around, News};
use super::Life;
use crate::ctl::{ClientId, Request};

impl Life {
    pub(super) fn serve_ctl(&mut self, ready: &[RawFd]) {
        let Some(ctl) = &mut self.ctl else { return };
        for request in ctl.serve(ready) {
            match request {
                Request::Command { client, command, descriptors } => self.obey(client, command, descriptors),
                Request::Gone { client } => {
                    self.executions.hang_up(client);
                    self.services.gone(client, self.clock.now());
                }
            }
        }
    }

    fn obey(&mut self, client: ClientId, command: Command, descriptors: Vec<OwnedFd>) {
        let answer = match command {
            Command::Stop { stop_code, reason } => {
                self.tell(Event::StopRequested { code: stop_code, reason });
                Answer::Taken
            }
            Command::Kill { reason } => {
                self.tell(Event::StopRequested { code: StopCode::UserInitiated, reason });
                self.tell(Event::KillRequested);
                Answer::Taken
            }
            Command::Watch => {
                if let Some(ctl) = &mut self.ctl {
                    ctl.watch(client);
                }
                return;
            }
            Command::Exec(exec) => {
                let started = self.containers.iter().find(|container| container.name == exec.container);
                let around = Around {
                    task: &self.spec,
                    container: started,
                    secrets: self.secrets.iter().find(|secrets| secrets.container == exec.container),
                    cgroups: &self.process.cgroups,
                };
                match self.executions.begin(client, &exec, descriptors, &around) {
                    // Answered when it runs.
                    Ok(()) => return self.give_back_memory_soon(),
                    Err(reason) => Answer::Refused { reason },
                }
            }
            Command::Attach { container } => {
                let found = self.containers.iter_mut().find(|found| found.name == container);
                match found.map(Container::attach) {
                    Some(Ok((answer, descriptors))) => {
                        if let Some(ctl) = &mut self.ctl {
                            ctl.answer(client, &answer, descriptors);
                        }
                        return;
                    }
                    Some(Err(reason)) => Answer::Refused { reason },
                    None => Answer::Refused { reason: format!("the task has no container {container}") },
                }
            }
            Command::Serve => match self.services.serve(client) {
                Ok(copies) => {
                    if let Some(ctl) = &mut self.ctl {
                        ctl.answer(client, &Answer::Serve, copies);
                        ctl.watch(client);
                    }
                    return self.give_back_memory_soon();
                }
                Err(reason) => Answer::Refused { reason },
            },
            Command::Go { .. } => Answer::Refused { reason: "the task has been started already".to_owned() },
        };
        if let Some(ctl) = &mut self.ctl {
            ctl.answer(client, &answer, Vec::new());
        }
    }

    /// Processes of exec that run now, or never will.
    pub(super) fn tell_clients(&mut self, news: Vec<News>) {
        let Some(ctl) = &mut self.ctl else { return };
        for one in news {
            match one {
                News::Began { client, terminal: Some(terminal) } => {
                    ctl.answer(client, &Answer::Terminal, vec![terminal]);
                }
                News::Began { client, terminal: None } => ctl.answer(client, &Answer::Taken, Vec::new()),
                News::Refused { client, reason } => ctl.answer(client, &Answer::Refused { reason }, Vec::new()),
            }
        }
    }
}
