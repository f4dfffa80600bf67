//! The page of `coracle/hello`: one HTML file that loads nothing else. Pure.

use serde_json::Value;

use super::facts::Facts;
use crate::output;

pub(super) fn html(facts: &Facts) -> String {
    let metadata = &facts.metadata;
    let container = text(metadata, "ContainerName").unwrap_or_else(|| facts.hostname.clone());
    let task = text(metadata, "TaskARN").unwrap_or_default();
    let family = match (text(metadata, "TaskDefinitionFamily"), text(metadata, "TaskDefinitionRevision")) {
        (Some(family), Some(revision)) => format!("{family}:{revision}"),
        _ => String::new(),
    };
    let rows = [
        ("Task", task.rsplit('/').next().unwrap_or_default().to_owned()),
        ("Task definition", family),
        ("Cluster", text(metadata, "Cluster").unwrap_or_default()),
        ("Image", text(metadata, "ImageName").unwrap_or_default()),
        ("Image digest", text(metadata, "ImageID").unwrap_or_default()),
        ("Container id", text(metadata, "ContainerID").unwrap_or_default()),
        ("Network", networks(metadata)),
        ("Ports", ports(metadata)),
        ("Hostname", facts.hostname.clone()),
        ("Memory limit", facts.memory_limit.map(output::bytes).unwrap_or_default()),
        ("Seccomp", facts.seccomp.clone().unwrap_or_default()),
        ("Capabilities", facts.capabilities.clone().unwrap_or_default()),
        ("Process", format!("pid {}, up for {} s", facts.pid, facts.uptime_s)),
        ("Kernel", facts.kernel.clone()),
    ];
    let rows: String = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escape(value)))
        .collect();
    PAGE.replace("{version}", facts.version).replace("{rows}", &rows).replace("{container}", &escape(&container))
}

fn text(metadata: &Value, name: &str) -> Option<String> {
    metadata.get(name)?.as_str().map(str::to_owned)
}

fn networks(metadata: &Value) -> String {
    let networks = metadata.get("Networks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let shown = networks.iter().map(|network| {
        let addresses = network.get("IPv4Addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let addresses: Vec<&str> = addresses.iter().filter_map(Value::as_str).collect();
        format!("{} {}", text(network, "NetworkMode").unwrap_or_default(), addresses.join(", "))
    });
    shown.collect::<Vec<_>>().join("; ").trim().to_owned()
}

fn ports(metadata: &Value) -> String {
    let mappings = metadata.get("PortMappings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let member = |mapping: &Value, name: &str| match mapping.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let either = |mapping: &Value, name: &str| {
        let one = member(mapping, name);
        if one.is_empty() { member(mapping, &format!("{name}Range")) } else { one }
    };
    let shown = mappings.iter().map(|mapping| {
        format!(
            "{} on the host \u{2192} {}/{}",
            either(mapping, "HostPort"),
            either(mapping, "ContainerPort"),
            member(mapping, "Protocol")
        )
    });
    shown.collect::<Vec<_>>().join("; ")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Braces never reach the template's own place holders.
            '{' => out.push_str("&#123;"),
            _ => out.push(letter),
        }
    }
    out
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{container} · coracle</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --ink: #16323f; --soft: #5b7684; --paper: #fff; --sky: #e6f1f4; --water: #2a7f9e; --hull: #8a5a2b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dcebf0; --soft: #8fb0bd; --paper: #12242c; --sky: #0b181e; --water: #2f8fb0; --hull: #b9803f; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; background: var(--sky); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem; }
header { display: flex; align-items: center; gap: 1.25rem; }
svg { width: 6rem; flex: none; }
.boat { animation: rock 4s ease-in-out infinite; transform-origin: 60px 70px; }
@keyframes rock { 0%, 100% { transform: rotate(-4deg); } 50% { transform: rotate(4deg); } }
@media (prefers-reduced-motion: reduce) { .boat { animation: none; } }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; }
p { margin: .3rem 0 0; color: var(--soft); }
table { width: 100%; margin-top: 2rem; border-collapse: collapse; background: var(--paper); border-radius: .75rem; overflow: hidden; }
th, td { padding: .6rem 1rem; text-align: left; vertical-align: top; border-top: 1px solid color-mix(in srgb, var(--soft) 25%, transparent); }
tr:first-child th, tr:first-child td { border-top: 0; }
th { width: 10rem; font-weight: 500; color: var(--soft); }
td { font-family: ui-monospace, monospace; font-size: .9rem; overflow-wrap: anywhere; }
footer { margin-top: 1.25rem; color: var(--soft); font-size: .9rem; }
a { color: var(--water); }
@media (max-width: 34rem) { th, td { display: block; width: auto; padding: .5rem 1rem; } td { border-top: 0; padding-top: 0; } }
</style>
</head>
<body>
<main>
<header>
<svg viewBox="0 0 120 100" role="img" aria-label="A small round boat">
<g class="boat">
<path d="M60 14 v40" stroke="var(--hull)" stroke-width="4" stroke-linecap="round"/>
<path d="M64 16 C84 22 88 40 86 50 L64 50 Z" fill="var(--water)" opacity=".85"/>
<path d="M22 56 H98 C96 78 80 86 60 86 C40 86 24 78 22 56 Z" fill="var(--hull)"/>
<path d="M20 56 H100" stroke="var(--ink)" stroke-width="4" stroke-linecap="round"/>
</g>
<path d="M4 88 q9 -7 18 0 t18 0 t18 0 t18 0 t18 0 t18 0" fill="none" stroke="var(--water)" stroke-width="4" stroke-linecap="round"/>
</svg>
<div>
<h1>Hello from {container}</h1>
<p>An Amazon ECS task, running on a machine of yours.</p>
</div>
</header>
<table>
{rows}</table>
<footer>coracle {version} · <a href="/json">/json</a> · <a href="/healthz">/healthz</a></footer>
</main>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(metadata: Value) -> Facts {
        Facts {
            metadata,
            hostname: "box".to_owned(),
            kernel: "6.1".to_owned(),
            pid: 1,
            uptime_s: 3,
            seccomp: Some("filter".to_owned()),
            capabilities: None,
            memory_limit: Some(64_000_000),
            version: "0.1.0",
        }
    }

    #[test]
    fn the_page_shows_the_task() {
        let page = html(&facts(json!({
            "TaskARN": "arn:aws:ecs:us-east-1:000000000000:task/default/abc",
            "ContainerName": "web",
            "PortMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp"}],
            "Networks": [{"NetworkMode": "bridge", "IPv4Addresses": ["172.29.0.2"]}],
        })));
        for part in ["Hello from web", "<td>abc</td>", "8080 on the host \u{2192} 80/tcp", "bridge 172.29.0.2", "64 MB"]
        {
            assert!(page.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn metadata_is_text_and_not_markup() {
        let page = html(&facts(json!({"ContainerName": "<script>", "ImageName": "{container}\"'&"})));
        assert!(!page.contains("<script>"));
        assert!(page.contains("&lt;script&gt;") && page.contains("&#123;container}&quot;&#39;&amp;"));
    }

    #[test]
    fn outside_of_a_task_it_says_what_it_can() {
        assert!(html(&facts(Value::Null)).contains("Hello from box"));
    }
}
