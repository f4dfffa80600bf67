//! `coracle credentials`: the root key pair, as a shell takes it.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use server::{daemon, keys};

use crate::failure::{Explain, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{output, serve};

/// Print the access key of the API as lines for a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  eval \"$(sudo coracle credentials)\"; aws ecs list-clusters
  sudo coracle credentials --output json

The key may do everything. `coracle serve` makes it at its first start.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

/// What a running daemon says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Where {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    certificate_authority: Option<String>,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("credentials")?;
    let roots = options.roots()?;
    let key = keys::find(&roots.data.join(daemon::STATE_DIRECTORY)).doing("reading the access key")?;
    let key = key.ok_or_else(|| Failure::new("there is no access key yet").next("sudo coracle serve makes one"))?;
    let here = find(&roots.run.join(daemon::WHERE))?;
    if arguments.output.is_json() {
        let printed = json!({
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key,
            "EndpointUrl": here.endpoint,
            "Region": here.region,
            "CertificateAuthority": here.certificate_authority,
        });
        output::print_json(&printed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![
        ("AWS_ACCESS_KEY_ID", key.access_key_id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", key.secret_access_key.as_str()),
        ("AWS_ENDPOINT_URL", here.endpoint.as_str()),
        ("AWS_REGION", here.region.as_str()),
        // The name that boto3 and version 1 of the AWS CLI read; they do not know the other.
        ("AWS_DEFAULT_REGION", here.region.as_str()),
    ];
    lines.extend(here.certificate_authority.iter().map(|path| ("AWS_CA_BUNDLE", path.as_str())));
    let text: String = lines.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect();
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Where no daemon runs: where it would be.
pub(crate) fn find(path: &Path) -> Result<Where, Failure> {
    let reading = || format!("reading {}", path.display());
    let Some(text) = server::files::read(path).doing(reading())? else {
        return Ok(Where {
            endpoint: format!("http://{}", serve::ADDRESS),
            region: serve::REGION.to_owned(),
            certificate_authority: None,
        });
    };
    serde_json::from_slice(&text).doing(reading())
}

/// As it stands where a shell takes it as it stands, in quotation marks otherwise.
pub(crate) fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/+=._:-[]@".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) && !value.contains(['[', ']']) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_what_was_meant() {
        for (value, text) in [
            ("http://127.0.0.1:4870", "http://127.0.0.1:4870"),
            ("http://[::1]:4870", "'http://[::1]:4870'"),
            ("/a b", "'/a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(value), text);
        }
    }
}
