//! The price of order: one bot works off a stream full of questions, with and without lanes, continuity and fences.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use natsbench::cost::cpu_seconds;
use natsbench::server::Server;
use storebench::messages::Messages;
use tokio::time::sleep;

use crate::audit::fill;
use crate::process::Launch;

/// What is answered.
#[derive(Debug, Clone)]
pub struct OrderOptions {
    pub yalo: PathBuf,
    pub server: PathBuf,
    pub questions: u64,
    pub rounds: u64,
}

/// Both in turn, `rounds` times; a line for each, and one for the medians.
pub async fn run(options: &OrderOptions) -> Result<()> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        for (name, mistake, rates) in [("with", None, &mut with), ("without", Some("no-order"), &mut without)] {
            let rate = work_off(options, mistake).await?;
            println!("order round={round} {name} questions_per_second={rate:.0}");
            rates.push(rate);
        }
    }
    let (with, without) = (median(&mut with), median(&mut without));
    println!("order with={with:.0} without={without:.0} ratio={:.2}", with / without);
    Ok(())
}

async fn work_off(options: &OrderOptions, mistake: Option<&str>) -> Result<f64> {
    let folder = tempfile::tempdir_in(".")?;
    let server = Server::start(&options.server, folder.path())?;
    let launch = Launch {
        yalo: &options.yalo,
        folder: folder.path(),
        settings: vec![format!("nats.url={}", server.url()), "ops.listen=127.0.0.1:0".to_owned()],
    };
    launch.finish("init")?;
    let context = jetstream::new(async_nats::connect(server.url()).await.context("connect to nats")?);
    let questions = Messages::default().filter(|message| message.subject.ends_with(".user"));
    fill(&context, questions.take(usize::try_from(options.questions)?)).await.context("fill the stream")?;
    let mut stream = context.get_stream("YALO_CHAT").await?;
    let mut bot = launch.start_with("bot", mistake)?;
    let mut begun = None;
    loop {
        bot.check()?;
        let stored = stream.info().await?.state.messages;
        if begun.is_none() && stored > options.questions {
            begun = Some((Instant::now(), stored - options.questions));
        }
        if stored >= 2 * options.questions {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let (begun, head_start) = begun.context("the last answer came with the first")?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(bot.pid()) * 1e6 / options.questions as f64;
    bot.stop().await?;
    ensure!(made(folder.path(), mistake)?, "{} does not know the mistake", options.yalo.display());
    println!("  bot_cpu_us={cpu:.0}");
    Ok((options.questions - head_start) as f64 / seconds)
}

/// Whether the bot has said that it makes the mistake, if it was told to: else both figures are of the same thing.
fn made(folder: &Path, mistake: Option<&str>) -> Result<bool> {
    let said = std::fs::read_to_string(folder.join("bot.log"))?;
    Ok(mistake.is_some() == said.contains("MISTAKE"))
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
