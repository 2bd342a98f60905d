//! Uploads that are taken up again, also when the nats-server has forgotten their ids.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Stream};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::command::{command, start};
use super::raw::Raw;
use super::{SETTING, TOKEN, are_in_order, counts, lines, service, stored, upload};
use crate::client::{Api, new_id, number};
use crate::harness::{Fleet, PATIENCE, Start, eventually};

/// So short a memory of ids has a nats-server here.
const WINDOW: Duration = Duration::from_secs(1);

async fn forgetful(folder: &Path, more: &[&str]) -> (Fleet, Stream) {
    let fleet = Fleet::start_with(folder, &[&[SETTING][..], more].concat()).await;
    let context = jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let mut stream = context.get_stream("YALO_CHAT").await.unwrap();
    let config = jetstream::stream::Config { duplicate_window: WINDOW, ..stream.info().await.unwrap().config.clone() };
    context.update_stream(&config).await.unwrap();
    (fleet, stream)
}

/// Waits until nothing more comes, and until all that came is forgotten.
async fn forgotten(stream: &Stream) -> u64 {
    let seen = Cell::new((0, Instant::now()));
    eventually(PATIENCE, "an end of what comes", async || {
        let last = stream.get_info().await.unwrap().state.last_sequence;
        if last != seen.get().0 {
            seen.set((last, Instant::now()));
        }
        (seen.get().1.elapsed() > 2 * WINDOW).then_some(last)
    })
    .await
}

