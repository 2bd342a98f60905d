//! Uploads while something breaks: the line, the body, NATS, the stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::Raw;
use super::{
    MANY, SETTING, SMALL, TOKEN, all, are_in_order, begun, counts, lines, long_lines, service, stored, upload,
};
use crate::client::raw::status;
use crate::client::{Api, number};
use crate::harness::{Fleet, PATIENCE, eventually};
use crate::proxy::Proxy;

#[tokio::test]
async fn an_upload_that_is_cut_is_resumed_without_doubles() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[]).await;
    let place = all.place();
    let address = place.frontends[0].trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/ingest?source=cut HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: \
         chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let part = lines(1..1501);
    // The last line is cut in two: its half is no message.
    let part = &part[..part.len() - 5];
    socket.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await.unwrap();
    begun(&place, 1499).await;
    drop(socket);
    let api = service(&place).await;
    let told = upload(&api, "?source=cut", "", lines(1..2001)).await.expect(200);
    assert_eq!(counts(&told), [501, 1499, 0, 2000]);
    are_in_order(&stored(&place, folder.path(), 2000).await, 2000);
    all.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_told_how_far_it_got() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &["frontend.body_timeout_ms=500"]).await;
    let address = all.place().frontends[0].trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let part = lines(1..101);
    let head = format!(
        "POST /v1/ingest HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{part}\r\n",
        TOKEN,
        part.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, async {
        while !answer.contains("request_id") {
            let mut piece = [0; 4096];
            let length = socket.read(&mut piece).await.unwrap();
            assert!(length > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
    });
    read.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"accepted\":100") && answer.contains("\"next_line\":101"), "{answer}");
    drop(socket);
    all.stop().await;
}

#[tokio::test]
async fn nats_dies_in_the_middle_and_every_line_is_stored_once_and_in_order() {
    const LINES: u64 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let place = fleet.place();
    let api = service(&place).await;
    let sending = upload(&api, "?source=file", "", lines(1..LINES + 1));
    let killing = async {
        assert!(begun(&place, LINES / 10).await < LINES, "it was over before anything was killed");
        fleet.restart_nats();
    };
    let (told, ()) = tokio::join!(sending, killing);
    let told = told.expect(200);
    assert_eq!(counts(&told), [LINES, 0, 0, LINES], "{told}");
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
    fleet.stop().await;
}

#[tokio::test]
async fn while_nats_is_away_uploads_are_refused_and_go_on_where_they_ended() {
    let folder = tempfile::tempdir().unwrap();
    let more = [SETTING, "nats.publish_deadline_ms=2000", "nats.publish_timeout_ms=500"];
    let mut fleet = Fleet::start_with(folder.path(), &more).await;
    let place = fleet.place();
    let api = service(&place).await;
    assert_eq!(number(&upload(&api, "?source=file", "", lines(1..101)).await.expect(200), "accepted"), 100);
    fleet.stop_nats();
    let refused = upload(&api, "?source=file&line=101", "", lines(101..5001)).await;
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    let problem = refused.refused(503, "unavailable");
    assert_eq!((number(&problem, "accepted"), number(&problem, "next_line")), (0, 101), "{problem}");
    fleet.restart_nats();
    let told = eventually(PATIENCE, "an upload", async || {
        let answer = upload(&api, "?source=file&line=101", "", lines(101..5001)).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(number(&told, "accepted") + number(&told, "duplicates"), 4900, "{told}");
    are_in_order(&stored(&place, folder.path(), 5000).await, 5000);
    fleet.stop().await;
}

#[tokio::test]
async fn a_full_stream_says_how_far_it_got_and_takes_the_rest_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = all(folder.path(), &[SMALL]).await;
    let place = all.place();
    let api = service(&place).await;
    let (mut next, mut refusals) = (1, 0);
    let told = loop {
        let answer = upload(&api, &format!("?source=file&line={next}"), "", long_lines(next..MANY + 1)).await;
        if answer.status == 200 {
            break answer.body;
        }
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        let problem = answer.refused(503, "overloaded");
        assert_eq!(number(&problem, "next_line"), next + number(&problem, "accepted"), "{problem}");
        // Users can still talk, and there is room again when the auditor has trimmed.
        let (guest, _) = Api::guest(&place.frontends[0]).await;
        guest.post("/v1/chat", json!({"text": "still here"})).await.expect(200);
        (next, refusals) = (number(&problem, "next_line"), refusals + 1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(refusals > 0, "the stream never filled");
    assert_eq!(number(&told, "next_line"), MANY + 1);
    are_in_order(&stored(&place, folder.path(), usize::try_from(MANY).unwrap()).await, MANY);
    all.stop().await;
}

/// Each line of the body comes while the way to NATS is still being made.
#[tokio::test]
async fn a_slow_way_to_nats_is_made_once_however_fast_the_lines_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING, "nats.publish_deadline_ms=2000"]).await;
    let proxy = Proxy::start(vec![fleet.nats_url().trim_start_matches("nats://").to_owned()]).await;
    fleet.stop_role("frontend-2").await;
    let mut start = fleet.start_of("frontend-2");
    start.name = "far away".to_owned();
    start.environment.push(("YALO_NATS__URL".to_owned(), format!("nats://{}", proxy.address())));
    let mut far = start.run().await;
    proxy.set(false, false, Duration::from_millis(100));
    let mut upload = Raw::post(&far.address("chat"), "", &lines(1..2)).await;
    for number in 2..=100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        upload.more(&lines(number..number + 1)).await;
    }
    upload.end().await;
    let answer = upload.answer().await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("\"accepted\":100"), "{answer}");
    far.stop().await;
    fleet.stop().await;
}

/// What was sent and is not stored lies in the buffers of the system and in a window of the frontend, and no more is taken.
#[tokio::test]
async fn a_sender_is_held_while_nats_stands_still() {
    const LINES: u64 = 12_000;
    let folder = tempfile::tempdir().unwrap();
    // It is not to be given up meanwhile.
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING, "nats.publish_deadline_ms=60000"]).await;
    let place = fleet.place();
    let mut upload = Raw::post(&place.frontends[0], "?source=held", &long_lines(1..101)).await;
    begun(&place, 100).await;
    fleet.signal_nats(Signal::STOP);
    let sent = AtomicU64::new(100);
    let sending = async {
        while sent.load(Ordering::Relaxed) < LINES {
            let next = sent.load(Ordering::Relaxed) + 1;
            upload.more(&long_lines(next..next + 100)).await;
            sent.fetch_add(100, Ordering::Relaxed);
        }
        upload.end().await;
        upload.answer().await
    };
    let holding = async {
        let mut held = 0;
        // It is held when nothing more was taken for a second.
        while held < sent.load(Ordering::Relaxed) {
            held = sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        fleet.signal_nats(Signal::CONT);
        held
    };
    let (answer, held) = tokio::join!(sending, holding);
    assert!(held < LINES, "all of it was taken");
    assert_eq!(status(&answer), 200, "{answer}");
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
    println!("held at line {held} of {LINES}");
    fleet.stop().await;
}
