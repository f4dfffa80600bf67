//! Ids as EC2 writes them: a prefix and 8 or 17 hexadecimal digits
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html>).

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an id such as {prefix}-0123456789abcdef0: {prefix}- and 8 or 17 hexadecimal digits")]
pub struct BadId {
    given: String,
    prefix: &'static str,
}

const SHORT_DIGITS: usize = 8;
const LONG_DIGITS: usize = 17;

fn check(given: String, prefix: &'static str) -> Result<String, BadId> {
    let digits = given.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    let good = digits.is_some_and(|digits| {
        matches!(digits.len(), SHORT_DIGITS | LONG_DIGITS)
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    if good { Ok(given) } else { Err(BadId { given, prefix }) }
}

macro_rules! id {
    ($(#[$documentation:meta])* $name:ident, $prefix:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub const PREFIX: &str = $prefix;

            /// A new one out of 17 hexadecimal digits' worth of randomness; more bits are left out.
            pub fn from_random(random: u128) -> $name {
                let digits = random & ((1 << (4 * LONG_DIGITS)) - 1);
                $name(format!("{}-{digits:017x}", $prefix))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(given: String) -> Result<$name, BadId> {
                check(given, $prefix).map($name)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

id!(VpcId, "vpc");
id!(SubnetId, "subnet");
id!(SecurityGroupId, "sg");
id!(SecurityGroupRuleId, "sgr");
id!(NetworkInterfaceId, "eni");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_other_words() {
        for good in ["sg-12345678", "sg-0123456789abcdef0"] {
            assert_eq!(SecurityGroupId::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", "sg-", "sg-1234567", "sg-123456789", "sg-0123456789ABCDEF0", "eni-12345678", "sg-1234567g"] {
            assert!(SecurityGroupId::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        let id = NetworkInterfaceId::from_random(u128::MAX);
        assert_eq!(id.as_str(), "eni-fffffffffffffffff");
        assert_eq!(NetworkInterfaceId::try_from(id.to_string()).unwrap(), id);
    }
}