fn place_of(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn a_run_that_is_killed_goes_on_without_doubles_however_long_after() {
    is_killed_and_goes_on(&[]).await;
}

#[tokio::test]
async fn so_does_one_in_batches() {
    is_killed_and_goes_on(&["--batch"]).await;
}

async fn is_killed_and_goes_on(flags: &[&str]) {
    const LINES: u64 = 120_000;
    let folder = tempfile::tempdir().unwrap();
    let (mut fleet, stream) = forgetful(folder.path(), &[]).await;
    let place = fleet.place();
    let (path, state) = large(folder.path(), LINES);
    let words = [flags, &[&path]].concat();
    let mut process = start(folder.path(), &place, &words).spawn();
    within_a_chunk(&stream, &state, 1).await;
    process.kill9();
    let last = forgotten(&stream).await;
    let next = number(&place_of(&state), "next_line");
    assert!(next <= last && last < LINES, "it was killed within a chunk: {last} of {LINES} lines, to go on at {next}");
    let (code, _, errors) = command(folder.path(), &place, &words).await;
    assert!(code == Some(2) && errors.contains("--resume"), "{errors}");
    let (code, report, errors) = command(folder.path(), &place, &[&["--resume"], &words[..]].concat()).await;
    let expected = [LINES - last, last + 1 - next, 0, LINES + 1 - next];
    assert_eq!((code, counts(&report)), (Some(0), expected), "{errors}");
    assert!(!state.exists());
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
    fleet.stop().await;
}

/// A file of so many lines, and where a run on it writes how far it is.
fn large(folder: &Path, number: u64) -> (String, PathBuf) {
    let file = folder.join("messages.ndjson");
    fs::write(&file, lines(1..number + 1)).unwrap();
    (file.display().to_string(), folder.join("messages.ndjson.yalo-ingest"))
}

/// Waits until a run is well within the chunk behind this line.
async fn within_a_chunk(stream: &Stream, state: &Path, line: u64) {
    eventually(PATIENCE, "a part of a chunk in the stream", async || {
        let last = stream.get_info().await.unwrap().state.last_sequence;
        let place = state.exists().then(|| place_of(state))?;
        (number(&place, "next_line") > line && last >= number(&place, "after") + 5000).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_frontend_dies_under_a_run_which_goes_on_without_doubles_however_long_after() {
    loses_its_frontend_and_goes_on(&[]).await;
}

#[tokio::test]
async fn so_it_does_under_one_in_batches() {
    loses_its_frontend_and_goes_on(&["--batch"]).await;
}

async fn loses_its_frontend_and_goes_on(flags: &[&str]) {
    const LINES: u64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let (mut fleet, stream) = forgetful(folder.path(), &[]).await;
    let place = fleet.place();
    let (path, state) = large(folder.path(), LINES);
    let said = || fs::read_to_string(folder.path().join("ingest.log")).unwrap();
    // One that has little patience ends, and says how to go on.
    let words = [flags, &[&path]].concat();
    let mut process = start(folder.path(), &place, &[&["--timeout", "1"], &words[..]].concat()).spawn();
    within_a_chunk(&stream, &state, 1).await;
    fleet.kill9("frontend-1");
    assert_eq!(process.exit(PATIENCE).await.code(), Some(4), "{}", said());
    assert!(said().contains("go on with --resume"), "{}", said());
    let next = number(&place_of(&state), "next_line");
    // One that has more waits for it, and goes on by itself.
    fleet.start_again("frontend-1").await;
    let mut process = start(folder.path(), &place, &[&["--resume"], &words[..]].concat()).spawn();
    within_a_chunk(&stream, &state, next).await;
    fleet.kill9("frontend-1");
    let last = forgotten(&stream).await;
    assert!(last < LINES, "it was over before the frontend was killed");
    fleet.start_again("frontend-1").await;
    assert_eq!(process.exit(PATIENCE).await.code(), Some(0), "{}", said());
    assert!(said().contains("trying again from line") && !state.exists(), "{}", said());
    are_in_order(&stored(&place, folder.path(), usize::try_from(LINES).unwrap()).await, LINES);
    fleet.stop().await;
}

/// What a frontend had read, or what lay in its sockets, comes too late when it goes on: others have taken it, and its ids
/// are forgotten.
#[tokio::test]
async fn a_frontend_that_stood_still_for_long_takes_nothing_that_others_have_taken() {
    /// From so much on it counts.
    const STANDSTILL: Duration = Duration::from_secs(11);
    /// A body may be silent for longer than that.
    const BODY: &str = "frontend.body_timeout_ms=60000";
    let folder = tempfile::tempdir().unwrap();
    let (mut fleet, stream) = forgetful(folder.path(), &[BODY]).await;
    let place = fleet.place();
    let mut begun = Raw::post(&place.frontends[0], "?source=file", &lines(1..101)).await;
    super::begun(&place, 100).await;
    fleet.role("frontend-1").signal(Signal::STOP);
    let stopped = Instant::now();
    begun.more(&lines(101..201)).await;
    begun.end().await;
    let mut waiting = Raw::post(&place.frontends[0], "?source=file", &lines(1..201)).await;
    waiting.end().await;
    let api = Api::connect(&place.frontends[1]).await.with_token(TOKEN);
    let told = upload(&api, "?source=file&after=0", "", lines(1..201)).await.expect(200);
    assert_eq!(counts(&told), [100, 100, 0, 200]);
    forgotten(&stream).await;
    tokio::time::sleep_until((stopped + STANDSTILL).into()).await;
    fleet.role("frontend-1").signal(Signal::CONT);
    for (upload, accepted) in [(begun, 100), (waiting, 0)] {
        let answer = upload.answer().await;
        let accepted = format!("\"accepted\":{accepted},");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(&accepted), "{answer}");
    }
    are_in_order(&stored(&place, folder.path(), 200).await, 200);
    // What comes after that is taken.
    let api = service(&place).await;
    eventually(PATIENCE, "an upload that is taken", async || {
        (upload(&api, "", "", lines(201..202)).await.status == 200).then_some(())
    })
    .await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_question_that_can_not_be_taken_for_now_holds_up_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &[SETTING]).await;
    let api = service(&fleet.place()).await;
    let line =
        |key: &str, text: &str| format!("{}\n", json!({"key": key, "author": "eve", "text": text, "id": new_id()}));
    assert_eq!(counts(&upload(&api, "?as=user", "", line("known", "first")).await.expect(200)), [1, 0, 0, 1]);
    // Whose a conversation is that nobody here knows can't be found out without an admin.
    fleet.stop_role("admin").await;
    let body = [line("new", "one"), line("known", "two"), line("new", "three"), line("known", "four")].concat();
    let problem = upload(&api, "?as=user", "", body.clone()).await.refused(503, "store_unavailable");
    assert_eq!((number(&problem, "accepted"), number(&problem, "next_line")), (0, 1), "{problem}");
    fleet.start_again("admin").await;
    let told = upload(&api, "?as=user", "", body).await.expect(200);
    assert_eq!(counts(&told), [4, 0, 0, 4], "none of them was asked before its turn");
    fleet.stop().await;
}

#[tokio::test]
async fn a_run_is_only_gone_on_with_as_it_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fleet, stream) = forgetful(folder.path(), &[]).await;
    let place = fleet.place();
    let file = folder.path().join("messages.ndjson");
    let path = file.display().to_string();
    let state = folder.path().join("messages.ndjson.yalo-ingest");
    // A folder in the place of the file that says how far it is: nothing is sent.
    fs::write(&file, lines(1..101)).unwrap();
    fs::create_dir(folder.path().join("messages.ndjson.yalo-ingest.new")).unwrap();
    let (code, _, errors) = command(folder.path(), &place, &[&path]).await;
    assert!(code == Some(1) && errors.contains("yalo-ingest"), "{errors}");
    assert_eq!(stream.get_info().await.unwrap().state.last_sequence, 0);
    fs::remove_dir(folder.path().join("messages.ndjson.yalo-ingest.new")).unwrap();

    // Refused in the middle, as nobody may: what is known of the lines before is kept.
    let mut refuses = json!({ "url": place.frontends[0], "as_user": false, "source": "here", "first": null, "next_line": 51, "after": 0 });
    let left_off = |place: &Value, change: (&str, Value)| {
        let mut place = place.clone();
        place["first"] = json!(sha256(lines(1..2).trim_end()));
        place[change.0] = change.1;
        fs::write(&state, place.to_string()).unwrap();
    };
    for (change, words) in [
        (("url", json!("http://127.0.0.1:1")), "the earlier run sent to"),
        (("as_user", json!(true)), "as user"),
        (("first", json!("00")), "is not that of the file whose lines up to 50 are dealt with"),
        (("next_line", json!(102)), "has only 100 lines, and line 102 was to be next"),
        (("after", json!(7)), "ends at 0, the earlier run had stored up to 7"),
    ] {
        left_off(&refuses, change);
        let (code, _, errors) = command(folder.path(), &place, &["--resume", &path]).await;
        let expected = if words.starts_with("ends at") { 1 } else { 2 };
        assert!(code == Some(expected) && errors.contains(words), "{words}: {code:?} {errors}");
        assert!(!errors.contains("go on with --resume"), "it would fail in the same way: {errors}");
        assert!(state.exists(), "{words}");
    }
    assert_eq!(stream.get_info().await.unwrap().state.last_sequence, 0);
    left_off(&refuses, ("next_line", json!(51)));
    let (code, _, errors) = command(folder.path(), &place, &["--resume", "--batch", &path]).await;
    assert!(code == Some(2) && errors.contains("go on without --batch"), "{errors}");
    // After one in batches, of which more broke than fit into one upload, with ids.
    refuses["batch"] = json!(true);
    refuses["batches"] = std::iter::repeat_with(uuid::Uuid::now_v7).take(150).map(|name| name.to_string()).collect();
    left_off(&refuses, ("next_line", json!(51)));
    let (code, report, errors) = command(folder.path(), &place, &["--resume", &path]).await;
    assert_eq!((code, counts(&report)), (Some(0), [50, 0, 0, 50]), "{errors}");
    fleet.stop().await;
}

