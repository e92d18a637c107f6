//! What operators do from a terminal: accounts, the vault, the audit log. Why through the admin API in any case: the store
//! belongs to one process, and there must be one way to change it. While the gateway runs it is asked over its admin port;
//! while it does not, the same API is built here over the same store, and asked without a socket in between.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tower_service::Service;
use url::Url;
use zeroize::Zeroizing;

use super::backing::{self, Backing};
use super::login::Login;
use super::{say, wiring};
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::http::plane::{self, Operations, Plane};
use crate::ids::random_name;
use crate::pool::Pool;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::vault::KEY_FILE;

/// For one question to the running gateway: a rotation or a test of an account takes its time.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Largest credential file, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// Accounts.
#[derive(clap::Subcommand, Debug)]
pub enum AccountCommand {
    /// Adds an account; its credential comes from a file or from standard input, never from the command line.
    Add(Box<NewAccount>),
    /// Adds an account by its owner's consent: prints where to agree, and waits for it.
    Login(Box<Login>),
    /// Shows all accounts (never a credential).
    List,
    /// Asks an account's platform for a few words.
    Test {
        id: String,
        /// By which model; default: the first that is known.
        #[arg(long)]
        model: Option<String>,
    },
    /// Switches an account on or off.
    Toggle {
        id: String,
        /// On.
        #[arg(long, conflicts_with = "off")]
        on: bool,
        /// Off. Without either: to the other of the two.
        #[arg(long)]
        off: bool,
    },
    /// Forgets an account and its credential.
    Remove { id: String },
}

/// What is said of a new account.
#[derive(clap::Args, Debug)]
pub struct NewAccount {
    /// Its platform, as in `weir check`.
    #[arg(long)]
    platform: String,
    /// What to call it.
    #[arg(long)]
    name: String,
    /// File with the credential: a key alone, or lines such as `access_key=…`. Default, or `-`: standard input.
    #[arg(long, default_value = "-")]
    credential: PathBuf,
    /// Whose it is: who sees and manages it. Default: operators alone.
    #[arg(long)]
    owner: Option<String>,
    /// Whom it carries, comma-separated. Default: its owner, or everyone.
    #[arg(long, value_delimiter = ',')]
    tenants: Vec<String>,
    /// Models that it serves, comma-separated. Default: all of the platform's.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Its own address, where that is not the platform's.
    #[arg(long)]
    base_url: Option<String>,
    /// Requests per minute.
    #[arg(long)]
    rpm: Option<u64>,
    /// Tokens per minute.
    #[arg(long)]
    tpm: Option<u64>,
    /// Requests at once.
    #[arg(long)]
    concurrency: Option<u64>,
    /// Requests per day.
    #[arg(long)]
    daily_requests: Option<u64>,
    /// Tokens per day.
    #[arg(long)]
    daily_tokens: Option<u64>,
    /// Its share under strategy `weighted`.
    #[arg(long)]
    weight: Option<u32>,
    /// Under strategy `priority`: the lowest goes first.
    #[arg(long)]
    priority: Option<u32>,
}

/// The vault.
#[derive(clap::Subcommand, Debug)]
pub enum VaultCommand {
    /// Encrypts every record with the first key of `vault.keys`, while requests go on.
    Rotate,
}

/// Weir as an issuer of tokens.
#[derive(clap::Subcommand, Debug)]
pub enum ProviderCommand {
    /// Makes a new signing key. The old one verifies until the last token that it signed is dead.
    RotateKey {
        /// End the old keys at once, with every token: for a key that somebody else may have.
        #[arg(long)]
        at_once: bool,
    },
}

