//! The pages in a real browser against the real program: the browser tests of `tests/pages`, pointed at a `yalo all`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::All;

/// All browser tests together take about a minute and a half.
const LIMIT: Duration = Duration::from_secs(400);

#[tokio::test]
async fn both_pages_work_in_a_real_browser() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_with(folder.path(), &["bot.engine=drill", "bot.attempts=1"]).await;
    let place = all.place();
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages");
    let node = tokio::process::Command::new("node")
        .args(["--test", "--test-concurrency=1", "chat.test.mjs", "admin.test.mjs"])
        .current_dir(&pages)
        .env("YALO_URL", &place.frontends[0])
        .env("YALO_ADMIN_URL", &place.admin)
        .env("YALO_ADMIN_TOKEN", &place.token)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(LIMIT, node).await.expect("the browser tests end in time");
    let output = ended.expect("node runs: `make test` installs what the browser tests need");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("# pass "), "no browser test ran: {said}");
    all.stop().await;
}
