//! Real dialogues through the real program: every message once, in order, byte for byte, and proved from the record.
//!
//! All dialogues of all languages, half of them over HTTP, half over WebSockets: through `yalo all`, through a fleet of
//! processes, and through a `yalo all` that is killed again and again.

pub(crate) mod people;
pub(crate) mod proof;

use std::time::Instant;

use tokio::sync::watch;

use self::people::{Person, Way};
use crate::client::Api;
use crate::corpus::{self, Dialogue};
use crate::harness::{All, Fleet, Place};

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

async fn replay(place: &Place, ways: &[Way]) {
    let begun = Instant::now();
    let (dialogues, (turns, _)) = (corpus::dialogues(&corpus::folder()).unwrap(), watch::channel(0));
    let talks = talk(place, &dialogues, ways, &turns).await;
    let talked = begun.elapsed();
    proof::prove(place, &talks).await;
    let turns = *turns.borrow();
    println!("{} dialogues, {turns} turns: talked {talked:?}, with proof {:?}", talks.len(), begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialogue_goes_through_yalo_all_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start(folder.path()).await;
    replay(&all.place(), &[Way::Http, Way::Socket]).await;
    all.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialogue_goes_through_a_fleet_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    replay(&fleet.place(), &[Way::Http, Way::Socket]).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialogue_survives_kill_9_of_everything_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = All::start_lasting(folder.path()).await;
    let place = all.place();
    let dialogues = corpus::dialogues(&corpus::folder()).unwrap();
    let whole: usize = dialogues.iter().map(|dialogue| dialogue.turns.len()).sum();
    let (turns, mut seen) = watch::channel(0);
    let begun = Instant::now();
    let killing = async {
        for kill in 1..=KILLS {
            seen.wait_for(|turns| *turns >= whole * kill / (KILLS + 1)).await.unwrap();
            all.kill9();
            all.restart().await;
        }
    };
    let (talks, ()) = tokio::join!(talk(&place, &dialogues, &[Way::Stubborn], &turns), killing);
    let talked = begun.elapsed();
    proof::prove(&place, &talks).await;
    println!(
        "{KILLS} kills, {} dialogues, {whole} turns: talked {talked:?}, with proof {:?}",
        talks.len(),
        begun.elapsed()
    );
    all.stop().await;
}
