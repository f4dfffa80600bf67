//! A signer of its own for the tests: what a client does, written from Amazon's page and held against its test suite only
//! by way of the verifier. It signs what it is told to, right or wrong.

use ecs::Timestamp;
use hmac_sha256::{HMAC, Hash};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};

pub(crate) const KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const DATE: &str = "20261123T120000Z";

/// [`DATE`].
pub(crate) fn now() -> Timestamp {
    Timestamp::from_rfc3339("2026-11-23T12:00:00Z").expect("it is a date")
}

/// A request before and after it is signed. Its path and query are as they are sent.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Canonical already: escaped and sorted.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) algorithm: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) date: String,
    pub(crate) day: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) terminator: String,
    /// Left out of the names that are signed.
    pub(crate) unsigned: Vec<String>,
    pub(crate) expires: String,
}

impl Draft {
    /// ListClusters, as an SDK asks for it.
    pub(crate) fn list_clusters() -> Self {
        let headers = [
            ("host", "127.0.0.1:4870"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListClusters"),
            ("user-agent", "sdk/1.0"),
        ];
        Draft {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: br#"{"maxResults": 5}"#.to_vec(),
            algorithm: "AWS4-HMAC-SHA256".to_owned(),
            key: KEY.to_owned(),
            secret: SECRET.to_owned(),
            date: DATE.to_owned(),
            day: DATE[..8].to_owned(),
            region: "eu-north-7".to_owned(),
            service: "ecs".to_owned(),
            terminator: "aws4_request".to_owned(),
            unsigned: vec!["user-agent".to_owned()],
            expires: "60".to_owned(),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(own, _)| own != name);
        self.add(name, value);
    }

    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn header(&mut self, name: &str) -> &mut String {
        let found = self.headers.iter_mut().find(|(own, _)| own == name);
        &mut found.unwrap_or_else(|| panic!("no header {name}")).1
    }

    pub(crate) fn parameter(&mut self, name: &str) -> &mut String {
        let found = self.query.iter_mut().find(|(own, _)| own == name);
        &mut found.unwrap_or_else(|| panic!("no parameter {name}")).1
    }

    /// With an Authorization header.
    pub(crate) fn sign(&mut self) {
        let date = self.date.clone();
        self.set("x-amz-date", &date);
        let names = self.signed_names();
        let credential = format!("{}/{}", self.key, self.scope());
        let signature = self.signature(&names);
        let text = format!("{} Credential={credential}, SignedHeaders={names}, Signature={signature}", self.algorithm);
        self.set("authorization", &text);
    }

    /// In the query.
    pub(crate) fn presign(&mut self) {
        let credential = format!("{}/{}", self.key, self.scope()).replace('/', "%2F");
        let names = self.signed_names();
        let own = [
            ("X-Amz-Algorithm", self.algorithm.clone()),
            ("X-Amz-Credential", credential),
            ("X-Amz-Date", self.date.clone()),
            ("X-Amz-Expires", self.expires.clone()),
            ("X-Amz-SignedHeaders", names.replace(';', "%3B")),
        ];
        self.query.extend(own.map(|(name, value)| (name.to_owned(), value)));
        self.query.sort();
        let signature = self.signature(&names);
        self.query.push(("X-Amz-Signature".to_owned(), signature));
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/{}", self.day, self.region, self.service, self.terminator)
    }

    fn signed_names(&self) -> String {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.retain(|name| *name != "authorization" && !self.unsigned.iter().any(|unsigned| unsigned == name));
        names.sort_unstable();
        names.dedup();
        names.join(";")
    }

    fn signature(&self, names: &str) -> String {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut canonical = format!("{}\n{}\n{}\n", self.method, self.path, query.join("&"));
        for name in names.split(';') {
            let values = self.headers.iter().filter(|(own, _)| own == name);
            let values: Vec<String> =
                values.map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            canonical += &format!("{name}:{}\n", values.join(","));
        }
        canonical += &format!("\n{names}\n{}", hex(&Hash::hash(&self.body)));
        let hash = hex(&Hash::hash(canonical.as_bytes()));
        let text = format!("{}\n{}\n{}\n{hash}", self.algorithm, self.date, self.scope());
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for step in [&self.day, &self.region, &self.service, &self.terminator, &text] {
            key = HMAC::mac(step.as_bytes(), &key).to_vec();
        }
        hex(&key)
    }

    /// As it arrives.
    pub(crate) fn head(&self) -> Parts {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let uri = if query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, query.join("&")) };
        let mut request = Request::builder().method(self.method.as_str()).uri(uri);
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
        }
        request.body(()).expect("a request that HTTP can carry").into_parts().0
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
