//! Subnets that span hosts. `plan` decides from the configuration alone; `apply` makes it so and is safe to run twice:
//! what stands is not touched, what is no longer wanted goes. Packets between hosts go by VXLAN, routes saying which
//! host is meant, or by the kernel's WireGuard. Nothing is learnt from packets.
//!
//! What is here belongs to the host and not to a task: one device (`coracle-vxlan` or `coracle-wg`), labelled with the
//! run directory's name and with what was carried out; routes with a protocol number of their own; the `overlay-…`
//! chains of the firewall.

mod device;
mod error;
mod ethernet;
mod key;
mod plan;
mod routes;
mod underlay;
mod wireguard;

pub use error::Error;
pub use plan::Refusal;
pub use wireguard::PeerState;

use aws::ec2::{Subnet, VpcNetwork};
use nix::errno::Errno;

use crate::link;
use crate::netlink::{Protocol, Requests, Socket};
use crate::nft::{OverlayScope, admit_overlay, knows_overlay, remove_overlay};
use crate::settings::Settings;
use device::{Device, LINKS};
use error::netlink;
use plan::{Carrier, Plan};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A sentence's worth each; empty when everything stood already.
    pub changes: Vec<String>,
    pub warnings: Vec<String>,
}

/// Makes this host's part of the overlay what the configuration says, and removes what it does not say. What fails does
/// not hold up the rest, and every error is returned; a device that was made for nothing is removed again.
pub fn apply(settings: &Settings, network: &VpcNetwork) -> Result<Report, Vec<Error>> {
    let plan = planned(network)?;
    let mut socket = open()?;
    let Some(plan) = plan else { return remove_with(&mut socket, settings) };
    let mut report = Report::default();
    let this_host = network.overlay.as_ref().map(|overlay| overlay.this_host.as_str()).unwrap_or_default();
    underlay::check_address(&mut socket, &plan, this_host).map_err(|error| vec![error])?;
    let begun = begin(&mut socket, settings, plan, &mut report).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    carry_out(&mut socket, settings, &begun, this_host, &mut report, &mut errors);
    if errors.is_empty() {
        return Ok(report);
    }
    if begun.made {
        errors.extend(remove_with(&mut socket, settings).err().into_iter().flatten());
    }
    Err(errors)
}

/// Whether a configuration can be carried out, as far as it alone tells; the first refusal.
pub fn check(network: &VpcNetwork) -> Result<(), Refusal> {
    match plan::plan(network) {
        Ok(_) => Ok(()),
        Err(refusals) => refusals.into_iter().next().map_or(Ok(()), Err),
    }
}

/// As `apply`, for every start of a task: one look at the device tells that the configuration has been carried out,
/// and only when it has not, after a reboot perhaps, the rest follows. `None`: nothing was to be done.
pub fn ensure(settings: &Settings, network: &VpcNetwork) -> Result<Option<Report>, Vec<Error>> {
    let Some(plan) = planned(network)? else { return Ok(None) };
    let mut socket = open()?;
    let found = device::get(&mut socket, device::name(plan.carrier)).map_err(|error| vec![error])?;
    let labels =
        [Some(device::alias(settings, &plan)), plan.with_ethernet().map(|plan| device::alias(settings, &plan))];
    let is_label = |alias: &String| labels.iter().flatten().any(|label| label == alias);
    let stands = found.is_some_and(|device| device.link.up && device.link.alias.as_ref().is_some_and(is_label));
    if stands && is_guarded(settings).map_err(|error| vec![error])? {
        return Ok(None);
    }
    apply(settings, network).map(Some)
}

/// As `apply`, after somebody else has changed the firewall: where this host's part of the overlay was taken away it
/// stays so.
pub(crate) fn restore(settings: &Settings, network: &VpcNetwork) -> Result<Option<Report>, Vec<Error>> {
    let Some(plan) = planned(network)? else { return Ok(None) };
    let found = device::get(&mut open()?, device::name(plan.carrier)).map_err(|error| vec![error])?;
    found.map(|_| apply(settings, network)).transpose()
}

