//! The command line: temporary.
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{self, Plans, RoleSpec};
use crate::config::{Config, Layers};
use crate::role::Role;

/// A chat backbone with a perfect memory
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[arg(long, global = true)]
    config: Option<std::path::PathBuf>,
    #[arg(long, global = true)]
    set: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    All {
        #[arg(long)]
        data: Option<String>,
    },
    Frontend {
        #[arg(long, default_value_t = 1)]
        replicas: usize,
    },
    Bot {
        #[arg(long, default_value_t = 1)]
        replicas: usize,
    },
    Auditor {
        #[arg(long, default_value_t = 1)]
        replicas: usize,
    },
    Admin {
        #[arg(long, default_value_t = 1)]
        replicas: usize,
    },
    Init,
    #[command(name = "__nats-server", hide = true)]
    NatsServer {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Runs the command line.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place that prints errors")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Command::NatsServer { args } = cli.command {
        return Err(crate::bus::server::exec_wrapper(args).into());
    }
    let mut layers = Layers::from_process();
    layers.file = cli.config;
    layers.set = cli.set;
    if let Command::All { data: Some(data) } = &cli.command {
        layers.flags.push(("--data", "data.dir", data.clone()));
    }
    let config = Config::load(&layers)?.config;
    crate::telemetry::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let one = |role, replicas| Plans { roles: vec![RoleSpec { role, replicas }], standalone: false };
    let plans = match cli.command {
        Command::All { .. } => {
            Plans { roles: Role::ALL.map(|role| RoleSpec { role, replicas: 1 }).to_vec(), standalone: true }
        }
        Command::Frontend { replicas } => one(Role::Frontend, replicas),
        Command::Bot { replicas } => one(Role::Bot, replicas),
        Command::Auditor { replicas } => one(Role::Auditor, replicas),
        Command::Admin { replicas } => one(Role::Admin, replicas),
        _ => {
            let report = runtime.block_on(app::init(&config))?;
            #[expect(clippy::print_stdout, reason = "a tool")]
            {
                println!("{report}");
            }
            return Ok(());
        }
    };
    runtime.block_on(app::run(config, plans))
}
