//! What a resolver decides: which names are a host's own and what they mean, what is cached and for how long, and how
//! an answer from elsewhere is passed on. Bytes in, bytes out. Pure: sockets and the clock are `host-services`'.
