//! The shape of problem documents.

use std::collections::HashSet;

use http_body_util::BodyExt;
use serde_json::json;

use super::*;

async fn answer(problem: ApiError) -> (StatusCode, warp::http::HeaderMap, Value) {
    let (head, body) = problem.into_response().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_problem_says_what_and_what_next_and_never_why() {
    let problem = ApiError::unavailable("the stream is away", Duration::from_millis(1200))
        .with("server_time", "2026-11-23T22:04:13Z")
        .caused_by(anyhow::anyhow!("password=hunter2 refused"));
    let (status, headers, mut document) = answer(problem).await;
    assert_eq!(status, 503);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["retry-after"], "2");
    let request_id = document.as_object_mut().unwrap().remove("request_id").unwrap();
    assert_eq!(request_id.as_str().unwrap().len(), 16);
    assert_eq!(
        document,
        json!({
            "type": "about:blank", "title": "Not possible right now", "status": 503, "code": "unavailable",
            "detail": "the stream is away", "next": "try again in a moment", "server_time": "2026-11-23T22:04:13Z",
        })
    );
}

#[tokio::test]
async fn a_missing_token_is_asked_for() {
    let (status, headers, document) = answer(ApiError::unauthorized("no token was sent")).await;
    assert_eq!((status, &headers["www-authenticate"]), (StatusCode::UNAUTHORIZED, &HeaderValue::from_static("Bearer")));
    assert!(document["next"].as_str().unwrap().contains("authorization"));
}

#[test]
fn a_frame_has_the_same_members_without_type_and_request_id() {
    let problem = ApiError::invalid_field("bot", "no such bot").next("name another");
    assert_eq!(
        serde_json::to_value(problem.document()).unwrap(),
        json!({
            "title": "A value is not accepted", "status": 400, "code": "invalid_field", "detail": "no such bot",
            "next": "name another", "field": "bot",
        })
    );
}

#[test]
fn every_code_has_a_word_of_its_own_and_an_error_status() {
    let words: HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        assert!(!code.next().is_empty() && !code.next().ends_with('.'), "{code:?}");
    }
}