/// Takes everything of this host's part away: device, routes, firewall chains. None of it being there is no error.
pub fn remove(settings: &Settings) -> Result<Report, Vec<Error>> {
    remove_with(&mut open()?, settings)
}

/// How large packets of a subnet's interfaces can be; `None` where the subnet does not span hosts or the overlay's
/// device is not there.
pub(crate) fn mtu_for(socket: &mut Socket, subnet: &Subnet) -> Result<Option<u32>, Error> {
    if subnet.slices.is_empty() {
        return Ok(None);
    }
    for name in LINKS {
        if let Some(device) = device::get(socket, name)? {
            return Ok(Some(device.link.mtu));
        }
    }
    Ok(None)
}

/// This host's public key, for `publicKey` of its entry in `overlay.hosts`; its private key is made where there is none.
pub fn public_key(settings: &Settings) -> Result<String, Error> {
    let secret = key::of_host(&settings.wireguard_key)?;
    Ok(wireguard::public_key(&secret)?.to_string())
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The device, and whether it is what the configuration says.
    pub link: Option<LinkState>,
    pub hosts: Vec<HostState>,
    /// Of the kernel's labelled routes: how many lead where.
    pub routes: Vec<(String, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    pub name: String,
    pub mtu: u32,
    pub up: bool,
    pub is_current: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    pub name: String,
    pub address: std::net::IpAddr,
    pub networks: Vec<String>,
    /// With WireGuard.
    pub peer: Option<PeerState>,
}

/// `None` where no overlay is configured.
pub fn state(settings: &Settings, network: &VpcNetwork) -> Result<Option<State>, Vec<Error>> {
    let Some(plan) = planned(network)? else { return Ok(None) };
    let mut socket = open()?;
    let one = |error| vec![error];
    let found = device::get(&mut socket, device::name(plan.carrier)).map_err(one)?;
    let labels =
        [Some(device::alias(settings, &plan)), plan.with_ethernet().map(|plan| device::alias(settings, &plan))];
    let peers = match (plan.carrier, &found) {
        (Carrier::Wireguard { .. }, Some(_)) => wireguard::states(&plan).map_err(one)?,
        _ => vec![None; plan.peers.len()],
    };
    let link = found.map(|Device { link, .. }| LinkState {
        is_current: labels.contains(&link.alias),
        name: link.name,
        mtu: link.mtu,
        up: link.up,
    });
    let hosts = plan.peers.into_iter().zip(peers).map(|(host, peer)| HostState {
        name: host.name,
        address: host.address,
        networks: host.networks.iter().map(ToString::to_string).collect(),
        peer,
    });
    let routes = routes::count(&mut socket).map_err(one)?.into_iter().map(|(kind, count)| (kind.to_owned(), count));
    Ok(Some(State { link, hosts: hosts.collect(), routes: routes.collect() }))
}

fn planned(network: &VpcNetwork) -> Result<Option<Plan>, Vec<Error>> {
    plan::plan(network).map_err(|refusals| refusals.into_iter().map(Error::from).collect())
}

fn open() -> Result<Socket, Vec<Error>> {
    Socket::open(Protocol::Route).map_err(|source| vec![netlink("speak to the kernel")(source)])
}

/// A device of the right kind, down where it was made.
struct Begun {
    /// As it could be had.
    plan: Plan,
    link: u32,
    mtu: u32,
    was: Option<link::Link>,
    made: bool,
}

fn begin(socket: &mut Socket, settings: &Settings, plan: Plan, report: &mut Report) -> Result<Begun, Error> {
    let mtu = underlay::mtu(socket, &plan, &mut report.warnings)?;
    let name = device::name(plan.carrier);
    let mut stands = None;
    for other in LINKS {
        let Some(found) = device::get(socket, other)? else { continue };
        if other == name {
            found.check_owner(other, settings)?;
        } else if found.check_owner(other, settings).is_err() {
            continue;
        }
        let fits_older =
            plan.with_ethernet().filter(|older| found.fits(older) && is_carried_out(&found, settings, older));
        match (other == name, found.fits(&plan), fits_older) {
            (true, true, _) => stands = Some((plan.clone(), found)),
            (true, false, Some(older)) => stands = Some((older, found)),
            _ => {
                delete(socket, other)?;
                report.changes.push(format!("no link {other}"));
            }
        }
    }
    if let Some((plan, found)) = stands {
        let mtu = underlay::mtu(socket, &plan, &mut Vec::new())?;
        return Ok(Begun { link: found.link.index, mtu, was: Some(found.link), plan, made: false });
    }
    let (plan, mtu, made) = make(socket, plan, mtu, report)?;
    let gone = crate::netlink::Refused { errno: Errno::ENODEV, said: String::new() };
    let found = device::get(socket, name)?
        .ok_or_else(|| netlink(format!("use link {name}: somebody removed it meanwhile"))(gone.into()))?;
    Ok(Begun { link: found.link.index, mtu, was: None, plan, made })
}

/// On a kernel without VXLAN-GPE the older form takes its place, and stays.
fn is_carried_out(found: &Device, settings: &Settings, plan: &Plan) -> bool {
    found.link.alias == Some(device::alias(settings, plan))
}

/// The device, or where the kernel knows no VXLAN-GPE the older form of it; and whether it was made here.
fn make(socket: &mut Socket, plan: Plan, mtu: u32, report: &mut Report) -> Result<(Plan, u32, bool), Error> {
    let name = device::name(plan.carrier);
    let error = match device::add(socket, &plan, mtu) {
        Ok(()) => {
            report.changes.push(format!("link {name}"));
            return Ok((plan, mtu, true));
        }
        // Another process of this moment makes the same.
        Err(error) if error.errno() == Some(Errno::EEXIST) => return Ok((plan, mtu, false)),
        Err(error) => error,
    };
    let older = match (plan.carrier, error.errno()) {
        (Carrier::Wireguard { .. }, _) => return Err(wireguard::refusal(error)),
        (Carrier::Ip { .. }, Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => plan.with_ethernet(),
        (Carrier::Ip { .. } | Carrier::Ethernet { .. }, _) => None,
    };
    let Some(older) = older else { return Err(netlink(format!("make link {name}"))(error)) };
    let mtu = underlay::mtu(socket, &older, &mut Vec::new())?;
    device::add(socket, &older, mtu).map_err(netlink(format!("make link {name}")))?;
    report.warnings.push(format!(
        "this kernel has no VXLAN-GPE ({error}): frames are carried instead, which the other hosts only understand with \
         overlay.encapsulation \"ethernet\" and port {}; set both in the configuration of every host",
        older.port
    ));
    report.changes.push(format!("link {name}"));
    Ok((older, mtu, true))
}

fn carry_out(
    socket: &mut Socket,
    settings: &Settings,
    begun: &Begun,
    this_host: &str,
    report: &mut Report,
    errors: &mut Vec<Error>,
) {
    let plan = &begun.plan;
    let name = device::name(plan.carrier);
    let alias = device::alias(settings, plan);
    let is_current =
        begun.was.as_ref().is_some_and(|link| link.alias.as_ref() == Some(&alias) && link.mtu == begun.mtu);
    // Before anything can come out of the device, the firewall knows what may.
    if let Err(error) = guard(settings, plan, report) {
        errors.push(error);
        return;
    }
    if !is_current {
        let mut requests = Requests::default();
        device::set(&mut requests, settings, name, begun.mtu);
        set_up_with(socket, requests, &format!("set up link {name}"), errors);
        let what = format!("link {name}: {} bytes", begun.mtu);
        report.changes.extend(begun.was.as_ref().is_none_or(|was| was.mtu != begun.mtu).then_some(what));
    }
    match plan.carrier {
        Carrier::Ip { .. } => {}
        Carrier::Ethernet { .. } => {
            errors.extend(ethernet::carry_out(socket, plan, begun.link, &mut report.changes));
        }
        Carrier::Wireguard { keepalive_s } => {
            let file = &settings.wireguard_key;
            match wireguard::carry_out(plan, keepalive_s, file, this_host, &mut report.changes) {
                Ok(further) => errors.extend(further),
                // Without its key the device is nothing.
                Err(error) => return errors.push(error),
            }
        }
    }
    if !begun.was.as_ref().is_some_and(|link| link.up) {
        let mut requests = Requests::default();
        link::set_up(&mut requests, name);
        set_up_with(socket, requests, &format!("set up link {name}"), errors);
        report.changes.push(format!("link {name} is up"));
    }
    errors.extend(routes::carry_out(socket, &plan.routes, begun.link, &mut report.changes));
    if errors.is_empty() && !is_current {
        let labelled = device::set_alias(socket, name, &alias);
        errors.extend(labelled.err().map(netlink(format!("label link {name}"))));
    }
}

fn set_up_with(socket: &mut Socket, requests: Requests, action: &str, errors: &mut Vec<Error>) {
    match socket.exchange(requests) {
        Err(source) => errors.push(netlink(action)(source)),
        Ok(answers) => {
            let refused = answers.into_iter().filter_map(Result::err);
            errors.extend(refused.map(|refused| netlink(action)(refused.into())));
        }
    }
}

fn guard(settings: &Settings, plan: &Plan, report: &mut Report) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(netlink("speak to the kernel's firewall"))?;
    let scope = OverlayScope {
        link: device::name(plan.carrier),
        bridge: &settings.bridge,
        unproven_port: match plan.carrier {
            Carrier::Ip { .. } | Carrier::Ethernet { .. } => Some(plan.port),
            Carrier::Wireguard { .. } => None,
        },
        hosts: plan.peers.iter().map(|peer| peer.address).collect(),
        sources: plan.peers.iter().flat_map(|peer| peer.networks.iter().copied()).collect(),
    };
    let admitted = admit_overlay(&mut socket, &settings.table, &scope);
    socket.close_aside();
    let changed = admitted.map_err(|source| Error::Firewall { table: settings.table.clone(), source })?;
    report.changes.extend(changed.then(|| format!("firewall table inet {}", settings.table)));
    Ok(())
}

/// Whether the firewall has heard of the overlay, which it has not after it was flushed.
fn is_guarded(settings: &Settings) -> Result<bool, Error> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(netlink("speak to the kernel's firewall"))?;
    let found = knows_overlay(&mut socket, &settings.table);
    socket.close_aside();
    found.map_err(|source| Error::Firewall { table: settings.table.clone(), source })
}

