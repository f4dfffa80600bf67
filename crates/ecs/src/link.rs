//! One of a container's `links`: `name` or `name:alias`
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>, `links`).

/// The other container, and what the linking one calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    pub container: &'a str,
    /// The container's name where none is given, as Amazon's agent has it.
    pub alias: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no link: it is CONTAINER or CONTAINER:ALIAS, and an alias is letters, digits, '-', '_' and '.', the first a letter or digit"
)]
pub struct NotALink {
    pub given: String,
}

impl<'a> Link<'a> {
    pub fn parse(text: &'a str) -> Result<Self, NotALink> {
        let (container, alias) = text.split_once(':').unwrap_or((text, text));
        // An alias becomes a word of /etc/hosts and the beginning of variables' names.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_word =
            |word: &str| word.starts_with(|first: char| first.is_ascii_alphanumeric()) && word.bytes().all(allowed);
        if container.is_empty() || !is_word(alias) {
            return Err(NotALink { given: text.to_owned() });
        }
        Ok(Self { container, alias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_name_with_or_without_an_alias() {
        assert_eq!(Link::parse("db"), Ok(Link { container: "db", alias: "db" }));
        assert_eq!(Link::parse("db_1:my-db.local"), Ok(Link { container: "db_1", alias: "my-db.local" }));
        for bad in ["", ":", "db:", ":db", "db:a:b", "db:a b", "db:a\nb", "db:-a"] {
            assert!(Link::parse(bad).is_err(), "{bad:?}");
        }
    }
}