fn sha256(text: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text))
}

#[tokio::test]
async fn a_pipe_that_broke_off_says_how_to_go_on_and_goes_on_so() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fleet, stream) = forgetful(folder.path(), &[]).await;
    let place = fleet.place();
    let file = folder.path().join("lines");
    fs::write(&file, lines(1..1001)).unwrap();
    let piped = |script: String, words: &[&str]| Start {
        wrapper: vec!["bash".to_owned(), "-c".to_owned(), script, "bash".to_owned()],
        ..start(folder.path(), &place, words)
    };
    // A pipe that gives nothing more, until it is interrupted.
    let script = format!("exec \"$@\" < <(exec tail -n +1 -f --pid=$$ {})", file.display());
    let mut process = piped(script, &["-"]).spawn();
    assert_eq!(forgotten(&stream).await, 1000);
    process.signal(rustix::process::Signal::INT);
    assert_eq!(process.exit(PATIENCE).await.code(), Some(1));
    let said = fs::read_to_string(folder.path().join("ingest.log")).unwrap();
    let words = said.split("go on with the same lines and ").nth(1).unwrap_or_else(|| panic!("{said}"));
    let words = words.lines().next().unwrap();
    assert!(words.contains("--source \"pipe ") && words.contains("--from-line 1001 --after 1000"), "{said}");
    // From further back than it has to be, and so slowly that it comes in two chunks: nothing is doubled.
    let source = words.split('"').nth(1).unwrap();
    let script = format!("{{ head -n 700 {0}; sleep 2; tail -n +701 {0}; }} | \"$@\"", file.display());
    let words = ["--source", source, "--from-line", "501", "--after", "0", "-"];
    let (code, output, errors) = piped(script, &words).finish().await;
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {errors}"));
    assert_eq!((code, counts(&report)), (Some(0), [0, 500, 0, 500]), "{errors}");
    are_in_order(&stored(&place, folder.path(), 1000).await, 1000);
    fleet.stop().await;
}

