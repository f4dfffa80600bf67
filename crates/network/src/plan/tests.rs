//! Plans from requests.
