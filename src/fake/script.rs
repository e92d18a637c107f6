//! What the simulated platform was told to be. Why a file: a test or a demo says "this key has no credit, that one may
//! make two requests a minute" in data, and the fake enforces it in each platform's own words.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::fake::oauth::Setup;

/// The whole script. Empty = every well-formed key is good and nothing is limited.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// What holds for keys that are not listed.
    pub defaults: Account,
    /// Accounts by key: the API key, `id.secret` for Zhipu, the API key (AK) for Baidu V1 and for Spark's WebSocket.
    pub accounts: BTreeMap<String, Account>,
    /// Refuse keys that are not listed.
    pub only_listed: bool,
    /// Longest prompt, in tokens; a longer one is refused as too long.
    pub context_tokens: u64,
    /// Simulated OAuth servers by name (`github`, …; `all`): clients, settings, people.
    pub idp: BTreeMap<String, Setup>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            defaults: Account::default(),
            accounts: BTreeMap::new(),
            only_listed: false,
            context_tokens: 200_000,
            idp: BTreeMap::new(),
        }
    }
}

/// One account, or the defaults of all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    /// Only on this platform (`openai`, `baidu-v1`, …); on every platform when absent.
    pub platform: Option<String>,
    /// The secret that belongs to the key: SK of Baidu V1, APISecret of Spark's WebSocket.
    pub secret: Option<String>,
    /// Requests per window of 60 s.
    pub rpm: Option<u64>,
    /// Tokens (prompt and answer) per window of 60 s.
    pub tpm: Option<u64>,
    /// Requests in flight.
    pub concurrency: Option<u64>,
    /// Tokens per day.
    pub daily_tokens: Option<u64>,
    /// The key was withdrawn.
    pub revoked: bool,
    /// The account cannot pay.
    pub no_credit: bool,
    /// The token is past its time. For Baidu V1: the tokens handed out so far; the next one is good.
    pub expired: bool,
    /// Models that the account may use; all when absent.
    pub models: Option<Vec<String>>,
    /// Delay before every answer, in milliseconds.
    pub latency_ms: u64,
    /// Directives (`@gap=10 @ping`) that steer every answer to this account.
    pub directives: String,
}

impl Script {
    /// Reads a script from YAML (or JSON, which is YAML).
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// The account behind `key` on `platform`: its own entry, or the defaults. The flag says whether it is listed.
    pub fn account(&self, platform: &str, key: &str) -> (&Account, bool) {
        match self.accounts.get(key) {
            Some(own) if own.platform.as_deref().is_none_or(|name| name == platform) => (own, true),
            _ => (&self.defaults, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_accounts_by_key_and_refuses_typos() {
        let script = Script::parse("accounts: {sk-a: {rpm: 2, platform: openai}}").unwrap();
        assert_eq!(script.account("openai", "sk-a").0.rpm, Some(2));
        assert!(script.account("openai", "sk-a").1);
        assert_eq!(script.account("qwen", "sk-a").0.rpm, None);
        assert!(Script::parse("accounts: {sk-a: {rmp: 2}}").is_err());
        assert!(Script::parse("").is_ok());
    }
}
