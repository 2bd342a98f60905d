//! Messages like those of a busy day of chat: a million of them over 24 hours in 10,000 conversations, of which some
//! (1000, unless said otherwise) are active at a time. Message `i` is the same whatever is made around it, so that two programs can work on the same.

use sha2::{Digest, Sha256};

const CONVERSATIONS: u64 = 10_000;
/// How many conversations are active at a time, and after how many messages others are.
const ACTIVE: u64 = 1000;
const SHIFT: u64 = 20_000;
/// Midnight, so that the time of day needs no calendar.
const DAY: &str = "2025-11-14";
const DAY_MS: u64 = 1_763_078_400_000;

/// A message as it is published, and what a store keeps of it.
#[derive(Debug, Clone)]
pub struct Message {
    pub seq: i64,
    pub at_ns: i64,
    pub conversation: [u8; 16],
    pub id: [u8; 16],
    /// 0 user, 1 bot.
    pub who: u8,
    pub author: String,
    pub subject: String,
    pub payload: Vec<u8>,
}

impl Message {
    /// What yalo keeps of it.
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.subject, self.seq, self.at_ns, &self.payload)
    }
}

/// SHA-256 of subject, NUL, sequence, time, payload.
pub fn digest(subject: &str, seq: i64, at_ns: i64, payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(subject.as_bytes());
    hash.update([0]);
    hash.update(seq.to_be_bytes());
    hash.update(at_ns.to_be_bytes());
    hash.update(payload);
    hash.finalize().into()
}

/// The subject that a message of this conversation and side is published on.
pub fn subject(conversation: &[u8; 16], who: u8) -> String {
    let text = hyphenated(conversation);
    let side = if who == 1 { "bot" } else { "user" };
    format!("yalo.chat.{}.{text}.{side}", crc32fast::hash(text.as_bytes()) % 256)
}

/// Makes the messages one after the other. `Owners` says which conversation the message of a number belongs to, given a
/// random number.
#[derive(Debug)]
pub struct Messages<Owners = Shifting> {
    words: Vec<String>,
    owners: Owners,
    next: u64,
}

/// Which conversation a message belongs to.
pub trait Owner {
    /// The conversation's number, of the message's and a random one.
    fn of(&mut self, number: u64, random: u64) -> u64;
}

impl<Owners: FnMut(u64, u64) -> u64> Owner for Owners {
    fn of(&mut self, number: u64, random: u64) -> u64 {
        self(number, random)
    }
}

/// So many conversations are active at a time, and others later.
#[derive(Debug)]
pub struct Shifting {
    active: u64,
}

impl Owner for Shifting {
    fn of(&mut self, number: u64, random: u64) -> u64 {
        (number / SHIFT * self.active + random % self.active) % CONVERSATIONS
    }
}

/// The id of the conversation of this number, as text.
pub fn named(owner: u64) -> String {
    hyphenated(&uuid(DAY_MS, owner))
}

impl Default for Messages {
    fn default() -> Self {
        Self::with_active(ACTIVE)
    }
}

impl<Owners: Owner> Iterator for Messages<Owners> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let number = self.next;
        self.next += 1;
        let mut random = Random::new(number + 1_000_003);
        let owner = self.owners.of(number, random.next());
        let ms = DAY_MS + number * 86_400_000 / 1_000_000;
        let who = u8::from(number % 2 == 1);
        let conversation = uuid(DAY_MS, owner);
        let id = uuid(ms, number);
        let author = if who == 1 { "echo".to_owned() } else { format!("guest-{owner:05}") };
        let text = self.text(&mut random);
        let (conversation_text, id_text) = (hyphenated(&conversation), hyphenated(&id));
        let side = if who == 1 { "bot" } else { "user" };
        let payload = format!(
            "{{\"v\":1,\"id\":\"{id_text}\",\"conversation\":\"{conversation_text}\",\"who\":\"{side}\",\
             \"author\":\"{author}\",\"kind\":\"text\",\"text\":\"{text}\",\"sent_at\":\"{}\"}}",
            time_of_day(ms)
        );
        Some(Message {
            seq: i64::try_from(number).ok()? + 1,
            at_ns: i64::try_from(ms * 1_000_000).ok()?,
            conversation,
            id,
            who,
            author,
            subject: subject(&conversation, who),
            payload: payload.into_bytes(),
        })
    }
}

impl Messages {
    /// The same with so many conversations active at a time; with 10,000, all of them at random.
    pub fn with_active(active: u64) -> Self {
        Self { words: vocabulary(), owners: Shifting { active: active.clamp(1, CONVERSATIONS) }, next: 0 }
    }
}

impl<Owners: Owner> Messages<Owners> {
    /// The same in other conversations.
    pub fn with_owners(owners: Owners) -> Self {
        Self { words: vocabulary(), owners, next: 0 }
    }

    /// 90 to 150 letters of words whose frequency is close to that of a language.
    fn text(&self, random: &mut Random) -> String {
        let wanted = 90 + usize::try_from(random.next() % 60).unwrap_or(0);
        let mut text = String::with_capacity(wanted + 12);
        while text.len() < wanted {
            let rank = (self.words.len() as f64).powf(random.unit()) as usize - 1;
            text.push_str(&self.words[rank.min(self.words.len() - 1)]);
            text.push(' ');
        }
        text
    }
}

fn vocabulary() -> Vec<String> {
    let syllables =
        ["ka", "lo", "mi", "ter", "an", "so", "ve", "ri", "du", "pen", "gra", "o", "shi", "tan", "el", "mor"];
    let mut random = Random::new(5);
    let mut seen = std::collections::HashSet::new();
    let mut words = Vec::new();
    while words.len() < 20_000 {
        let count = 2 + random.next() % 4;
        let word: String = (0..count).map(|_| syllables[(random.next() % 16) as usize]).collect();
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// A version 7 UUID that depends on nothing but its arguments.
fn uuid(ms: u64, number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    bytes[6..8].copy_from_slice(&(0x7000 | (number as u16 & 0xfff)).to_be_bytes());
    bytes[8..].copy_from_slice(&((Random::new(number.wrapping_add(77)).next() >> 2) | (1 << 63)).to_be_bytes());
    bytes
}

fn hyphenated(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn time_of_day(ms: u64) -> String {
    let (seconds, ms) = (ms % 86_400_000 / 1000, ms % 1000);
    format!("{DAY}T{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// xorshift64*: the same numbers on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
