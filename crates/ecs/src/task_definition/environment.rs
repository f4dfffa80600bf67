//! What is fetched before a container starts: environment files, secrets, a registry's credentials.

use serde::{Deserialize, Serialize};

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_EnvironmentFile.html>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentFile {
    /// `arn:aws:s3:::bucket/key.env`; here also the absolute path of a file of this host.
    pub value: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Secret.html>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The variable, or, as an extension of coracle, the absolute path of a file in the container.
    pub name: String,
    pub value_from: String,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RepositoryCredentials.html>
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCredentials {
    pub credentials_parameter: String,
}
