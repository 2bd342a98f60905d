//! What a process has cost, as Linux tells it: CPU in seconds (10 ms exact), memory in MiB.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// CPU seconds that a process has used, in user and system mode; 0 if it is gone.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in brackets, which may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Waits until a process has hardly anything to do for three seconds, but no longer than two minutes: what a bulk load has
/// left a database to tidy up is not part of what is measured after it.
pub async fn until_idle(pid: u32) {
    let end = Instant::now() + Duration::from_secs(120);
    let (mut calm, mut before) = (0, cpu_seconds(pid));
    while calm < 3 && Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        let now = cpu_seconds(pid);
        calm = if now - before < 0.1 { calm + 1 } else { 0 };
        before = now;
    }
}

/// Most memory that a process ever held, in MiB.
pub fn peak_mib(pid: u32) -> f64 {
    status_kib(pid, "VmHWM") / 1024.0
}

/// Memory that a process holds now, in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    status_kib(pid, "VmRSS") / 1024.0
}

fn status_kib(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
}

/// Processes started by this one, for example the nats-server of `yalo all`.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The value below which the given share of the numbers lies; sorts them.
pub fn quantile(numbers: &mut [u64], share: f64) -> u64 {
    numbers.sort_unstable();
    let last = numbers.len().saturating_sub(1);
    numbers.get((last as f64 * share) as usize).copied().unwrap_or(0)
}
