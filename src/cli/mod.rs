//! The command line: arguments in, an exit code out. Each command's body is a module of its own.

mod check;
mod demo;
mod fake;
mod key;
mod logs;
mod serve;
mod token;
mod wiring;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
        token: token::Arguments,
    },
    /// Weir's own keys (`sk-weir-…`).
    Key {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: key::Command,
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

/// Which configuration.
#[derive(clap::Args, Debug, Clone)]
struct ConfigFile {
    /// The configuration file; without one, the defaults.
    #[arg(short, long, value_name = "FILE", env = "WEIR_CONFIG")]
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
        Command::Check { config, json } => return check::run(config.config.as_deref(), json),
        Command::Token { config, token } => token::run(config.config.as_deref(), &token)?,
        Command::Key { config, command } => key::run(config.config.as_deref(), &command)?,
        Command::Config { command: ConfigCommand::Reference } => say(crate::config::REFERENCE)?,
        Command::Fake { listen, script } => block_on(fake::run(listen, script))?,
    }
    Ok(ExitCode::SUCCESS)
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
