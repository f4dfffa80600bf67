//! An image of the store as a supervisor is given it. Pure.

use agent_protocol::task_spec::{ImageConfig, ResolvedImage};
use images::Image;

pub fn resolved(image: Image) -> ResolvedImage {
    let config = image.config;
    ResolvedImage {
        digest: image.digest.to_string(),
        layers: image.layers,
        config: ImageConfig {
            user: config.user,
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal,
            volumes: config.volumes,
            exposed_ports: config.exposed_ports,
            labels: config.labels,
        },
    }
}
