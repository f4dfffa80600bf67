//! Pages of lists. A token holds the last key of its page, so that what comes and goes between two pages shifts nothing: an
//! item that is there all the time is listed exactly once.
//!
//! The token also holds a mark of the operation and its filters ("be sure to keep the status value constant in each
//! subsequent request", API_ListTaskDefinitions). It is no secret: who forges one learns nothing that the list does not say.

use std::ops::Bound;

use ecs::operations::ApiError;

/// How many items one page holds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without maxResults.
    pub default: usize,
    pub most: usize,
}

/// "If this parameter isn't used, then … returns up to 100 results".
pub const LONG: Limits = Limits { default: 100, most: 100 };
/// DescribeCapacityProviders and ListAccountSettings.
pub const SHORT: Limits = Limits { default: 10, most: 10 };

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub operation: &'a str,
    /// Every member that decides what is listed, in a fixed order.
    pub filters: &'a [Option<&'a str>],
    pub max_results: Option<i64>,
    pub next_token: Option<&'a str>,
    pub limits: Limits,
}

/// One page that is to be made.
#[derive(Clone, Debug)]
pub struct Page {
    size: usize,
    after: Option<String>,
    filters: u64,
}

impl Page {
    /// # Errors
    /// InvalidParameterException for a size out of bounds and for a token that was not made for this list.
    pub fn read(asked: Asked<'_>) -> Result<Page, ApiError> {
        let Limits { default, most } = asked.limits;
        let size = match asked.max_results {
            None => default,
            Some(size) => usize::try_from(size)
                .ok()
                .filter(|size| (1..=most).contains(size))
                .ok_or_else(|| ApiError::invalid(format!("maxResults should be between 1 and {most}.")))?,
        };
        let filters = fingerprint(asked.operation, asked.filters);
        let after = match asked.next_token {
            None => None,
            Some(token) => Some(key_in(token, filters).ok_or_else(invalid_token)?),
        };
        Ok(Page { size, after, filters })
    }

    /// The key after which the page begins; nothing on the first page.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Where the page begins and ends in a map whose keys are these.
    pub fn bounds(&self) -> (Bound<String>, Bound<String>) {
        (self.after.clone().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
    }

    /// The page's items and the next page's token out of what is listed from `after` on, in the order of the keys.
    pub fn cut<Item>(&self, listed: impl Iterator<Item = (String, Item)>) -> (Vec<Item>, Option<String>) {
        let mut listed = listed;
        let mut items = Vec::new();
        let mut last = None;
        for (key, item) in listed.by_ref().take(self.size) {
            items.push(item);
            last = Some(key);
        }
        let token = match (last, listed.next()) {
            (Some(key), Some(_)) => Some(token(&key, self.filters)),
            _ => None,
        };
        (items, token)
    }
}

/// For a key that no item of the list can have.
pub fn invalid_token() -> ApiError {
    ApiError::invalid("Invalid token.")
}

fn token(key: &str, filters: u64) -> String {
    let seal = seal(key, filters);
    let bytes = seal.to_be_bytes().into_iter().chain(key.bytes());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn key_in(token: &str, filters: u64) -> Option<String> {
    if !token.len().is_multiple_of(2) || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = token.as_bytes().chunks_exact(2);
    let bytes: Vec<u8> = pairs.map(|pair| Some(digit(pair[0])? * 16 + digit(pair[1])?)).collect::<Option<_>>()?;
    let (sealed, key) = bytes.split_first_chunk::<8>()?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    (u64::from_be_bytes(*sealed) == seal(&key, filters)).then_some(key)
}

fn seal(key: &str, filters: u64) -> u64 {
    fnv1a(fnv1a(FNV_OFFSET, &filters.to_be_bytes()), key.as_bytes())
}

/// Of the operation and its filters; an absent filter differs from an empty one.
fn fingerprint(operation: &str, filters: &[Option<&str>]) -> u64 {
    let mut hash = fnv1a(FNV_OFFSET, operation.as_bytes());
    for filter in filters {
        hash = match filter {
            None => fnv1a(hash, &[0]),
            Some(text) => fnv1a(fnv1a(hash, &[1]), text.as_bytes()),
        };
        hash = fnv1a(hash, &[0xff]);
    }
    hash
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same on every machine and in every version.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn asked<'a>(filters: &'a [Option<&'a str>], max: Option<i64>, token: Option<&'a str>) -> Asked<'a> {
        Asked { operation: "ListTasks", filters, max_results: max, next_token: token, limits: LONG }
    }

    fn page_of(set: &BTreeSet<String>, max: i64, token: Option<&str>) -> (Vec<String>, Option<String>) {
        let page = Page::read(asked(&[Some("x")], Some(max), token)).expect("our own token");
        page.cut(set.range(page.bounds()).map(|key| (key.clone(), key.clone())))
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        for size in [0, -1, 101, i64::MAX] {
            let refused = Page::read(asked(&[], Some(size), None)).expect_err("refused").to_string();
            assert_eq!(refused, "InvalidParameterException: maxResults should be between 1 and 100.");
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        let set: BTreeSet<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let (items, token) = page_of(&set, 2, None);
        assert_eq!(items, ["a", "b"]);
        let (items, token) = page_of(&set, 2, token.as_deref());
        assert_eq!((items, token), (vec!["c".to_owned(), "d".to_owned()], None));
    }

    #[test]
    fn tokens_of_other_lists_and_forged_ones_are_refused() {
        let set: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
        let (_, token) = page_of(&set, 1, None);
        let token = token.expect("there is more");
        let other = Page::read(asked(&[Some("y")], None, Some(&token))).expect_err("another filter");
        assert_eq!(other.to_string(), "InvalidParameterException: Invalid token.");
        assert!(Page::read(asked(&[None], None, Some(&token))).is_err());
        let elsewhere = Asked { operation: "ListClusters", ..asked(&[Some("x")], None, Some(&token)) };
        assert!(Page::read(elsewhere).is_err());
        let mut forged = token.clone();
        forged.replace_range(forged.len() - 1.., if token.ends_with('0') { "1" } else { "0" });
        for bad in ["", "0", "zz", "é", "0123456789abcdef", &token[..16], &forged] {
            assert!(Page::read(asked(&[Some("x")], None, Some(bad))).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Between pages some items come and others go; those that stay are listed exactly once, in order.
        #[test]
        fn what_stays_is_listed_exactly_once(
            stays in prop::collection::btree_set("[a-f]{1,3}", 0..40),
            churn in prop::collection::vec(prop::collection::btree_set("[a-f]{1,3}", 0..20), 1..20),
            size in 1i64..7,
        ) {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            let mut token = None;
            for round in 0.. {
                prop_assert!(round < 1000, "the pages have no end");
                let set: BTreeSet<String> = stays.union(&churn[round % churn.len()]).cloned().collect();
                let (items, next) = page_of(&set, size, token.as_deref());
                for item in items {
                    *seen.entry(item).or_default() += 1;
                }
                token = next;
                if token.is_none() {
                    break;
                }
            }
            for item in &stays {
                prop_assert_eq!(seen.get(item), Some(&1));
            }
            prop_assert!(seen.values().all(|times| *times == 1));
        }
    }
}
