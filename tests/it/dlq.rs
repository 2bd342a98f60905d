//! Dead letters: found, read, asked again and dropped.

use async_nats::jetstream::{self, AckKind, consumer::PullConsumer};
use futures_util::StreamExt;
use serde_json::{Value, json};
use yalo::domain::ConversationId;

use crate::client::{Api, number, text};
use crate::harness::{All, Fleet, PATIENCE, Start, eventually};

/// Runs `yalo dlq ...` beside a running `yalo all`: exit code, output, errors.
async fn dlq(start: &Start, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["dlq"], arguments].concat().into_iter().map(str::to_owned).collect();
    Start { arguments, ..start.clone() }.finish().await
}

async fn letters(start: &Start) -> Vec<Value> {
    let (code, output, errors) = dlq(start, &["list", "--json"]).await;
    assert_eq!(code, Some(0), "{errors}");
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_question_that_failed_is_listed_asked_again_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let start = Start {
        name: "dlq".to_owned(),
        folder: folder.path().to_owned(),
        environment: vec![("YALO_DATA__DIR".to_owned(), folder.path().join("data").display().to_string())],
        ..Start::default()
    };
    let mut all = All::start_with(folder.path(), &["bot.engine=drill", "bot.attempts=1"]).await;
    let (me, conversation) = Api::guest(&all.place().frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let mut failed = Vec::new();
    for data in [json!({"colour": "green"}), json!([1, 2])] {
        let message = json!({"text": "fail", "data": data});
        let headers = &[("content-type", "application/json"), ("prefer", "wait=20")];
        let body = serde_json::to_vec(&message).unwrap();
        let call = crate::client::Call { post: true, path: &path, headers, body };
        let said = me.call(call).await.expect(200);
        assert_eq!(said["answer"]["kind"], "apology");
        failed.push(said);
    }
    let listed = letters(&start).await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for (letter, said) in listed.iter().zip(&failed) {
        assert_eq!((&letter["role"], &letter["seq"]), (&json!("bot"), &said["seq"]));
        assert_eq!(
            (text(letter, "conversation"), text(letter, "reason").contains("as the question said")),
            (conversation.clone(), true)
        );
    }
    let (code, shown, _) = dlq(&start, &["show", &listed[0]["letter"].to_string()]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["inside"]["message"]["id"]), (Some(0), &failed[0]["id"]));

    // With an engine that knows an answer.
    all.stop().await;
    let mut all = All::start(folder.path()).await;
    let me = me.at(&all.place().frontends[0]);
    let numbers: Vec<String> = listed.iter().map(|letter| letter["letter"].to_string()).collect();
    let (code, output, errors) = dlq(&start, &["replay", &numbers[0], &numbers[1]]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(output.lines().count(), 2, "{output}");
    let transcript = eventually(PATIENCE, "both answers", async || {
        let page = me.get(&format!("{path}?limit=500&after=0-0")).await.expect(200);
        let messages = page["messages"].as_array().unwrap().clone();
        (messages.len() == 9).then_some(messages)
    })
    .await;
    let asked: Vec<&Value> = transcript.iter().filter(|message| message["who"] == "user").collect();
    for (again, said) in asked[2..].iter().zip(&failed) {
        assert_eq!(again["data"]["replay_of"], json!({"id": said["id"], "seq": said["seq"]}), "{again}");
        assert_ne!(again["id"], said["id"]);
        let answer = transcript.iter().find(|message| message["reply_to"]["seq"] == again["seq"]).unwrap();
        assert_eq!((&answer["kind"], &answer["text"]), (&json!("text"), &json!("fail")));
        assert!(number(answer, "seq") > number(again, "seq"));
    }
    assert_eq!((&asked[2]["data"]["colour"], &asked[3]["data"]["data"]), (&json!("green"), &json!([1, 2])));
    assert_eq!(letters(&start).await, Vec::<Value>::new());

    // What is gone is said to be gone.
    for verb in ["show", "replay", "drop"] {
        let (code, _, errors) = dlq(&start, &[verb, &numbers[0]]).await;
        assert_eq!(code, Some(1));
        assert!(errors.contains("no dead letter") && errors.contains("yalo dlq list"), "{errors}");
    }
    all.stop().await;
}

/// Takes one question away from the bots, as nobody of yalo ever does: an advisory of the server is all that is left.
async fn terminate(fleet: &Fleet, conversation: &str) {
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    let context = jetstream::new(client.clone());
    let group = ConversationId::parse(conversation).unwrap().partition().group(16);
    let stream = context.get_stream("YALO_CHAT").await.unwrap();
    let consumer: PullConsumer = stream.get_consumer(&format!("bot-{group}")).await.unwrap();
    let mut questions = consumer.fetch().max_messages(1).messages().await.unwrap();
    questions.next().await.unwrap().unwrap().ack_with(AckKind::Term).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn what_was_given_up_lies_on_the_operators_desk_and_is_asked_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let place = fleet.place();
    let (me, conversation) = Api::guest(&place.frontends[0]).await;
    let operator = Api::operator(&place).await;
    for bot in ["bot-1", "bot-2", "bot-3"] {
        fleet.stop_role(bot).await;
    }
    let path = format!("/v1/conversations/{conversation}/messages");
    let said = me.post(&path, json!({"text": "is anybody there?"})).await.expect(202);
    terminate(&fleet, &conversation).await;
    // And something that is no question: its letter is the auditor's.
    let stranger = async_nats::connect(fleet.nats_url()).await.unwrap();
    stranger.publish("yalo.log.x.y", "not of yalo".into()).await.unwrap();
    stranger.flush().await.unwrap();

    let desk = "/admin/v1/dead-letters";
    let letters = eventually(PATIENCE, "both letters", async || {
        let letters = operator.get(desk).await.expect(200)["letters"].as_array().unwrap().clone();
        let is_settled = letters.iter().all(|letter| letter["seq"].is_u64());
        (letters.len() == 2 && is_settled).then_some(letters)
    })
    .await;
    let of = |role: &str| letters.iter().find(|letter| letter["role"] == role).unwrap();
    let (given_up, unreadable) = (of("nats"), of("auditor"));
    assert_eq!(
        (&given_up["seq"], &given_up["conversation"], &given_up["replayable"]),
        (&said["seq"], &json!(conversation), &json!(true))
    );
    assert!(text(given_up, "reason").contains("terminated for the consumer bot-"), "{given_up}");
    let page = reqwest::get(format!("{}/metrics", fleet.role("admin").address("ops"))).await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("\nyalo_dead_letters_total{role=\"nats\"} 1\n"), "{page}");
    let stats = operator.get("/admin/v1/stats").await.expect(200);
    assert_eq!(stats["dead_letters"], json!({"auditor": 1, "bot": 0, "nats": 1}));
    eventually(PATIENCE, "the gauge", async || {
        let page = reqwest::get(format!("{}/metrics", fleet.role("admin").address("ops"))).await.unwrap();
        let page = page.text().await.unwrap();
        ["auditor", "nats"]
            .iter()
            .all(|role| page.contains(&format!("\nyalo_dead_letters_waiting{{role=\"{role}\"}} 1\n")))
            .then_some(())
    })
    .await;

    // Page by page, one in full, and what is not there or not a question.
    let first = operator.get(&format!("{desk}?limit=1")).await.expect(200);
    let second = operator.get(&format!("{desk}?limit=1&after={}", first["next"])).await.expect(200);
    assert_eq!((&first["letters"][0], &second["letters"][0]), (&letters[0], &letters[1]));
    assert_eq!(second["next"], Value::Null);
    let one = format!("{desk}/{}", given_up["letter"]);
    let shown = operator.get(&one).await.expect(200);
    assert_eq!(shown["inside"]["message"]["text"], "is anybody there?");
    let other = format!("{desk}/{}", unreadable["letter"]);
    operator.post(&format!("{other}/replay"), Value::Null).await.refused(409, "not_a_question");
    assert_eq!(operator.delete(&other).await.expect(200)["letter"], unreadable["letter"]);
    operator.delete(&other).await.refused(404, "not_found");
    operator.without_token().delete(&one).await.refused(401, "unauthorized");
    operator.post(&one, Value::Null).await.refused(405, "method_not_allowed");

    // Two operators at once, a third who comes late, and one with a copy of the letter: one question.
    let again = format!("{one}/replay");
    let (left, right) = tokio::join!(operator.post(&again, Value::Null), operator.post(&again, Value::Null));
    let replayed: Vec<&Value> = [&left, &right].iter().filter(|one| one.status == 202).map(|one| &one.body).collect();
    assert!(!replayed.is_empty(), "{left:?} {right:?}");
    assert!(replayed.iter().all(|one| one["seq"] == replayed[0]["seq"]), "{replayed:?}");
    operator.post(&again, Value::Null).await.refused(404, "not_found");
    let copy = serde_json::to_vec(&shown["inside"]).unwrap();
    stranger.publish(text(&shown, "subject"), copy.into()).await.unwrap();
    let copy = eventually(PATIENCE, "the copy", async || {
        let letters = operator.get(desk).await.expect(200)["letters"].as_array().unwrap().clone();
        letters.first().map(|letter| letter["letter"].clone())
    })
    .await;
    let late = operator.post(&format!("{desk}/{copy}/replay"), Value::Null).await.expect(202);
    assert_eq!((&late["seq"], &late["duplicate"]), (&replayed[0]["seq"], &json!(true)));
    fleet.start_again("bot-1").await;
    let answer = eventually(PATIENCE, "the answer", async || {
        let page = me.get(&format!("{path}?after=0-0")).await.expect(200);
        let messages = page["messages"].as_array().unwrap().clone();
        let asked = messages.iter().filter(|message| message["who"] == "user").count();
        assert_eq!(asked, 2, "{messages:?}");
        messages.iter().find(|message| message["reply_to"]["seq"] == replayed[0]["seq"]).cloned()
    })
    .await;
    assert_eq!(answer["text"], "is anybody there?");
    assert_eq!(operator.get(desk).await.expect(200)["letters"], json!([]));
    fleet.stop().await;
}
