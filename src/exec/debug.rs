//! Where the tools of `coracle exec --debug` come from: a static busybox of this host's, or of an image that is here.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use agent_protocol::command::DebugTools;
use images::{Reference, Store};
use runtime::busybox::{self, BusyboxError};
use runtime::debug_mounts;
use rustix::fs::{Mode, OFlags};

use super::Arguments;
use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::options::Options;
use crate::{definition, recovery};

const REMEDY: &str = "install a static busybox (apt-get install busybox-static), name its file with --busybox, or take \
                      one out of an image: coracle image pull busybox:musl, then --debug-image busybox:musl";

/// What `exec` runs, and how, once it is known whether it brings tools.
pub(super) struct Wanted {
    pub(super) command: Vec<String>,
    pub(super) interactive: bool,
    pub(super) terminal: bool,
    pub(super) tools: Option<DebugTools>,
}

/// Without a command, `--debug` is a shell on what this command itself reads and shows.
pub(super) fn wanted(options: &Options, arguments: &Arguments) -> Result<Wanted, Failure> {
    let Arguments { command, interactive, tty, .. } = arguments;
    let tools = if arguments.debug { Some(tools(options, arguments)?) } else { None };
    let shell = command.is_empty();
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    Ok(Wanted {
        command: if shell { vec![debug_mounts::SHELL.to_owned()] } else { command.clone() },
        interactive: *interactive || shell,
        terminal: *tty || (shell && on_terminal),
        tools,
    })
}

fn tools(options: &Options, arguments: &Arguments) -> Result<DebugTools, Failure> {
    let found = match (&arguments.busybox, &arguments.debug_image) {
        (Some(file), _) => {
            let file = std::path::absolute(file).doing(format!("{} is no path", file.display()))?;
            first(&[file])
        }
        (None, Some(image)) => first(&in_image(options, image)?),
        (None, None) => first(&busybox::PLACES.map(PathBuf::from)),
    };
    match found {
        Ok(Some(tools)) => Ok(tools),
        Ok(None) => {
            let place = match (&arguments.busybox, &arguments.debug_image) {
                (Some(file), _) => format!("{} is not there", file.display()),
                (None, Some(image)) => format!("image {image} has no busybox in /bin or /usr/bin"),
                (None, None) => format!("this host has neither {} nor {}", busybox::PLACES[0], busybox::PLACES[1]),
            };
            Err(Failure::new(format!("no tools for --debug: {place}")).next(REMEDY))
        }
        Err(error) => Err(Failure::from(error).doing("looking for the tools of --debug").next(REMEDY)),
    }
}

/// The first file of these that is there, if it can be used.
fn first(places: &[PathBuf]) -> Result<Option<DebugTools>, BusyboxError> {
    for place in places {
        match busybox::look(place) {
            Err(BusyboxError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            answer => return answer.map(Some),
        }
    }
    Ok(None)
}

/// Where an image has its busybox. A link of the image's never leads out of the layer that has it.
fn in_image(options: &Options, name: &str) -> Result<Vec<PathBuf>, Failure> {
    let bad = |error| Failure::from(error).exit(BAD_INPUT).next(definition::IMAGE_NAMES);
    let reference: Reference = definition::image_name(name).map_err(bad)?;
    let directory = recovery::host(options)?.images();
    let store = Store::open(&directory).doing(format!("opening the image store in {}", directory.display()))?;
    let found = store.find(&reference).doing(format!("looking for image {name}"))?;
    let image = found.ok_or_else(|| {
        Failure::new(format!("image {name} of --debug-image is not here")).next(format!("coracle image pull {name}"))
    })?;
    let mut places = Vec::new();
    for layer in image.layers.iter().rev() {
        for place in busybox::PLACES {
            places.extend(in_layer(layer, place).doing(format!("looking for {place} in image {name}"))?);
        }
    }
    Ok(places)
}

fn in_layer(layer: &Path, place: &str) -> io::Result<Option<PathBuf>> {
    let root = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match images::inside::open(root, place, OFlags::PATH) {
        Ok(file) => fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map(Some),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
