//! The grammar of subjects. The first token is `nats.prefix`, so that several deployments share one NATS.

use crate::domain::{ConversationId, Partition, Who};

/// A subject of the stream, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The conversation.
    pub conversation: ConversationId,
    /// The side; [`Who::Log`] for bulk ingest.
    pub who: Who,
}

/// Makes and reads all subjects of one deployment.
#[derive(Debug, Clone)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// For the deployment `prefix`: letters, digits, `-` and `_`, at most 32.
    pub fn new(prefix: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let valid = (1..=32).contains(&prefix.len()) && prefix.bytes().all(plain);
        valid.then(|| Self { prefix: prefix.to_owned() })
    }

    /// The deployment's word.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where a message of `who` is stored: `yalo.chat.<p>.<conversation>.<who>`, or `yalo.log.<p>.<conversation>`.
    pub fn record(&self, conversation: ConversationId, who: Who) -> String {
        let (prefix, p) = (&self.prefix, conversation.partition());
        match who {
            Who::Log => format!("{prefix}.log.{p}.{conversation}"),
            _ => format!("{prefix}.chat.{p}.{conversation}.{}", who.as_str()),
        }
    }

    /// Everything that was ingested in bulk: `yalo.log.*.*`.
    pub fn logs(&self) -> String {
        format!("{}.log.*.*", self.prefix)
    }

    /// All sides of one conversation, for reading its history: `yalo.chat.<p>.<conversation>.*`.
    pub fn conversation(&self, conversation: ConversationId) -> String {
        format!("{}.chat.{}.{conversation}.*", self.prefix, conversation.partition())
    }

    /// The questions of one partition: the filter of a bot group's consumer.
    pub fn questions(&self, partition: Partition) -> String {
        self.side(partition, Who::User)
    }

    /// What one side says in the conversations of one partition: `yalo.chat.<p>.*.<who>`.
    pub fn side(&self, partition: Partition, who: Who) -> String {
        format!("{}.chat.{partition}.*.{}", self.prefix, who.as_str())
    }

    /// What the stream stores, at exact depth.
    pub fn stored(&self) -> Vec<String> {
        vec![format!("{}.chat.*.*.*", self.prefix), self.logs()]
    }

    /// What the stream republishes, and where to.
    pub fn republish(&self) -> (String, String) {
        (format!("{}.chat.>", self.prefix), format!("{}.live.>", self.prefix))
    }

    /// The live copies of one partition: `yalo.live.<p>.>`.
    pub fn live(&self, partition: Partition) -> String {
        format!("{}.live.{partition}.>", self.prefix)
    }

    /// The drafts of one conversation: `yalo.draft.<p>.<conversation>`.
    pub fn draft(&self, conversation: ConversationId) -> String {
        format!("{}.draft.{}.{conversation}", self.prefix, conversation.partition())
    }

    /// The drafts of one partition: `yalo.draft.<p>.*`.
    pub fn drafts(&self, partition: Partition) -> String {
        format!("{}.draft.{partition}.*", self.prefix)
    }

    /// Signals from a user to the bot: `yalo.control.<p>.<conversation>`.
    pub fn control(&self, conversation: ConversationId) -> String {
        format!("{}.control.{}.{conversation}", self.prefix, conversation.partition())
    }

    /// The signals of all users: `yalo.control.*.*`.
    pub fn controls(&self) -> String {
        format!("{}.control.*.*", self.prefix)
    }

    /// A request to the reading side: `yalo.rpc.<name>`.
    pub fn rpc(&self, name: &str) -> String {
        format!("{}.rpc.{name}", self.prefix)
    }

    /// Where `role` lays down what it can't handle: `yalo.dead.<role>.<p>.<conversation>`.
    pub fn dead(&self, role: &str, conversation: Option<ConversationId>) -> String {
        match conversation {
            Some(conversation) => format!("{}.dead.{role}.{}.{conversation}", self.prefix, conversation.partition()),
            None => format!("{}.dead.{role}.none.none", self.prefix),
        }
    }

    /// All that `role` has laid down: `yalo.dead.<role>.>`.
    pub fn dead_of(&self, role: &str) -> String {
        format!("{}.dead.{role}.>", self.prefix)
    }

    /// Everything that the dead-letter stream stores.
    pub fn all_dead(&self) -> String {
        format!("{}.dead.>", self.prefix)
    }

    /// Takes a stored subject apart; `None` if it is not of the grammar, or its partition is not the conversation's.
    pub fn parse(&self, subject: &str) -> Option<Subject> {
        self.parse_as("chat", subject)
    }

    /// Takes the subject of a live copy apart.
    pub fn parse_live(&self, subject: &str) -> Option<Subject> {
        self.parse_as("live", subject)
    }

    /// The conversation of a draft's subject.
    pub fn parse_draft(&self, subject: &str) -> Option<ConversationId> {
        self.parse_signal(".draft.", subject)
    }

    /// The conversation of a signal's subject.
    pub fn parse_control(&self, subject: &str) -> Option<ConversationId> {
        self.parse_signal(".control.", subject)
    }

    fn parse_signal(&self, branch: &str, subject: &str) -> Option<ConversationId> {
        let rest = subject.strip_prefix(&self.prefix)?.strip_prefix(branch)?;
        let (partition, conversation) = rest.split_once('.')?;
        placed(partition, conversation)
    }

    fn parse_as(&self, branch: &str, subject: &str) -> Option<Subject> {
        let rest = subject.strip_prefix(&self.prefix)?.strip_prefix('.')?;
        let (first, rest) = rest.split_once('.')?;
        let (partition, rest) = rest.split_once('.')?;
        if first == "log" && branch == "chat" {
            return Some(Subject { conversation: placed(partition, rest)?, who: Who::Log });
        }
        let (conversation, who) = rest.split_once('.')?;
        let who = Who::parse(who).filter(|who| *who != Who::Log)?;
        let conversation = placed(partition, conversation)?;
        (first == branch).then_some(Subject { conversation, who })
    }
}

/// The conversation, if the partition token is really its own.
fn placed(partition: &str, conversation: &str) -> Option<ConversationId> {
    let conversation = ConversationId::parse(conversation).ok()?;
    (conversation.partition().to_string() == partition).then_some(conversation)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subjects() -> Subjects {
        Subjects::new("yalo").unwrap()
    }

    #[test]
    fn every_record_subject_reads_back() {
        let conversation = ConversationId::new();
        for who in Who::ALL {
            let subject = subjects().record(conversation, who);
            assert_eq!(subjects().parse(&subject), Some(Subject { conversation, who }), "{subject}");
        }
    }

    #[test]
    fn a_foreign_subject_is_not_ours() {
        let conversation = ConversationId::parse("0198c0de-0000-7000-8000-000000000001").unwrap();
        let good = subjects().record(conversation, Who::User);
        assert_eq!(good, "yalo.chat.169.0198c0de-0000-7000-8000-000000000001.user");
        for bad in [
            good.replace("169", "7"),
            good.replace("169", "0169"),
            good.replace("user", "log"),
            good.replace("user", "nobody"),
            good.replace("yalo", "yalow"),
            good.replace("chat", "live"),
            format!("{good}.more"),
        ] {
            assert_eq!(subjects().parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = subjects().parse(&text);
            let _ = subjects().parse(&format!("yalo.chat.{text}"));
        }
    }
}
