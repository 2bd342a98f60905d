//! The process itself under the names that every Prometheus dashboard knows, read from `/proc` for each page.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks of a second in `/proc`: USER_HZ, which is 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Adds memory, processor time, start time and open files. Where there is no `/proc`, it adds nothing.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = Usage::read() else { return Ok(()) };
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory.", usage.resident_bytes),
            ("process_start_time_seconds", "Start of the process, in seconds since 1970.", usage.started_seconds),
            ("process_open_fds", "Open file descriptors.", usage.open_files),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let help = "User and system time spent.";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)
    }
}

#[derive(Debug)]
struct Usage {
    resident_bytes: f64,
    cpu_seconds: f64,
    started_seconds: f64,
    open_files: f64,
}

impl Usage {
    fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let resident_kib: f64 = number_after(&status, "VmRSS:")?;
        let booted: f64 = number_after(&machine, "btime")?;
        // The second field is the program's name, which may hold spaces and brackets: count from behind it.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok());
        Some(Self {
            resident_bytes: resident_kib * 1024.0,
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS,
            started_seconds: booted + ticks(19)? / TICKS,
            open_files: f64::from(u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?),
        })
    }
}

/// The number behind a word at the start of a line.
fn number_after(text: &str, word: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn the_usage_of_this_process_is_plausible() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 1e6 && usage.resident_bytes < 1e11, "{usage:?}");
        assert!((0.0..1e5).contains(&usage.cpu_seconds), "{usage:?}");
        let now = f64::from(u32::try_from(Timestamp::now().ms() / 1000).unwrap());
        assert!((now - 3600.0..now + 2.0).contains(&usage.started_seconds), "{usage:?} at {now}");
        assert!(usage.open_files >= 3.0, "{usage:?}");
    }

    #[test]
    fn it_is_on_the_page_with_its_usual_names() {
        let page = crate::telemetry::Metrics::new().render();
        for name in [
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_open_fds",
        ] {
            assert!(page.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is missing in\n{page}");
        }
    }
}