/// The audit log.
#[derive(clap::Subcommand, Debug)]
pub enum AuditCommand {
    /// Shows who did what, and when.
    List {
        /// Entries after this place.
        #[arg(long)]
        after: Option<u64>,
        /// At most so many, up to 100.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Looks through the whole log, and names the first entry that is not as it was written.
    Verify,
}

/// Who is asked.
pub enum Office {
    Here { router: axum::Router, operator: Secret },
    There { url: Url, token: Option<Secret>, client: reqwest::Client },
}

/// What the admin API refused.
#[derive(Debug, thiserror::Error)]
#[error("refused (status {status}): {why}")]
pub(super) struct Denied {
    pub status: u16,
    pub code: String,
    pub why: String,
}

struct NothingRuns;

impl Operations for NothingRuns {
    fn reload(&self) -> Result<(), String> {
        Err("The gateway is not running.".to_owned())
    }
}

impl Office {
    /// Opens the store that the configuration names, or turns to the gateway that holds it.
    pub async fn reach(config: &Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !matches!(config.store, StoreUrl::Memory),
            "a store in memory keeps nothing beyond its gateway's life"
        );
        let clock = Clock::system();
        let folder = wiring::state_folder(config);
        let opened = match &config.store {
            StoreUrl::Redis(address) => backing::reach(address).await,
            StoreUrl::Embedded(_) | StoreUrl::Memory => Backing::open(config, Duration::ZERO, &clock),
        };
        let backing = match opened {
            Ok(backing) => backing,
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::Locked(_))) => {
                let url = format!("http://{}/", config.admin_listen).parse()?;
                let token = wiring::read_operator_token(&folder);
                return Ok(Self::There { url, token, client: wiring::back_office()? });
            }
            Err(error) => return Err(error),
        };
        let key_file = folder.join(KEY_FILE);
        let had_key = key_file.exists();
        // Nothing is spent from here: limits are the gateway's affair.
        let pool = Pool::new(config.pool.clone(), clock.clone(), None);
        let house = wiring::house(config, backing.records(), pool, None, &clock).await?;
        if !had_key && key_file.exists() {
            super::say_error(&format!(
                "made a key that encrypts the store's credentials: {}",
                key_file.display()
            ));
        }
        let staff = wiring::staff(&house, backing.records(), &clock)?;
        let operator = Secret::new(random_name("operator-", 43));
        let plane = Plane {
            // Nobody signs in from here.
            #[cfg(feature = "browser")]
            browsing: crate::gateway::onboard::browsing::Browsing::new(
                Arc::clone(&house.onboard),
                Default::default(),
            ),
            gateway: house.gateway,
            operations: Arc::new(NothingRuns),
            keys: house.keys,
            records: backing.records(),
            onboard: house.onboard,
            consents: staff.consents,
            renewals: staff.renewals,
            departures: staff.departures,
            own_url: wiring::own_url(config),
            people: house.people,
            provider: house.provider,
            operator: Arc::new(operator.clone()),
            metrics_are_open: false,
        };
        Ok(Self::Here { router: plane::admin(plane), operator })
    }

    /// Asks, and gives back what was answered.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut url = match self {
            Self::Here { .. } => Url::parse("http://weir/")?,
            Self::There { url, .. } => url.clone(),
        };
        match url.path_segments_mut() {
            // `extend` escapes whatever an id may hold.
            Ok(mut segments) => drop(segments.pop_if_empty().push("admin").extend(path)),
            Err(()) => anyhow::bail!("not a URL of an admin port"),
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let body = Zeroizing::new(body.map(Value::to_string).unwrap_or_default());
        let (status, bytes) = match self {
            Self::Here { router, operator } => here(router, operator, method, &url, &body).await?,
            Self::There { token, client, .. } => there(token.as_ref(), client, method, url, &body).await?,
        };
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let of = |place: &str| answer.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let why = Some(of("/error/message")).filter(|why| !why.is_empty()).unwrap_or("no reason given");
        let why: String = why.chars().filter(|char| !char.is_control()).take(500).collect();
        Err(Denied { status, code: of("/error/code").to_owned(), why }.into())
    }

    /// All pages of a list.
    async fn all(&self, path: &[&str], list: &str) -> anyhow::Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut query = Vec::new();
        loop {
            let mut page = self.ask(Method::GET, path, &query, None).await?;
            if let Some(Value::Array(entries)) = page.get_mut(list).map(Value::take) {
                found.extend(entries);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => query = vec![("after", next.to_owned())],
                None => return Ok(found),
            }
        }
    }

    /// Runs a command on accounts. Whether it went well.
    pub async fn account(&self, command: AccountCommand) -> anyhow::Result<bool> {
        let answer = match command {
            AccountCommand::Add(new) => {
                self.ask(Method::POST, &["accounts"], &[], Some(&body(&new)?)).await?
            }
            AccountCommand::Login(wish) => return super::login::run(self, *wish).await,
            AccountCommand::List => {
                let accounts = self.all(&["accounts"], "accounts").await?;
                return told(&Value::Array(accounts), accounts_table);
            }
            AccountCommand::Test { id, model } => {
                let body = json!({"model": model});
                self.ask(Method::POST, &["accounts", &id, "test"], &[], Some(&body)).await?
            }
            AccountCommand::Toggle { id, on, off } => {
                let body = (on || off).then(|| json!({"enabled": on}));
                self.ask(Method::PUT, &["accounts", &id, "toggle"], &[], body.as_ref()).await?
            }
            AccountCommand::Remove { id } => self.ask(Method::DELETE, &["accounts", &id], &[], None).await?,
        };
        told(&answer, changed)?;
        Ok(answer.get("ok").is_none_or(|ok| *ok == Value::Bool(true)))
    }

    /// Runs a command on the vault.
    pub async fn vault(&self, command: VaultCommand) -> anyhow::Result<bool> {
        let VaultCommand::Rotate = command;
        let answer = self.ask(Method::POST, &["vault", "rotate"], &[], None).await?;
        told(&answer, |answer| {
            let of = |name: &str| text(answer.get(name));
            format!(
                "{} of {} records were encrypted anew, by the key {}.\n",
                of("changed"),
                of("of"),
                of("key")
            )
        })
    }

    /// Runs a command on the signing keys.
    pub async fn provider(&self, command: ProviderCommand) -> anyhow::Result<bool> {
        let ProviderCommand::RotateKey { at_once } = command;
        let body = json!({"at_once": at_once});
        let answer = self.ask(Method::POST, &["provider", "rotate-key"], &[], Some(&body)).await?;
        told(&answer, |answer| format!("The new signing key is {}.\n", text(answer.get("kid"))))
    }

    /// Runs a command on the audit log. Whether the log is right.
    pub async fn audit(&self, command: AuditCommand) -> anyhow::Result<bool> {
        match command {
            AuditCommand::List { after, limit } => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(after.map(|after| ("after", after.to_string())));
                let answer = self.ask(Method::GET, &["audit"], &query, None).await?;
                told(&answer, audit_table)
            }
            AuditCommand::Verify => {
                let answer = self.ask(Method::GET, &["audit", "verify"], &[], None).await?;
                told(&answer, verified)?;
                Ok(answer.get("broken").is_none_or(Value::is_null))
            }
        }
    }
}

