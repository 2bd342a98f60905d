//! How far long work is: a bar on standard error, if that is a terminal.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar that counts messages.
pub(super) fn messages() -> ProgressBar {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = "{wide_bar} {human_pos} of {human_len} messages, {per_sec}, {eta} to go";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("per_sec", |state: &ProgressState, out: &mut dyn Write| {
        // A line that can't be drawn is no reason to end.
        write!(out, "{:.0}/s", state.per_sec()).ok();
    });
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}
