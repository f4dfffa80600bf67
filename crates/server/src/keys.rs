//! The account's key pairs. The root pair is made at the first start; who has it may do everything.

use std::fmt;
use std::path::Path;

use base64::Engine;
use serde::{Deserialize, Serialize};

use crate::{dice, files};

/// In the state directory.
pub const FILE: &str = "credentials.json";

/// As the CLIs of Amazon print a key pair.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootKey {
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// A secret is never in a log.
impl fmt::Debug for RootKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RootKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path} holds no key pair")]
    NoKey {
        path: String,
        #[source]
        cause: serde_json::Error,
    },
}

/// Nothing before the first start.
pub fn find(state_directory: &Path) -> Result<Option<RootKey>, Error> {
    let path = state_directory.join(FILE);
    let Some(bytes) = files::read(&path)? else { return Ok(None) };
    let key =
        serde_json::from_slice(&bytes).map_err(|cause| Error::NoKey { path: path.display().to_string(), cause })?;
    Ok(Some(key))
}

pub fn find_or_make(state_directory: &Path) -> Result<RootKey, Error> {
    if let Some(key) = find(state_directory)? {
        return Ok(key);
    }
    let key = make();
    let text = serde_json::to_vec_pretty(&key).expect("two strings are JSON");
    files::write(&state_directory.join(FILE), &text)?;
    Ok(key)
}

/// Of the lengths and the letters that Amazon's have: tools check them.
fn make() -> RootKey {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let id: String = dice::bytes::<16>().iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let secret = base64::engine::general_purpose::STANDARD.encode(dice::bytes::<30>());
    RootKey { access_key_id: format!("AKIA{id}"), secret_access_key: secret }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_shape_of_amazons_and_no_secret_in_its_debug() {
        let key = make();
        assert_eq!((key.access_key_id.len(), key.secret_access_key.len()), (20, 40));
        assert!(!format!("{key:?}").contains(&key.secret_access_key));
    }
}
