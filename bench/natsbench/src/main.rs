//! `natsbench pipe server=PATH [turns=30_000] [rate=1000] [warm_up=3000] [size=256] [conversations=200] [dir=.]`

use anyhow::{Result, bail};
use natsbench::arguments::Arguments;
use natsbench::pipe::{self, PipeOptions};

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_default();
    let known = ["server", "turns", "rate", "warm_up", "size", "conversations", "dir"];
    let arguments = Arguments::parse(words, &known)?;
    if scenario != "pipe" {
        bail!("the one scenario is: pipe");
    }
    let folder = arguments.folder()?;
    pipe::run(PipeOptions {
        server: arguments.path("server")?,
        folder: folder.path().to_owned(),
        turns: arguments.number("turns", 30_000)?,
        rate: arguments.number("rate", 1000)?,
        warm_up: arguments.number("warm_up", 3000)?,
        size: usize::try_from(arguments.number("size", 256)?)?,
        conversations: arguments.number("conversations", 200)?.max(1),
    })
    .await
}
