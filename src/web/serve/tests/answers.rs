//! Answers and refusals: their headers, their documents, health.

use super::*;

#[tokio::test]
async fn an_answer_carries_its_id_and_the_security_headers() {
    let server = start(|_| ());
    let client = reqwest::Client::new();
    let request = client.get(server.url("/post?limit=5")).header("x-request-id", "mine-1");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine-1");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(!answer.headers().contains_key("content-security-policy"));
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"limit": 5}));
    let page = client.get(server.url("/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(
        (&page.headers()["cache-control"], page.headers().contains_key("etag")),
        (&HeaderValue::from_static("no-cache"), true)
    );
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn every_refusal_is_a_problem_document_with_the_id_of_its_request() {
    let server = start(|_| ());
    let client = reqwest::Client::new();
    let json_post =
        |body: &'static str| client.post(server.url("/post")).header("content-type", "application/json").body(body);
    let cases = [
        (client.get(server.url("/nowhere")), 404, "not_found"),
        (client.delete(server.url("/post")), 405, "method_not_allowed"),
        (client.get(server.url("/post?limit=x")), 400, "invalid_field"),
        (client.get(server.url("/post?limits=1")), 400, "unknown_field"),
        (client.get(server.url("/ws")), 426, "upgrade_required"),
        (json_post("{"), 400, "invalid_json"),
        (json_post("{\"text\":1}"), 400, "invalid_field"),
        (json_post("{\"text\":\"\",\"odd\":1}"), 400, "unknown_field"),
        (json_post(r#"{"text":"\ud800"}"#), 400, "invalid_json"),
        (client.post(server.url("/post")).header("content-type", "text/html").body("x"), 415, "unsupported_media_type"),
        (client.post(server.url("/post")).header("content-encoding", "gzip").body("x"), 415, "unsupported_media_type"),
        (client.post(server.url("/post")).header("content-type", "text/plain").body(vec![0xff]), 400, "not_utf8"),
        (client.post(server.url("/post")).body("x".repeat(500_000)), 413, "body_too_large"),
        (client.get(server.url("/panic")), 500, "internal"),
    ];
    for (request, status, code) in cases {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{code}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{code}");
        let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let allow = answer.headers().get("allow").cloned();
        let document: Value = answer.json().await.unwrap();
        assert_eq!((&document["code"], &document["request_id"]), (&json!(code), &json!(request_id)));
        assert_eq!(document["status"], status);
        assert!(document["next"].is_string() && document["title"].is_string() && document["detail"].is_string());
        if status == 405 {
            assert_eq!(allow.unwrap(), "GET, HEAD, POST, OPTIONS");
        }
        assert!(!document.to_string().contains("on purpose"), "a cause was sent: {document}");
    }
    let head = client.head(server.url("/post")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap()), (200, String::new()));
    let options = client.request(reqwest::Method::OPTIONS, server.url("/post")).send().await.unwrap();
    assert_eq!(
        (options.status().as_u16(), &options.headers()["allow"]),
        (204, &HeaderValue::from_static("GET, HEAD, POST, OPTIONS"))
    );
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn a_named_origin_may_read_answers_and_no_other() {
    let server = start(|options| options.origins = Origins::parse(&["https://app.example".to_owned()]).unwrap());
    let client = reqwest::Client::new();
    let ask = |origin: &'static str| {
        let request = client.request(reqwest::Method::OPTIONS, server.url("/post"));
        request.header("origin", origin).header("access-control-request-method", "POST")
    };
    let answer = ask("https://app.example").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    assert!(answer.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    let answer = ask("https://evil.example").send().await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let post = client.post(server.url("/post")).header("origin", "https://app.example").body("{\"text\":\"x\"}");
    assert_eq!(post.send().await.unwrap().headers()["access-control-allow-origin"], "https://app.example");
    drop(client);
    server.stopped().await;
}

#[tokio::test]
async fn health_names_each_dependency() {
    let server = start(|_| ());
    let nats = server.readiness.dependency("nats");
    nats.set_ready(false, "connecting");
    let answer = reqwest::get(server.url("/readyz")).await.unwrap();
    assert_eq!(answer.status(), 503);
    let document: Value = answer.json().await.unwrap();
    assert_eq!((&document["ready"], &document["dependencies"][0]["name"]), (&json!(false), &json!("nats")));
    assert_eq!(document["dependencies"][0]["reason"], "connecting");
    nats.set_ready(true, "");
    assert_eq!(reqwest::get(server.url("/readyz")).await.unwrap().status(), 200);
    assert_eq!(reqwest::get(server.url("/livez")).await.unwrap().status(), 200);
    let metrics = reqwest::get(server.url("/metrics")).await.unwrap();
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert_eq!(metrics.text().await.unwrap(), "# EOF\n");
    let config: Value = reqwest::get(server.url("/config")).await.unwrap().json().await.unwrap();
    assert_eq!(config["nats"]["password"], "***");
    server.stopped().await;
}
