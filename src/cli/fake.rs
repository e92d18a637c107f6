//! `weir fake`: the simulated platforms alone. Why: to try a configuration, or to load a gateway, without spending money.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::fake::{Script, Settings, endpoints, serve};

/// Prints where each platform is to be found, and serves until stopped.
pub async fn run(listen: SocketAddr, script: Option<PathBuf>) -> anyhow::Result<()> {
    let script = match script {
        None => Script::default(),
        Some(path) => {
            let text = tokio::fs::read_to_string(&path).await;
            let text = text.with_context(|| format!("reading {}", path.display()))?;
            Script::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?
        }
    };
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let addr = listener.local_addr()?;
    let mut out = std::io::stdout().lock();
    for (name, base_url) in endpoints(addr) {
        writeln!(out, "{name:<12} {base_url}")?;
    }
    writeln!(out, "{:<12} http://{addr}/_fake/counters  (also requests, script, reset)", "books")?;
    writeln!(
        out,
        "{:<12} http://{addr}/_fake/idp  (simulated OAuth servers and their addresses)",
        "sign-in"
    )?;
    drop(out);
    Ok(serve(listener, Settings { script }, Clock::system()).await?)
}
