//! What yalo costs when nobody talks.

use std::time::Duration;

use anyhow::Result;
use natsbench::cost::{cpu_seconds, resident_mib};
use tokio::time::sleep;

use crate::process::free_address;
use crate::turns::{Fleet, TurnsOptions};

/// Starts `yalo all`, leaves it alone for `seconds`, and prints one line of `key=value`.
pub async fn run(options: &TurnsOptions, seconds: u64) -> Result<()> {
    let fleet = Fleet::start(options, &free_address()?).await?;
    // What the start has begun is to be over.
    sleep(Duration::from_secs(5)).await;
    let before: Vec<f64> = fleet.processes().iter().map(|(_, pid)| cpu_seconds(*pid)).collect();
    sleep(Duration::from_secs(seconds)).await;
    let mut line = format!("idle seconds={seconds}");
    for ((name, pid), before) in fleet.processes().iter().zip(before) {
        let percent = (cpu_seconds(*pid) - before) * 100.0 / seconds as f64;
        line += &format!(" {name}_cpu_percent={percent:.2} {name}_mib={:.0}", resident_mib(*pid));
    }
    println!("{line}");
    fleet.stop().await
}
