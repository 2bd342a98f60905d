//! Provisioning against a real nats-server.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt;

use super::survey::{Step, stored_in, survey};
use super::*;
use crate::bus::server::testing::TestServer;
use crate::domain::{ConversationId, Partition, Who};
use crate::wire::Subjects;

const DAY: Duration = Duration::from_hours(24);

fn subjects() -> Subjects {
    Subjects::new("yalo").unwrap()
}

fn options() -> ProvisionOptions {
    ProvisionOptions { replicas: 1, groups: 16, max_bytes: 100 << 20, max_age: 7 * DAY, store_last_seq: None }
}

fn plan_with(change: impl FnOnce(&mut ProvisionOptions)) -> Plan {
    let mut options = options();
    change(&mut options);
    Plan::new(&subjects(), &options)
}

fn plan() -> Plan {
    plan_with(|_| {})
}

async fn fresh() -> (TestServer, Context) {
    let test = TestServer::start().await;
    // A disk that is busy with what the compiler wrote takes its time.
    let context = jetstream::ContextBuilder::new().timeout(Duration::from_secs(30)).build(test.client().await);
    (test, context)
}

async fn provisioned() -> (TestServer, Context) {
    let (test, context) = fresh().await;
    reconcile(&context, &plan(), false).await.unwrap();
    (test, context)
}

async fn publish(context: &Context, bytes: usize) -> u64 {
    let subject = subjects().record(ConversationId::new(), Who::User);
    context.publish(subject, vec![b'x'; bytes].into()).await.unwrap().await.unwrap().sequence
}

async fn edit(context: &Context, name: &str, change: impl FnOnce(&mut stream::Config)) {
    let mut config = context.get_stream(name).await.unwrap().cached_info().config.clone();
    change(&mut config);
    context.update_stream(config).await.unwrap();
}

/// The lines about what is not as planned.
fn lines(report: &Report) -> Vec<String> {
    let differs = report.changes.iter().filter(|change| change.action != Action::Unchanged);
    differs.map(|change| change.to_string().lines().next().unwrap().to_owned()).collect()
}

async fn refusal(context: &Context, plan: &Plan) -> String {
    let before = context.get_stream("YALO_CHAT").await.unwrap().cached_info().config.clone();
    let error = reconcile(context, plan, false).await.unwrap_err();
    assert!(matches!(error, ProvisionError::Refused(_)), "{error:?}");
    let after = context.get_stream("YALO_CHAT").await.unwrap().cached_info().config.clone();
    assert_eq!(before, after, "nothing may be changed when something is refused");
    error.to_string()
}

#[tokio::test]
async fn a_fresh_server_gets_everything_and_a_second_run_changes_nothing() {
    let (_test, context) = fresh().await;
    let missing = verify_present(&context, &plan()).await.unwrap_err().to_string();
    assert!(missing.contains("stream YALO_CHAT") && missing.contains("consumer audit"), "{missing}");
    assert!(missing.contains("run `yalo init`"), "{missing}");

    let dry = reconcile(&context, &plan(), true).await.unwrap();
    assert_eq!(lines(&dry).len(), 3 + 17);
    assert!(verify_present(&context, &plan()).await.is_err(), "a dry run makes nothing");

    let report = reconcile(&context, &plan(), false).await.unwrap();
    assert_eq!(report, dry);
    verify_present(&context, &plan()).await.unwrap();
    let again = reconcile(&context, &plan(), false).await.unwrap();
    assert!(!again.has_changed(), "{again}");
    assert_eq!((again.changes.len(), lines(&again)), (20, Vec::<String>::new()));
}

