//! A TCP proxy that can be told to misbehave: cut every connection, hold what is under way, or be slow.
//!
//! A held line is the half-open one of a lost network: it stays up and nothing passes, in one direction or in both, until
//! it is released or cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// What the lines do at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mood {
    /// Nothing passes from those who connected.
    pub(crate) hold_requests: bool,
    /// Nothing passes back to them.
    pub(crate) hold_answers: bool,
    /// Everything takes that much longer.
    pub(crate) delay: Duration,
    /// A change of this number ends every line.
    cuts: u64,
}

/// Listens at an address of its own; ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Passes on to whichever of `targets` takes the connection, in turn.
    pub(crate) async fn start(targets: Vec<String>) -> Self {
        Self::start_at("127.0.0.1:0", targets).await
    }

    /// The same at an address that somebody knows already.
    #[allow(dead_code, reason = "several programs include this file, and none of them uses all of it")]
    pub(crate) async fn start_at(address: &str, targets: Vec<String>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, watched) = watch::channel(Mood::default());
        let targets = Arc::new(targets);
        let accepting = tokio::spawn(async move {
            for turn in 0.. {
                let Ok((client, _)) = listener.accept().await else { break };
                tokio::spawn(line(client, Arc::clone(&targets), turn, watched.clone()));
            }
        });
        Self { address, mood, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every line; new ones may come at once.
    pub(crate) fn cut(&self) {
        self.mood.send_modify(|mood| mood.cuts += 1);
    }

    /// From now on the lines behave so.
    pub(crate) fn set(&self, hold_requests: bool, hold_answers: bool, delay: Duration) {
        self.mood.send_modify(|mood| *mood = Mood { hold_requests, hold_answers, delay, cuts: mood.cuts });
    }

    /// From now on everything passes.
    pub(crate) fn heal(&self) {
        self.set(false, false, Duration::ZERO);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn line(client: TcpStream, targets: Arc<Vec<String>>, turn: usize, mood: watch::Receiver<Mood>) {
    let cuts = mood.borrow().cuts;
    let mut server = None;
    for number in 0..targets.len() {
        let target = &targets[(turn + number) % targets.len()];
        // A frozen process still takes connections in its backlog: what comes of it is for the two ends to find out.
        if let Ok(Ok(stream)) = timeout(Duration::from_secs(2), TcpStream::connect(target)).await {
            server = Some(stream);
            break;
        }
    }
    let Some(server) = server else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok();
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut ending = mood.clone();
    tokio::select! {
        _ = ending.wait_for(|mood| mood.cuts != cuts) => {}
        () = pass(from_client, to_server, mood.clone(), |mood| mood.hold_requests) => {}
        () = pass(from_server, to_client, mood, |mood| mood.hold_answers) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mood: watch::Receiver<Mood>,
    held: impl Fn(&Mood) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let delay = mood.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if mood.wait_for(|mood| !held(mood)).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
