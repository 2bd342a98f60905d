//! The command line: what can be typed, and what each command does with it.

mod audit;
mod chat;
mod completions;
mod config;
mod dlq;
mod doctor;
mod exit;
mod export;
mod fresh;
mod ingest;
mod progress;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

pub use exit::{CliError, Exit, report, report_usage};

use crate::app::{self, Plans, RoleSpec};
use crate::config::{Config, Layers};
use crate::role::Role;
use crate::telemetry;
use fresh::FreshFolder;

/// A chat backbone with a perfect memory.
#[derive(Debug, Parser)]
#[command(name = "yalo", version, arg_required_else_help = true, subcommand_required = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  yalo all                                   everything in one process
  yalo chat Hello                            say one thing and read the answer
  yalo bot --replicas 3 --config prod.toml   three bots of a fleet
  yalo --set frontend.listen=0.0.0.0:80 all  change one key; `yalo config show` prints all keys

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 findings, 4 cannot reach";

/// Where keys get their values; each key is documented in config/yalo.toml.
#[derive(Debug, Default, Args)]
struct Settings {
    /// Configuration file [env: YALO_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// Set one key, such as log.level=debug; may be repeated [env: YALO_SECTION__KEY]
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all roles in one process, and a nats-server if none is configured
    All(AllArgs),
    /// Run the users' edge: HTTP, SSE, WebSocket and the chat page
    Frontend(RoleArgs),
    /// Run the answering side
    Bot(RoleArgs),
    /// Run the writing side of the audit store
    Auditor(RoleArgs),
    /// Run the reading side of the audit store: API and page for operators
    Admin(RoleArgs),
    /// Create the streams and consumers in NATS, or bring them up to date
    Init,
    /// Prove that nothing is missing in the record
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Write the record, or a part of it, to a file or a pipe
    Export(export::ExportArgs),
    /// Copy the record from one store to another
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Look after the dead letters: what nobody could handle
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Look for what threatens a deployment, and say what mends it
    Doctor(doctor::DoctorArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Talk to a bot in the terminal
    Chat(chat::ChatArgs),
    /// Bring messages in from a file or a pipe, many at once
    Ingest(ingest::IngestArgs),
    /// Print the completions for a shell
    Completions(completions::CompletionsArgs),
}

#[derive(Debug, Args)]
struct RoleArgs {
    /// How many to run in this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = replicas())]
    replicas: usize,
}

#[derive(Debug, Args)]
struct AllArgs {
    /// How many of each role to run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = replicas())]
    replicas: usize,
    /// Folder for everything that yalo keeps: data.dir
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep everything in a temporary folder that is removed at the end
    #[arg(long, conflicts_with = "data")]
    fresh: bool,
}

fn replicas() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser;
    // An instance costs a connection to NATS; beyond this, more processes serve better.
    clap::value_parser!(u8).range(1..=64).map(usize::from)
}

/// Does what was typed.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { settings, command } = cli;
    let layers = settings.layers();
    match command {
        Command::All(all) => run_all(layers, all).await,
        Command::Frontend(args) => run_role(&layers, Role::Frontend, args).await,
        Command::Bot(args) => run_role(&layers, Role::Bot, args).await,
        Command::Auditor(args) => run_role(&layers, Role::Auditor, args).await,
        Command::Admin(args) => run_role(&layers, Role::Admin, args).await,
        Command::Init => init(&layers).await,
        Command::Audit(command) => audit::run(command, start(&layers)?).await,
        Command::Export(args) => export::run(args, &start(&layers)?).await,
        Command::Store(command) => store::run(command, &layers).await,
        Command::Dlq(command) => dlq::run(command, start(&layers)?).await,
        Command::Doctor(args) => doctor::run(args, start(&layers)?).await,
        Command::Config(command) => config::run(&command, &layers),
        Command::Chat(args) => chat::run(args, &layers).await,
        Command::Ingest(args) => ingest::run(args, &layers).await,
        Command::Completions(args) => completions::run(&args),
    }
}

impl Settings {
    fn layers(self) -> Layers {
        Layers { file: self.config, set: self.set, ..Layers::from_process() }
    }
}

async fn run_role(layers: &Layers, role: Role, args: RoleArgs) -> anyhow::Result<()> {
    let roles = vec![RoleSpec { role, replicas: args.replicas }];
    app::run(start(layers)?, Plans { roles, standalone: false }).await
}

async fn run_all(mut layers: Layers, all: AllArgs) -> anyhow::Result<()> {
    // Lives until the roles have stopped.
    let fresh = if all.fresh { Some(FreshFolder::create().context("make a temporary folder")?) } else { None };
    let folder = fresh.as_ref().map(|folder| ("--fresh", folder.path()));
    if let Some((flag, path)) = folder.or(all.data.as_deref().map(|path| ("--data", path))) {
        layers.flags.push((flag, "data.dir", path.to_string_lossy().into_owned()));
    }
    let roles = Role::ALL.map(|role| RoleSpec { role, replicas: all.replicas }).to_vec();
    app::run(start(&layers)?, Plans { roles, standalone: true }).await
}

/// Prints each difference.
async fn init(layers: &Layers) -> anyhow::Result<()> {
    let made = app::init(&start(layers)?).await?;
    exit::print(&format!("{}\n", made.nats))?;
    for line in &made.store {
        exit::print(&format!("{line}\n"))?;
    }
    Ok(())
}

/// What every command that works on NATS begins with: the configuration, then the log.
fn start(layers: &Layers) -> anyhow::Result<Config> {
    let config = Config::load(layers)?.config;
    telemetry::init(&config.log).context("start the log")?;
    Ok(config)
}