#[tokio::test]
async fn the_chat_stream_is_as_the_design_says() {
    let (_test, context) = provisioned().await;
    let config = context.get_stream("YALO_CHAT").await.unwrap().cached_info().config.clone();
    assert_eq!(config.subjects, ["yalo.chat.*.*.*", "yalo.log.*.*"]);
    assert_eq!((config.discard, config.retention), (stream::DiscardPolicy::New, stream::RetentionPolicy::Limits));
    assert_eq!((config.max_bytes, config.max_age, config.max_message_size), (100 << 20, 7 * DAY, 128 * 1024));
    assert_eq!(config.duplicate_window, Duration::from_mins(2));
    assert!(config.allow_direct && config.deny_delete && !config.deny_purge && !config.allow_rollup);
    let republish = config.republish.unwrap();
    assert_eq!((republish.source.as_str(), republish.destination.as_str()), ("yalo.chat.>", "yalo.live.>"));
    assert_eq!(config.metadata["yalo.schema"], "1");
}

#[tokio::test]
async fn a_question_reaches_its_group_and_the_auditor_and_nobody_else() {
    let (_test, context) = provisioned().await;
    let conversation = ConversationId::new();
    for who in [Who::User, Who::Bot] {
        context.publish(subjects().record(conversation, who), "{}".into()).await.unwrap().await.unwrap();
    }
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    for group in 0..16u8 {
        let consumer: consumer::PullConsumer = chat.get_consumer(&Names::bot(group)).await.unwrap();
        let expected = u64::from(conversation.partition().group(16) == group);
        assert_eq!(consumer.cached_info().num_pending, expected, "{group}");
        let config = &consumer.cached_info().config;
        assert_eq!((config.ack_wait, config.max_ack_pending), (Duration::from_secs(10), 2000));
    }
    let audit: consumer::PullConsumer = chat.get_consumer(AUDIT).await.unwrap();
    assert_eq!(audit.cached_info().num_pending, 2);
    let config = &audit.cached_info().config;
    assert_eq!((config.ack_wait, config.max_ack_pending, config.max_deliver), (Duration::from_secs(10), 20_000, -1));
    assert_eq!(config.ack_policy, consumer::AckPolicy::Explicit);
}

