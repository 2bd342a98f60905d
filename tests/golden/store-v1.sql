PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
INSERT INTO messages VALUES(1,1764000000001000000,X'0198c0de000070008000000000000001',X'019ab697e80170008000000000000000',3,5,'ada',NULL,X'7b2276223a312c2274657874223a226d6573736167652031227d',X'e51f76223a312c2274657874223a226d6573736167652031227d000000000000');
INSERT INTO messages VALUES(2,1764000000002000000,X'0198c0de000070008000000000000001',X'019ab697e80270008000000000000000',0,0,'guest-1',NULL,X'7b2276223a312c2274657874223a226772c3bcc39f2064696368227d',X'e51e4a203a312c2274657874223a226772c3bcc39f2064696368227d00000000');
INSERT INTO messages VALUES(3,1764000000003000000,X'0198c0de000070008000000000000001',NULL,NULL,NULL,NULL,NULL,X'7b',X'7b00000000000000030000000000000000000000000000000000000000000000');
INSERT INTO messages VALUES(4,1764000000003000000,NULL,NULL,NULL,NULL,NULL,'yalo.chat.x.y.z',X'7b',X'7b00000000000000030000000000000000000000000000000000000000000000');
CREATE TABLE conversations (
    conversation BLOB PRIMARY KEY,
    owner TEXT,                    -- author of the first `opened` row
    opened_seq INTEGER,            -- sequence of that row
    first_at_ns INTEGER NOT NULL,  -- smallest at_ns of its rows
    last_seq INTEGER NOT NULL,     -- its newest row, and that row's time
    last_at_ns INTEGER NOT NULL,
    messages INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO conversations VALUES(X'0198c0de000070008000000000000001','ada',1,1764000000001000000,3,1764000000003000000,3);
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY,     -- seq / 4096
    messages INTEGER NOT NULL,
    first_at_ns INTEGER NOT NULL,  -- smallest and largest at_ns of its rows
    last_at_ns INTEGER NOT NULL
);
INSERT INTO blocks VALUES(0,4,1764000000001000000,1764000000003000000);
CREATE TABLE totals (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    messages INTEGER NOT NULL,
    conversations INTEGER NOT NULL
);
INSERT INTO totals VALUES(1,4,1);
CREATE TABLE streams (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    above_seq INTEGER NOT NULL     -- highest stored seq when it was bound; its rows lie above
);
INSERT INTO streams VALUES(1,'YALO_CHAT',1764000000000000000,0);
CREATE INDEX messages_by_conversation ON messages (conversation);
CREATE INDEX conversations_by_time ON conversations (last_at_ns, conversation);
CREATE INDEX conversations_by_owner ON conversations (owner) WHERE owner IS NOT NULL;
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
COMMIT;