/// First the way in, then the rest: nothing arrives unguarded.
fn remove_with(socket: &mut Socket, settings: &Settings) -> Result<Report, Vec<Error>> {
    let mut report = Report::default();
    let mut errors = Vec::new();
    let mut others = false;
    for name in LINKS {
        match device::get(socket, name) {
            Ok(None) => {}
            // Another's overlay has these routes and chains.
            Ok(Some(found)) if found.check_owner(name, settings).is_err() => others = true,
            Ok(Some(_)) => match delete(socket, name) {
                Ok(()) => report.changes.push(format!("no link {name}")),
                Err(error) => errors.push(error),
            },
            Err(error) => errors.push(error),
        }
    }
    if !others {
        errors.extend(routes::remove(socket, &mut report.changes));
        match unguard(settings) {
            Ok(removed) => {
                report.changes.extend(removed.then(|| format!("firewall table inet {}", settings.table)));
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(report) } else { Err(errors) }
}

fn unguard(settings: &Settings) -> Result<bool, Error> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(netlink("speak to the kernel's firewall"))?;
    let removed = remove_overlay(&mut socket, &settings.table);
    socket.close_aside();
    removed.map_err(|source| Error::Firewall { table: settings.table.clone(), source })
}

/// One that is gone already is no error.
fn delete(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let mut requests = Requests::default();
    link::delete(&mut requests, name);
    let mut errors = Vec::new();
    let actions = vec![(format!("delete link {name}"), Some(Errno::ENODEV))];
    errors.extend(routes::perform(socket, requests, actions, &mut Vec::new()));
    errors.pop().map_or(Ok(()), Err)
}
