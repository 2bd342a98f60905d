//! Real dialogues through the real program: every message once, in order, byte for byte, and proved from the record.
//!
//! All dialogues of all languages, half of them over HTTP, half over WebSockets: through `yalo all`, through a fleet of
//! processes, and through a `yalo all` that is killed again and again. A tenth of them through a fleet on a real Cassandra
//! that is killed; all of them through that and through a ring of three by `make cassandra`.

pub(crate) mod people;
pub(crate) mod proof;

use std::time::Instant;

use tokio::sync::watch;

use self::people::{Person, Way};
use crate::client::Api;
use crate::corpus::{self, Dialogue};
use crate::harness::{All, Deployment, Fleet, Place};

/// People who talk at the same time.
const PEOPLE: usize = 16;
/// How often the whole of yalo is killed in the middle.
const KILLS: usize = 4;

/// Everybody talks at once; what they saw, in no order.
async fn talk(place: &Place, dialogues: &[Dialogue], ways: &[Way], turns: &watch::Sender<usize>) -> Vec<proof::Talk> {
    let mut api = Vec::new();
    for frontend in &place.frontends {
        api.push(Api::connect(frontend).await);
    }
    let people = (0..PEOPLE).map(|number| {
        // Both ways at each frontend, if there are two.
        let (way, api) = (ways[number % ways.len()], api[number / ways.len() % api.len()].clone());
        let mine: Vec<usize> = (number..dialogues.len()).step_by(PEOPLE).collect();
        async move {
            let mut person = Person::arrive(api, way).await;
            let mut talks = Vec::new();
            for index in mine {
                talks.push(person.talk(&dialogues[index], turns).await);
            }
            talks
        }
    });
    futures_util::future::join_all(people).await.into_iter().flatten().collect()
}

/// How far the dialogues are.
struct Progress {
    turns: watch::Receiver<usize>,
    whole: usize,
}

impl Progress {
    /// Waits for this part of all turns.
    async fn reaches(&mut self, part: usize, of: usize) {
        let wanted = self.whole * part / of;
        self.turns.wait_for(|turns| *turns >= wanted).await.unwrap();
    }
}

/// Everybody talks while `harm` is done; then everything is proved.
async fn replay(place: &Place, dialogues: &[Dialogue], ways: &[Way], harm: impl AsyncFnOnce(Progress)) {
    let whole: usize = dialogues.iter().map(|dialogue| dialogue.turns.len()).sum();
    let (begun, (turns, seen)) = (Instant::now(), watch::channel(0));
    let (talks, ()) = tokio::join!(talk(place, dialogues, ways, &turns), harm(Progress { turns: seen, whole }));
    let talked = begun.elapsed();
    proof::prove(place, &talks).await;
    println!("{} dialogues, {whole} turns: talked {talked:?}, with proof {:?}", talks.len(), begun.elapsed());
}

async fn nothing(_: Progress) {}

fn all_dialogues() -> Vec<Dialogue> {
    corpus::dialogues(&corpus::folder()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialogue_goes_through_yalo_all_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    replay(&all.place(), &all_dialogues(), &[Way::Http, Way::Socket], nothing).await;
    all.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialogue_goes_through_a_fleet_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    replay(&fleet.place(), &all_dialogues(), &[Way::Http, Way::Socket], nothing).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialogue_survives_kill_9_of_everything_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_lasting(folder.path()).await;
    replay(&all.place(), &all_dialogues(), &[Way::Stubborn], async |mut progress: Progress| {
        for kill in 1..=KILLS {
            progress.reaches(kill, KILLS + 1).await;
            all.kill9();
            all.restart().await;
        }
    })
    .await;
    all.stop().await;
}

/// Every so many-th dialogue through a fleet on a Cassandra of so many nodes, of which one is dead during the middle third.
async fn on_cassandra(nodes: usize, step: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Deployment::start(folder.path(), nodes).await;
    let dialogues: Vec<Dialogue> = all_dialogues().into_iter().step_by(step).collect();
    replay(&all.fleet.place(), &dialogues, &[Way::Http, Way::Socket], async |mut progress: Progress| {
        progress.reaches(1, 3).await;
        all.on_node(move |cassandra| cassandra.kill(nodes)).await;
        progress.reaches(2, 3).await;
        all.on_node(move |cassandra| cassandra.up(nodes)).await;
    })
    .await;
    let (code, report) = all.verify(&[]).await;
    assert_eq!((code, &report["compared"]), (Some(0), &report["to"]), "{report}");
    all.fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenth_of_the_dialogues_survives_the_death_of_a_cassandra() {
    on_cassandra(1, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `make cassandra` runs it"]
async fn every_dialogue_survives_the_death_of_a_cassandra() {
    on_cassandra(1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `make cassandra` runs it"]
async fn every_dialogue_survives_the_death_of_one_node_of_three() {
    on_cassandra(3, 1).await;
}
