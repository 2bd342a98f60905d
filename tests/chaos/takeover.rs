//! How long the conversations of a bot wait when it dies, freezes or leaves: measured, not judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::header::AUTHORIZATION;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fleet::{Fleet, Kind, Shape};
use crate::users::World;

/// Three for each group on the average, so that every group of the bot has some.
const CONVERSATIONS: usize = 48;

/// `kill -9`, SIGSTOP and SIGTERM of one of three bots, so many times each: median and worst time until every
/// conversation was answered that was asked something at that moment.
pub(crate) async fn measure(shape: &Shape, times: usize) {
    let fleet = Fleet::start(shape).await;
    let world = Arc::new(World::new(&fleet));
    let mut places = Vec::new();
    for number in 0..CONVERSATIONS {
        let conversation = world.open(number).await;
        let opened = world.record.conversations().swap_remove(conversation);
        places.push((opened.id, opened.token));
    }
    let bots: Vec<_> = fleet.members.iter().filter(|member| member.kind == Kind::Bot).collect();
    for way in ["kill -9", "SIGSTOP", "SIGTERM"] {
        let mut waits = Vec::new();
        for time in 0..times {
            settled(&world, &places).await;
            let mut bot = bots[time % bots.len()].process.lock().await;
            let begun = Instant::now();
            match way {
                "kill -9" => bot.kill9(),
                "SIGSTOP" => bot.signal(Signal::STOP),
                _ => bot.signal(Signal::TERM),
            }
            join_all(places.iter().map(|place| answered(&world, place))).await;
            waits.push(begun.elapsed());
            bot.signal(Signal::CONT);
            if way == "SIGTERM" {
                bot.stop(Duration::from_secs(15)).await.unwrap();
            }
            bot.run_again();
        }
        waits.sort();
        let (median, worst) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        println!("take-over after {way:8} median {median:.1?}, worst {worst:.1?} of {times}");
    }
}

/// Waits until all three bots have had their share for a while: nobody waits longer than a moment, several times.
async fn settled(world: &World, places: &[(String, String)]) {
    let mut quick = 0;
    while quick < 6 {
        let begun = Instant::now();
        join_all(places.iter().map(|place| answered(world, place))).await;
        quick = if begun.elapsed() < Duration::from_millis(500) { quick + 1 } else { 0 };
        sleep(Duration::from_millis(500)).await;
    }
}

/// Asks, and waits for the answer.
async fn answered(world: &World, (conversation, token): &(String, String)) {
    let id = uuid::Uuid::now_v7().to_string();
    loop {
        let url = format!("http://{}/v1/conversations/{conversation}/messages", world.door(0));
        let request = world.http.post(url).header(AUTHORIZATION, format!("Bearer {token}")).header("prefer", "wait=20");
        let request = request.json(&json!({"id": id, "text": "still there?"})).timeout(Duration::from_secs(25));
        if let Ok(response) = request.send().await
            && let Ok(body) = response.json::<Value>().await
            && body["answer"].is_object()
        {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
