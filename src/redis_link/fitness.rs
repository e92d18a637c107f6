//! Whether a server is one to trust with what was spent. Why looked at before the start: a cache that throws away what it
//! has no room for hands the same quota out twice, and nobody would notice before the bill.

use std::collections::HashMap;

use redis::{InfoDict, Value};

use super::{Link, LinkError};

/// Oldest server that Weir works with.
const OLDEST: u64 = 7;

/// What was found out about a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Its version, as it says.
    pub version: String,
    /// Why it cannot be used.
    pub refused: Option<String>,
    /// What may be lost, and when.
    pub warnings: Vec<String>,
    /// Whether it can say that a write is on its disk (`WAITAOF`).
    pub confirms: bool,
}

impl Link {
    /// Looks at the server.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn inspect(&self) -> Result<Fitness, LinkError> {
        let mut fitness = Fitness::default();
        if !self.is_cluster() {
            let info: InfoDict = self.ask(redis::cmd("INFO").arg("server")).await?;
            let version = info.get::<String>("valkey_version").or_else(|| info.get("redis_version"));
            fitness.version = version.unwrap_or_default();
            let mut parts = fitness.version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
            let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
            if major < OLDEST {
                fitness.refused =
                    Some(format!("Redis {} is too old: Weir needs 7.0 or later", fitness.version));
            }
            let appends = self.setting("appendonly").await;
            fitness.confirms = (major, minor) >= (7, 2) && appends.as_deref() == Some("yes");
        }
        for (name, good, warning) in LOSSES {
            match self.setting(name).await {
                Some(value) if good.contains(&value.as_str()) => {}
                Some(value) => fitness.warnings.push(format!("Redis has `{name} {value}`: {warning}")),
                None => fitness
                    .warnings
                    .push(format!("Redis does not tell its `{name}`; should it be wrong, {warning}")),
            }
        }
        let written = self.ask::<Value>(redis::cmd("SET").arg("weir:1:probe").arg(1).arg("EX").arg(60)).await;
        if let Err(error) = written {
            fitness.refused.get_or_insert(format!("nothing can be written there: {error}"));
        }
        if self.address().is_strict && !fitness.warnings.is_empty() {
            fitness
                .refused
                .get_or_insert(format!("{} (`strict=true` refuses that)", fitness.warnings.join("; ")));
        }
        Ok(fitness)
    }

    /// A setting of the server, where it tells.
    async fn setting(&self, name: &str) -> Option<String> {
        let found: HashMap<String, String> =
            self.ask(redis::cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
        found.get(name).cloned()
    }
}

/// (setting, values that are good, what would be lost otherwise).
const LOSSES: [(&str, &[&str], &str); 3] = [
    (
        "maxmemory-policy",
        &["noeviction"],
        "when its memory is full it throws away counters, and quota that was spent is handed out again, or API keys, and \
         callers are locked out",
    ),
    (
        "appendonly",
        &["yes"],
        "when it crashes it forgets what was spent and which keys were made or revoked since its last snapshot",
    ),
    (
        "appendfsync",
        &["always", "everysec"],
        "when its machine crashes it forgets up to half a minute of what was spent, and of keys made or revoked",
    ),
];
