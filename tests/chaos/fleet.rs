//! A whole fleet behind proxies: every role has its own line to NATS, every frontend its own door for users, and each of
//! them can be cut, held or slowed. Whatever ends by itself is started again, as a service manager would.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::process::{Process, Start, nats_server};
use crate::proxy::Proxy;
use crate::record::Record;
use crate::store::{Store, StoreKind};

/// What the processes of a fleet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Frontend,
    Bot,
    Auditor,
    Admin,
    Server,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Bot => "bot",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
            Self::Server => "server",
        }
    }
}

/// What to build.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) program: PathBuf,
    /// nats-servers, 1 or 3.
    pub(crate) servers: usize,
    /// The third server hears of everything that much later.
    pub(crate) lag: Duration,
    /// How long the server knows ids; two minutes if not said.
    pub(crate) window: Option<Duration>,
    pub(crate) store: StoreKind,
    pub(crate) mistake: Option<&'static str>,
}

/// One process, and its line to NATS.
pub(crate) struct Member {
    pub(crate) kind: Kind,
    pub(crate) process: Arc<Mutex<Process>>,
    pub(crate) link: Option<Arc<Proxy>>,
}

/// The whole of it. Dropping it ends it; the folder stays if something was found.
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    /// For users: one for each frontend.
    pub(crate) doors: Vec<Arc<Proxy>>,
    pub(crate) store: Store,
    pub(crate) servers: Vec<String>,
    environment: Vec<(String, String)>,
    program: PathBuf,
    folder: tempfile::TempDir,
    _lines: Vec<Proxy>,
}

const ROLES: [(&str, Kind); 8] = [
    ("frontend-1", Kind::Frontend),
    ("frontend-2", Kind::Frontend),
    ("bot-1", Kind::Bot),
    ("bot-2", Kind::Bot),
    ("bot-3", Kind::Bot),
    ("auditor-1", Kind::Auditor),
    ("auditor-2", Kind::Auditor),
    ("admin", Kind::Admin),
];

impl Fleet {
    pub(crate) async fn start(shape: &Shape) -> Self {
        let folder = tempfile::Builder::new().prefix("yalo-chaos-").tempdir().unwrap();
        let data = folder.path().join("data");
        let store = Store::start(shape.store, &data).await;
        let ports: Vec<(u16, u16)> = (0..shape.servers).map(|_| (lasting_port(), lasting_port())).collect();
        let mut lines = Vec::new();
        let mut members = Vec::new();
        for number in 0..ports.len() {
            let start = server(&folder, &ports, number, shape.lag, &mut lines).await;
            members.push(member(Kind::Server, start, None));
        }
        let servers: Vec<String> = ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
        let mut environment = vec![
            ("YALO_DATA__DIR".to_owned(), data.display().to_string()),
            ("YALO_AUTH__GUEST_KEY".to_owned(), "a key that all frontends of this fleet share".to_owned()),
            ("YALO_BOT__ENGINE".to_owned(), "drill".to_owned()),
            ("YALO_NATS__REPLICAS".to_owned(), shape.servers.to_string()),
        ];
        environment.extend(store.environment());
        let (mut fleet_members, mut doors) = (Vec::new(), Vec::new());
        for (name, kind) in ROLES {
            let link = Arc::new(Proxy::start(servers.clone()).await);
            let mut environment = environment.clone();
            environment.push(("YALO_NATS__URL".to_owned(), format!("nats://{}", link.address())));
            environment.extend(shape.mistake.map(|name| ("DELIBERATE_MISTAKE".to_owned(), name.to_owned())));
            let mut arguments = vec![kind.name().to_owned()];
            let mut set = |setting: String| arguments.extend(["--set".to_owned(), setting]);
            set("ops.listen=127.0.0.1:0".to_owned());
            if kind == Kind::Frontend {
                let listen = format!("127.0.0.1:{}", lasting_port());
                doors.push(Arc::new(Proxy::start(vec![listen.clone()]).await));
                set(format!("frontend.listen={listen}"));
            }
            if kind == Kind::Admin {
                set("admin.listen=127.0.0.1:0".to_owned());
            }
            let start = Start {
                name: name.to_owned(),
                program: shape.program.clone(),
                arguments,
                environment,
                folder: folder.path().to_owned(),
            };
            fleet_members.push((kind, start, link));
        }
        let program = shape.program.clone();
        let mut fleet = Self { members, doors, store, servers, environment, program, folder, _lines: lines };
        fleet.init().await;
        if let Some(window) = shape.window {
            let stream = fleet.stream().await;
            let mut config = stream.cached_info().config.clone();
            config.duplicate_window = window;
            fleet.jetstream().await.update_stream(config).await.unwrap();
        }
        let started = fleet_members.into_iter().map(|(kind, start, link)| member(kind, start, Some(link)));
        fleet.members.extend(started);
        fleet
    }

