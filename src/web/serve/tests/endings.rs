//! Sockets, and how a stop ends each kind of connection.

use super::*;

#[tokio::test]
async fn a_stop_ends_a_stream_by_its_farewell_and_an_idle_connection_at_once() {
    // Else the idle connection would end by its own limit.
    let server = start(|options| options.header_timeout = 10 * LIMIT);
    let mut idle = server.raw().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0u8; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let mut answer = reqwest::get(server.url("/events")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let mut seen = String::new();
    while !seen.contains("hello") {
        seen.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().unwrap()));
    }
    server.stop.cancel();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert_eq!(seen, "retry: 2000\n\nevent: hello\ndata: you\n\nevent: bye\ndata: {}\n\n");
    read_all(&mut idle).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_stop_lets_a_request_in_flight_finish() {
    let server = start(|_| ());
    let mut stream = server.raw().await;
    let head = b"POST /post HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 12\r\n\r\n";
    stream.write_all(head).await.unwrap();
    // Says that the route has begun to read the body.
    let mut go_on = [0u8; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.stop.cancel();
    let answer = exchange(&mut stream, "{\"text\":\"x\"}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stopped().await;
}

type Client = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn connect(server: &Running) -> Client {
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("yalo.v1"));
    let (client, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "yalo.v1");
    client
}

async fn next(client: &mut Client) -> Option<Result<Message, Error>> {
    timeout(LIMIT, client.next()).await.expect("a frame in time")
}

async fn close_code(client: &mut Client) -> CloseCode {
    match next(client).await {
        Some(Ok(Message::Close(Some(frame)))) => frame.code,
        other => panic!("no close frame but {other:?}"),
    }
}

#[tokio::test]
async fn a_socket_echoes_counts_as_a_connection_and_closes_with_1001_at_a_stop() {
    let server = start(|_| ());
    let mut client = connect(&server).await;
    for text in ["hello", "grüß 👋", ""] {
        client.send(Message::text(text)).await.unwrap();
        assert_eq!(next(&mut client).await.unwrap().unwrap(), Message::text(text));
    }
    client.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap().unwrap(), Message::Pong("p".into()));
    assert_eq!(server.connections.count(), 1);
    server.stop.cancel();
    assert_eq!(close_code(&mut client).await, CloseCode::Away);
    assert!(next(&mut client).await.is_none());
    server.stopped().await;
}

#[tokio::test]
async fn a_socket_that_breaks_the_rules_is_told_which() {
    let server = start(|_| ());
    let cases = [(Message::text("x".repeat(1001)), CloseCode::Size), (Message::binary("x"), CloseCode::Unsupported)];
    for (message, code) in cases {
        let mut client = connect(&server).await;
        client.send(message).await.unwrap();
        assert_eq!(close_code(&mut client).await, code);
    }
    // A client that closes is answered in kind.
    let mut client = connect(&server).await;
    client.close(None).await.unwrap();
    assert!(matches!(next(&mut client).await, Some(Ok(Message::Close(_)))));
    eventually(|| server.connections.count() == 0).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_dead_or_deaf_socket_does_not_hold_up_a_stop() {
    let server = start(|_| ());
    let gone = connect(&server).await;
    let deaf = connect(&server).await;
    drop(gone);
    server.stopped().await;
    drop(deaf);
}

#[tokio::test]
async fn a_stranger_may_not_open_a_socket_from_a_page() {
    let server = start(|_| ());
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
    match tokio_tungstenite::connect_async(request).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }
    server.stopped().await;
}
