//! What must not wait for each other, on a real nats-server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Link;
use super::provision::{AUDIT, Plan, ProvisionOptions, reconcile};
use super::server::testing::TestServer;
use super::{Bus, BusError, BusOptions, Delivery, From, LinkEvents, Publish, Pull, PullOptions};
use crate::domain::{ConversationId, Who};
use crate::wire::Subjects;

const LIMIT: Duration = Duration::from_secs(1);

fn options(test: &TestServer, request_timeout: Duration) -> BusOptions {
    BusOptions {
        url: test.server.url(),
        user: test.server.user().to_owned(),
        password: test.server.password().to_owned(),
        credentials: String::new(),
        subjects: Subjects::new("yalo").unwrap(),
        connect_timeout: Duration::from_secs(10),
        request_timeout,
        publish_timeout: Duration::from_secs(1),
        publish_deadline: Duration::from_secs(30),
        publish_in_flight: 1,
    }
}

async fn bus(test: &TestServer, request_timeout: Duration) -> Bus {
    Bus::connect(options(test, request_timeout), "test", LinkEvents::default()).await.unwrap()
}

/// A server that greets like the one at `url`, and is gone when it is answered.
async fn die_at_the_sign_in(listener: TcpListener, url: String) -> ! {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(url.trim_start_matches("nats://")).await.unwrap();
        let mut greeting = [0; 4096];
        let length = server.read(&mut greeting).await.unwrap();
        client.write_all(&greeting[..length]).await.unwrap();
        client.readable().await.unwrap();
    }
}

async fn provision(bus: &Bus) {
    let options =
        ProvisionOptions { replicas: 1, groups: 16, max_bytes: 1 << 20, max_age: 3600 * LIMIT, store_last_seq: None };
    reconcile(&bus.jetstream(), &Plan::new(bus.subjects(), &options), false).await.unwrap();
}

/// A message that was handed out.
async fn delivered(bus: &Bus) -> Delivery {
    provision(bus).await;
    let subject = bus.subjects().record(ConversationId::new(), Who::User);
    bus.publish(Publish { subject, ..Publish::default() }).await.unwrap();
    Pull::new(bus, AUDIT, PullOptions { batch: 1, expires: LIMIT }).next().await
}

#[tokio::test]
async fn heartbeats_do_not_stand_behind_publishes_that_wait() {
    let test = TestServer::start().await;
    let bus = bus(&test, 20 * LIMIT).await;
    provision(&bus).await;
    // No stream has this subject: it is tried again for half a minute, and has the only place for as long.
    let lost = Publish { subject: "nobody.listens".to_owned(), ..Publish::default() };
    let mut waits = Box::pin(bus.publish(lost));
    let heartbeats = async {
        // One has a second, which a busy disk may take.
        while bus.put_member("bot.me", Bytes::from_static(b"here")).await.is_err() {}
    };
    tokio::select! {
        biased;
        published = &mut waits => panic!("{published:?}"),
        () = heartbeats => {}
    }
    bus.close(LIMIT).await;
}

#[tokio::test]
async fn a_queue_to_a_server_that_is_away_is_waited_for_with_a_limit() {
    let test = TestServer::start().await;
    let bus = bus(&test, LIMIT).await;
    let delivery = delivered(&bus).await;
    test.server.stop(Duration::from_secs(5)).await;
    let begun = Instant::now();
    while bus.is_connected() {
        assert!(begun.elapsed() < Duration::from_secs(10), "still connected");
        tokio::task::yield_now().await;
    }
    // As many as fit: nothing is taken out of it while there is no connection. The first one that does not may only be out
    // of turn.
    let fits = || bus.client().publish("nobody.listens", Bytes::new()).now_or_never().is_some();
    while fits() || {
        tokio::task::yield_now().await;
        fits()
    } {}
    let begun = Instant::now();
    let (read, subscribed, sent) = tokio::join!(
        bus.read("yalo.chat.>", From::Seq(1), 1),
        bus.subscribe("nobody.listens".to_owned()),
        bus.send("nobody.listens".to_owned(), Bytes::new()),
    );
    assert!(matches!(read, Err(BusError::TimedOut { .. })), "{read:?}");
    assert!(matches!(subscribed, Err(BusError::TimedOut { .. })));
    assert!(matches!(sent, Err(BusError::TimedOut { .. })), "{sent:?}");
    // Many of these are given up one after the other.
    for _ in 0..100 {
        delivery.handle.ack().await;
    }
    bus.close(LIMIT).await;
    assert!(begun.elapsed() < 6 * LIMIT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_not_one_without_the_message() {
    let test = TestServer::start().await;
    let bus = bus(&test, LIMIT).await;
    provision(&bus).await;
    assert!(bus.next_by_leader(">", 1).await.unwrap().is_none());
    assert!(bus.record_by_leader(">", 1).await.unwrap().is_none());
    bus.jetstream().delete_stream(bus.chat_stream()).await.unwrap();
    let (next, record) = (bus.next_by_leader(">", 1).await, bus.record_by_leader(">", 1).await);
    assert!(matches!(next, Err(BusError::Missing(_))), "{next:?}");
    assert!(matches!(record, Err(BusError::Missing(_))), "{record:?}");
    bus.close(LIMIT).await;
}

/// The client tries the servers in an order of chance: many connections, so that some begin with the one that dies.
#[tokio::test]
async fn a_server_that_dies_while_a_publisher_signs_in_leaves_it_to_the_others() {
    let test = TestServer::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = options(&test, LIMIT);
    options.url = format!("nats://{},{}", listener.local_addr().unwrap(), options.url);
    let connections = async {
        for _ in 0..20 {
            let link = Link::open_single(&options, "test", LinkEvents::default()).await.unwrap();
            assert!(link.is_connected());
            link.close(LIMIT).await;
        }
    };
    tokio::select! {
        () = connections => {}
        never = die_at_the_sign_in(listener, test.server.url()) => never,
    }
}

#[tokio::test]
async fn a_publishers_connection_is_not_made_again() {
    let test = TestServer::start().await;
    let options = options(&test, LIMIT);
    let link = Link::open_single(&options, "test", LinkEvents::default()).await.unwrap();
    let client = link.client();
    client.force_reconnect().await.unwrap();
    let ended = async { while client.publish("nobody.listens", Bytes::new()).await.is_ok() {} };
    tokio::time::timeout(10 * LIMIT, ended).await.expect("a client that has ended");
    assert!(link.broken().is_cancelled());
    assert_eq!(client.statistics().connects.load(Ordering::SeqCst), 1);
}
