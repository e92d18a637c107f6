//! The command line: arguments in, an exit code out. Each command's body is a module of its own.

mod backing;
mod bookkeeper;
mod browsers;
mod check;
mod credential;
mod demo;
mod fake;
mod key;
mod login;
mod logs;
mod office;
mod orders;
mod purse;
mod serve;
mod token;
mod usage;
mod wiring;

use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::identity::settings::{Issuer, KeySource};
use crate::keybook::{NewKey, Scope};
use crate::limits::Limits;
use crate::store::Keys;

/// One door to every model: a gateway that pools accounts on many platforms behind the OpenAI API.
#[derive(Parser, Debug)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Everything in one process, with a simulated platform: streams one answer, then keeps serving.
    Demo {
        /// Where the demo listens.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Stop after the first answer instead of going on serving.
        #[arg(long)]
        once: bool,
    },
    /// The gateway.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Take the listening sockets over from the running gateway of the same store, which then finishes and exits.
        #[arg(long)]
        upgrade: bool,
    },
    /// Validates a configuration and prints the routes and accounts it resolves to.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON, also on a terminal.
        #[arg(long)]
        json: bool,
    },
    /// Mints a JWT with a secret of the configuration.
    Token {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        token: TokenArguments,
    },
    /// Weir's own keys (`sk-weir-…`).
    Key {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// What was used, by tenant, caller, account, model, day…
    Usage {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        wish: usage::Wish,
    },
    /// Upstream accounts in the store.
    Account {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: orders::AccountCommand,
    },
    /// Encryption at rest.
    Vault {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: orders::VaultCommand,
    },
    /// Third-party apps, and the tokens that Weir makes itself.
    Provider {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: orders::ProviderCommand,
    },
    /// Who did what, and when.
    Audit {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: orders::AuditCommand,
    },
    /// Asks the running gateway whether it is alive; for a container's health check.
    Health {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// The configuration's documentation.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Simulated platforms, each in its own dialect: for trying a configuration without spending money.
    Fake {
        /// Where they listen.
        #[arg(long, default_value = "127.0.0.1:9100")]
        listen: SocketAddr,
        /// A YAML file with accounts and how they behave.
        #[arg(long)]
        script: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Prints the commented reference of all settings.
    Reference,
}

#[derive(clap::Args, Debug)]
struct TokenArguments {
    /// Who the token is for.
    #[arg(long)]
    sub: String,
    /// Whom the caller belongs to; without it the tenant is the subject.
    #[arg(long)]
    tenant: Option<String>,
    /// How long it is good, as `30m`, `12h` or `7d`.
    #[arg(long, default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// What it is good for: chat, accounts, admin (comma-separated); default chat.
    #[arg(long, value_delimiter = ',')]
    scope: Vec<Scope>,
    /// Models (and globs) that it may use, comma-separated; default all.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Whose token, where the configuration names several issuers with a secret.
    #[arg(long)]
    issuer: Option<String>,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Makes a key and shows it, this once.
    Create {
        /// What it is for, in a few words.
        #[arg(long)]
        name: String,
        /// Whom its callers belong to.
        #[arg(long)]
        tenant: String,
        /// What it is good for: chat, accounts, admin (comma-separated).
        #[arg(long, value_delimiter = ',', default_value = "chat")]
        scope: Vec<Scope>,
        /// Models (and globs) that it may use, comma-separated; default all.
        #[arg(long, value_delimiter = ',')]
        models: Vec<String>,
        /// How long it is good; default for ever.
        #[arg(long, value_parser = lifetime)]
        ttl: Option<Duration>,
        /// Its own limit of requests per minute, instead of its tenant's.
        #[arg(long)]
        rpm: Option<u64>,
        /// Its own limit of tokens per day, instead of its tenant's.
        #[arg(long)]
        daily_tokens: Option<u64>,
    },
    /// Shows all keys (never the keys themselves).
    List,
    /// Revokes a key, for good.
    Revoke { id: String },
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().map_err(|_| "a number and a unit, as in 12h".to_owned())?;
    let unit = match text.get(digits.len()..) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err("the unit is one of s, m, h, d".to_owned()),
    };
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

/// Which configuration.
#[derive(clap::Args, Debug, Clone)]
struct ConfigFile {
    /// The configuration file; without one, the defaults.
    #[arg(short, long, value_name = "FILE", env = "WEIR_CONFIG", global = true)]
    config: Option<PathBuf>,
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            say_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo { listen, once } => demo::run(listen, once)?,
        Command::Serve { config, upgrade } => serve::run(config.config.as_deref(), upgrade)?,
        Command::Check { config, json } => return check_config(config.config.as_deref(), json),
        Command::Token { config, token } => mint(config.config.as_deref(), token)?,
        Command::Key { config, command } => keys(config.config.as_deref(), command)?,
        Command::Usage { config, wish } => show_usage(config.config.as_deref(), &wish)?,
        Command::Account { config, command } => {
            return in_office(config.config.as_deref(), async |office| office.account(command).await);
        }
        Command::Vault { config, command } => {
            return in_office(config.config.as_deref(), async |office| office.vault(command).await);
        }
        Command::Provider { config, command } => {
            return in_office(config.config.as_deref(), async |office| office.provider(command).await);
        }
        Command::Audit { config, command } => {
            return in_office(config.config.as_deref(), async |office| office.audit(command).await);
        }
        Command::Health { config } => return Ok(health(&load(config.config.as_deref())?)),
        Command::Config { command: ConfigCommand::Reference } => say(crate::config::REFERENCE)?,
        Command::Fake { listen, script } => block_on(fake::run(listen, script))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    crate::config::load(path, &environment).map_err(|report| anyhow::anyhow!("{report}"))
}

fn check_config(path: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let (mut out, mut errors) = (std::io::stdout().lock(), std::io::stderr().lock());
    let format = if json || !out.is_terminal() { check::Format::Json } else { check::Format::Table };
    let is_right = check::run(path, format, &environment, &mut out, &mut errors)?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn mint(path: Option<&Path>, wish: TokenArguments) -> anyhow::Result<()> {
    let config = load(path)?;
    let wanted = token::Wanted {
        subject: wish.sub,
        tenant: wish.tenant,
        ttl: wish.ttl,
        scopes: wish.scope,
        models: wish.models,
    };
    let has_secret = |issuer: &&Issuer| matches!(issuer.keys, KeySource::Secret(_));
    let is_named = |issuer: &&Issuer| wish.issuer.as_ref().is_none_or(|name| *name == issuer.issuer);
    let issuer = config.identity.jwt.iter().filter(has_secret).find(is_named);
    let issuer = issuer.context("the configuration has no such JWT issuer with a local `secret`")?;
    let minted = token::mint(issuer, &wanted, Clock::system().wall_seconds())?;
    say(&format!("{}\n", minted.expose()))
}

fn keys(path: Option<&Path>, command: KeyCommand) -> anyhow::Result<()> {
    let config = load(path)?;
    let now = Clock::system().wall_seconds();
    let command = match command {
        KeyCommand::List => key::Command::List,
        KeyCommand::Revoke { id } => key::Command::Revoke(id),
        KeyCommand::Create { name, tenant, scope, models, ttl, rpm, daily_tokens } => {
            let limits = Limits { rpm, daily_tokens, ..Limits::default() };
            key::Command::Create(NewKey {
                name,
                tenant: tenant.into(),
                scopes: scope,
                models: (!models.is_empty()).then_some(models),
                limits: (limits != Limits::default()).then_some(limits),
                expires: ttl.map(|ttl| now.saturating_add(ttl.as_secs())),
            })
        }
    };
    let folder = wiring::state_folder(&config);
    let remote = key::Remote {
        url: format!("http://{}/", config.admin_listen).parse()?,
        token: wiring::read_operator_token(&folder),
        client: wiring::back_office()?,
    };
    anyhow::ensure!(config.store != StoreUrl::Memory, "a store in memory keeps no keys");
    let is_json = !std::io::stdout().is_terminal();
    block_on(async {
        let admin = match &config.store {
            // Many processes share it: no gateway need be asked.
            StoreUrl::Redis(address) => {
                key::KeyAdmin::Direct(Keys::load(backing::reach(address).await?.records()).await?)
            }
            StoreUrl::Embedded(_) | StoreUrl::Memory => key::KeyAdmin::reach(&folder, remote).await?,
        };
        Ok(admin.run(command, now, is_json, &mut std::io::stdout()).await?)
    })
}

fn show_usage(path: Option<&Path>, wish: &usage::Wish) -> anyhow::Result<()> {
    let config = load(path)?;
    let is_terminal = std::io::stdout().is_terminal();
    let text = block_on(usage::run(&config, wish, is_terminal, &Clock::system()))?;
    say(&text)
}

/// Runs a command of operators; its exit code says whether it went well.
fn in_office(
    path: Option<&Path>,
    command: impl AsyncFnOnce(&office::Office) -> anyhow::Result<bool>,
) -> anyhow::Result<ExitCode> {
    let config = load(path)?;
    let went_well = block_on(async { command(&office::Office::reach(&config).await?).await })?;
    Ok(if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One question over a plain socket: the container has no other client.
fn health(config: &Config) -> ExitCode {
    let ask = || -> std::io::Result<bool> {
        let mut stream = std::net::TcpStream::connect_timeout(&config.admin_listen, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b"200"))
    };
    if ask().unwrap_or(false) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs `work` on a small runtime of its own.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

/// The process's environment, for `${NAME}` in a configuration.
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment comes in")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints for the person at the terminal (or the pipe); a reader that has gone is no error.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn say_error(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "weir: {text}"));
}