#[tokio::test]
async fn what_the_record_has_is_found_in_it_and_another_message_of_the_same_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fleet, stream) = forgetful(folder.path(), &[]).await;
    let api = service(&fleet.place()).await;
    let end = api.get("/v1/ingest").await.expect(200);
    assert_eq!(end, json!({"last_seq": 0}));
    let ids = [new_id(), new_id(), new_id()];
    let line = |id: &str, text: &str| format!("{}\n", json!({"key": "talk", "id": id, "text": text}));
    let told = upload(&api, "", "", line(&ids[0], "one") + &line(&ids[1], "two")).await.expect(200);
    assert_eq!(counts(&told), [2, 0, 0, 2]);
    // As long as the nats-server remembers the ids, and when it has forgotten them.
    for after in ["", "?after=0"] {
        let body = line(&ids[0], "one") + &line(&ids[1], "other words") + &line(&ids[0], "one");
        let told = upload(&api, after, "", body).await.expect(200);
        assert_eq!(counts(&told), [0, 2, 1, 3], "{after} {told}");
        assert_eq!(
            (&told["first_errors"][0]["line"], &told["first_errors"][0]["code"]),
            (&json!(2), &json!("id_reused"))
        );
        forgotten(&stream).await;
    }
    assert_eq!(number(&api.get("/v1/ingest").await.expect(200), "last_seq"), 2);
    // Only what lies behind it counts.
    let told = upload(&api, "?after=1", "", line(&ids[1], "two") + &line(&ids[2], "three")).await.expect(200);
    assert_eq!((counts(&told), number(&told, "last_seq")), ([1, 1, 0, 2], 3));

    upload(&api, "?after=0&as=user", "", "").await.refused(400, "invalid_field");
    upload(&api, "?after=x", "", "").await.refused(400, "invalid_field");
    let long = lines(1..150_001);
    assert!(long.len() > 8 << 20);
    let problem = upload(&api, "?after=0", "", long).await.refused(413, "body_too_large");
    assert!(problem["next"].as_str().unwrap().contains("in parts"), "{problem}");
    stream.purge().sequence(3).await.unwrap();
    let problem = upload(&api, "?after=0", "", line(&ids[0], "one")).await.refused(400, "invalid_field");
    assert!(problem["detail"].as_str().unwrap().contains("begins at 3"), "{problem}");
    api.without_token().get("/v1/ingest").await.refused(401, "unauthorized");
    fleet.stop().await;
}
