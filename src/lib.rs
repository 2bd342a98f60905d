//! yalo: a chat backbone with a perfect memory.
//!
//! ```text
//! User <--> frontend <--> NATS JetStream <--> bot
//!                             |   ^
//!                             v   | history over NATS
//!                          auditor --> store --> admin <-- operator
//! ```
//!
//! Read in this order:
//!
//! | module | what lives there | may use |
//! |---|---|---|
//! | [`domain`] | ids, cursor, message, row, limits: pure types and rules | std, serde, uuid |
//! | [`wire`] | what travels: subjects, envelope, digest | domain |
//! | [`cores`] | how much of a machine one process takes | |
//! | [`bus`] | NATS: connect, streams, publish with ack, pull, direct get, the managed server | wire, domain, cores |
//! | [`store`] | the audit store: one contract, one suite, SQLite and CQL | domain |
//! | [`audit`] | from stream to store: rows of messages, and the proof that none is missing | bus, store, wire, domain |
//! | [`export`] | rows of the store as text for other programs | store, wire, domain |
//! | [`web`] | HTTP toolkit that knows no role: accept loop, problems, bodies, WebSocket, SSE, health | domain |
//! | [`role`] | frontend, bot, auditor, admin: each `run(ctx, config, shutdown)` | audit, export, web, bus, store, wire, domain, mistake, its own config section |
//! | [`config`] | every key, its layers and its checks | wire, domain |
//! | [`mistake`] | known mistakes, which the checker has to catch; none in a release | |
//! | [`telemetry`] | logs, metrics, panics | domain, config |
//! | [`app`], [`supervisor`], [`shutdown`] | from a configuration to running roles, and back down in order | everything below |
//! | [`doctor`] | looks at a deployment, and says what threatens it and what mends it | app, store, bus, config, domain |
//! | [`cli`] | the command line and its tools | everything |
//!
//! Roles never use each other: they meet on NATS. A test (`tests/it/arrows.rs`) reads the `use crate::` lines and holds
//! these arrows.

pub mod app;
pub mod audit;
pub mod bus;
pub mod cli;
pub mod config;
pub mod cores;
pub mod doctor;
pub mod domain;
pub mod export;
pub mod mistake;
pub mod role;
pub mod shutdown;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod web;
pub mod wire;
