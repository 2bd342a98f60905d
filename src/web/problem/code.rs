//! The stable codes of refusals, each with its HTTP status, its title and its usual next step.

use warp::http::StatusCode;

/// Why a request was refused: the word that clients may match on. It never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Nothing is here, or it is someone else's.
    NotFound,
    /// The address is known, the method is not.
    MethodNotAllowed,
    /// No token, or one that is not accepted.
    Unauthorized,
    /// Signed in, but not allowed: a foreign origin, for example.
    Forbidden,
    /// The address speaks WebSocket only.
    UpgradeRequired,
    /// Not JSON, or JSON that carries what no text may.
    InvalidJson,
    /// A field, parameter or header has a wrong value; extra `field`.
    InvalidField,
    /// A field or parameter that the address does not know; extra `field`.
    UnknownField,
    /// The body is larger than accepted.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body broke off or its framing is wrong.
    BodyIncomplete,
    /// The body is not UTF-8.
    NotUtf8,
    /// A message without words.
    TextEmpty,
    /// A message with too many.
    TextTooLong,
    /// A line of an upload that is too long to be read.
    LineTooLong,
    /// Not an id.
    InvalidId,
    /// The id's time is ahead of the server's clock; extra `server_time`.
    IdInFuture,
    /// The id's time is too long ago; extra `server_time`.
    IdTooOld,
    /// The id has been used for other content.
    IdReused,
    /// The dead letter is not about a question, so it can't be asked again.
    NotAQuestion,
    /// Not a cursor.
    InvalidCursor,
    /// A content type that is not read here.
    UnsupportedMediaType,
    /// Too much at once.
    Overloaded,
    /// Something that this needs is away.
    Unavailable,
    /// The record of older messages is away.
    StoreUnavailable,
    /// The server is going down.
    Stopping,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// All codes, for the API's description.
    pub const ALL: [Self; 27] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::UpgradeRequired,
        Self::InvalidJson,
        Self::InvalidField,
        Self::UnknownField,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::BodyIncomplete,
        Self::NotUtf8,
        Self::TextEmpty,
        Self::TextTooLong,
        Self::LineTooLong,
        Self::InvalidId,
        Self::IdInFuture,
        Self::IdTooOld,
        Self::IdReused,
        Self::NotAQuestion,
        Self::InvalidCursor,
        Self::UnsupportedMediaType,
        Self::Overloaded,
        Self::Unavailable,
        Self::StoreUnavailable,
        Self::Stopping,
        Self::Internal,
    ];

    /// The word in `code`.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// The sentence in `title`, the same for every problem of this code.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// What to do next, unless the place that refuses knows better.
    pub fn next(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::NotFound => ("not_found", S::NOT_FOUND, "Nothing is here", "check the address and the token"),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                S::METHOD_NOT_ALLOWED,
                "This address does not take this method",
                "use a method of the allow header",
            ),
            Self::Unauthorized => (
                "unauthorized",
                S::UNAUTHORIZED,
                "A token is needed",
                "send the header `authorization: Bearer <token>`",
            ),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "This is not allowed", "ask the operator for access"),
            Self::UpgradeRequired => (
                "upgrade_required",
                S::UPGRADE_REQUIRED,
                "This address speaks WebSocket only",
                "open it as a WebSocket of version 13",
            ),
            Self::InvalidJson => {
                ("invalid_json", S::BAD_REQUEST, "The JSON cannot be read", "correct the JSON and send it again")
            }
            Self::InvalidField => {
                ("invalid_field", S::BAD_REQUEST, "A value is not accepted", "correct the field and send it again")
            }
            Self::UnknownField => (
                "unknown_field",
                S::BAD_REQUEST,
                "A field is not known here",
                "leave the field out, or correct its name",
            ),
            Self::BodyTooLarge => {
                ("body_too_large", S::PAYLOAD_TOO_LARGE, "The request is too large", "send less at once")
            }
            Self::BodyTimeout => {
                ("body_timeout", S::REQUEST_TIMEOUT, "The request took too long to arrive", "send it again")
            }
            Self::BodyIncomplete => {
                ("body_incomplete", S::BAD_REQUEST, "The request broke off", "send it again in full")
            }
            Self::NotUtf8 => ("not_utf8", S::BAD_REQUEST, "The text is not UTF-8", "send the text as UTF-8"),
            Self::TextEmpty => ("text_empty", S::BAD_REQUEST, "The message has no words", "write something"),
            Self::TextTooLong => {
                ("text_too_long", S::PAYLOAD_TOO_LARGE, "The message is too long", "send it as several messages")
            }
            Self::LineTooLong => {
                ("line_too_long", S::PAYLOAD_TOO_LARGE, "The line is too long", "send it as several messages")
            }
            Self::InvalidId => (
                "invalid_id",
                S::BAD_REQUEST,
                "The id is not accepted",
                "send a UUID of version 7 in lower case, or none",
            ),
            Self::IdInFuture => (
                "id_in_future",
                S::BAD_REQUEST,
                "The id's time is ahead",
                "correct the clock by `server_time` and make a new id",
            ),
            Self::IdTooOld => (
                "id_too_old",
                S::BAD_REQUEST,
                "The id is too old",
                "make a new id, by `server_time` if the clock is wrong",
            ),
            Self::IdReused => (
                "id_reused",
                S::CONFLICT,
                "This id belongs to another message",
                "send the message with an id of its own",
            ),
            Self::NotAQuestion => {
                ("not_a_question", S::CONFLICT, "This letter cannot be asked again", "read what it holds, then drop it")
            }
            Self::InvalidCursor => (
                "invalid_cursor",
                S::BAD_REQUEST,
                "The cursor cannot be read",
                "send a cursor as it was received, or none",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "This content type is not read here",
                "send the header `content-type: application/json`",
            ),
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "Too much at once", "try again in a moment"),
            Self::Unavailable => {
                ("unavailable", S::SERVICE_UNAVAILABLE, "Not possible right now", "try again in a moment")
            }
            Self::StoreUnavailable => (
                "store_unavailable",
                S::SERVICE_UNAVAILABLE,
                "Older messages cannot be read right now",
                "try again in a moment",
            ),
            Self::Stopping => ("stopping", S::SERVICE_UNAVAILABLE, "This server is going down", "connect again"),
            Self::Internal => (
                "internal",
                S::INTERNAL_SERVER_ERROR,
                "Something went wrong here",
                "try again, and name the `request_id` if it happens again",
            ),
        }
    }
}
