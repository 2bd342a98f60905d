//! Conversations: their sums, their owners, and their lists.

use super::{START_MS, began, conversation, counted, opened, row};
use crate::domain::{Conversation, Row, Timestamp, Who};
use crate::store::Contract;

fn numbers(conversations: &[Conversation]) -> Vec<u8> {
    conversations.iter().map(|conversation| conversation.id.as_bytes()[15]).collect()
}

pub(in crate::store) async fn conversations_add_up_in_any_order_of_arrival(store: &impl Contract) {
    // Two auditors work on one stream: the later half comes first, the halves overlap.
    let rows = [opened(1, 1, "ada"), row(2, 1), row(3, 2), row(4, 1), row(5, 2), row(6, 1)];
    store.record(rows[3..].to_vec()).await.unwrap();
    store.record(rows[..5].to_vec()).await.unwrap();
    let first = store.conversation(conversation(1)).await.unwrap().unwrap();
    let expected = Conversation {
        id: conversation(1),
        owner: Some("ada".to_owned()),
        first_at: rows[0].at,
        last: rows[5].clone(),
        messages: first.messages,
    };
    assert_eq!(first, expected);
    assert!(counted(first.messages, 4));
    let second = store.conversation(conversation(2)).await.unwrap().unwrap();
    assert_eq!((second.owner, second.first_at), (None, rows[2].at));
    assert!(counted(second.messages, 2));
    assert_eq!(second.last, rows[4]);
    assert!(counted(store.totals().await.unwrap().conversations, 2));
    // The sequence says which row is the newest, not a clock that stepped back.
    let back = Row { at: Timestamp::from_ms(START_MS - 3_000), ..row(7, 1) };
    store.record(vec![back.clone()]).await.unwrap();
    let first = store.conversation(conversation(1)).await.unwrap().unwrap();
    assert!(began(first.first_at, &[&rows[0], &back]));
    assert_eq!(first.last, back);
}

pub(in crate::store) async fn the_first_opened_row_names_the_owner(store: &impl Contract) {
    let owner = async || store.conversation(conversation(1)).await.unwrap().unwrap().owner;
    store.record(vec![row(5, 1)]).await.unwrap();
    assert_eq!(owner().await, None);
    // A user who sends the word "opened" is not the owner.
    store.record(vec![Row { who: Some(Who::User), ..opened(2, 1, "mallory") }]).await.unwrap();
    assert_eq!(owner().await, None);
    store.record(vec![opened(4, 1, "late"), opened(6, 1, "later")]).await.unwrap();
    assert_eq!(owner().await.as_deref(), Some("late"));
    store.record(vec![opened(3, 1, "first")]).await.unwrap();
    store.record(vec![opened(7, 1, "thief")]).await.unwrap();
    assert_eq!(owner().await.as_deref(), Some("first"));
    assert_eq!(numbers(&store.owned_by("first", None, 10).await.unwrap()), [1]);
    assert_eq!(store.owned_by("late", None, 10).await.unwrap(), []);
}

pub(in crate::store) async fn the_newest_conversations_come_first(store: &impl Contract) {
    // Conversations 10, 11, 12 end in the same instant: their ids decide.
    let same = Timestamp::from_ms(START_MS + 50);
    let tied = (10..=12).map(|number| Row { at: same, ..row(50 + u64::from(number), number) });
    let rows = (1..=9).map(|number| row(u64::from(number), number)).chain(tied).chain([row(100, 3)]);
    store.record(rows.collect::<Vec<_>>()).await.unwrap();
    // An older row that comes late does not move its conversation.
    store.record(vec![row(40, 11), row(41, 3)]).await.unwrap();
    let mut found = Vec::new();
    let mut before = None;
    // Bounded: a list that turns in circles fails below.
    for _ in 0..20 {
        let page = store.recent(before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.list_cursor());
        found.extend(numbers(&page));
    }
    assert_eq!(found, [3, 12, 11, 10, 9, 8, 7, 6, 5, 4, 2, 1]);
}

pub(in crate::store) async fn a_user_finds_only_what_is_theirs(store: &impl Contract) {
    let rows = (1..=40).map(|number| {
        let owner = if number % 4 == 0 { "ada" } else { "béla" };
        opened(u64::from(number), number, owner)
    });
    store.record(rows.collect::<Vec<_>>()).await.unwrap();
    store.record(vec![row(50, 8), row(51, 5)]).await.unwrap();
    let first = store.owned_by("ada", None, 4).await.unwrap();
    assert_eq!(numbers(&first), [8, 40, 36, 32]);
    assert!(first.iter().all(|conversation| conversation.owner.as_deref() == Some("ada")));
    let last = first.last().unwrap();
    let rest = store.owned_by("ada", Some(last.list_cursor()), 100).await.unwrap();
    assert_eq!(numbers(&rest), [28, 24, 20, 16, 12, 4]);
    assert_eq!(store.owned_by("béla", None, 100).await.unwrap().len(), 30);
    // Number 8 has two messages, the others one each; only one kind of store counts them.
    let all = store.all_owned_by("ada").await.unwrap();
    assert!(all.iter().map(|(id, _)| *id).eq((4..=40).step_by(4).map(conversation)), "{all:?}");
    assert!(all.iter().all(|(id, messages)| messages.is_none_or(|many| many == 1 + u64::from(*id == conversation(8)))));
    for stranger in ["", "ad", "ADA", "ada ", "%", "ada' OR 1=1 --"] {
        assert_eq!(store.owned_by(stranger, None, 100).await.unwrap(), [], "{stranger}");
        assert_eq!(store.all_owned_by(stranger).await.unwrap(), [], "{stranger}");
    }
}