async fn here(
    router: &axum::Router,
    operator: &Secret,
    method: Method,
    url: &Url,
    body: &str,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", operator.expose()))
        .body(axum::body::Body::from(body.to_owned()))?;
    let response = match router.clone().call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}

async fn there(
    token: Option<&Secret>,
    client: &reqwest::Client,
    method: Method,
    url: Url,
    body: &str,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut request = client.request(method, url).timeout(TIMEOUT).body(body.to_owned());
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let answer = request.send().await.context("the running gateway cannot be asked")?;
    Ok((answer.status().as_u16(), answer.bytes().await?.to_vec()))
}

fn body(new: &NewAccount) -> anyhow::Result<Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    put("platform", json!(new.platform));
    put("account_name", json!(new.name));
    put("owner", json!(new.owner));
    put("tenants", if new.tenants.is_empty() { Value::Null } else { json!(new.tenants) });
    put("models", json!(new.models));
    put("base_url", json!(new.base_url));
    put("weight", json!(new.weight));
    put("priority", json!(new.priority));
    put(
        "limits",
        json!({
            "rpm": new.rpm, "tpm": new.tpm, "concurrency": new.concurrency,
            "daily_requests": new.daily_requests, "daily_tokens": new.daily_tokens,
        }),
    );
    for (name, value) in credential(&new.credential)? {
        put(&name, Value::String(value.expose().to_owned()));
    }
    Ok(Value::Object(body))
}

