//! The dependencies of a process by name: which are ready, since when, and what keeps the others.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::domain::Timestamp;

/// All dependencies of this process. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    states: Mutex<Vec<State>>,
    stopping: Mutex<bool>,
    ready: watch::Sender<bool>,
}

/// One dependency as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub ready: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// What keeps it; empty when it is ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The whole at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Whether everything is there and nothing stops.
    pub ready: bool,
    /// Whether the process is on its way down.
    pub stopping: bool,
    /// Each dependency, in the order of its registration.
    pub dependencies: Vec<State>,
}

/// The handle by which its owner reports one dependency. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dependency {
    shared: Arc<Shared>,
    place: usize,
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Shared {
            states: Mutex::default(),
            stopping: Mutex::new(false),
            // Nothing to wait for is ready.
            ready: watch::Sender::new(true),
        }))
    }
}

impl Readiness {
    /// Adds a dependency that is not ready yet. A name that is taken gets a number: "nats", "nats 2".
    pub fn dependency(&self, name: &str) -> Dependency {
        let mut states = self.0.states();
        let mut unique = name.to_owned();
        let mut number = 1;
        while states.iter().any(|state| state.name == unique) {
            number += 1;
            unique.truncate(name.len());
            // Writing to a String cannot fail.
            write!(unique, " {number}").unwrap_or_default();
        }
        states.push(State { name: unique, ready: false, since: Timestamp::now(), reason: "starting".to_owned() });
        let place = states.len() - 1;
        self.0.publish(&states);
        Dependency { shared: Arc::clone(&self.0), place }
    }

    /// From now on nothing is ready: load balancers turn away before the intake closes.
    pub fn stop(&self) {
        let states = self.0.states();
        *self.0.stopping() = true;
        self.0.publish(&states);
    }

    /// How things stand.
    pub fn snapshot(&self) -> Snapshot {
        let states = self.0.states();
        let stopping = *self.0.stopping();
        Snapshot { ready: !stopping && all_ready(&states), stopping, dependencies: states.clone() }
    }

    /// Whether everything is ready, now and at each change.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }
}

impl Dependency {
    /// Reports; `reason` says what is missing, and is dropped when ready. Nothing happens if nothing changed.
    pub fn set_ready(&self, ready: bool, reason: &str) {
        let mut states = self.shared.states();
        let Some(state) = states.get_mut(self.place) else { return };
        let reason = if ready { "" } else { reason };
        if state.ready != ready {
            state.since = Timestamp::now();
        }
        if state.ready != ready || state.reason != reason {
            state.ready = ready;
            reason.clone_into(&mut state.reason);
            self.shared.publish(&states);
        }
    }
}

impl Shared {
    // A panic elsewhere leaves these plain values whole.
    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, states: &[State]) {
        let ready = !*self.stopping() && all_ready(states);
        self.ready.send_if_modified(|current| std::mem::replace(current, ready) != ready);
    }
}

fn all_ready(states: &[State]) -> bool {
    states.iter().all(|state| state.ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_dependency_is() {
        let readiness = Readiness::default();
        assert!(readiness.snapshot().ready);
        let (nats, store) = (readiness.dependency("nats"), readiness.dependency("store"));
        let changes = readiness.watch();
        nats.set_ready(true, "");
        assert!(!readiness.snapshot().ready);
        store.set_ready(true, "ignored");
        assert!(readiness.snapshot().ready && *changes.borrow());
        store.set_ready(false, "locked by another process");
        let snapshot = readiness.snapshot();
        assert_eq!((snapshot.ready, *changes.borrow()), (false, false));
        assert_eq!(snapshot.dependencies[1].reason, "locked by another process");
        assert_eq!(snapshot.dependencies[0].reason, "");
    }

    #[test]
    fn since_is_the_time_of_the_last_change_not_of_the_last_report() {
        let readiness = Readiness::default();
        let nats = readiness.dependency("nats");
        nats.set_ready(false, "connecting");
        let since = readiness.snapshot().dependencies[0].since;
        nats.set_ready(false, "refused");
        assert_eq!(readiness.snapshot().dependencies[0].since, since);
    }

    #[test]
    fn replicas_of_a_role_keep_their_own_entries() {
        let readiness = Readiness::default();
        let (first, _second, _third) =
            (readiness.dependency("bot"), readiness.dependency("bot"), readiness.dependency("bot"));
        first.set_ready(true, "");
        let names: Vec<String> = readiness.snapshot().dependencies.into_iter().map(|state| state.name).collect();
        assert_eq!(names, ["bot", "bot 2", "bot 3"]);
    }

    #[test]
    fn a_stopping_process_is_not_ready_whatever_is_reported() {
        let readiness = Readiness::default();
        let nats = readiness.dependency("nats");
        readiness.stop();
        nats.set_ready(true, "");
        let snapshot = readiness.snapshot();
        assert!(snapshot.stopping && !snapshot.ready && !*readiness.watch().borrow());
    }
}
