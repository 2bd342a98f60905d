//! The files of the two pages, embedded in the executable and served as they are.

use super::assets::{Asset, CSS, HTML, JAVASCRIPT, JSON, SVG};

macro_rules! file {
    ($path:literal, $kind:expr, $name:literal) => {
        Asset { path: $path, content_type: $kind, bytes: include_bytes!(concat!("assets/", $name)) }
    };
}

/// The chat page, the client module that any page may import, and the users' API in OpenAPI.
pub static CHAT: &[Asset] = &[
    file!("/", HTML, "chat.html"),
    file!("/chat.js", JAVASCRIPT, "chat.js"),
    file!("/chat.css", CSS, "chat.css"),
    file!("/yalo-chat-style.js", JAVASCRIPT, "yalo-chat-style.js"),
    file!("/yalo-chat-view.js", JAVASCRIPT, "yalo-chat-view.js"),
    file!("/yalo-chat.js", JAVASCRIPT, "yalo-chat.js"),
    file!("/yalo-client.js", JAVASCRIPT, "yalo-client.js"),
    file!("/yalo-conversation.js", JAVASCRIPT, "yalo-conversation.js"),
    file!("/yalo-http.js", JAVASCRIPT, "yalo-http.js"),
    file!("/yalo-ids.js", JAVASCRIPT, "yalo-ids.js"),
    file!("/yalo-links.js", JAVASCRIPT, "yalo-links.js"),
    file!("/yalo-outbox.js", JAVASCRIPT, "yalo-outbox.js"),
    file!("/yalo.js", JAVASCRIPT, "yalo.js"),
    file!("/openapi.json", JSON, "openapi.json"),
    file!("/favicon.svg", SVG, "favicon.svg"),
];

/// The operators' page and their API in OpenAPI.
pub static ADMIN: &[Asset] = &[
    file!("/", HTML, "admin.html"),
    file!("/admin-api.js", JAVASCRIPT, "admin-api.js"),
    file!("/admin-dead.js", JAVASCRIPT, "admin-dead.js"),
    file!("/admin-dom.js", JAVASCRIPT, "admin-dom.js"),
    file!("/admin-find.js", JAVASCRIPT, "admin-find.js"),
    file!("/admin-health.js", JAVASCRIPT, "admin-health.js"),
    file!("/admin-record.js", JAVASCRIPT, "admin-record.js"),
    file!("/admin.css", CSS, "admin.css"),
    file!("/admin.js", JAVASCRIPT, "admin.js"),
    file!("/yalo-http.js", JAVASCRIPT, "yalo-http.js"),
    file!("/openapi.json", JSON, "admin-openapi.json"),
    file!("/favicon.svg", SVG, "favicon.svg"),
];
