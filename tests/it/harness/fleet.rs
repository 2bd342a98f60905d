//! A fleet: one nats-server, 2 frontends, 3 bots, 2 auditors and an admin, each a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use futures_util::future::join_all;
use rustix::process::Signal;

use super::nats::Nats;
use super::{Place, Process, Start, lasting_address};

const ROLES: [(&str, &str); 8] = [
    ("frontend-1", "frontend"),
    ("frontend-2", "frontend"),
    ("bot-1", "bot"),
    ("bot-2", "bot"),
    ("bot-3", "bot"),
    ("auditor-1", "auditor"),
    ("auditor-2", "auditor"),
    ("admin", "admin"),
];

/// A running fleet.
pub(crate) struct Fleet {
    // Roles end before the server that they need.
    roles: Vec<(Start, Process)>,
    nats: Option<Nats>,
    data: PathBuf,
}

impl Fleet {
    /// Starts one below `folder`.
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// Starts one whose processes have more settings, such as `bot.engine=drill`.
    pub(crate) async fn start_with(folder: &Path, more: &[&str]) -> Self {
        let nats = Nats::start(folder);
        let url = nats.url();
        Self { nats: Some(nats), ..Self::start_on(folder, &url, more).await }
    }

    /// Starts one on NATS servers that somebody else keeps.
    pub(crate) async fn start_on(folder: &Path, url: &str, more: &[&str]) -> Self {
        let data = folder.join("data");
        let environment: Vec<(String, String)> = [
            ("YALO_NATS__URL", url.to_owned()),
            ("YALO_DATA__DIR", data.display().to_string()),
            ("YALO_AUTH__GUEST_KEY", "a key that all frontends of this fleet share".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let start = |name: &str, arguments: &[&str]| Start {
            name: name.to_owned(),
            folder: folder.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: environment.clone(),
            ..Start::default()
        };
        let more: Vec<&str> = more.iter().flat_map(|setting| ["--set", *setting]).collect();
        let (code, _, errors) = start("init", &[&["init"][..], &more].concat()).finish().await;
        assert_eq!(code, Some(0), "yalo init: {errors}");
        let starts = ROLES.map(|(name, role)| {
            // Clients find a role again after its restart.
            let listens = [("frontend", lasting_address()), ("admin", lasting_address())];
            let listens = listens.map(|(section, address)| format!("{section}.listen={address}"));
            let usual = ["--set", &listens[0], "--set", &listens[1], "--set", "ops.listen=127.0.0.1:0"];
            start(name, &[&[role][..], &usual, &more].concat())
        });
        let roles = join_all(starts.map(async |start| {
            let process = start.run().await;
            (start, process)
        }))
        .await;
        Self { roles, nats: None, data }
    }

    pub(crate) fn place(&self) -> Place {
        let token = fs::read_to_string(self.data.join("admin-token")).unwrap();
        Place {
            frontends: vec![self.role("frontend-1").address("chat"), self.role("frontend-2").address("chat")],
            admin: self.role("admin").address("admin"),
            token: token.trim().to_owned(),
        }
    }

    /// One of its processes: `frontend-1` and `-2`, `bot-1` to `-3`, `auditor-1` and `-2`, `admin`.
    pub(crate) fn role(&self, name: &str) -> &Process {
        &self.roles.iter().find(|(start, _)| start.name == name).unwrap().1
    }

    /// How one of its processes was started.
    pub(crate) fn start_of(&self, name: &str) -> Start {
        self.roles.iter().find(|(start, _)| start.name == name).unwrap().0.clone()
    }

    /// Where its NATS is.
    pub(crate) fn nats_url(&self) -> String {
        self.nats.as_ref().unwrap().url()
    }

    /// Where the monitoring pages of its NATS are.
    pub(crate) fn monitor(&self) -> String {
        self.nats.as_ref().unwrap().monitor()
    }

    /// Ends one role without a word.
    pub(crate) fn kill9(&mut self, name: &str) {
        self.role_mut(name).kill9();
    }

    /// The same, to be changed.
    pub(crate) fn role_mut(&mut self, name: &str) -> &mut Process {
        &mut self.roles.iter_mut().find(|(start, _)| start.name == name).unwrap().1
    }

    /// Runs `yalo init`: what it says.
    pub(crate) async fn init(&self) -> String {
        let start = Start { name: "init".to_owned(), arguments: vec!["init".to_owned()], ..self.roles[0].0.clone() };
        let (code, output, errors) = start.finish().await;
        assert_eq!(code, Some(0), "{errors}");
        output
    }

    /// Kills the server.
    pub(crate) fn stop_nats(&mut self) {
        self.nats.as_mut().unwrap().kill9();
    }

    /// Sends the server a signal; what is stopped by it stands still from then on.
    pub(crate) fn signal_nats(&self, signal: Signal) {
        self.nats.as_ref().unwrap().signal(signal);
    }

    /// Kills the server and starts it again at the same address.
    pub(crate) fn restart_nats(&mut self) {
        self.nats.as_mut().unwrap().restart();
    }

    /// Asks one role to end, and waits for it.
    pub(crate) async fn stop_role(&mut self, name: &str) {
        self.role_mut(name).stop().await;
    }

    /// Nobody writes to the store from now on.
    pub(crate) async fn stop_auditors(&mut self) {
        for name in ["auditor-1", "auditor-2"] {
            self.stop_role(name).await;
        }
    }

    /// Starts a role again that has ended.
    pub(crate) async fn start_again(&mut self, name: &str) {
        let (start, process) = self.roles.iter_mut().find(|(start, _)| start.name == name).unwrap();
        *process = start.run().await;
    }

    /// Does what a service manager does: a role that has ended by itself is started again. How it had.
    pub(crate) fn tend(&mut self, name: &str) -> Option<ExitStatus> {
        let (start, process) = self.roles.iter_mut().find(|(start, _)| start.name == name).unwrap();
        let ended = process.ended();
        if ended.is_some() {
            *process = start.spawn();
        }
        ended
    }

    /// Asks every role to end, and checks that each does so cleanly.
    pub(crate) async fn stop(&mut self) {
        join_all(self.roles.iter_mut().map(|(_, process)| process.stop())).await;
    }

    /// Stops everything, kills the server, and starts all of it again.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.restart_nats();
        join_all(self.roles.iter_mut().map(async |(start, process)| *process = start.run().await)).await;
    }
}
