//! Uploads in batches, without ids: what guards from doubles is that a batch that broke is over for good.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;
use yalo::domain::{ConversationId, Who};
use yalo::wire::Subjects;

use super::command::{command, start};
use super::raw::Raw;
use super::{
    MANY, SETTING, SMALL, TOKEN, all, are_in_order, begun, counts, lines, long_lines, service, stored, upload,
};
use crate::client::{Api, new_id, number};
use crate::harness::{Cluster, Fleet, PATIENCE, Place, Start, eventually};

/// One that holds a batch in its hands, and is slow.
struct Holder {
    client: Client,
    inbox: String,
    answers: Subscriber,
    name: Uuid,
    subject: String,
}

impl Holder {
    async fn begin(url: &str) -> Self {
        let servers: Vec<_> = url.split(',').map(str::to_owned).collect();
        let client = async_nats::connect(servers).await.unwrap();
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.>")).await.unwrap();
        let subject = Subjects::new("yalo").unwrap().record(ConversationId::new(), Who::Log);
        let mut holder = Self { client, inbox, answers, name: Uuid::now_v7(), subject };
        holder.put(1, 0).await;
        assert_eq!(holder.answer().await["type"], "ack", "it has begun");
        holder.put(2, 1).await;
        let begun = async || (holder.stream().await.get_info().await.ok()?.state.last_sequence == 2).then_some(());
        eventually(PATIENCE, "two messages of it in the stream", begun).await;
        holder
    }

    async fn put(&self, seq: u64, operation: u8) {
        let mut headers = HeaderMap::new();
        if operation == 0 {
            headers.insert("Nats-Msg-Id", self.name.to_string());
        }
        let reply = format!("{}.{}.100.fail.{seq}.{operation}.$FI", self.inbox, self.name.simple());
        let (subject, payload) = (self.subject.clone(), format!("message {seq} of a batch").into());
        self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await.unwrap();
        self.client.flush().await.unwrap();
    }

    async fn answer(&mut self) -> Value {
        let answer = tokio::time::timeout(PATIENCE, self.answers.next()).await.unwrap().unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn stream(&self) -> stream::Stream {
        jetstream::new(self.client.clone()).get_stream("YALO_CHAT").await.unwrap()
    }

    /// What it still had to send comes now: nothing of it is taken.
    async fn comes_too_late(&mut self) {
        let before = self.stream().await.get_info().await.unwrap().state.last_sequence;
        self.put(3, 1).await;
        assert_eq!(self.answer().await["error"]["err_code"], 10208, "the batch is unknown");
        // Its first message, which begins it anew, is known by its id. What asks for the batch comes behind it.
        self.put(1, 0).await;
        self.put(1, 4).await;
        for _ in 0..2 {
            assert_eq!(self.answer().await["type"], "ack");
        }
        assert_eq!(self.stream().await.get_info().await.unwrap().state.last_sequence, before);
    }
}

/// An upload that is the next try of what this one held.
async fn next_try(place: &Place, held: &Holder) -> Value {
    let query = format!("?source=file&batch={}&past={}&after=0", Uuid::now_v7(), held.name);
    upload(&service(place).await, &query, "", lines(1..11)).await.expect(200)
}

#[tokio::test]
async fn what_comes_late_of_a_batch_that_was_given_up_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let mut held = Holder::begin(&fleet.nats_url()).await;
    assert_eq!(counts(&next_try(&fleet.place(), &held).await), [10, 0, 0, 10]);
    held.comes_too_late().await;

    // A stream of an older yalo takes none, until `yalo init` has been run.
    let context = jetstream::new(held.client.clone());
    let mut config = held.stream().await.get_info().await.unwrap().config;
    config.allow_batch_publish = false;
    context.update_stream(&config).await.unwrap();
    let (api, query) = (service(&fleet.place()).await, format!("?source=file&batch={}", Uuid::now_v7()));
    let problem = upload(&api, &query, "", lines(11..21)).await.refused(400, "invalid_field");
    assert!(problem["detail"].as_str().unwrap().contains("then `yalo init`"), "{problem}");
    fleet.init().await;
    assert_eq!(counts(&upload(&api, &query, "", lines(11..21)).await.expect(200)), [10, 0, 0, 10]);
    fleet.stop().await;
}

