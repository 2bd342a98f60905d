//! What slow, broken and too many clients get.

use super::*;

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = start(|options| options.header_timeout = Duration::from_millis(200));
    let mut stream = server.raw().await;
    assert_eq!(exchange(&mut stream, "GET /post HTTP/1.1\r\nhost: x\r\n").await, "");
    // One that says nothing at all, too.
    let mut silent = server.raw().await;
    assert_eq!(read_all(&mut silent).await, "");
    server.stopped().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_refused_in_time() {
    let server = start(|_| ());
    let mut slow = server.raw().await;
    let head = "POST /post HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"text\":";
    let answer = exchange(&mut slow, head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(document(&answer)["code"], "body_timeout");

    let mut endless = server.raw().await;
    let head = "POST /post HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    let answer = exchange(&mut endless, &format!("{head}{}", chunk.repeat(150))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let mut stalled = server.raw().await;
    let answer = exchange(&mut stalled, &format!("{head}5\r\nhello\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut malformed = server.raw().await;
    let answer = exchange(&mut malformed, &format!("{head}zz\r\n")).await;
    assert_eq!(document(&answer)["code"], "body_incomplete");
    server.stopped().await;
}

#[tokio::test]
async fn a_chunked_body_within_the_limit_is_read() {
    let server = start(|_| ());
    let mut stream = server.raw().await;
    let request = "POST /post HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        8\r\n{\"text\":\r\n6\r\n\"h\u{f6}\"}\r\n0\r\n\r\n";
    let answer = exchange(&mut stream, request).await;
    assert_eq!(document(&answer), json!({"text": "h\u{f6}"}));
    server.stopped().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_at_once_and_told_why() {
    let server = start(|options| options.max_connections = 2);
    let (first, second) = (server.raw().await, server.raw().await);
    let mut third = server.raw().await;
    let answer = exchange(&mut third, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("retry-after: 1"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert_eq!(document(&answer)["code"], "overloaded");
    assert_eq!((server.connections.count(), server.connections.refused()), (2, 1));
    drop((first, second));
    eventually(|| server.connections.count() == 0).await;
    let answer = reqwest::get(server.url("/livez")).await.unwrap();
    assert_eq!(answer.status(), 200);
    server.stopped().await;
}
