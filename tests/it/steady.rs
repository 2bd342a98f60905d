//! People who follow the protocol while processes and servers come and go: nothing but the protocol, and it is enough.
//!
//! - A request that got no answer, 202 (stored, the answer is late) or 503 is sent again, with the same id, after
//!   `Retry-After`, at the next frontend. Anything else is a failed request and fails the test.
//! - A reader that lost its connection resumes by its cursor at the next frontend, over events, a socket or pages.

mod reader;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::reader::{Reader, Way};
use crate::client::{Api, Call, new_id, text};
use crate::harness::{PATIENCE, Place, eventually};
use crate::replay::proof::{Talk, Turn};

/// How many talk.
const PEOPLE: usize = 6;
/// Between two turns of one person.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls several frontends as one person.
struct Caller {
    frontends: Vec<Api>,
    now: usize,
    /// What was sent again.
    again: usize,
    /// What the last request got that has to be sent again.
    trouble: Trouble,
}

/// Nothing, while all goes well.
type Trouble = Rc<RefCell<Option<String>>>;

impl Caller {
    /// A guest with a conversation and the cursor of its beginning.
    async fn arrive(place: &Place, first: usize, trouble: Trouble) -> (Self, String, String) {
        let api = Api::connect(&place.frontends[0]).await;
        let frontends = place.frontends.iter().map(|base| api.at(base)).collect();
        let mut caller = Self { frontends, now: first, again: 0, trouble };
        let opened = caller.post("/v1/conversations", &json!({})).await;
        let token = text(&opened, "token");
        caller.frontends.iter_mut().for_each(|api| *api = api.with_token(&token));
        (caller, text(&opened, "conversation"), text(&opened, "cursor"))
    }

    fn api(&self) -> &Api {
        &self.frontends[self.now % self.frontends.len()]
    }

    /// Sends the same until it is done.
    async fn post(&mut self, path: &str, body: &Value) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.api().try_post(path, body).await;
            let last = match &answer {
                Ok(answer) if matches!(answer.status, 200 | 201) => {
                    self.trouble.take();
                    return answer.body.clone();
                }
                Ok(answer) => format!("{} {}", answer.status, answer.body),
                Err(error) => format!("{error:?}"),
            };
            assert!(Instant::now() < end, "{path}: nobody does {body}: {last}");
            self.trouble.replace(Some(format!("frontend {}: {last}", self.now % self.frontends.len())));
            self.again += 1;
            self.now += 1;
            tokio::time::sleep(pause(answer.ok().as_ref())).await;
        }
    }

    /// One turn: a question with an id of its own, and its answer.
    async fn turn(&mut self, conversation: &str, words: &str) -> Turn {
        let id = new_id();
        let body = json!({"text": words, "id": id, "conversation": conversation});
        let said = self.post("/v1/chat", &body).await;
        assert_eq!((&said["message"]["text"], &said["answer"]["text"]), (&json!(words), &json!(words)), "{said}");
        Turn { id, question: said["message"].clone(), answer: said["answer"].clone() }
    }
}

/// How long the answer says to wait before the next try.
fn pause(answer: Option<&crate::client::Answer>) -> Duration {
    let Some(answer) = answer else { return Duration::from_millis(100) };
    match answer.status {
        202 => Duration::from_millis(50),
        503 => {
            let seconds = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            Duration::from_secs(seconds)
        }
        status => panic!("a failed request: {status} {}", answer.body),
    }
}

/// Everybody who talks.
pub(crate) struct Crowd {
    turns: Vec<Cell<usize>>,
    troubles: Vec<Trouble>,
    slowest: Cell<Duration>,
    again: Cell<usize>,
    readers: Cell<usize>,
    end: CancellationToken,
    /// Wakes readers that should begin again.
    resume: tokio::sync::Notify,
}

impl Crowd {
    /// Every reader begins again from its cursor, at the next frontend.
    pub(crate) fn resume(&self) {
        self.resume.notify_waiters();
    }

    /// Everybody has made some turns more.
    pub(crate) async fn goes_on(&self, limit: Duration, after: &str) {
        let begun = Instant::now();
        let before: Vec<usize> = self.turns.iter().map(Cell::get).collect();
        let waiting = |person: &usize| self.turns[*person].get() < before[*person] + 3;
        while let Some(person) = (0..before.len()).find(waiting) {
            assert!(
                begun.elapsed() < limit,
                "after {after} person {person} made {} turns in {limit:?}, and got {:?}",
                self.turns[person].get() - before[person],
                self.troubles[person].borrow()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{after}: everybody goes on after {:?}", begun.elapsed());
    }

    /// One person until the end, and its reader until that has read all of it.
    async fn person(&self, place: &Place, number: usize) -> Talk {
        let (mut caller, conversation, cursor) = Caller::arrive(place, number, Rc::clone(&self.troubles[number])).await;
        let (seen, finished) = (RefCell::new(Vec::new()), CancellationToken::new());
        let way = [Way::Events, Way::Socket, Way::Pages][number % 3];
        let mut reader = Reader::new(way, caller.frontends.clone(), &conversation, &cursor);
        let mut talk = Talk { file: format!("person {number}"), conversation: Some(conversation), turns: Vec::new() };
        let talking = async {
            while !self.end.is_cancelled() {
                let begun = Instant::now();
                let words = format!("{number}/{}", talk.turns.len());
                talk.turns.push(caller.turn(talk.conversation.as_ref().unwrap(), &words).await);
                self.turns[number].set(talk.turns.len());
                self.slowest.set(self.slowest.get().max(begun.elapsed()));
                tokio::time::sleep(PAUSE).await;
            }
            let turns = talk.turns.iter();
            let all: Vec<Value> = turns.flat_map(|turn| [turn.question.clone(), turn.answer.clone()]).collect();
            eventually(PATIENCE, &format!("{way:?} brings everything"), async || {
                (seen.borrow().len() >= all.len()).then_some(())
            })
            .await;
            let seen = seen.borrow();
            if let Some(place) = (0..all.len()).find(|place| seen[*place] != all[*place]) {
                panic!("{way:?} brings {} in place of {}", seen[place], all[place]);
            }
            assert_eq!(seen.len(), all.len(), "{way:?}");
            finished.cancel();
        };
        let reading = finished.run_until_cancelled(reader.read(&seen, &self.resume));
        tokio::join!(talking, reading);
        self.again.set(self.again.get() + caller.again);
        self.readers.set(self.readers.get() + reader.resumed());
        talk
    }
}

/// Everybody talks while `faults` happen; what they saw.
pub(crate) async fn through(place: &Place, faults: impl AsyncFnOnce(&Crowd)) -> Vec<Talk> {
    let crowd = Crowd {
        turns: vec![Cell::new(0); PEOPLE],
        troubles: std::iter::repeat_with(Trouble::default).take(PEOPLE).collect(),
        slowest: Cell::default(),
        again: Cell::default(),
        readers: Cell::default(),
        end: CancellationToken::new(),
        resume: tokio::sync::Notify::new(),
    };
    let talking = join_all((0..PEOPLE).map(|number| crowd.person(place, number)));
    let (talks, ()) = tokio::join!(talking, async {
        crowd.goes_on(PATIENCE, "the start").await;
        faults(&crowd).await;
        crowd.end.cancel();
    });
    let turns: usize = talks.iter().map(|talk| talk.turns.len()).sum();
    let (slowest, again, resumed) = (crowd.slowest.get(), crowd.again.get(), crowd.readers.get());
    println!("{turns} turns, the slowest took {slowest:?}; {again} sent again, {resumed} readers resumed");
    talks
}