#[tokio::test]
async fn nor_is_it_by_another_leader_of_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path()).await;
    let mut fleet = Fleet::start_on(folder.path(), &cluster.url(), &[SETTING, "nats.replicas=3"]).await;
    let mut held = Holder::begin(&cluster.url()).await;
    cluster.is_whole(PATIENCE).await;
    assert_eq!(counts(&next_try(&fleet.place(), &held).await), [10, 0, 0, 10]);
    let (before, _) = cluster.leader_and_follower().await;
    held.client.request("$JS.API.STREAM.LEADER.STEPDOWN.YALO_CHAT", "".into()).await.unwrap();
    let another = async || (cluster.leader_and_follower().await.0 != before).then_some(());
    eventually(PATIENCE, "another leader", another).await;
    held.comes_too_late().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_frontend_that_stood_still_begins_nothing_that_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let place = fleet.place();
    fleet.role("frontend-1").signal(Signal::STOP);
    let first = Uuid::now_v7();
    let mut waiting = Raw::post(&place.frontends[0], &format!("?source=file&batch={first}"), &lines(1..101)).await;
    waiting.end().await;
    let api = Api::connect(&place.frontends[1]).await.with_token(TOKEN);
    let query = format!("?source=file&batch={}&past={first}&after=0", Uuid::now_v7());
    assert_eq!(counts(&upload(&api, &query, "", lines(1..101)).await.expect(200)), [100, 0, 0, 100]);
    fleet.role("frontend-1").signal(Signal::CONT);
    let answer = waiting.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"accepted\":0"), "{answer}");
    are_in_order(&stored(&place, folder.path(), 100).await, 100);
    fleet.stop().await;
}

#[tokio::test]
async fn an_upload_in_a_batch_that_is_cut_is_resumed_at_once_without_doubles() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let (api, first) = (service(&place).await, Uuid::now_v7());
    let cut = Raw::post(&place.frontends[0], &format!("?source=file&batch={first}"), &lines(1..30_001)).await;
    begun(&place, 100).await;
    drop(cut);
    let query = format!("?source=file&batch={}&past={first}&after=0", Uuid::now_v7());
    let told = upload(&api, &query, "", lines(1..30_001)).await.expect(200);
    let [accepted, duplicates, refused, read] = counts(&told);
    assert!(duplicates >= 100, "{told}");
    assert_eq!((accepted + duplicates, refused, read, &told["settled"]), (30_000, 0, 30_000, &json!(true)), "{told}");
    are_in_order(&stored(&place, folder.path(), 30_000).await, 30_000);
    all.stop().await;
}

#[tokio::test]
async fn a_run_in_batches_waits_for_room_in_a_full_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[SMALL]).await;
    let place = all.place();
    let file = folder.path().join("messages.ndjson");
    std::fs::write(&file, long_lines(1..MANY + 1)).unwrap();
    let (code, report, errors) = command(folder.path(), &place, &["--batch", &file.display().to_string()]).await;
    assert_eq!((code, counts(&report)), (Some(0), [MANY, 0, 0, MANY]), "{errors}");
    assert!(errors.contains("overloaded"), "the stream never filled: {errors}");
    are_in_order(&stored(&place, folder.path(), usize::try_from(MANY).unwrap()).await, MANY);
    all.stop().await;
}

#[tokio::test]
async fn nats_dies_under_a_run_in_batches_and_every_line_is_stored_once_and_in_order() {
    const LINES: u64 = 120_000;
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let place = fleet.place();
    let file = folder.path().join("messages.ndjson");
    std::fs::write(&file, lines(1..LINES + 1)).unwrap();
    let mut process = start(folder.path(), &place, &["--batch", &file.display().to_string()]).spawn();
    assert!(begun(&place, LINES / 10).await < LINES, "it was over before anything was killed");
    fleet.restart_nats();
    assert_eq!(process.exit(PATIENCE).await.code(), Some(0));
    let said = std::fs::read_to_string(folder.path().join("ingest.log")).unwrap();
    assert!(said.contains("trying again from line"), "{said}");
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
    let verify = Start {
        name: "verify".to_owned(),
        arguments: ["audit", "verify"].map(str::to_owned).into(),
        ..fleet.start_of("admin")
    };
    let (code, output, errors) = verify.finish().await;
    assert_eq!(code, Some(0), "{output}{errors}");
    fleet.stop().await;
}

