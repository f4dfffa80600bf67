//! Whose is it: how links and published ports say which task of which instance they belong to.

use std::fmt;

use ecs::TaskId;
use nix::errno::Errno;

use crate::error::Error;
use crate::link::{self, Link};
use crate::netlink::{Requests, Socket};
use crate::nft::Tenant;
use crate::pool;
use crate::settings::Settings;

const ALIAS_PREFIX: &str = "coracle";
/// The kernel keeps 255 bytes of a link's alias; the container's name comes last and is cut.
const MAX_ALIAS: usize = 255;

/// A link's alias: `coracle <instance> <task> <container>`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    pub(crate) instance: &'a str,
    pub(crate) task: &'a TaskId,
    pub(crate) container: &'a str,
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{ALIAS_PREFIX} {} {} {}", self.instance, self.task, self.container);
        text.truncate(text.floor_char_boundary(MAX_ALIAS));
        out.write_str(&text)
    }
}

pub(crate) fn of(settings: &Settings, task: &TaskId) -> Tenant {
    Tenant { instance: settings.instance.clone(), task: task.clone() }
}

/// The owner of a container's or an interface's link; None for links that are not coracle's.
pub(crate) fn of_link(link: &Link) -> Option<Tenant> {
    pool::address_of_link(&link.name).or_else(|| pool::address_of_interface_link(&link.name))?;
    let mut words = link.alias.as_deref()?.split(' ');
    let (prefix, instance, task) = (words.next()?, words.next()?, words.next()?);
    let task = TaskId::try_from(task.to_owned()).ok()?;
    (prefix == ALIAS_PREFIX).then(|| Tenant { instance: instance.to_owned(), task })
}

/// Deletes links by name, all of them whatever happens; one that is gone already is no error.
pub(crate) fn delete_links(socket: &mut Socket, names: &[String]) -> Vec<Error> {
    let mut requests = Requests::default();
    for name in names {
        link::delete(&mut requests, name);
    }
    let answers = match socket.exchange(requests) {
        Ok(answers) => answers,
        Err(source) => return vec![Error::Netlink { action: "delete container links".into(), source }],
    };
    let failed = names.iter().zip(answers).filter_map(|(name, answer)| match answer {
        Err(refused) if refused.errno != Errno::ENODEV => {
            Some(Error::Netlink { action: format!("delete link {name}"), source: refused.into() })
        }
        Ok(_) | Err(_) => None,
    });
    failed.collect()
}
