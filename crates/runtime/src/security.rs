//! `dockerSecurityOptions`: what is switched on or off for a container, and under which label of a security module its
//! program runs.
//!
//! The spellings are Docker's, `key:value` and `key=value`
//! (<https://docs.docker.com/engine/containers/run/#security-configuration>). A label that this host has no module for
//! is refused: the container would be less confined than its definition says.

use std::fs;
use std::io;
use std::path::Path;

/// What a definition's options say. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    pub no_new_privileges: bool,
    pub seccomp_unconfined: bool,
    pub label: Option<Label>,
}

/// How the kernel's security module is told of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    AppArmor {
        profile: String,
    },
    /// Parts of the context that replace those of the host's default for containers.
    Selinux(SelinuxParts),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SelinuxParts {
    user: Option<String>,
    role: Option<String>,
    kind: Option<String>,
    level: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SecurityError {
    #[error(
        "dockerSecurityOptions: {0:?} is not known; no-new-privileges, seccomp:unconfined, apparmor:PROFILE and label:… are"
    )]
    Unknown(String),
    #[error("dockerSecurityOptions: {option:?} needs {module}, which this host does not have enabled")]
    NoModule { option: String, module: &'static str },
    #[error("cannot read the host's SELinux context for containers")]
    Context(#[source] io::Error),
}

/// # Errors
/// An option that is none.
pub(crate) fn read(options: &[String]) -> Result<SecurityOptions, SecurityError> {
    let mut found = SecurityOptions::default();
    for option in options {
        let unknown = || SecurityError::Unknown(option.clone());
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => found.no_new_privileges = true,
            ("no-new-privileges", "false") => found.no_new_privileges = false,
            ("seccomp", "unconfined") => found.seccomp_unconfined = true,
            ("seccomp", "builtin") => found.seccomp_unconfined = false,
            // Nothing confines a container that nobody has given a profile.
            ("apparmor", "unconfined") | ("label", "disable") => found.label = None,
            ("apparmor", profile) if !profile.is_empty() && !profile.contains(['\0', '\n']) => {
                found.label = Some(Label::AppArmor { profile: profile.to_owned() });
            }
            ("label", part) => {
                let parts = match &mut found.label {
                    Some(Label::Selinux(parts)) => parts,
                    other => {
                        *other = Some(Label::Selinux(SelinuxParts::default()));
                        match other {
                            Some(Label::Selinux(parts)) => parts,
                            Some(Label::AppArmor { .. }) | None => return Err(unknown()),
                        }
                    }
                };
                parts.take(part).ok_or_else(unknown)?;
            }
            _ => return Err(unknown()),
        }
    }
    Ok(found)
}

impl SelinuxParts {
    /// `type:svirt_t`. A level has colons of its own: `level:s0:c100,c200`.
    fn take(&mut self, part: &str) -> Option<()> {
        let (key, value) = part.split_once(':').filter(|(_, value)| !value.is_empty() && !value.contains('\0'))?;
        let place = match key {
            "user" => &mut self.user,
            "role" => &mut self.role,
            "type" => &mut self.kind,
            "level" => &mut self.level,
            _ => return None,
        };
        *place = Some(value.to_owned());
        Some(())
    }

    /// These parts over those of `base`, `user:role:type:level`.
    fn over(&self, base: &str) -> String {
        let mut parts = base.trim_end_matches(['\0', '\n']).splitn(4, ':');
        let mut next = |own: &Option<String>, otherwise: &str| {
            let based = parts.next().unwrap_or(otherwise);
            own.clone().unwrap_or_else(|| based.to_owned())
        };
        let user = next(&self.user, "system_u");
        let role = next(&self.role, "system_r");
        let kind = next(&self.kind, "container_t");
        let level = next(&self.level, "s0");
        format!("{user}:{role}:{kind}:{level}")
    }
}

/// What has to be written where, right before the program is executed; it takes hold at the exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AtExec {
    /// The first that is there.
    files: &'static [&'static str],
    content: String,
}

impl Label {
    /// # Errors
    /// The host has no such module enabled, or does not say what its default is.
    pub(crate) fn at_exec(&self) -> Result<AtExec, SecurityError> {
        let no_module = |option: String, module| Err(SecurityError::NoModule { option, module });
        match self {
            Self::AppArmor { profile } => {
                if !has_apparmor() {
                    return no_module(format!("apparmor:{profile}"), "AppArmor");
                }
                // `apparmor/` since Linux 5.8; the other is whichever module's comes first.
                let files = &["/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"];
                Ok(AtExec { files, content: format!("exec {profile}") })
            }
            Self::Selinux(parts) => {
                if !has_selinux() {
                    return no_module("label:…".to_owned(), "SELinux");
                }
                let base = selinux_default().map_err(SecurityError::Context)?;
                Ok(AtExec { files: &["/proc/thread-self/attr/exec"], content: parts.over(&base) })
            }
        }
    }
}

pub(crate) fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.starts_with('Y'))
}

pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The policy's context for containers, or else our own.
fn selinux_default() -> io::Result<String> {
    let contexts = fs::read_to_string("/etc/selinux/targeted/contexts/lxc_contexts").unwrap_or_default();
    let process = contexts.lines().find_map(|line| line.trim().strip_prefix("process")?.split('"').nth(1));
    process.map_or_else(|| fs::read_to_string("/proc/self/attr/current"), |process| Ok(process.to_owned()))
}

impl AtExec {
    /// # Errors
    /// The kernel refuses: most often, no profile of this name is loaded.
    pub(crate) fn write(&self) -> io::Result<()> {
        let file = self.files.iter().find(|file| Path::new(file).exists()).unwrap_or(&self.files[0]);
        fs::OpenOptions::new().write(true).open(file).and_then(|mut file| {
            // One write: the kernel takes each as a whole.
            io::Write::write_all(&mut file, self.content.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<SecurityOptions, String> {
        read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_spelt_as_in_docker() {
        assert_eq!(options(&[]), Ok(SecurityOptions::default()));
        for spelling in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
            assert!(options(&[spelling]).unwrap().no_new_privileges, "{spelling}");
        }
        for spelling in ["seccomp:unconfined", "seccomp=unconfined"] {
            assert!(options(&[spelling]).unwrap().seccomp_unconfined, "{spelling}");
        }
        let profile = Label::AppArmor { profile: "k8s//child".to_owned() };
        assert_eq!(options(&["apparmor:k8s//child"]).unwrap().label, Some(profile));
        assert_eq!(options(&["apparmor:unconfined", "label:disable"]).unwrap().label, None);
        for unknown in ["credentialspec:file://x", "label:colour:red", "seccomp:/etc/profile.json", "apparmor:", "x"] {
            assert!(options(&[unknown]).unwrap_err().contains(unknown), "{unknown}");
        }
    }

    #[test]
    fn selinux_parts_replace_those_of_the_default() {
        let Some(Label::Selinux(parts)) =
            options(&["label:type:svirt_apache_t", "label:level:s0:c100,c200"]).unwrap().label
        else {
            panic!("no SELinux label");
        };
        assert_eq!(parts.over("system_u:system_r:container_t:s0\n"), "system_u:system_r:svirt_apache_t:s0:c100,c200");
    }
}
