//! The proof: what the operator reads is what people sent and saw, no more, no less, in the same order.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::client::{Api, number, text};
use crate::harness::Place;

/// One dialogue as a person saw it.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) file: String,
    pub(crate) conversation: Option<String>,
    pub(crate) turns: Vec<Turn>,
}

/// One question and its answer.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The id that was sent.
    pub(crate) id: String,
    pub(crate) question: Value,
    pub(crate) answer: Value,
}

/// Compares every transcript, and the whole record with the transcripts.
pub(crate) async fn prove(place: &Place, talks: &[Talk]) {
    let operator = Api::operator(place).await;
    let last = talks.iter().flat_map(|talk| &talk.turns).map(|turn| number(&turn.answer, "seq")).max().unwrap();
    let end = Instant::now() + Duration::from_secs(120);
    let stats = loop {
        let stats = operator.get("/admin/v1/stats").await.body;
        if stats["audit_gap"]["behind"] == 0 && stats["last_seq"].as_u64() >= Some(last) {
            break stats;
        }
        assert!(Instant::now() < end, "not everything up to {last} is in the store: {stats}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Consecutive sequences: a missing number would be a missing message.
    let (first, last) = (number(&stats, "first_seq"), number(&stats, "last_seq"));
    assert_eq!((first, number(&stats, "messages")), (1, last), "{stats}");

    let compared = stream::iter(talks).map(|talk| compare(&operator, talk)).buffer_unordered(4);
    let compared: Vec<Vec<u64>> = compared.collect().await;
    let seen: HashSet<u64> = compared.iter().flatten().copied().collect();
    assert_eq!(seen.len(), compared.iter().map(Vec::len).sum::<usize>(), "no message is in two transcripts");
    nothing_else(&operator, &seen, last).await;
}

/// The transcript of one talk: its sequences, if it is as it must be.
async fn compare(operator: &Api, talk: &Talk) -> Vec<u64> {
    let conversation = talk.conversation.as_deref().unwrap();
    let transcript = transcript(operator, conversation).await;
    let place = || format!("{} {conversation}", talk.file);
    assert_eq!(transcript.len(), 1 + 2 * talk.turns.len(), "{}: {transcript:?}", place());
    assert_eq!(transcript[0]["kind"], "opened", "{}", place());
    for (turn, stored) in talk.turns.iter().zip(transcript[1..].chunks(2)) {
        assert_eq!((&stored[0], &stored[1]), (&turn.question, &turn.answer), "{}", place());
        let (question, answer) = (&stored[0], &stored[1]);
        assert_eq!((&question["id"], &question["who"]), (&json!(turn.id), &json!("user")), "{}", place());
        assert_eq!((&answer["who"], &answer["kind"]), (&json!("bot"), &json!("text")), "{}", place());
        assert_eq!(answer["reply_to"], json!({"id": turn.id, "seq": question["seq"]}), "{}", place());
    }
    let sequences: Vec<u64> = transcript.iter().map(|message| number(message, "seq")).collect();
    assert!(sequences.is_sorted_by(|one, next| one < next), "{}", place());
    sequences
}

/// All of it, oldest first.
async fn transcript(operator: &Api, conversation: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), "0-0".to_owned());
    loop {
        let path = format!("/admin/v1/conversations/{conversation}/messages?limit=500&after={after}");
        let page = operator.get(&path).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        let Some(last) = messages.last() else { return all };
        after = text(last, "cursor");
        all.extend_from_slice(messages);
    }
}

/// Walks through the whole record: what is in no transcript is a conversation that was opened and never used.
async fn nothing_else(operator: &Api, seen: &HashSet<u64>, last: u64) {
    let mut next = 1;
    let mut after = "0-0".to_owned();
    loop {
        let page = operator.get(&format!("/admin/v1/messages?limit=500&after={after}")).await.expect(200);
        for message in page["messages"].as_array().unwrap() {
            let seq = number(message, "seq");
            assert_eq!(seq, next, "the record has a hole");
            next += 1;
            assert!(seen.contains(&seq) || text(message, "kind") == "opened", "nobody saw {message}");
        }
        let Some(more) = page["next"].as_str() else { break };
        more.clone_into(&mut after);
    }
    assert_eq!(next, last + 1);
}
