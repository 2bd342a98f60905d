//! People who talk: each has a way of reaching yalo, and notes what was sent and what came back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::proof::{Talk, Turn};
use crate::client::{Answer, Api, Socket, new_id, number, text};
use crate::corpus::Dialogue;

/// How a person reaches yalo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One call of `POST /v1/chat` for each turn.
    Http,
    /// One WebSocket for all dialogues, each watched while it lasts.
    Socket,
    /// HTTP, sending again with the same id until it is accepted and answered.
    Stubborn,
}

pub(crate) struct Person {
    way: Way,
    api: Api,
    socket: Option<Socket>,
}

impl Person {
    pub(crate) async fn arrive(api: Api, way: Way) -> Self {
        let opened = stubborn(&api, "/v1/conversations", &json!({})).await;
        let api = api.with_token(&text(&opened.body, "token"));
        let socket = if way == Way::Socket { Some(api.signed_in_socket().await) } else { None };
        Self { way, api, socket }
    }

    /// Goes through a dialogue in a conversation of its own.
    pub(crate) async fn talk(&mut self, dialogue: &Dialogue, turns: &watch::Sender<usize>) -> Talk {
        let mut talk = Talk { file: dialogue.file.clone(), conversation: None, turns: Vec::new() };
        let opened = match self.way {
            // The first question opens it.
            Way::Http => None,
            Way::Socket => Some(open_and_watch(self.socket.as_mut().unwrap()).await),
            // A question whose conversation nobody knows could not be asked again.
            Way::Stubborn => {
                let opened = stubborn(&self.api, "/v1/conversations", &json!({})).await.expect(201);
                Some(text(&opened, "conversation"))
            }
        };
        talk.conversation = opened;
        for words in &dialogue.turns {
            let turn = match &mut self.socket {
                Some(socket) => over_socket(socket, talk.conversation.as_ref().unwrap(), words).await,
                None => self.over_http(&mut talk, words).await,
            };
            assert_eq!(turn.question["text"], *words, "{}", talk.file);
            assert_eq!(turn.answer["text"], *words, "{}: the bot echoes", talk.file);
            talk.turns.push(turn);
            turns.send_modify(|turns| *turns += 1);
        }
        if let Some(socket) = &mut self.socket {
            let unwatched = socket.ask(json!({"type": "unwatch", "conversation": talk.conversation})).await;
            assert_eq!(unwatched["type"], "unwatched");
        }
        talk
    }

    async fn over_http(&self, talk: &mut Talk, words: &str) -> Turn {
        let id = new_id();
        let mut body = json!({"text": words, "id": id});
        if let Some(conversation) = &talk.conversation {
            body["conversation"] = json!(conversation);
        }
        let answer = match self.way {
            Way::Stubborn => stubborn(&self.api, "/v1/chat", &body).await.body,
            _ => {
                let answer = self.api.post("/v1/chat", body).await.expect(200);
                assert_eq!(answer["duplicate"], false);
                answer
            }
        };
        let conversation = text(&answer, "conversation");
        assert_eq!(talk.conversation.get_or_insert_with(|| conversation.clone()), &conversation);
        Turn { id, question: answer["message"].clone(), answer: answer["answer"].clone() }
    }
}

async fn open_and_watch(socket: &mut Socket) -> String {
    let opened = socket.ask(json!({"type": "open"})).await;
    let conversation = text(&opened, "conversation");
    let watch = json!({"type": "watch", "conversation": conversation, "after": opened["cursor"]});
    assert_eq!(socket.ask(watch).await["type"], "watching");
    conversation
}

/// Exactly the question and its answer are pushed, in this order: one message more or less shifts all that follow.
async fn over_socket(socket: &mut Socket, conversation: &str, words: &str) -> Turn {
    let id = new_id();
    let send = json!({"type": "send", "conversation": conversation, "id": id, "text": words});
    let accepted = socket.ask(send).await;
    assert_eq!((&accepted["type"], &accepted["duplicate"]), (&json!("accepted"), &json!(false)), "{accepted}");
    let (question, answer) = (socket.message().await, socket.message().await);
    assert_eq!(number(&question, "seq"), number(&accepted, "seq"));
    Turn { id, question, answer }
}

/// Sends the same again until it is accepted, and answered if it is a question.
async fn stubborn(api: &Api, path: &str, body: &Value) -> Answer {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let last = match api.try_post(path, body).await {
            Ok(answer) if matches!(answer.status, 200 | 201) => return answer,
            // Accepted, but the answer is late; or not now.
            Ok(answer) if matches!(answer.status, 202 | 503) => format!("{} {}", answer.status, answer.body),
            Ok(answer) => panic!("{path}: {} {}", answer.status, answer.body),
            Err(error) => format!("{error:?}"),
        };
        assert!(Instant::now() < end, "{path}: nobody accepts {body}: {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
