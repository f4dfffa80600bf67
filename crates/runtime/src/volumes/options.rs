//! The words after `mount -o`, sorted into the flags of mount(2) and what the file system is told.

use nix::mount::MsFlags;

/// mount(8)'s words that are flags; `false` clears one that another word may have set.
const WORDS: [(&str, bool, MsFlags); 28] = [
    ("defaults", true, MsFlags::empty()),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("suid", false, MsFlags::MS_NOSUID),
    ("nodev", true, MsFlags::MS_NODEV),
    ("dev", false, MsFlags::MS_NODEV),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("atime", false, MsFlags::MS_NOATIME),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("silent", true, MsFlags::MS_SILENT),
    ("loud", false, MsFlags::MS_SILENT),
    ("bind", true, MsFlags::MS_BIND),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("iversion", true, MsFlags::MS_I_VERSION),
    ("noiversion", false, MsFlags::MS_I_VERSION),
];

/// For mount(8) alone: the kernel knows nothing of them.
const IGNORED: [&str; 5] = ["auto", "noauto", "user", "nouser", "_netdev"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    /// What the file system itself understands, separated by commas.
    pub(super) data: String,
}

/// The last word of two that contradict each other wins.
pub(super) fn parse(words: &str) -> Options {
    let mut options = Options { flags: MsFlags::empty(), data: String::new() };
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match WORDS.iter().find(|(known, _, _)| *known == word) {
            Some((_, true, flag)) => options.flags |= *flag,
            Some((_, false, flag)) => options.flags &= !*flag,
            None if IGNORED.contains(&word) => {}
            None if options.data.is_empty() => options.data.push_str(word),
            None => {
                options.data.push(',');
                options.data.push_str(word);
            }
        }
    }
    options
}

/// The value of `name=value` among the words for the file system.
pub(super) fn value<'a>(data: &'a str, name: &str) -> Option<&'a str> {
    data.split(',').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_flags_or_the_file_systems() {
        let options = parse("ro, nosuid,size=1m,rw,,_netdev,uid=5,noexec");
        assert_eq!(options.flags, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC);
        assert_eq!(options.data, "size=1m,uid=5");
        assert_eq!(parse("bind").flags, MsFlags::MS_BIND);
        assert_eq!(parse("").data, "");
    }

    #[test]
    fn a_value_is_that_of_the_whole_name() {
        assert_eq!(value("vers=4.1,clientaddr=a,addr=b", "addr"), Some("b"));
        assert_eq!(value("vers=4.1", "addr"), None);
    }
}
