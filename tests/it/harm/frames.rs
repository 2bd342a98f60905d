//! WebSocket clients that break the protocol below what a client library allows: closed with the code of RFC 6455.

use std::time::{Duration, Instant};

use super::raw::Raw;
use crate::client::Api;
use crate::harness::{PATIENCE, Place};
use crate::shapes::in_both_shapes;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const PING: u8 = 0x9;
/// The first byte of a frame that is a whole message.
const FINAL: u8 = 0x80;

/// A connection that has become a WebSocket and said nothing yet.
async fn upgraded(base: &str) -> Raw {
    let mut raw = Raw::connect(base).await;
    let request = "GET /v1/ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-protocol: yalo.v1\r\n\r\n";
    raw.send(request.as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    raw
}

/// One that has said hello.
async fn signed_in(base: &str) -> Raw {
    let mut raw = upgraded(base).await;
    raw.send(&frame(FINAL | TEXT, br#"{"type":"hello"}"#, true)).await;
    let (opcode, payload) = received(&mut raw).await;
    assert_eq!(opcode, FINAL | TEXT);
    assert!(payload.starts_with(br#"{"type":"welcome""#), "{}", String::from_utf8_lossy(&payload));
    raw
}

/// A frame with this first byte, masked by zeros or not at all.
fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes = vec![first];
    let mask = if masked { 0x80 } else { 0 };
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(mask | u8::try_from(length).unwrap()),
        Ok(length) => {
            bytes.push(mask | 0x7e);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(mask | 0x7f);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
    bytes
}

/// The next frame of the server: first byte and payload.
async fn received(raw: &mut Raw) -> (u8, Vec<u8>) {
    let head = raw.exactly(2).await;
    let length = match head[1] {
        126 => {
            let length = raw.exactly(2).await;
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        short => usize::from(short),
    };
    (head[0], raw.exactly(length).await)
}

/// The code of the close frame that comes next, after which the connection ends.
async fn closed(raw: &mut Raw) -> u16 {
    let (first, payload) = received(raw).await;
    assert_eq!(first, 0x88, "no close: {}", String::from_utf8_lossy(&payload));
    raw.rest(PATIENCE).await;
    u16::from_be_bytes([payload[0], payload[1]])
}

in_both_shapes! {
    async fn a_frame_that_breaks_the_protocol_closes_with_its_code(place: &Place) {
        let base = &place.frontends[0];
        let too_large = vec![b' '; 1 << 20];
        let bad: [(&str, Vec<u8>, u16); 12] = [
            ("text that is not UTF-8", frame(FINAL | TEXT, b"{\"type\":\"\xff\"}", true), 1007),
            ("text that ends inside a character", frame(FINAL | TEXT, b"\xe2\x82", true), 1007),
            ("half a surrogate in UTF-8", frame(FINAL | TEXT, b"\xed\xa0\x80", true), 1007),
            ("a binary frame", frame(FINAL | BINARY, b"{}", true), 1003),
            ("a frame that is too large", frame(FINAL | TEXT, &too_large, true), 1009),
            ("a length without end", [&[FINAL | TEXT, 0xff][..], &[0x7f; 8], &[0; 4]].concat(), 1009),
            ("a frame without a mask", frame(FINAL | TEXT, b"{}", false), 1002),
            ("a reserved bit", frame(FINAL | 0x40 | TEXT, b"{}", true), 1002),
            ("an unknown kind", frame(FINAL | 0x3, b"{}", true), 1002),
            ("a continuation of nothing", frame(FINAL, b"{}", true), 1002),
            ("a ping in parts", frame(PING, b"", true), 1002),
            ("a ping that is too long", frame(FINAL | PING, &[b'x'; 126], true), 1002),
        ];
        for (name, bytes, code) in &bad {
            println!("{name}");
            // Before hello and after it.
            for mut raw in [upgraded(base).await, signed_in(base).await] {
                raw.send(bytes).await;
                assert_eq!(closed(&mut raw).await, *code, "{name}");
            }
        }
        // Parts that together are too large.
        let mut raw = signed_in(base).await;
        let part = vec![b' '; 32_000];
        raw.send(&frame(TEXT, &part, true)).await;
        for _ in 0..64 {
            raw.send(&frame(0, &part, true)).await;
        }
        assert_eq!(closed(&mut raw).await, 1009);
    }

    async fn a_message_in_parts_with_a_ping_between_them_is_one_message(place: &Place) {
        let mut raw = signed_in(&place.frontends[0]).await;
        raw.send(&frame(TEXT, br#"{"type":"pi"#, true)).await;
        raw.send(&frame(FINAL | PING, b"between", true)).await;
        raw.send(&frame(FINAL, br#"ng","ref":"1"}"#, true)).await;
        assert_eq!(received(&mut raw).await, (0x8a, b"between".to_vec()));
        let (first, payload) = received(&mut raw).await;
        assert_eq!(first, FINAL | TEXT);
        assert!(payload.starts_with(br#"{"type":"pong""#), "{}", String::from_utf8_lossy(&payload));
    }

    async fn who_does_not_say_hello_is_sent_away(place: &Place) {
        let base = &place.frontends[0];
        let mut silent = upgraded(base).await;
        // Pings are no hello.
        let mut pinging = upgraded(base).await;
        let begun = Instant::now();
        let (silence, pings) = tokio::join!(closed(&mut silent), async {
            while pinging.send(&frame(FINAL | PING, b"", true)).await && begun.elapsed() < Duration::from_secs(10) {
                let answer = pinging.glimpse(Duration::from_millis(300)).await;
                if answer.windows(2).any(|bytes| bytes == 1008u16.to_be_bytes()) {
                    break;
                }
            }
            begun.elapsed()
        });
        assert_eq!(silence, 1008);
        assert!(pings < Duration::from_secs(9), "{pings:?}");
        assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
        Api::guest(base).await;
    }
}
