//! What a conversation is made of: pure types and rules, without I/O and without async.
//!
//! Text from outside is parsed here once (`ConversationId::parse`, `MessageId::parse`, `Cursor::parse`); everything
//! below the edge passes the parsed types.

mod bound;
mod cursor;
mod ids;
pub mod limits;
mod message;
mod row;
mod timestamp;

pub use bound::{Bound, BoundError};
pub use cursor::{Cursor, CursorError, ListCursor};
pub use ids::{ConversationId, IdError, KEYS, MessageId, Partition};
pub use message::{Kind, Message, ReplyTo, Stored, Who};
pub use row::{Conversation, Row};
pub use timestamp::Timestamp;
