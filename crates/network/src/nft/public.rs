//! Public addresses: each is mapped to one interface's private address in both directions, as Amazon's are
//! (<https://docs.aws.amazon.com/vpc/latest/userguide/vpc-igw-internet-access.html>).

use std::net::Ipv4Addr;

use super::batch::Element;
use super::interface_rules::{PUBLIC_IN, PUBLIC_OUT};

pub(super) fn entries(public: Ipv4Addr, private: Ipv4Addr, comment: &str) -> [(String, Element); 2] {
    [(PUBLIC_IN, public, private), (PUBLIC_OUT, private, public)].map(|(map, key, data)| {
        let (key, data) = (key.octets().to_vec(), Some(data.octets().to_vec()));
        (map.to_owned(), Element { key, data, comment: Some(comment.to_owned()), ..Element::default() })
    })
}