/// The parts of a credential: a key alone, or lines of `name=value`.
pub(super) fn credential(file: &Path) -> anyhow::Result<Vec<(String, Secret)>> {
    const NAMES: [&str; 5] = ["api_key", "access_key", "secret_key", "app_id", "api_secret"];
    let mut text = Zeroizing::new(String::new());
    if file == Path::new("-") {
        std::io::stdin().lock().take(LARGEST_FILE).read_to_string(&mut text).context("standard input")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("{}", file.display()))?;
        opened.take(LARGEST_FILE).read_to_string(&mut text).with_context(|| format!("{}", file.display()))?;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let named = |line: &&str| {
        let (name, value) = line.split_once('=')?;
        NAMES.contains(&name.trim()).then(|| (name.trim().to_owned(), Secret::new(value.trim())))
    };
    match lines.as_slice() {
        [] => Ok(Vec::new()),
        [alone] if named(alone).is_none() => Ok(vec![("api_key".to_owned(), Secret::new(*alone))]),
        lines => {
            let parts = lines.iter().map(named).collect::<Option<Vec<_>>>();
            parts.with_context(|| {
                format!("a credential is a key alone, or lines of NAME=VALUE with {}", NAMES.join(", "))
            })
        }
    }
}

/// Prints: JSON for programs, text for a person.
fn told(answer: &Value, text: impl Fn(&Value) -> String) -> anyhow::Result<bool> {
    let shown = if std::io::stdout().is_terminal() { text(answer) } else { format!("{answer}\n") };
    say(&shown)?;
    Ok(true)
}

/// A value for a terminal: without quotes, and without anything that a terminal would obey.
pub(super) fn text(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().filter(|char| !char.is_control()).collect()
}

fn changed(answer: &Value) -> String {
    match answer.get("record") {
        Some(record) => {
            let of = |name: &str| text(record.get(name));
            let state = if record.get("enabled") == Some(&Value::Bool(true)) { "on" } else { "off" };
            format!("{} ({} of {}, {state})\n", of("id"), of("name"), of("platform"))
        }
        None => format!("{}: {}\n", text(answer.get("model")), text(answer.get("message"))),
    }
}

fn accounts_table(accounts: &Value) -> String {
    let mut lines =
        format!("{:<22} {:<14} {:<9} {:<16} {:<14} NAME\n", "ID", "PLATFORM", "STATE", "OWNER", "SOURCE");
    for account in accounts.as_array().into_iter().flatten() {
        let of = |name: &str| text(account.get(name));
        let is = |name: &str| account.get(name) == Some(&Value::Bool(true));
        let state = match () {
            () if !is("is_available") => "left out",
            () if !is("is_enabled") => "off",
            () if is("is_expired") => "expired",
            () => "on",
        };
        let (id, platform, owner, source) = (of("id"), of("platform"), of("owner"), of("source"));
        let name = of("name");
        lines.push_str(&format!("{id:<22} {platform:<14} {state:<9} {owner:<16} {source:<14} {name}\n"));
    }
    lines
}

fn audit_table(answer: &Value) -> String {
    let mut lines = String::new();
    for entry in answer.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let of = |name: &str| text(entry.get(name));
        let millis = entry.get("at").and_then(Value::as_i64).unwrap_or(0);
        let at = jiff::Timestamp::from_millisecond(millis).map_or_else(|_| of("at"), |at| at.to_string());
        let (place, who, what, on) = (of("place"), of("who"), of("what"), of("on"));
        lines.push_str(&format!("{place:>6} {at:<24} {who:<24} {what:<24} {on} {}\n", of("note")));
    }
    lines
}

fn verified(answer: &Value) -> String {
    let good = text(answer.get("good"));
    match answer.get("broken").filter(|broken| !broken.is_null()) {
        None => format!("The log is right: {good} entries, the last hash {}.\n", text(answer.get("last"))),
        Some(broken) => {
            let (place, why) = (text(broken.get("place")), text(broken.get("why")));
            format!("The log is BROKEN at entry {place}: {why}. The {good} before it are right.\n")
        }
    }
}
