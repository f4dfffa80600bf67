//! Docker's log tags (<https://docs.docker.com/engine/logging/log_tags/>) and the extra attributes that the options
//! `labels`, `env`, `labels-regex` and `env-regex` add. Pure.

use std::collections::BTreeMap;

use regex::Regex;

use crate::message::Origin;
use crate::options::{OptionError, Options};

const DEFAULT: &str = "{{.ID}}";

/// # Errors
/// A markup that no driver of Docker's knows, or one that does not end.
pub(crate) fn of(options: &Options<'_>, origin: &Origin) -> Result<String, OptionError> {
    render(options.text("tag").unwrap_or(DEFAULT), origin).map_err(|wrong| options.bad("tag", wrong))
}

fn render(template: &str, origin: &Origin) -> Result<String, String> {
    let mut tag = String::new();
    let mut rest = template;
    while let Some((before, markup)) = rest.split_once("{{") {
        let (name, after) = markup.split_once("}}").ok_or_else(|| "has {{ without }}".to_owned())?;
        tag.push_str(before);
        tag.push_str(value(name.trim(), origin)?);
        rest = after;
    }
    tag.push_str(rest);
    Ok(tag)
}

fn value<'a>(name: &str, origin: &'a Origin) -> Result<&'a str, String> {
    Ok(match name {
        ".ID" => origin.short_id(),
        ".FullID" | ".ContainerID" => &origin.id,
        ".Name" | ".ContainerName" => &origin.name,
        ".ImageID" => origin.short_image_id(),
        ".ImageFullID" | ".ContainerImageID" => &origin.image_id,
        ".ImageName" | ".ContainerImageName" => &origin.image_name,
        ".DaemonName" => "coracle",
        other => {
            let known = ".ID, .FullID, .Name, .ImageID, .ImageFullID, .ImageName, .DaemonName";
            return Err(format!("has {{{{{other}}}}}; the markup is one of {known}"));
        }
    })
}

/// Labels first, then variables of the environment, which win where a name is both's.
pub(crate) fn attributes(options: &Options<'_>, origin: &Origin) -> Result<BTreeMap<String, String>, OptionError> {
    let mut found = BTreeMap::new();
    for (names, pattern, from) in
        [("labels", "labels-regex", &origin.labels), ("env", "env-regex", &origin.environment)]
    {
        for name in options.text(names).unwrap_or_default().split(',') {
            if let Some(value) = from.get(name.trim()) {
                found.insert(name.trim().to_owned(), value.clone());
            }
        }
        if let Some(text) = options.text(pattern).filter(|text| !text.is_empty()) {
            let regex =
                Regex::new(text).map_err(|error| options.bad(pattern, format!("is no regular expression: {error}")))?;
            let matching = from.iter().filter(|(name, _)| regex.is_match(name));
            found.extend(matching.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example;
    use crate::options::example::options;

    /// The example of Docker's page on log tags.
    #[test]
    fn the_markup_is_dockers() {
        let origin = example::origin();
        let tag = |template: &str| render(template, &origin);
        assert_eq!(tag("{{.ImageName}}/{{.Name}}/{{.ID}}").as_deref(), Ok("hello-world/foobar/5790672ab6a0"));
        assert_eq!(tag("{{ .ImageID }}").as_deref(), Ok("fce289e99eb9"));
        assert_eq!(tag("plain").as_deref(), Ok("plain"));
        assert!(tag("{{.Nothing}}").expect_err("unknown").contains(".ImageFullID"));
        assert!(tag("{{.ID").expect_err("open").contains("without"));
    }

    #[test]
    fn labels_and_variables_are_chosen_by_name_and_by_pattern() {
        let origin = example::origin();
        let map = options(&[("labels", "location,none"), ("env-regex", "^F"), ("labels-regex", "tier$")]);
        let found = attributes(&Options::new("gelf", &map), &origin).expect("good options");
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("FOO", "bar"), ("com.example.tier", "front"), ("location", "west")]);
        let wrong = options(&[("env-regex", "(")]);
        let error = attributes(&Options::new("gelf", &wrong), &origin).expect_err("no pattern");
        assert!(error.to_string().contains("env-regex"), "{error}");
    }
}