#[tokio::test]
async fn a_batch_is_of_lines_without_ids_and_lives_as_long_as_its_upload() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let api = service(&place).await;
    let batch = || format!("?source=file&batch={}", Uuid::now_v7());
    let own = format!("{}\n", json!({"key": "talk 1", "text": "x", "id": new_id()}));
    let body = [lines(1..8), own.clone(), lines(8..9)].concat();
    let problem = upload(&api, &batch(), "", body).await.refused(400, "invalid_field");
    assert!(problem["detail"].as_str().unwrap().starts_with("line 8 has an `id` of its own"), "{problem}");
    assert_eq!((number(&problem, "accepted"), number(&problem, "next_line")), (7, 8), "{problem}");
    for query in ["?batch=0198c0de-0000-7000-8000-000000000001", "?source=s&batch=7", &format!("{}&as=user", batch())] {
        let problem = upload(&api, query, "", lines(1..2)).await.refused(400, "invalid_field");
        assert_eq!(problem["field"], "batch", "{query}: {problem}");
    }
    for past in ["0198c0de-0000-7000-8000-000000000001", "x&after=0"] {
        let problem = upload(&api, &format!("{}&past={past}", batch()), "", lines(1..2)).await;
        assert_eq!(problem.refused(400, "invalid_field")["field"], "past");
    }
    // Bad lines stop none, and one without lines is no batch at all.
    let told =
        upload(&api, &format!("{}&line=8", batch()), "", format!("nonsense\n{}", lines(8..2001))).await.expect(200);
    assert_eq!((counts(&told), number(&told, "last_seq")), ([1993, 0, 1, 1994], 2000), "{told}");
    assert_eq!(counts(&upload(&api, &batch(), "", "\n\n").await.expect(200)), [0, 0, 0, 2]);
    are_in_order(&stored(&place, folder.path(), 2000).await, 2000);
    // The command says so before it sends anything.
    let file = folder.path().join("export.ndjson");
    std::fs::write(&file, own).unwrap();
    let file = file.display().to_string();
    let (code, _, errors) = command(folder.path(), &place, &["--batch", &file]).await;
    assert!(code == Some(1) && errors.contains("without --batch"), "{errors}");
    for words in [&["--batch", "-"][..], &["--batch", "--as", "user", &file]] {
        let (code, _, errors) = command(folder.path(), &place, words).await;
        assert!(code == Some(2) && errors.contains("--batch is for a log from a file"), "{errors}");
    }
    all.stop().await;
}

/// Of each batch the nats-server knows the first line, for a while: it is counted as what it is.
#[tokio::test]
async fn lines_that_are_sent_again_in_another_batch_are_counted_as_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let api = service(&place).await;
    for (expected, last) in [([7, 0, 0, 7], 7), ([6, 1, 0, 7], 13)] {
        let query = format!("?source=file&batch={}", Uuid::now_v7());
        let told = upload(&api, &query, "", lines(1..8)).await.expect(200);
        assert_eq!((counts(&told), number(&told, "last_seq")), (expected, last), "{told}");
    }
    // Another run of the command is another one altogether.
    let file = folder.path().join("messages.ndjson");
    std::fs::write(&file, lines(1..8)).unwrap();
    for _ in 0..2 {
        let (code, report, errors) = command(folder.path(), &place, &["--batch", &file.display().to_string()]).await;
        assert_eq!((code, counts(&report)), (Some(0), [7, 0, 0, 7]), "{errors}");
    }
    stored(&place, folder.path(), 13 + 14).await;
    all.stop().await;
}

#[tokio::test]
async fn a_batch_outlives_the_silence_of_its_sender() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &["frontend.body_timeout_ms=60000"]).await;
    let place = all.place();
    let query = format!("?source=file&batch={}", Uuid::now_v7());
    let mut upload = Raw::post(&place.frontends[0], &query, &lines(1..131)).await;
    // So long a silence that a nats-server forgets a batch.
    tokio::time::sleep(Duration::from_secs(12)).await;
    upload.more(&lines(131..301)).await;
    upload.end().await;
    let answer = upload.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"accepted\":300"), "{answer}");
    are_in_order(&stored(&place, folder.path(), 300).await, 300);
    all.stop().await;
}
