-- Version 1. Every index costs on each write, so there are only those that a reading side cannot do without.

-- One row for each message of the stream. The row id is the stream sequence, so the file is in the order of record.
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,       -- stream sequence
    at_ns INTEGER NOT NULL,        -- the stream's time, nanoseconds since 1970
    conversation BLOB,             -- 16 bytes; NULL when nothing names one
    id BLOB,                       -- 16 bytes, UUIDv7; NULL when the payload could not be decoded, as the next three
    who INTEGER,                   -- 0 user, 1 bot, 2 agent, 3 meta, 4 log
    kind INTEGER,                  -- 0 text, 1 apology, 2 stopped, 3 none, 4 note, 5 opened, 6 closed, 7 joined, 8 left, 9 event
    author TEXT,
    subject TEXT,                  -- only when it is not the one that conversation and who give
    payload BLOB NOT NULL,         -- what the publisher sent, byte for byte
    digest BLOB NOT NULL           -- SHA-256 of subject, NUL, seq and at_ns as big-endian 64-bit numbers, payload
);
-- An index ends with the row id by itself: this is (conversation, seq).
CREATE INDEX messages_by_conversation ON messages (conversation);

CREATE TABLE conversations (
    conversation BLOB PRIMARY KEY,
    owner TEXT,                    -- author of the first `opened` row
    opened_seq INTEGER,            -- sequence of that row
    first_at_ns INTEGER NOT NULL,  -- smallest at_ns of its rows
    last_seq INTEGER NOT NULL,     -- its newest row, and that row's time
    last_at_ns INTEGER NOT NULL,
    messages INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX conversations_by_time ON conversations (last_at_ns, conversation);
CREATE INDEX conversations_by_owner ON conversations (owner) WHERE owner IS NOT NULL;

-- 4096 consecutive sequences each: times are found and rows are counted without an index on at_ns.
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY,     -- seq / 4096
    messages INTEGER NOT NULL,
    first_at_ns INTEGER NOT NULL,  -- smallest and largest at_ns of its rows
    last_at_ns INTEGER NOT NULL
);

CREATE TABLE totals (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    messages INTEGER NOT NULL,
    conversations INTEGER NOT NULL
);
INSERT INTO totals VALUES (1, 0, 0);

-- The streams that the rows came from; the last one is the present one.
CREATE TABLE streams (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    above_seq INTEGER NOT NULL     -- highest stored seq when it was bound; its rows lie above
);

-- For people: ids as text, times as ISO 8601, words instead of numbers.
CREATE VIEW v_messages AS
SELECT
    seq,
    strftime('%Y-%m-%dT%H:%M:%S', at_ns / 1000000000, 'unixepoch') || printf('.%09dZ', at_ns % 1000000000) AS at,
    lower(substr(hex(conversation), 1, 8) || '-' || substr(hex(conversation), 9, 4) || '-'
        || substr(hex(conversation), 13, 4) || '-' || substr(hex(conversation), 17, 4) || '-'
        || substr(hex(conversation), 21)) AS conversation,
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
        || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    CASE who WHEN 0 THEN 'user' WHEN 1 THEN 'bot' WHEN 2 THEN 'agent' WHEN 3 THEN 'meta' WHEN 4 THEN 'log' END AS who,
    CASE kind WHEN 0 THEN 'text' WHEN 1 THEN 'apology' WHEN 2 THEN 'stopped' WHEN 3 THEN 'none' WHEN 4 THEN 'note'
        WHEN 5 THEN 'opened' WHEN 6 THEN 'closed' WHEN 7 THEN 'joined' WHEN 8 THEN 'left' WHEN 9 THEN 'event'
        END AS kind,
    author,
    CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ->> '$.text' END AS text,
    CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ->> '$.reply_to.seq' END AS reply_to_seq,
    CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ->> '$.data' END AS data,
    subject,
    lower(hex(digest)) AS digest
FROM messages;

CREATE VIEW v_conversations AS
SELECT
    lower(substr(hex(conversation), 1, 8) || '-' || substr(hex(conversation), 9, 4) || '-'
        || substr(hex(conversation), 13, 4) || '-' || substr(hex(conversation), 17, 4) || '-'
        || substr(hex(conversation), 21)) AS conversation,
    owner,
    strftime('%Y-%m-%dT%H:%M:%S', first_at_ns / 1000000000, 'unixepoch')
        || printf('.%09dZ', first_at_ns % 1000000000) AS first_at,
    strftime('%Y-%m-%dT%H:%M:%S', last_at_ns / 1000000000, 'unixepoch')
        || printf('.%09dZ', last_at_ns % 1000000000) AS last_at,
    last_seq,
    messages
FROM conversations;