    /// `yalo init`, as soon as the servers have found each other.
    async fn init(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let (code, said) = self.tool("init", &["init"]).finish().await;
            if code == Some(0) {
                return;
            }
            assert!(Instant::now() < end, "yalo init: {said}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A command of yalo beside the roles, straight to the servers.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Start {
        let mut environment = self.environment.clone();
        let urls: Vec<String> = self.servers.iter().map(|server| format!("nats://{server}")).collect();
        environment.push(("YALO_NATS__URL".to_owned(), urls.join(",")));
        Start {
            name: name.to_owned(),
            program: self.program.clone(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment,
            folder: self.folder.path().to_owned(),
        }
    }

    /// A client of NATS of its own, past all proxies.
    pub(crate) async fn jetstream(&self) -> async_nats::jetstream::Context {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect(self.servers.as_slice()).await.unwrap();
        async_nats::jetstream::new(client)
    }

    pub(crate) async fn stream(&self) -> async_nats::jetstream::stream::Stream {
        self.jetstream().await.get_stream("YALO_CHAT").await.unwrap()
    }

    /// Starts again what has ended by itself, until dropped.
    pub(crate) async fn tend(&self, record: &Record) {
        loop {
            for member in &self.members {
                let Ok(mut process) = member.process.try_lock() else { continue };
                if let Some(status) = process.ended() {
                    let name = process.start.name.clone();
                    record.count(&format!("{name} ended by itself"));
                    // 1: failed, 4: cannot reach. Anything else is a crash that nobody made.
                    let poisoned = member.kind == Kind::Bot && status.signal() == Some(6) && record.asked("abort");
                    if poisoned {
                        record.crashed();
                    } else if !matches!(status.code(), Some(1 | 4)) {
                        record.violation(&format!("{name} ended with {status}"));
                    }
                }
                process.run_again();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Keeps the folder for whoever has to find out.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.store.keep_logs(self.folder.path());
        self.folder.path().to_owned()
    }
}

fn member(kind: Kind, start: Start, link: Option<Arc<Proxy>>) -> Member {
    Member { kind, process: Arc::new(Mutex::new(Process::run(start))), link }
}

/// One nats-server; its routes to the others go through lines of their own, and the third one's are slow.
async fn server(
    folder: &tempfile::TempDir,
    ports: &[(u16, u16)],
    number: usize,
    lag: Duration,
    lines: &mut Vec<Proxy>,
) -> Start {
    let (client, route) = ports[number];
    let name = format!("server-{}", number + 1);
    let store = folder.path().join(&name);
    let mut text = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{client}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: \"100ms\" }}\n",
        store.display()
    );
    if ports.len() > 1 {
        let mut routes = Vec::new();
        for (other, (_, port)) in ports.iter().enumerate().filter(|(other, _)| *other != number) {
            let mut address = format!("127.0.0.1:{port}");
            if !lag.is_zero() && (other == 2 || number == 2) {
                let line = Proxy::start(vec![address]).await;
                line.set(false, false, lag);
                address = line.address().to_string();
                lines.push(line);
            }
            routes.push(format!("\"nats://{address}\""));
        }
        let routes = routes.join(", ");
        text = format!(
            "{text}cluster {{ name: chaos, listen: \"127.0.0.1:{route}\", no_advertise: true, pool_size: -1, \
             routes: [{routes}] }}\n"
        );
    }
    let config = folder.path().join(format!("{name}.conf"));
    std::fs::write(&config, text).unwrap();
    Start {
        name,
        program: nats_server(),
        arguments: vec!["--config".to_owned(), config.display().to_string()],
        environment: Vec::new(),
        folder: folder.path().to_owned(),
    }
}

/// A port that nobody listens at, below the range of outgoing connections, so that it is still free after a restart.
fn lasting_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..30_000)).take(1000).find(free).expect("a free port below 30000")
}
