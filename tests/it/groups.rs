//! More bots than groups, and more groups for them while everything runs.

use std::cell::Cell;
use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use yalo::domain::{ConversationId, Partition};
use yalo::wire::Subjects;

use crate::client::{Api, number, text};
use crate::harness::{Fleet, PATIENCE, Start, eventually};

/// Asks without waiting for answers, until told to end; then every question has its answer, in order.
async fn ask_on(base: &str, end: &CancellationToken) -> usize {
    let (me, conversation) = Api::guest(base).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let mut asked = Vec::new();
    while !end.is_cancelled() {
        let said = me.post(&path, json!({"text": format!("sleep {} {}", fastrand::u32(0..20), asked.len())})).await;
        asked.push(number(&said.expect(202), "seq"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was asked while a busy machine doubled the groups may be thousands.
    eventually(PATIENCE * 3, "all answers", async || {
        let answered = answered(&me, &path).await;
        let in_order = answered.iter().zip(&asked).take_while(|(answered, asked)| answered == asked).count();
        let (wrong, due) = (answered.get(in_order), asked.get(in_order));
        assert!(wrong.is_none(), "answer {in_order} is to {wrong:?}, and {due:?} was asked before it");
        due.is_none().then_some(())
    })
    .await;
    asked.len()
}

/// What each answer of a conversation is the answer to, in their order.
async fn answered(me: &Api, path: &str) -> Vec<u64> {
    let (mut answered, mut after) = (Vec::new(), "0-0".to_owned());
    loop {
        let page = me.get(&format!("{path}?limit=500&after={after}")).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        let bots = messages.iter().filter(|message| message["who"] == "bot");
        answered.extend(bots.map(|answer| number(&answer["reply_to"], "seq")));
        match messages.last() {
            Some(last) => after = text(last, "cursor"),
            None => return answered,
        }
    }
}

/// Runs `yalo init` for so many groups.
async fn init(fleet: &Fleet, groups: &str) -> (Option<i32>, String, String) {
    let arguments = ["init", "--set", &format!("nats.groups={groups}")].map(str::to_owned).into();
    Start { name: "init".to_owned(), arguments, ..fleet.start_of("bot-1") }.finish().await
}

async fn groups(fleet: &Fleet, bot: &str) -> u32 {
    let page = reqwest::get(format!("{}/metrics", fleet.role(bot).address("ops"))).await.unwrap().text().await.unwrap();
    page.lines().find_map(|line| line.strip_prefix("yalo_bot_groups ")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_beyond_the_groups_stand_by_until_init_adds_groups() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start_with(folder.path(), &["bot.engine=drill"]).await;
    // One process of many bots, beside two of one.
    fleet.stop_role("bot-3").await;
    let mut many = fleet.start_of("bot-3");
    many.name = "bots".to_owned();
    many.arguments.extend(["--replicas".to_owned(), "18".to_owned()]);
    let mut bots = many.run().await;
    // A bot says it once, with as many bots as it then knows of.
    eventually(PATIENCE, "four bots that stand by", async || {
        let logs = ["bots", "bot-1", "bot-2"].map(|name| folder.path().join(format!("{name}.log")));
        let said = logs.map(|log| std::fs::read_to_string(log).unwrap().matches("standing by: 16 groups").count());
        (said.iter().sum::<usize>() >= 4).then_some(())
    })
    .await;

    let (place, end) = (fleet.place(), CancellationToken::new());
    let asking = join_all((0..16).map(|number| ask_on(&place.frontends[number % 2], &end)));
    let raising = async {
        let (code, output, errors) = init(&fleet, "32").await;
        assert_eq!(code, Some(0), "{errors}");
        assert!(output.contains("bot-31"), "{output}");
        let process = bots.address("ops");
        eventually(PATIENCE * 3, "32 groups that are answered", async || {
            let page = reqwest::get(format!("{process}/metrics")).await.unwrap().text().await.unwrap();
            let of_many = page.lines().find_map(|line| line.strip_prefix("yalo_bot_groups ")).unwrap();
            let all = of_many.parse::<u32>().unwrap() + groups(&fleet, "bot-1").await + groups(&fleet, "bot-2").await;
            (all == 32).then_some(())
        })
        .await;
        end.cancel();
        // Fewer would leave some to nobody.
        let (code, _, errors) = init(&fleet, "16").await;
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("set nats.groups to 32"), "{errors}");
        let (code, _, errors) = init(&fleet, "24").await;
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("nats.groups") && errors.contains("power of two"), "{errors}");
    };
    let (asked, ()) = tokio::join!(asking, raising);
    println!("{} questions while the groups were doubled", asked.iter().sum::<usize>());
    bots.stop().await;
    fleet.stop_role("bot-1").await;
    fleet.stop_role("bot-2").await;
}

/// As an `init` leaves it for a moment that has added a group, and not taken its partitions from the old one yet.
#[tokio::test]
async fn a_group_answers_nothing_that_another_one_has_by_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    assert_eq!(init(&fleet, "32").await.0, Some(0));
    eventually(PATIENCE, "32 groups that are answered", async || {
        let bots = ["bot-1", "bot-2", "bot-3"];
        (join_all(bots.map(|bot| groups(&fleet, bot))).await.iter().sum::<u32>() == 32).then_some(())
    })
    .await;
    let (me, partition, path) = loop {
        let (me, conversation) = Api::guest(&fleet.place().frontends[0]).await;
        let partition = ConversationId::parse(&conversation).unwrap().partition();
        if partition.group(32) >= 16 {
            break (me, partition, format!("/v1/conversations/{conversation}/messages"));
        }
    };
    let [old, new] = [16, 32].map(|groups| format!("bot-{}", partition.group(groups)));
    let context = jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    chat.delete_consumer(&new).await.unwrap();
    let consumer: jetstream::consumer::PullConsumer = chat.get_consumer(&old).await.unwrap();
    let mut config = consumer.cached_info().config.clone();
    config.filter_subjects.push(Subjects::new("yalo").unwrap().questions(partition));
    chat.update_consumer(jetstream::consumer::pull::Config {
        durable_name: config.durable_name,
        filter_subjects: config.filter_subjects,
        ack_wait: config.ack_wait,
        max_ack_pending: config.max_ack_pending,
        max_deliver: config.max_deliver,
        metadata: config.metadata,
        ..jetstream::consumer::pull::Config::default()
    })
    .await
    .unwrap();

    let open = async || consumer.get_info().await.unwrap().num_ack_pending;
    let asked = number(&me.post(&path, json!({"text": "whose is it?"})).await.expect(202), "seq");
    eventually(PATIENCE, "the question with the old group", async || (open().await == 1).then_some(())).await;
    // Long enough for an answer of its bot.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(answered(&me, &path).await, [0; 0]);
    let (code, _, errors) = init(&fleet, "32").await;
    assert_eq!(code, Some(0), "{errors}");
    eventually(PATIENCE, "its answer", async || (answered(&me, &path).await == [asked]).then_some(())).await;
    // The old one is done with it too.
    eventually(PATIENCE, "nothing open", async || (open().await == 0).then_some(())).await;
    fleet.stop().await;
}

/// Has the stream say how many groups there are.
async fn say(client: &async_nats::Client, groups: u16) {
    let ask = async |call: &str, body: Value| {
        let answer = client.request(format!("$JS.API.STREAM.{call}.YALO_CHAT"), body.to_string().into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["error"].is_null(), "{answer}");
        answer
    };
    let mut config = ask("INFO", json!({})).await["config"].take();
    config["metadata"]["yalo.groups"] = groups.to_string().into();
    ask("UPDATE", config).await;
}

/// For up to five seconds a bot has not heard that groups were added. What its consumer has given away is not to be read
/// again meanwhile: its floor says nothing about that.
#[tokio::test]
async fn a_bot_that_has_not_heard_of_more_groups_answers_none_of_theirs_out_of_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let base = fleet.place().frontends[0].clone();
    let guest = async |is_wanted: &dyn Fn(Partition) -> bool| loop {
        let (me, conversation) = Api::guest(&base).await;
        let partition = ConversationId::parse(&conversation).unwrap().partition();
        if is_wanted(partition) {
            return (me, partition, format!("/v1/conversations/{conversation}/messages"));
        }
    };
    let (me, partition, mine) = guest(&|partition| partition.group(32) >= 16).await;
    let old = partition.group(16);
    let (other, _, others) = guest(&|partition| partition.group(32) == old).await;
    for bot in ["bot-1", "bot-2", "bot-3"] {
        fleet.stop_role(bot).await;
    }
    let ask = async |me: &Api, path: &str| number(&me.post(path, json!({"text": "?"})).await.expect(202), "seq");
    let mut asked = vec![ask(&me, &mine).await];
    assert_eq!(init(&fleet, "32").await.0, Some(0));
    let client = async_nats::connect(fleet.nats_url()).await.unwrap();
    say(&client, 16).await;
    fleet.start_again("bot-1").await;
    eventually(PATIENCE, "a bot of 16 groups", async || (groups(&fleet, "bot-1").await == 16).then_some(())).await;
    say(&client, 32).await;

    let before = ask(&other, &others).await;
    eventually(PATIENCE, "its floor above the question", async || {
        (answered(&other, &others).await == [before]).then_some(())
    })
    .await;
    // Somebody else takes a delivery from the bot, so that it reads what is open: the question just before it, too.
    let chat = jetstream::new(client).get_stream("YALO_CHAT").await.unwrap();
    let consumer: jetstream::consumer::PullConsumer = chat.get_consumer(&format!("bot-{old}")).await.unwrap();
    let mut taken = consumer.fetch().max_messages(1).expires(PATIENCE).messages().await.unwrap();
    // Told to end, not cut off: each question that was taken is known.
    let is_taken = Cell::new(false);
    let taking = async {
        taken.next().await.unwrap().unwrap();
        is_taken.set(true);
    };
    let asking = async {
        while !is_taken.get() {
            asked.push(ask(&me, &mine).await);
            ask(&other, &others).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(taking, asking);
    ask(&other, &others).await;
    eventually(PATIENCE, "all answers", async || (answered(&me, &mine).await.len() >= asked.len()).then_some(())).await;
    assert_eq!(answered(&me, &mine).await, asked);
    fleet.stop().await;
}

/// Who loses a group hears of it late, if its machine has much to do: what it is handed until then it drops. Here it is a
/// client of NATS, which says of the question that it is still at it, so that it does not come again.
#[tokio::test]
async fn what_the_last_owner_of_a_group_was_handed_too_late_is_answered_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path()).await;
    let (me, conversation) = Api::guest(&fleet.place().frontends[0]).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let group = ConversationId::parse(&conversation).unwrap().partition().group(16);
    let ask = async || number(&me.post(&path, json!({"text": "?"})).await.expect(202), "seq");
    let bots = ["bot-1", "bot-2", "bot-3"];
    eventually(PATIENCE, "groups that are shared", async || {
        join_all(bots.map(|bot| groups(&fleet, bot))).await.iter().all(|groups| (5..=6).contains(groups)).then_some(())
    })
    .await;
    // Whoever answers it has taken the group, and will not have given it back.
    let mut asked = vec![ask().await];
    eventually(PATIENCE, "an answer", async || (answered(&me, &path).await == asked).then_some(())).await;
    for bot in bots {
        fleet.kill9(bot);
    }
    let context = jetstream::new(async_nats::connect(fleet.nats_url()).await.unwrap());
    let chat = context.get_stream("YALO_CHAT").await.unwrap();
    let consumer: jetstream::consumer::PullConsumer = chat.get_consumer(&format!("bot-{group}")).await.unwrap();
    let mut late = consumer.batch().max_messages(2).expires(PATIENCE * 2).messages().await.unwrap();

    asked.push(ask().await);
    let before = late.next().await.unwrap().unwrap();
    assert_eq!(before.info().unwrap().stream_sequence, asked[1]);
    fleet.start_again("bot-1").await;
    // It was handed out before the bot looked for such.
    eventually(PATIENCE, "its answer", async || (answered(&me, &path).await == asked).then_some(())).await;
    before.ack().await.unwrap();
    asked.push(ask().await);
    let after = late.next().await.unwrap().unwrap();
    assert_eq!(after.info().unwrap().stream_sequence, asked[2]);
    eventually(PATIENCE, "the answer to what was handed out after that", async || {
        after.ack_with(AckKind::Progress).await.unwrap();
        (answered(&me, &path).await == asked).then_some(())
    })
    .await;
    fleet.stop_role("bot-1").await;
}
