//! `user` of a container definition or image, looked up in the image's own /etc/passwd and /etc/group.
//!
//! The files are an image's, so they are hostile: only regular files inside the root are read, at most `MAX_FILE`
//! bytes of them. The rules are those of Docker (moby/sys/user, `GetExecUser`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use crate::inside;

/// The largest /etc/passwd or /etc/group that is read, bytes.
const MAX_FILE: u64 = 1 << 20;
/// The largest id: Docker's, and below the ids that system calls give a meaning of their own.
const MAX_ID: u32 = (1 << 31) - 1;
/// The kernel's NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// The primary group first: without it a process could drop the group and pass as one of the others
    /// (CVE-2022-36109).
    pub supplementary: Vec<u32>,
    /// For `HOME`.
    pub home: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-{MAX_ID}, not {0}")]
    OutOfRange(String),
    #[error("the image's {path} cannot be used: {why}")]
    Unusable { path: &'static str, why: String },
    #[error("the image's {path} cannot be read")]
    Read {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Looks `user` up: empty, `name`, `uid`, and each with `:group` or `:gid`.
///
/// # Errors
/// No such user or group, an id out of range, or a passwd or group file that is not a file of reasonable size.
pub(crate) fn look_up(root: BorrowedFd<'_>, user: &str) -> Result<Credentials, UserError> {
    let passwd = passwd(root)?;
    let group = read(root, "etc/group")?;
    let mut found = resolve(user, &passwd, &group)?;
    found.supplementary.retain(|gid| *gid != found.gid);
    found.supplementary.insert(0, found.gid);
    Ok(found)
}

/// The container's /etc/passwd; empty where there is none.
///
/// # Errors
/// It is not a file of reasonable size, or cannot be read.
pub(crate) fn passwd(root: BorrowedFd<'_>) -> Result<String, UserError> {
    read(root, "etc/passwd")
}

/// What /etc/passwd calls a user, if it does.
pub(crate) fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().filter_map(passwd_entry).find(|entry| entry.uid == uid).map(|entry| entry.name)
}

fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<String, UserError> {
    let file = match inside::open_regular(root, path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(UserError::Unusable { path, why: "it is not a regular file".to_owned() });
        }
        Err(source) => return Err(UserError::Read { path, source }),
    };
    let mut bytes = Vec::new();
    File::take(file, MAX_FILE + 1).read_to_end(&mut bytes).map_err(|source| UserError::Read { path, source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(UserError::Unusable { path, why: format!("it is larger than {MAX_FILE} bytes") });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn resolve(user: &str, passwd: &str, group: &str) -> Result<Credentials, UserError> {
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let wanted_uid = if user.is_empty() { Some(0) } else { number(user)? };
    let entry = passwd.lines().filter_map(passwd_entry).find(|entry| match wanted_uid {
        Some(uid) => entry.uid == uid,
        None => entry.name == user,
    });
    let mut found = match (&entry, wanted_uid) {
        (Some(entry), _) => Credentials {
            uid: entry.uid,
            gid: entry.gid,
            supplementary: Vec::new(),
            home: if entry.home.is_empty() { "/".to_owned() } else { entry.home.to_owned() },
        },
        (None, Some(uid)) => Credentials { uid, gid: 0, supplementary: Vec::new(), home: "/".to_owned() },
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    if wanted_group.is_empty() {
        if let Some(entry) = entry {
            let member = |members: &str| members.split(',').any(|name| name.trim() == entry.name);
            let groups = group.lines().filter_map(group_entry).filter(|(_, _, members)| member(members));
            found.supplementary = groups.map(|(_, gid, _)| gid).take(MAX_GROUPS).collect();
        }
        return Ok(found);
    }
    found.gid = match number(wanted_group)? {
        Some(gid) => gid,
        None => group
            .lines()
            .filter_map(group_entry)
            .find(|(name, _, _)| *name == wanted_group)
            .map(|(_, gid, _)| gid)
            .ok_or_else(|| UserError::NoGroup(wanted_group.to_owned()))?,
    };
    Ok(found)
}

/// A number in range, none for a name; a number out of range is an error and never somebody's name.
fn number(given: &str) -> Result<Option<u32>, UserError> {
    let digits = given.strip_prefix(['-', '+']).unwrap_or(given);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match given.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        Ok(_) | Err(_) => Err(UserError::OutOfRange(given.to_owned())),
    }
}

/// Lines that do not read as entries are passed over, as the C library does.
fn passwd_entry(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let home = fields.nth(1).unwrap_or_default();
    Some(Passwd { name, uid, gid, home })
}

fn group_entry(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn id(field: &str) -> Option<u32> {
    field.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101::/var/cache/nginx:/sbin/nologin\n\
                          broken line\nbig:x:4294967296:1::/:\n";
    const GROUP: &str = "root:x:0:\nnginx:x:101:\nweb:x:500:nginx,other\ntty:x:5:nginx\n";

    fn ids(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let found = resolve(user, PASSWD, GROUP).map_err(|error| error.to_string())?;
        Ok((found.uid, found.gid, found.supplementary, found.home))
    }

    #[test]
    fn names_and_numbers_resolve_as_in_docker() {
        let nginx_home = "/var/cache/nginx".to_owned();
        assert_eq!(ids(""), Ok((0, 0, vec![], "/root".to_owned())));
        assert_eq!(ids("nginx"), Ok((101, 101, vec![500, 5], nginx_home.clone())));
        assert_eq!(ids("101"), Ok((101, 101, vec![500, 5], nginx_home.clone())));
        assert_eq!(ids("nginx:web"), Ok((101, 500, vec![], nginx_home.clone())));
        assert_eq!(ids("nginx:7"), Ok((101, 7, vec![], nginx_home)));
        assert_eq!(ids("4242"), Ok((4242, 0, vec![], "/".to_owned())));
        assert_eq!(ids("4242:4243"), Ok((4242, 4243, vec![], "/".to_owned())));
    }

    #[test]
    fn what_is_not_there_or_out_of_range_is_refused() {
        for (user, wanted) in [
            ("nobody", "unable to find user nobody: no matching entries in passwd file"),
            ("nginx:nogroup", "unable to find group nogroup: no matching entries in group file"),
            ("-1", "uids and gids must be in range 0-2147483647, not -1"),
            ("0:4294967296", "uids and gids must be in range 0-2147483647, not 4294967296"),
            ("2147483648", "uids and gids must be in range 0-2147483647, not 2147483648"),
            ("big", "unable to find user big: no matching entries in passwd file"),
        ] {
            assert_eq!(ids(user), Err(wanted.to_owned()), "{user}");
        }
    }
}