#[tokio::test]
async fn the_bucket_keeps_the_last_value_of_each_key() {
    let (_test, context) = provisioned().await;
    let key = "$KV.yalo_members.bot-a";
    for value in ["1", "2"] {
        context.publish(key, value.into()).await.unwrap().await.unwrap();
    }
    let mut bucket = context.get_stream("KV_yalo_members").await.unwrap();
    assert_eq!(bucket.direct_get_last_for_subject(key).await.unwrap().payload, "2");
    // What a client library sends to purge a key.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("KV-Operation", "PURGE");
    headers.insert("Nats-Rollup", "sub");
    context.publish_with_headers(key, headers, "".into()).await.unwrap().await.unwrap();
    assert_eq!(bucket.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn a_terminated_message_leaves_a_dead_letter() {
    let (_test, context) = provisioned().await;
    publish(&context, 10).await;
    let audit: consumer::PullConsumer =
        context.get_stream("YALO_CHAT").await.unwrap().get_consumer(AUDIT).await.unwrap();
    let mut batch = audit.fetch().max_messages(1).messages().await.unwrap();
    batch.next().await.unwrap().unwrap().ack_with(jetstream::AckKind::Term).await.unwrap();
    let mut dead = context.get_stream("YALO_DEAD").await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while dead.info().await.unwrap().state.messages == 0 {
        assert!(tokio::time::Instant::now() < deadline, "no advisory was captured");
    }
}

#[tokio::test]
async fn what_may_be_changed_is_changed_and_each_difference_is_told() {
    let (_test, context) = provisioned().await;
    edit(&context, "YALO_CHAT", |config| {
        config.discard = stream::DiscardPolicy::Old;
        config.max_messages = 1000;
        config.republish = None;
        config.metadata.insert("team".to_owned(), "red".to_owned());
    })
    .await;
    edit(&context, "YALO_DEAD", |config| config.max_age = 90 * DAY).await;
    edit(&context, "KV_yalo_members", |config| config.max_messages_per_subject = 5).await;
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    chat.delete_consumer("bot-4").await.unwrap();
    let mut bot = chat.get_consumer::<consumer::pull::Config>("bot-5").await.unwrap().cached_info().config.clone();
    bot.ack_wait = Duration::from_secs(30);
    bot.filter_subjects.truncate(3);
    let mut update =
        consumer::pull::Config { durable_name: Some("bot-5".to_owned()), ..consumer::pull::Config::default() };
    update.ack_wait = bot.ack_wait;
    update.filter_subjects = bot.filter_subjects;
    update.max_ack_pending = bot.max_ack_pending;
    update.max_deliver = bot.max_deliver;
    chat.update_consumer(update).await.unwrap();

    let wider = plan_with(|options| (options.max_bytes, options.max_age) = (200 << 20, 14 * DAY));
    let report = reconcile(&context, &wider, false).await.unwrap();
    let lines = lines(&report);
    for line in [
        "updated    stream YALO_CHAT: discard old -> new",
        "updated    stream YALO_CHAT: max_msgs 1000 -> unlimited",
        "updated    stream YALO_CHAT: max_bytes 104857600 -> 209715200",
        "updated    stream YALO_CHAT: max_age 7 d -> 14 d",
        "updated    stream YALO_CHAT: republish unset -> {\"dest\":\"yalo.live.>\",\"headers_only\":false,\"src\":\"yalo.chat.>\"}",
        "updated    stream KV_yalo_members: max_msgs_per_subject 5 -> 1",
        "created    consumer bot-4 of YALO_CHAT",
        "updated    consumer bot-5 of YALO_CHAT: ack_wait 30 s -> 10 s",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}\nnot in\n{}", lines.join("\n"));
    }
    assert!(lines.iter().any(|line| line.contains("bot-5 of YALO_CHAT: filter_subjects")), "{}", lines.join("\n"));
    assert!(!reconcile(&context, &wider, false).await.unwrap().has_changed());
    let config = context.get_stream("YALO_CHAT").await.unwrap().cached_info().config.clone();
    assert_eq!(config.metadata["team"], "red", "what is not ours stays");
    let dead = context.get_stream("YALO_DEAD").await.unwrap().cached_info().config.clone();
    assert_eq!(dead.max_age, 90 * DAY, "an operator may keep dead letters longer");
}

#[tokio::test]
async fn a_foreign_consumer_is_told_and_left() {
    let (_test, context) = provisioned().await;
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    let mine = consumer::pull::Config { durable_name: Some("export".to_owned()), ..consumer::pull::Config::default() };
    chat.create_consumer(mine).await.unwrap();
    let report = reconcile(&context, &plan(), false).await.unwrap();
    assert_eq!(lines(&report), ["left alone consumer export of YALO_CHAT"]);
    assert!(!report.has_changed());
}

#[tokio::test]
async fn lower_limits_than_what_is_stored_are_refused() {
    let (_test, context) = provisioned().await;
    for _ in 0..20 {
        publish(&context, 100_000).await;
    }
    let told = refusal(&context, &plan_with(|options| options.max_bytes = 1 << 20)).await;
    assert!(told.contains("max_bytes") && told.contains("set nats.max_bytes to"), "{told}");
}

#[tokio::test]
async fn a_shorter_age_is_refused_only_for_messages_that_no_auditor_has_stored() {
    let (_test, context) = provisioned().await;
    publish(&context, 10).await;
    // The shortest age that the server takes beside the duplicate window is too long for a test, so the clock of the
    // comparison is asked instead.
    let found = api::stream(&context, "YALO_CHAT").await.unwrap().unwrap();
    let consumers = api::consumers(&context, "YALO_CHAT").await.unwrap();
    let stored = stored_in(&context, "YALO_CHAT", &found, &consumers).await.unwrap();
    assert!(stored.oldest_unaudited.unwrap() < Duration::from_mins(1) && stored.audited_seq == 0);

    let audit: consumer::PullConsumer =
        context.get_stream("YALO_CHAT").await.unwrap().get_consumer(AUDIT).await.unwrap();
    let mut batch = audit.fetch().max_messages(1).messages().await.unwrap();
    batch.next().await.unwrap().unwrap().double_ack().await.unwrap();
    let consumers = api::consumers(&context, "YALO_CHAT").await.unwrap();
    let stored = stored_in(&context, "YALO_CHAT", &found, &consumers).await.unwrap();
    assert_eq!((stored.oldest_unaudited, stored.audited_seq), (None, 1));
    let report = reconcile(&context, &plan_with(|options| options.max_age = DAY), false).await.unwrap();
    assert_eq!(lines(&report), ["updated    stream YALO_CHAT: max_age 7 d -> 1 d"]);
}

#[tokio::test]
async fn what_is_decided_at_birth_is_refused_with_the_way_out() {
    let (_test, context) = fresh().await;
    let foreign = stream::Config {
        name: "YALO_CHAT".to_owned(),
        subjects: vec!["yalo.chat.*.*.*".to_owned(), "other.>".to_owned()],
        storage: stream::StorageType::Memory,
        deny_purge: true,
        ..stream::Config::default()
    };
    context.create_stream(foreign).await.unwrap();
    let told = refusal(&context, &plan()).await;
    for part in
        ["subjects", "other.>", "storage memory -> file", "deny_purge true -> false", "nats stream rm YALO_CHAT"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(context.get_stream("YALO_DEAD").await.is_err(), "nothing else was made either");
}

#[tokio::test]
async fn a_consumer_that_gives_up_messages_is_refused() {
    let (_test, context) = provisioned().await;
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    chat.delete_consumer(AUDIT).await.unwrap();
    let push = consumer::push::Config {
        durable_name: Some(AUDIT.to_owned()),
        deliver_subject: "somewhere".to_owned(),
        ack_policy: consumer::AckPolicy::None,
        ..consumer::push::Config::default()
    };
    chat.create_consumer(push).await.unwrap();
    let told = refusal(&context, &plan()).await;
    for part in
        ["ack_policy none -> explicit", "deliver_subject somewhere -> unset", "nats consumer rm YALO_CHAT audit"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn a_missing_stream_begins_above_the_store() {
    let (_test, context) = fresh().await;
    let after_loss = plan_with(|options| options.store_last_seq = Some(4711));
    let report = reconcile(&context, &after_loss, false).await.unwrap();
    assert!(report.to_string().contains("created    stream YALO_CHAT: first_seq 4712"), "{report}");
    assert_eq!(publish(&context, 10).await, 4712);
    assert!(!reconcile(&context, &after_loss, false).await.unwrap().has_changed());
}

#[tokio::test]
async fn a_stream_below_the_store_is_refused_with_the_way_out() {
    let (_test, context) = provisioned().await;
    let last = publish(&context, 10).await;
    reconcile(&context, &plan_with(|options| options.store_last_seq = Some(last)), false).await.unwrap();
    let told = refusal(&context, &plan_with(|options| options.store_last_seq = Some(last + 5))).await;
    for part in ["last_seq 1 -> 6 or more", "nats stream backup", "nats stream rm YALO_CHAT", "begin at 7"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn copies_on_a_single_server_are_refused_new_or_old() {
    let (_test, context) = fresh().await;
    let three = plan_with(|options| options.replicas = 3);
    let told = reconcile(&context, &three, false).await.unwrap_err().to_string();
    assert!(told.contains("single server") && told.contains("nats.replicas to 1"), "{told}");
    assert!(context.get_stream("YALO_CHAT").await.is_err());
    reconcile(&context, &plan(), false).await.unwrap();
    refusal(&context, &three).await;
}

#[tokio::test]
async fn many_at_once_end_in_one_state() {
    let (_test, context) = fresh().await;
    let plan = plan();
    let all = (0..6).map(|_| reconcile(&context, &plan, false));
    for outcome in futures_util::future::join_all(all).await {
        outcome.unwrap();
    }
    assert!(!reconcile(&context, &plan, false).await.unwrap().has_changed());
}

#[tokio::test]
async fn a_stream_that_takes_our_subjects_is_named() {
    let (_test, context) = fresh().await;
    let other =
        stream::Config { name: "OTHER".to_owned(), subjects: vec!["yalo.>".to_owned()], ..stream::Config::default() };
    context.create_stream(other).await.unwrap();
    let told = reconcile(&context, &plan(), false).await.unwrap_err().to_string();
    assert!(told.contains("stream YALO_CHAT") && told.contains("overlap") && told.contains("nats.prefix"), "{told}");
}

#[tokio::test]
async fn groups_can_be_added_at_any_time_and_never_taken_away() {
    let (_test, context) = provisioned().await;
    let more = plan_with(|options| options.groups = 32);
    let mut asked = Vec::new();
    // Each group in turn but the last, which never has anything to do.
    for number in 0..60u8 {
        let all = std::iter::repeat_with(ConversationId::new);
        let conversation = { all }.find(|one| one.partition().group(16) == number % 15).unwrap();
        let subject = subjects().record(conversation, Who::User);
        let stored = context.publish(subject, "{}".into()).await.unwrap().await.unwrap();
        asked.push((stored.sequence, conversation.partition()));
    }
    // Everybody is done with the first half.
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    for (_, name) in Names::bots(16) {
        let consumer: consumer::PullConsumer = chat.get_consumer(&name).await.unwrap();
        let mut taken = consumer.fetch().max_messages(64).messages().await.unwrap();
        while let Some(message) = taken.next().await {
            let message = message.unwrap();
            if message.info().unwrap().stream_sequence <= 30 {
                message.double_ack().await.unwrap();
            }
        }
    }
    let report = reconcile(&context, &more, false).await.unwrap();
    let changed = lines(&report);
    assert_eq!(changed.len(), 1 + 16 + 16, "the stream, new consumers, and what the old ones let go: {changed:?}");
    assert!(!reconcile(&context, &more, false).await.unwrap().has_changed());

    // Each question that is left is with the consumer of its new group, which does not begin with the first message.
    for (group, name) in Names::bots(32) {
        let consumer: consumer::PullConsumer = chat.get_consumer(&name).await.unwrap();
        let info = consumer.cached_info();
        if group >= 16 {
            let consumer::DeliverPolicy::ByStartSequence { start_sequence } = info.config.deliver_policy else {
                panic!("{name} begins with {:?}", info.config.deliver_policy);
            };
            assert!((16..=31).contains(&start_sequence), "{name} begins at {start_sequence}");
            let mine = |(seq, partition): &&(u64, Partition)| *seq >= start_sequence && partition.group(32) == group;
            assert_eq!(info.num_pending, asked.iter().filter(mine).count() as u64, "{name}");
        }
    }
    let refused = refusal(&context, &plan()).await;
    assert!(refused.contains("nats.groups to 32"), "{refused}");
}

#[tokio::test]
async fn new_groups_are_there_before_they_are_announced_and_old_ones_let_go_after_that() {
    let (_test, context) = provisioned().await;
    let (_, steps) = survey(&context, &plan_with(|options| options.groups = 32)).await.unwrap();
    let kinds = steps.iter().map(|step| match step {
        Step::CreateStream { .. } => panic!("nothing is missing"),
        Step::CreateConsumer { .. } => "new group",
        Step::UpdateStream { .. } => "announced",
        Step::UpdateConsumer { .. } => "old group",
    });
    let expected = [vec!["new group"; 16], vec!["announced"], vec!["old group"; 16]].concat();
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}
