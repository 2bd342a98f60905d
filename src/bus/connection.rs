//! One connection to NATS: named, pinged, reconnecting with jitter, or of single use for publishing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::server::{OLDEST, Version};
use super::{BusError, BusOptions};

/// What happened to the connections of one role; shared with its metrics and readiness. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LinkEvents {
    inner: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicBool,
    reconnects: AtomicU64,
    lagged: AtomicU64,
    trouble: Mutex<String>,
}

impl LinkEvents {
    /// Whether the reading connection stands now.
    pub fn is_connected(&self) -> bool {
        self.inner.connected.load(Ordering::Acquire)
    }

    /// How often a connection was made again after it broke. A change means: live copies may have been missed.
    pub fn reconnects(&self) -> u64 {
        self.inner.reconnects.load(Ordering::Acquire)
    }

    /// Why the reading connection could not be made again, as of the last attempt; empty while it stands.
    pub fn trouble(&self) -> String {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is another one than before.
    fn set_trouble(&self, trouble: String) -> bool {
        let mut known = self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != trouble;
        *known = trouble;
        is_new
    }

    /// How often a subscription overran its buffer and lost messages.
    pub fn lagged(&self) -> u64 {
        self.inner.lagged.load(Ordering::Acquire)
    }
}

/// A live connection. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    client: Arc<Client>,
    broken: CancellationToken,
    closed: CancellationToken,
}

/// Whether a connection is made again after a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Reconnecting,
    /// Gone at the first break, with everything that was queued on it.
    Single,
}

/// A connection of single use that is being made. Whoever waits for it may leave off: the next one waits for the rest only.
#[derive(Default)]
pub(super) struct Opening(Option<BoxFuture<'static, Result<Link, BusError>>>);

impl Opening {
    pub(super) async fn link(
        &mut self,
        options: &Arc<BusOptions>,
        name: &str,
        events: &LinkEvents,
    ) -> Result<Link, BusError> {
        let opening = self.0.get_or_insert_with(|| {
            let (options, name, events) = (Arc::clone(options), name.to_owned(), events.clone());
            Box::pin(async move { Link::open_single(&options, &name, events).await })
        });
        let opened = opening.await;
        self.0 = None;
        opened
    }
}

impl Link {
    /// A connection that heals by itself.
    pub(super) async fn open(options: &BusOptions, name: &str, events: LinkEvents) -> Result<Self, BusError> {
        Self::connect(options, name, events, Life::Reconnecting).await
    }

    /// A connection that never reconnects, so that a publish queued on it can never be stored after its deadline.
    pub(super) async fn open_single(options: &BusOptions, name: &str, events: LinkEvents) -> Result<Self, BusError> {
        Self::connect(options, name, events, Life::Single).await
    }

    async fn connect(options: &BusOptions, name: &str, events: LinkEvents, life: Life) -> Result<Self, BusError> {
        let (broken, closed) = (CancellationToken::new(), CancellationToken::new());
        let stood = Arc::new(AtomicBool::new(false));
        let servers: Vec<&str> = options.url.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        let mut connect = with_sign_in(options, Arc::clone(&stood))?
            .name(name)
            .ping_interval(Duration::from_secs(10))
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout))
            .reconnect_delay_callback(jittered_delay)
            .event_callback({
                let (broken, closed) = (broken.clone(), closed.clone());
                move |event| {
                    note(&event, life, &events, &broken, &closed);
                    std::future::ready(())
                }
            });
        if life == Life::Single {
            // Each address once, then the client ends; once it stood, its sign-in refuses any second connection anyway.
            connect = connect.max_reconnects(servers.len().max(1)).ignore_discovered_servers();
        }
        let limit = options.connect_timeout * u32::try_from(servers.len().max(1)).unwrap_or(1);
        let client = tokio::time::timeout(limit, connect.connect(servers))
            .await
            .map_err(|_| BusError::TimedOut { doing: "connect" })?
            .map_err(|error| match error.kind() {
                async_nats::ConnectErrorKind::Authentication | async_nats::ConnectErrorKind::AuthorizationViolation => {
                    BusError::Refused {
                        doing: "sign in to nats",
                        reason: format!("{error}; check nats.user, nats.password and nats.credentials"),
                    }
                }
                _ => BusError::unavailable("connect", format!("{}: {error}", options.url)),
            })?;
        if life == Life::Single {
            stood.store(true, Ordering::SeqCst);
            // A break that came before this may have been mended already, or be about to.
            let connected = client.connection_state() == async_nats::connection::State::Connected;
            if !connected || client.statistics().connects.load(Ordering::SeqCst) > 1 {
                return Err(BusError::unavailable("connect", format!("{}: it broke at once", options.url)));
            }
        }
        refuse_old(&client, &options.url)?;
        Ok(Self { client: Arc::new(client), broken, closed })
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Ends at the first break.
    pub(super) fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// `drain` returns at once, unless the server is away and the queue to it full; the connection is done when it says
    /// closed.
    pub(super) async fn close(&self, limit: Duration) {
        let close = async {
            if self.client.drain().await.is_ok() && self.is_connected() {
                self.closed.cancelled().await;
            }
        };
        // A time-out here only means that the server is away: nothing acknowledged is lost by it.
        drop(tokio::time::timeout(limit, close).await);
    }
}

