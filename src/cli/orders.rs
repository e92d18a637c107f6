//! What operators do from a terminal, as commands: accounts, the vault, the signing keys, the audit log; and how the answers are shown,
//! as a table to a person and as JSON to a program.

use std::io::IsTerminal;
use std::path::PathBuf;

use http::Method;
use serde_json::{Map, Value, json};

use super::credential::credential;
use super::login::Login;
use super::office::{Office, text};
use super::say;

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
impl Office {
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

/// Prints: JSON for programs, text for a person.
fn told(answer: &Value, text: impl Fn(&Value) -> String) -> anyhow::Result<bool> {
    let shown = if std::io::stdout().is_terminal() { text(answer) } else { format!("{answer}\n") };
    say(&shown)?;
    Ok(true)
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
