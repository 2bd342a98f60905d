//! The sizes and spans that the whole contract rests on. What an operator may tune is in `config/yalo.toml` instead.

/// Consumer groups of bots that a deployment begins with, and never has less of. How many there are is kept with the
/// stream, a power of two; partition p belongs to group p modulo that.
pub const GROUPS: u16 = 16;
/// A group for each partition.
pub const MOST_GROUPS: u16 = 256;
/// Longest text of a message, in bytes of UTF-8.
pub const TEXT_BYTES: usize = 16 * 1024;
/// Largest `data` of a message, in bytes of its JSON.
pub const DATA_BYTES: usize = 16 * 1024;
/// Longest name of an author or a bot, in bytes of UTF-8.
pub const NAME_BYTES: usize = 128;
/// Longest line of an upload: a text each byte of which JSON writes as six, data, and the rest.
pub const LINE_BYTES: usize = 160 * 1024;
/// Largest message of the stream, in bytes, headers included.
pub const STREAM_MESSAGE_BYTES: i32 = 128 * 1024;
/// How far ahead of the server's clock a message id may be. Less than half the duplicate window, so that no id can be
/// new to the window and already due for the late look-up.
pub const ID_AHEAD_MS: u64 = 30_000;
/// How old a message id may be: one day less than the stream keeps messages.
pub const ID_BEHIND_MS: u64 = 6 * 86_400_000;
/// From this age on an id is looked up in the stream before it is published: half the duplicate window.
pub const ID_LATE_MS: u64 = 60_000;
/// The stream's duplicate window.
pub const DUPLICATE_WINDOW_MS: u64 = 120_000;
/// Most messages in one page of history.
pub const PAGE: usize = 500;
