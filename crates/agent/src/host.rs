//! What one coracle has of a host: its directories, its cgroup, its network.

use std::path::Path;

use network::Settings;
use runtime::task_dir::Roots;

use crate::{environment, volumes};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub roots: Roots,
    pub network: Settings,
    /// Where environment files in S3 come from.
    pub s3: environment::Settings,
    /// `volumes::EFS_ENDPOINT`.
    pub efs_endpoint: Option<String>,
}

impl Host {
    /// `variable` looks up a variable of the environment: the network's names and addresses can be set there.
    pub fn new(roots: Roots, variable: impl Fn(&str) -> Option<String>) -> Result<Self, network::BadSetting> {
        let mut network = Settings::from_env(&instance(&roots.run), &roots.run.join("netns"), &variable)?;
        network.wireguard_key = roots.data.join("wireguard.key");
        let efs_endpoint = variable(volumes::EFS_ENDPOINT).filter(|endpoint| !endpoint.is_empty());
        Ok(Self { roots, network, efs_endpoint, s3: environment::Settings::from_env(variable) })
    }

    pub fn images(&self) -> std::path::PathBuf {
        self.roots.data.join("images")
    }

    pub fn secrets(&self) -> secrets::Store {
        secrets::Store::new(self.roots.data.join("secrets"))
    }
}

/// Tells the run directories of one host apart in the names of links and rules: 64 bits of FNV-1a
/// (<http://www.isthe.com/chongo/tech/comp/fnv/>) over the path, which has to be absolute.
pub fn instance(run_dir: &Path) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = run_dir.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published test vectors of the hash.
    #[test]
    fn run_directories_are_told_apart() {
        assert_eq!(instance(Path::new("")), "cbf29ce484222325");
        assert_eq!(instance(Path::new("foobar")), "85944171f73967e8");
        assert_ne!(instance(Path::new("/run/coracle")), instance(Path::new("/run/coracle2")));
    }
}
