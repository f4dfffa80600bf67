//! The external configuration of a log router, `config-file-type: s3`.

use ecs::Timestamp;
use ecs::environment_file::s3_object;
use ecs::task_definition::ContainerDefinition;

use super::s3::{self, Object, Settings};
use super::{ResourceInitializationError, Stage};
use crate::firelens::{self, External};
use crate::recovery::chain;

/// Nothing where no router asks for one.
pub(super) fn configuration(
    settings: &Settings,
    region: &str,
    containers: &[ContainerDefinition],
    now: Timestamp,
) -> Result<Option<String>, ResourceInitializationError> {
    let failed = |problem: String| ResourceInitializationError { stage: Stage::LogRouter, problems: vec![problem] };
    for definition in containers {
        let Some(router) = &definition.firelens_configuration else { continue };
        let name = &definition.name;
        let told = |why: String| failed(format!("container {name}: {why}"));
        let external = firelens::external(name, router).map_err(|error| failed(error.to_string()))?;
        let Some(External::S3(arn)) = external else { continue };
        let Some((bucket, key)) = s3_object(&arn) else {
            return Err(told(format!("invalid s3 arn: {arn:?}; arn:aws:s3:::BUCKET/KEY is one")));
        };
        let object = Object { bucket: bucket.to_owned(), key: key.to_owned() };
        let fetched = s3::fetch_all(settings, region, &[object], now).pop().expect("one answer for one object");
        let bytes = fetched.map_err(|error| told(format!("{arn}: {}", chain(&error))))?;
        return String::from_utf8(bytes).map(Some).map_err(|_| told(format!("{arn} is no text")));
    }
    Ok(None)
}
