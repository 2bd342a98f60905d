//! Tests against a scripted frontend: each connection gets the next line of the script.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

const CONVERSATION: &str = "0198c0de-0000-7000-8000-000000000001";

/// What the frontend does with one request.
enum Act {
    /// Reads it and closes the connection.
    Break,
    /// Answers with this status and body; `ID` stands for the question's id.
    Answer(u16, &'static str),
}

struct Frontend {
    url: String,
    /// Each request as it came.
    seen: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Frontend {
    async fn with_script(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        let requests = Arc::clone(&seen);
        serving.spawn(async move {
            let mut id = String::new();
            for act in script {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                if let Some((_, rest)) = request.split_once("\"id\":\"") {
                    id = rest.chars().take(36).collect();
                }
                requests.lock().unwrap().push(request);
                if let Act::Answer(status, body) = act {
                    let body = body.replace("ID", &id).replace("CONVERSATION", CONVERSATION);
                    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}", body.len());
                    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
                }
            }
        });
        Self { url, seen, _serving: serving }
    }

    fn client(&self) -> Client {
        client(&self.url, Duration::from_secs(20))
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// One request with its body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let whole = match request.split_once("\r\n\r\n") {
            Some((head, body)) => match head.split_once("content-length: ") {
                Some((_, rest)) => body.len() >= rest.lines().next().unwrap().parse().unwrap(),
                None => true,
            },
            None => false,
        };
        if whole || read == 0 {
            return request;
        }
    }
}

fn client(url: &str, patience: Duration) -> Client {
    Client::new(Options { url: url.to_owned(), token: None, bot: None, conversation: None, patience }).unwrap()
}

fn text(reply: &str) -> Reply {
    Reply::Text(reply.to_owned())
}

const ANSWERED: &str = r#"{"conversation":"CONVERSATION","cursor":"1-1","token":"t1","duplicate":false,
    "answer":{"kind":"text","text":"hi","reply_to":{"id":"ID","seq":1}}}"#;
const ACCEPTED: &str = r#"{"conversation":"CONVERSATION","cursor":"1-1","token":"t1","duplicate":false,"answer":null}"#;

#[tokio::test]
async fn conversation_and_token_are_kept_for_the_next_question() {
    let frontend = Frontend::with_script(vec![Act::Answer(200, ANSWERED), Act::Answer(200, ANSWERED)]).await;
    let mut client = frontend.client();
    assert_eq!(client.ask("one").await.unwrap(), text("hi"));
    assert_eq!(client.ask("two").await.unwrap(), text("hi"));
    let seen = frontend.seen();
    assert!(!seen[0].contains("authorization") && !seen[0].contains("conversation"), "{}", seen[0]);
    assert!(seen[1].contains("authorization: Bearer t1") && seen[1].contains(CONVERSATION), "{}", seen[1]);
}

#[tokio::test]
async fn a_broken_connection_is_retried_with_the_same_id() {
    let busy = r#"{"code":"overloaded","detail":"too much","status":503}"#;
    let script = vec![Act::Break, Act::Answer(503, busy), Act::Answer(502, "<html>"), Act::Answer(200, ANSWERED)];
    let frontend = Frontend::with_script(script).await;
    assert_eq!(frontend.client().ask("one").await.unwrap(), text("hi"));
    let bodies: Vec<String> =
        frontend.seen().iter().map(|request| request.split_once("\r\n\r\n").unwrap().1.to_owned()).collect();
    assert_eq!(bodies.len(), 4);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn a_late_answer_is_polled_for() {
    let nothing = r#"{"messages":[{"kind":"text","text":"own","reply_to":null}],"next":"1-2","previous":null}"#;
    let record = r#"{"messages":[{"kind":"apology","text":"sorry","reply_to":{"id":"ID","seq":1}}],"next":"1-3"}"#;
    let script = vec![Act::Answer(202, ACCEPTED), Act::Answer(200, nothing), Act::Answer(200, record)];
    let frontend = Frontend::with_script(script).await;
    assert_eq!(frontend.client().ask("one").await.unwrap(), text("sorry"));
    let seen = frontend.seen();
    assert!(seen[1].contains(&format!("GET /v1/conversations/{CONVERSATION}/messages?after=1-1&wait=")), "{}", seen[1]);
    assert!(seen[2].contains("after=1-2&") && seen[2].contains("Bearer t1"), "{}", seen[2]);
}

#[tokio::test]
async fn a_record_of_silence_is_no_text() {
    let silent = r#"{"conversation":"CONVERSATION","cursor":"1-1","answer":{"kind":"none"}}"#;
    let frontend = Frontend::with_script(vec![Act::Answer(200, silent)]).await;
    assert_eq!(frontend.client().ask("one").await.unwrap(), Reply::Silence);
}

#[tokio::test]
async fn a_refusal_is_said_in_the_frontend_s_words() {
    let problem =
        r#"{"title":"x","status":400,"code":"text_too_long","detail":"The text is too long.","next":"Cut it."}"#;
    let frontend = Frontend::with_script(vec![Act::Answer(400, problem)]).await;
    let error = frontend.client().ask("one").await.unwrap_err();
    assert_eq!(error.to_string(), "The text is too long. Cut it. (text_too_long)");
}

#[tokio::test]
async fn another_server_is_recognised() {
    for (status, body) in [(200, "<html>"), (404, "not here"), (200, "{}")] {
        let frontend = Frontend::with_script(vec![Act::Answer(status, body)]).await;
        let error = frontend.client().ask("one").await.unwrap_err();
        assert!(matches!(error, ChatError::Foreign { .. }), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = client(&format!("http://{free}/"), Duration::from_mins(10)).ask("one").await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot reach http://{free}: Connection refused")), "{error}");
}

#[tokio::test]
async fn patience_ends() {
    let frontend = Frontend::with_script(vec![Act::Break, Act::Break]).await;
    let error = client(&frontend.url, Duration::from_millis(50)).ask("one").await.unwrap_err();
    assert!(matches!(error, ChatError::Unreachable { .. }), "{error}");
    let frontend = Frontend::with_script(vec![Act::Answer(202, ACCEPTED)]).await;
    let error = client(&frontend.url, Duration::from_millis(50)).ask("one").await.unwrap_err();
    assert!(matches!(error, ChatError::Late { .. }), "{error}");
}

#[test]
fn an_address_that_makes_no_sense_is_refused() {
    for url in ["", "localhost:8080", "https://a", "http://", "ftp://a"] {
        let options =
            Options { url: url.to_owned(), token: None, bot: None, conversation: None, patience: CONNECT_TIMEOUT };
        assert!(matches!(Client::new(options), Err(ChatError::Address { .. })), "{url}");
    }
}
