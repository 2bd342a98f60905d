//! `yalo doctor`: what threatens a deployment, and what mends it.

use clap::Args;

use super::exit::{CliError, print};
use crate::config::Config;
use crate::doctor::{self, CHECKS, Examined};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Monitoring port of a nats-server, to see how late it reaches its disk; may be repeated
    #[arg(long, value_name = "URL")]
    monitor: Vec<String>,
    /// A check whose findings are known and count no more; may be repeated
    #[arg(long, value_name = "CHECK")]
    accept: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DoctorArgs, config: Config) -> anyhow::Result<()> {
    let known: Vec<String> = CHECKS.map(str::to_owned).into();
    if let Some(word) = args.accept.iter().find(|word| !known.contains(word)) {
        return Err(CliError::Usage(format!(
            "--accept {word}: there is no such check; there are {}",
            known.join(", ")
        ))
        .into());
    }
    let Examined { mut diagnosis, unreached } = doctor::examine(config, &args.monitor).await;
    diagnosis.accept(&args.accept);
    let to_mend = diagnosis.to_mend();
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&diagnosis)?))?;
    } else {
        let told =
            if to_mend == 0 { "nothing has to be mended".to_owned() } else { format!("to be mended: {to_mend}") };
        print(&format!("{diagnosis}{told}\n"))?;
    }
    match unreached {
        Some(error) => Err(error),
        None if to_mend == 0 => Ok(()),
        None => Err(CliError::Findings(format!("{to_mend} findings have to be mended, as listed")).into()),
    }
}
