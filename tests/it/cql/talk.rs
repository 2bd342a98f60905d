//! Somebody who talks, and an operator who reads it.

use serde_json::json;

use crate::client::{Api, number};
use crate::harness::{PATIENCE, Place, eventually};

/// One person who goes on talking.
pub(super) struct Talk {
    me: Api,
    conversation: String,
    texts: Vec<String>,
    /// The sequence of the last answer.
    pub(super) last: u64,
}

impl Talk {
    pub(super) async fn begin(place: &Place) -> Self {
        let (me, conversation) = Api::guest(&place.frontends[0]).await;
        Self { me, conversation, texts: Vec::new(), last: 0 }
    }

    pub(super) async fn say(&mut self, turns: usize) {
        for _ in 0..turns {
            let text = format!("turn {}", self.texts.len());
            let said = json!({"text": text, "conversation": self.conversation});
            self.last = number(&self.me.post("/v1/chat", said).await.expect(200)["answer"], "seq");
            self.texts.extend([text.clone(), text]);
        }
    }

    /// Waits until the store has all of it.
    pub(super) async fn stored(&self, operator: &Api) {
        eventually(PATIENCE * 2, "everything in the store", async || {
            let call = operator.get("/admin/v1/stats").await;
            let stats = (call.status == 200).then(|| call.expect(200))?;
            (stats["audit_gap"]["behind"] == 0 && stats["last_seq"].as_u64() >= Some(self.last)).then_some(())
        })
        .await;
    }

    /// The transcript in the store is what was said, in order.
    pub(super) async fn is_whole(&self, operator: &Api) {
        let id = &self.conversation;
        let mut after = "0-0".to_owned();
        let mut texts = Vec::new();
        loop {
            let page =
                operator.get(&format!("/admin/v1/conversations/{id}/messages?limit=7&after={after}")).await.expect(200);
            let messages = page["messages"].as_array().unwrap();
            texts.extend(messages.iter().filter_map(|message| message["text"].as_str().map(str::to_owned)));
            match messages.last() {
                Some(last) => last["cursor"].as_str().unwrap().clone_into(&mut after),
                None => break,
            }
        }
        assert_eq!(texts, self.texts);
        let recent = operator.get("/admin/v1/conversations?limit=5").await.expect(200);
        assert_eq!(recent["conversations"][0]["conversation"], self.conversation.as_str(), "{recent}");
    }
}
