//! The mistakes that yalo can be told to make, the faults that expose each, and within how many seeds.

use std::path::Path;
use std::time::Duration;

use crate::fleet::{Kind, Shape};
use crate::nemesis::Fault;
use crate::run::Plan;
use crate::store::StoreKind;

/// One of them; what it is stands in `src/mistake.rs`.
pub(crate) struct Mistake {
    pub(crate) name: &'static str,
    /// It is caught within so many seeds.
    pub(crate) seeds: u64,
    faults: &'static [Fault],
    seconds: u64,
    slow_answers: u64,
    scene: Scene,
}

/// What else has to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Plain,
    /// One fault after the other: while one bot is frozen the others live and take over.
    OneByOne,
    /// Everything is sent again when the server has forgotten it.
    Late,
    /// One of three servers hears of everything late.
    Lagging,
    /// Bots die one after another until the question is found.
    Poison,
    /// The store is a Cassandra.
    Cassandra,
}

pub(crate) const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "ack-before-write",
        seeds: 2,
        faults: &[Fault::HoldStore, Fault::Kill(Kind::Auditor)],
        seconds: 12,
        slow_answers: 0,
        scene: Scene::Plain,
    },
    Mistake {
        name: "ack-before-write",
        seeds: 2,
        faults: &[Fault::HoldStore, Fault::KillNode, Fault::Kill(Kind::Auditor)],
        seconds: 15,
        slow_answers: 0,
        scene: Scene::Cassandra,
    },
    Mistake {
        name: "ack-before-answer",
        seeds: 2,
        faults: &[Fault::Kill(Kind::Bot)],
        seconds: 12,
        slow_answers: 200,
        scene: Scene::Plain,
    },
    Mistake { name: "no-order", seeds: 1, faults: &[], seconds: 6, slow_answers: 200, scene: Scene::Plain },
    Mistake {
        name: "no-fence",
        seeds: 3,
        faults: &[Fault::LongFreeze(Kind::Bot)],
        seconds: 45,
        slow_answers: 400,
        scene: Scene::OneByOne,
    },
    Mistake {
        name: "refusal-is-answer",
        seeds: 3,
        faults: &[Fault::LongFreeze(Kind::Bot)],
        seconds: 45,
        slow_answers: 200,
        scene: Scene::OneByOne,
    },
    Mistake {
        name: "last-record-decides",
        seeds: 2,
        faults: &[Fault::Kill(Kind::Bot), Fault::Restart(Kind::Bot)],
        seconds: 12,
        slow_answers: 200,
        scene: Scene::Plain,
    },
    Mistake {
        name: "no-recovery",
        seeds: 2,
        faults: &[Fault::Kill(Kind::Bot)],
        seconds: 15,
        slow_answers: 200,
        scene: Scene::Plain,
    },
    Mistake {
        name: "no-continuity",
        seeds: 5,
        faults: &[Fault::Freeze(Kind::Bot), Fault::Restart(Kind::Bot), Fault::HoldLink(Kind::Bot)],
        seconds: 25,
        slow_answers: 50,
        scene: Scene::Plain,
    },
    Mistake { name: "nak-instead-of-lane", seeds: 1, faults: &[], seconds: 6, slow_answers: 200, scene: Scene::Plain },
    Mistake { name: "no-late-look-up", seeds: 1, faults: &[], seconds: 20, slow_answers: 0, scene: Scene::Late },
    Mistake {
        name: "no-message-id",
        seeds: 2,
        faults: &[Fault::HoldDoor, Fault::CutDoor, Fault::CutLink(Kind::Frontend), Fault::HoldLink(Kind::Frontend)],
        seconds: 15,
        slow_answers: 0,
        scene: Scene::Plain,
    },
    Mistake {
        name: "cursor-off-by-one",
        seeds: 1,
        faults: &[Fault::CutDoor],
        seconds: 6,
        slow_answers: 0,
        scene: Scene::Plain,
    },
    Mistake {
        name: "live-is-truth",
        seeds: 2,
        faults: &[Fault::CutLink(Kind::Frontend), Fault::HoldLink(Kind::Frontend)],
        seconds: 15,
        slow_answers: 0,
        scene: Scene::Plain,
    },
    Mistake {
        name: "no-poison-count",
        seeds: 1,
        faults: &[Fault::Poison],
        seconds: 1,
        slow_answers: 200,
        scene: Scene::Poison,
    },
    Mistake {
        name: "lagging-replica-believed",
        seeds: 5,
        faults: &[Fault::Kill(Kind::Bot), Fault::Restart(Kind::Bot)],
        seconds: 30,
        slow_answers: 200,
        scene: Scene::Lagging,
    },
];

impl Mistake {
    /// The store of its run.
    pub(crate) fn store(&self) -> StoreKind {
        if self.scene == Scene::Cassandra { StoreKind::Cql { nodes: 1 } } else { StoreKind::Sqlite }
    }

    /// The run that exposes it; the same run without the mistake has to be clean.
    pub(crate) fn plan(&self, program: &Path, seed: u64, made: bool) -> Plan {
        let late = (self.scene == Scene::Late).then_some(Duration::from_secs(13));
        Plan {
            shape: Shape {
                program: program.to_owned(),
                servers: if self.scene == Scene::Lagging { 3 } else { 1 },
                lag: if self.scene == Scene::Lagging { Duration::from_millis(250) } else { Duration::ZERO },
                // Longer than a publish may take, shorter than a late retry.
                window: late.map(|_| Duration::from_secs(12)),
                store: self.store(),
                mistake: made.then_some(self.name),
            },
            faults: self.faults.to_vec(),
            at_once: if self.scene == Scene::OneByOne { 1 } else { 4 },
            seed,
            span: Duration::from_secs(self.seconds),
            conversations: 12,
            // With one slow server in three, it may be the leader: then each step of a turn takes twice the lag.
            pace: Duration::from_millis(if self.scene == Scene::Lagging { 2000 } else { 250 }),
            slow_answers: self.slow_answers,
            late,
            rest: Duration::from_secs(match self.scene {
                Scene::Plain | Scene::OneByOne => 30,
                Scene::Late | Scene::Cassandra => 60,
                Scene::Poison => 90,
                Scene::Lagging => 120,
            }),
        }
    }
}
