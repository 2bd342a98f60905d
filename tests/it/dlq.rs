//! Dead letters: found, read, asked again and dropped.

use serde_json::{Value, json};

use crate::client::{Api, number, text};
use crate::harness::{All, Start};

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
    let transcript = crate::harness::eventually(crate::harness::PATIENCE, "both answers", async || {
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