/// An older server would fail later, at some request, in a way that nobody understands.
fn refuse_old(client: &Client, url: &str) -> Result<(), BusError> {
    let version = client.server_info().version;
    match Version::parse(&version) {
        Some(known) if known < OLDEST => {
            let reason = format!(
                "the nats-server at {url} is {version}, and yalo needs {OLDEST} or newer: update it, or name another one \
                 with nats.url"
            );
            Err(BusError::Refused { doing: "use nats", reason })
        }
        _ => Ok(()),
    }
}

fn note(event: &Event, life: Life, events: &LinkEvents, broken: &CancellationToken, closed: &CancellationToken) {
    match event {
        Event::Connected => {
            if broken.is_cancelled() {
                events.inner.reconnects.fetch_add(1, Ordering::AcqRel);
            }
            if life == Life::Reconnecting {
                events.set_trouble(String::new());
                events.inner.connected.store(true, Ordering::Release);
            }
        }
        Event::Disconnected => {
            broken.cancel();
            if life == Life::Reconnecting {
                events.set_trouble(String::new());
                events.inner.connected.store(false, Ordering::Release);
                tracing::warn!("lost the connection to nats, reconnecting");
            }
        }
        Event::Closed => {
            broken.cancel();
            closed.cancel();
        }
        Event::SlowConsumer(subscription) => {
            events.inner.lagged.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(subscription, "a subscription overran its buffer, its watchers read the stream again");
        }
        // A forbidden subject shows only here: to its caller it is a time-out.
        Event::ServerError(error) => tracing::error!(%error, "nats refused something: {error}"),
        Event::ClientError(error) => {
            if life == Life::Reconnecting && events.set_trouble(error.to_string()) {
                tracing::warn!(%error, "cannot reconnect to nats: {error}");
            }
            tracing::debug!(%error, "nats client: {error}");
        }
        Event::LameDuckMode | Event::Draining => {}
    }
}

/// 0 at first, then 50 ms doubling to 2 s, with half of it random: a thousand clients do not come back at one instant.
fn jittered_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doubled = 50u64 << attempts.min(7);
    let capped = doubled.min(2000);
    Duration::from_millis(fastrand::u64(capped / 2..=capped))
}

/// Sign-in by user and password, or by a credentials file; nobody signs in any more once a connection of single use
/// `stood`. Until then each server may be tried: one that has sent its greeting may be killed before it takes the answer.
fn with_sign_in(options: &BusOptions, stood: Arc<AtomicBool>) -> Result<ConnectOptions, BusError> {
    let sign_in = SignIn::of(options)?;
    Ok(ConnectOptions::with_auth_callback(move |nonce| {
        let again = stood.load(Ordering::SeqCst);
        let answer = if again { Err("this connection is not made again".to_owned()) } else { sign_in.answer(&nonce) };
        std::future::ready(answer.map_err(async_nats::AuthError::new))
    }))
}

enum SignIn {
    Nobody,
    User { user: String, password: String },
    Credentials { jwt: String, key: Box<nkeys::KeyPair> },
}

impl SignIn {
    fn of(options: &BusOptions) -> Result<Self, BusError> {
        if !options.credentials.is_empty() {
            return Self::from_file(&options.credentials);
        }
        if options.user.is_empty() {
            return Ok(Self::Nobody);
        }
        Ok(Self::User { user: options.user.clone(), password: options.password.clone() })
    }

    /// A credentials file holds a JWT and an nkey seed, each between a BEGIN and an END line.
    fn from_file(path: &str) -> Result<Self, BusError> {
        let refused = |reason: String| BusError::Refused { doing: "read nats.credentials", reason };
        let text = std::fs::read_to_string(path).map_err(|error| refused(format!("{path}: {error}")))?;
        let mut blocks = text.split("-----BEGIN ").skip(1).filter_map(|block| block.lines().nth(1));
        let (Some(jwt), Some(seed)) = (blocks.next(), blocks.next()) else {
            return Err(refused(format!("{path} does not hold a JWT and a seed")));
        };
        let key = nkeys::KeyPair::from_seed(seed.trim()).map_err(|error| refused(format!("{path}: {error}")))?;
        Ok(Self::Credentials { jwt: jwt.trim().to_owned(), key: Box::new(key) })
    }

    fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, String> {
        let mut auth = async_nats::Auth::new();
        match self {
            Self::Nobody => {}
            Self::User { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.clone());
            }
            Self::Credentials { jwt, key } => {
                auth.jwt = Some(jwt.clone());
                auth.signature = Some(key.sign(nonce).map_err(|error| error.to_string())?);
            }
        }
        Ok(auth)
    }
}
