//! Which of an index's images this host can run.

use std::fmt;
use std::str::FromStr;

use crate::document::Descriptor;

/// Go's names, as in `linux/arm64/v8`; the variant may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: String,
}

impl Platform {
    /// The one this binary was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    pub(crate) fn can_run(&self, offered: &Platform) -> bool {
        self.distance(offered).is_some()
    }

    /// How well an offered platform suits this one; less is better, `None` is not at all.
    fn distance(&self, offered: &Platform) -> Option<u32> {
        if (&offered.os, &offered.architecture) != (&self.os, &self.architecture) {
            return None;
        }
        // What is left out is the first of its kind: containerd's platforms.Normalize.
        let default = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        let level = |variant: &str| match variant {
            "" => Some(default),
            variant => variant.strip_prefix('v')?.parse::<u32>().ok(),
        };
        match (level(&self.variant), level(&offered.variant)) {
            (Some(have), Some(needed)) => have.checked_sub(needed),
            _ => (self.variant == offered.variant).then_some(0),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("platform {given:?} is not <os>/<architecture> or <os>/<architecture>/<variant>, such as linux/arm64")]
pub struct NotAPlatform {
    pub given: String,
}

impl FromStr for Platform {
    type Err = NotAPlatform;

    fn from_str(text: &str) -> Result<Self, NotAPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(NotAPlatform { given: text.to_owned() }),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(NotAPlatform { given: text.to_owned() });
        }
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// The best of an index's entries; of equals the first. A lone entry that names no platform is taken for the one.
pub(crate) fn choose<'a>(wanted: &Platform, offered: &'a [Descriptor]) -> Option<&'a Descriptor> {
    if let [only] = offered
        && only.platform.is_none()
    {
        return Some(only);
    }
    let suited = offered.iter().filter_map(|each| Some((wanted.distance(each.platform.as_ref()?)?, each)));
    suited.min_by_key(|(distance, _)| *distance).map(|(_, each)| each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn offered(platforms: &[&str]) -> Vec<Descriptor> {
        let one = |text: &&str| Descriptor {
            media_type: String::new(),
            digest: Digest::of(text.as_bytes()),
            size: 1,
            platform: text.parse().ok(),
            annotations: Default::default(),
        };
        platforms.iter().map(one).collect()
    }

    #[test]
    fn the_nearest_variant_that_runs_is_chosen() {
        let table = [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some("linux/amd64")),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &["linux/amd64/v2"], None),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some("linux/amd64/v2")),
            ("linux/arm64/v8", &["linux/arm64"], Some("linux/arm64")),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"], Some("linux/arm/v6")),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/amd64", &["unknown/unknown", "windows/amd64"], None),
            ("linux/amd64", &[], None),
        ];
        for (wanted, list, expected) in table {
            let list = offered(list);
            let chosen =
                choose(&wanted.parse().unwrap(), &list).map(|each| each.platform.as_ref().unwrap().to_string());
            assert_eq!(chosen.as_deref(), expected, "{wanted}");
        }
    }
}
