//! Membership: each bot renews a key of its own every second and reads those of all; who pulls what follows from that.
//!
//! It makes work efficient, never right: two bots that take each other for dead cost work and no second record
//! (`answer.rs`). A bot that could not renew its key stops by itself before the others declare it dead.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::share::groups_of;
use super::view::View;
use crate::bus::{Bus, BusError, Member, Streak};
use crate::domain::Timestamp;
use crate::role::Ctx;
use crate::web::ops::Dependency;

/// How often a bot says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// A bot that could not say so for this long takes itself for dead: less than the others wait.
pub(super) const ALONE_AFTER: Duration = Duration::from_secs(3);
/// How often a bot looks whether there are more groups.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// The keys of all bots.
const ALL: &str = "bot.*";

/// The groups that a bot may pull, and until when if it hears nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    groups: BTreeSet<u8>,
    /// Of how many.
    pub(super) of: u16,
    until: Instant,
}

impl Share {
    /// Whether the group is this bot's now.
    pub(super) fn has(&self, group: u8) -> bool {
        self.groups.contains(&group) && Instant::now() < self.until
    }

    /// Whether the group is this bot's now, and there are as many groups as before.
    pub(super) fn has_of(&self, group: u8, of: u16) -> bool {
        self.of == of && self.has(group)
    }
}

/// One bot's side of the membership.
pub(super) struct Membership {
    bus: Bus,
    key: String,
    view: View,
    own: Option<Member>,
    renewed_at: Option<Instant>,
    /// How many groups there are; 0 until it is known.
    groups: u16,
    counted_at: Option<Instant>,
    stands_by: bool,
    share: watch::Sender<Share>,
    failures: Streak,
    ready: Dependency,
}

impl Membership {
    /// The bot of this context, and the share that it will have.
    pub(super) fn new(ctx: &Ctx) -> (Self, watch::Receiver<Share>) {
        let (share, receiver) = watch::channel(Share { groups: BTreeSet::new(), of: 0, until: Instant::now() });
        let membership = Self {
            bus: ctx.bus.clone(),
            key: format!("bot.{}", ctx.member),
            view: View::default(),
            own: None,
            renewed_at: None,
            groups: 0,
            counted_at: None,
            stands_by: false,
            share,
            failures: Streak::default(),
            ready: ctx.readiness.dependency(&format!("members ({})", ctx.name)),
        };
        (membership, receiver)
    }

    /// Renews and reads until `stop`, and at once when somebody comes or goes.
    pub(super) async fn keep(&mut self, stop: &CancellationToken) {
        let mut heard = None;
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if heard.is_none() {
                heard = self.bus.hear_members(ALL).await.ok();
            }
            let news = async {
                match heard.as_mut() {
                    Some(heard) => next_change(heard, &self.view).await,
                    None => std::future::pending().await,
                }
            };
            let renew = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => true,
                () = news => false,
            };
            if renew {
                self.renew().await;
                self.count_groups().await;
            }
            match self.bus.members(ALL).await {
                Ok(members) => {
                    let own = members.iter().find(|member| member.key == self.key).or(self.own.as_ref());
                    self.own = own.cloned();
                    self.view.observe(Instant::now(), &members, self.own.as_ref());
                }
                Err(error) => tracing::debug!(%error, "the members could not be read"),
            }
            self.publish_share();
        }
    }

    /// Takes the key back, so that the others take over at once.
    pub(super) async fn leave(self) {
        if let Err(error) = self.bus.remove_member(&self.key).await {
            tracing::debug!(%error, "the others will miss this bot after five seconds only");
        }
    }

    async fn renew(&mut self) {
        let begun = Instant::now();
        // With this machine's time: the server puts its own beside it, and `yalo doctor` compares the two.
        let beat = serde_json::json!({
            "v": 1, "process": std::process::id(), "release": env!("CARGO_PKG_VERSION"), "at": Timestamp::now()
        });
        match self.bus.put_member(&self.key, beat.to_string().into()).await {
            Ok(_) => {
                self.renewed_at = Some(begun);
                self.ready.set_ready(true, "");
                if self.failures.ends() {
                    tracing::info!("heartbeats are written again");
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &BusError) {
        let reason = format!(
            "no heartbeat can be written ({error}), so this bot answers nothing: is there the bucket of members (`yalo \
             init`), and has it a leader?"
        );
        if self.renewed_at.is_none_or(|renewed| renewed.elapsed() >= ALONE_AFTER) {
            self.ready.set_ready(false, &reason);
        }
        if self.failures.fails() {
            tracing::warn!(%error, "{reason}");
        }
    }

    /// Groups are added once in the life of a deployment: it is enough to look once in a while.
    async fn count_groups(&mut self) {
        if self.counted_at.is_some_and(|counted| counted.elapsed() < COUNT_EVERY) {
            return;
        }
        match tokio::time::timeout(BEAT, self.bus.stream_state()).await {
            Ok(Ok(stream)) => self.groups = stream.groups,
            Ok(Err(error)) => tracing::debug!(%error, "the groups could not be counted"),
            Err(_) => tracing::debug!("the groups could not be counted in time"),
        }
        // Once they are known, a stream without a leader must not slow the heartbeats down.
        self.counted_at = (self.groups > 0).then(Instant::now);
    }

    fn publish_share(&mut self) {
        let now = Instant::now();
        let until = self.renewed_at.map_or(now, |renewed| renewed + ALONE_AFTER);
        let alive = self.view.alive(now);
        let groups = if now < until { groups_of(&self.key, &alive, self.groups) } else { BTreeSet::new() };
        let of = self.groups;
        let before = self.share.borrow().clone();
        // One of more bots than groups: nothing is wrong with it.
        let stands_by = groups.is_empty() && of > 0 && alive.len() > usize::from(of);
        if groups != before.groups || (of != before.of && of > 0) || stands_by != self.stands_by {
            tracing::info!(
                groups = groups.len(),
                bots = alive.len(),
                "{}",
                describe(&groups, of, alive.len(), stands_by)
            );
        }
        self.stands_by = stands_by;
        self.share.send_replace(Share { groups, of, until });
    }
}

fn describe(groups: &BTreeSet<u8>, of: u16, bots: usize, stands_by: bool) -> String {
    match groups.len() {
        0 if stands_by => format!(
            "standing by: {of} groups are shared by {bots} bots; it takes over when one of them leaves, or when there \
             are more groups (nats.groups, `yalo init`)"
        ),
        0 => "no group is this bot's now".to_owned(),
        some => format!("answers {some} of {of} groups, {bots} bots live"),
    }
}

/// Waits until a key is written that is new, or taken back.
async fn next_change(heard: &mut async_nats::Subscriber, view: &View) {
    while let Some(message) = heard.next().await {
        let key = message.subject.as_str().splitn(3, '.').nth(2).unwrap_or_default();
        if message.payload.is_empty() || !view.knows(key) {
            return;
        }
    }
    std::future::pending::<()>().await;
}
