/**
 * `YaloClient`: keeps one link to the server, sends what is in the outbox until it is stored, and feeds conversations.
 *
 * ```js
 * const client = new YaloClient();
 * const conversation = client.conversation(null);
 * conversation.addEventListener('change', () => console.log(conversation.messages));
 * client.hold(conversation);
 * client.say(conversation, 'hello');
 * ```
 */

import { Conversation, seqOf } from './yalo-conversation.js';
import { Refusal, request, Unreachable } from './yalo-http.js';
import { cleanText, uuid7 } from './yalo-ids.js';
import { HttpLink, SocketLink } from './yalo-links.js';
import { Outbox } from './yalo-outbox.js';

/** @typedef {import('./yalo-outbox.js').Entry} Entry */
/** @typedef {import('./yalo-conversation.js').Message} Message */
/** @typedef {import('./yalo-conversation.js').Gap} Gap */
/** @typedef {SocketLink | HttpLink} Link */

/**
 * @typedef {object} Options
 * @property {string} [url] The frontend; where this module came from when absent.
 * @property {string} [bot] Who should answer.
 * @property {string} [token] Of a person who is signed in elsewhere. Absent: a guest, remembered by this browser.
 */

const PAGE = 50;
const SLOWEST_MS = 20_000;
/** A link that lived this long was a good one: the next failure starts counting anew. */
const STEADY_MS = 5_000;
const SOCKET_TRIES = 4;

/** Fires `link` when `link` or `notice` changed, `known` when the list of own conversations did. */
export class YaloClient extends EventTarget {
  /** @type {'idle' | 'connecting' | 'online' | 'waiting'} */
  link = 'idle';
  /** @type {'socket' | 'http' | null} */
  kind = null;
  /** @type {'' | 'new_guest' | 'signed_out'} What the person should know about who they are. */
  notice = '';
  /** @type {string} */
  base;
  outbox;

  #bot;
  #fixedToken;
  /** @type {Link | null} */
  #link = null;
  #failures = 0;
  #socketFailures = 0;
  #hadSocket = false;
  #skewMs = 0;
  #running = false;
  #wake = () => {};
  /** @type {Map<string, Conversation>} By its local name and, once known, by its id. */
  #conversations = new Map();
  /** @type {Set<Conversation>} Those whose outbox is being sent just now. */
  #sending = new Set();

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    this.base = new URL('./', new URL(options.url ?? import.meta.url, location.href)).href;
    this.#bot = options.bot;
    this.#fixedToken = options.token ?? null;
    const here = this.base === new URL('/', location.href).href;
    this.outbox = new Outbox(here ? 'yalo.' : `yalo.${this.base}.`);
    for (const entry of this.outbox.entries()) {
      const conversation = this.conversation(entry.conversation ?? entry.local);
      conversation.pending.push(entry);
    }
    window.addEventListener('online', () => this.retryNow());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.retryNow());
    window.addEventListener('storage', (event) => this.#onStorage(event));
  }

  /** Connects, and stays connected until `stop`. */
  start() {
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  /** Ends the link. What is in the outbox stays there. */
  stop() {
    this.#running = false;
    this.#link?.close();
    this.#wake();
  }

  /** Tries at once instead of waiting on. */
  retryNow() {
    this.#wake();
  }

  /**
   * The one object of a conversation.
   * @param {string | null} name Its id, the local name of one that is not open yet, or null for a new one.
   * @returns {Conversation}
   */
  conversation(name) {
    const known = name === null ? undefined : this.#conversations.get(name);
    if (known) return known;
    const isLocal = name === null || name.startsWith('new-');
    const local = isLocal ? (name ?? `new-${uuid7(Date.now())}`) : name;
    const conversation = new Conversation(isLocal ? null : name, local);
    this.#conversations.set(local, conversation);
    return conversation;
  }

  /** A conversation that was begun without a connection and has text waiting. */
  unopened() {
    return [...this.#conversations.values()].find((one) => one.id === null && one.pending.length > 0) ?? null;
  }

  /**
   * Wants a conversation live; pair with `release`.
   * @param {Conversation} conversation
   */
  hold(conversation) {
    conversation.holders += 1;
    if (conversation.holders === 1) void this.#follow(conversation);
  }

  /** @param {Conversation} conversation */
  release(conversation) {
    conversation.holders -= 1;
    if (conversation.holders > 0 || !conversation.id) return;
    this.#link?.unwatch(conversation.id).catch(() => {});
    conversation.forgetDrafts();
  }

  /**
   * Says something. It is in the outbox when this returns.
   * @param {Conversation} conversation
   * @param {string} text
   */
  say(conversation, text) {
    /** @type {Entry} */
    const entry = {
      id: uuid7(Date.now() + this.#skewMs),
      local: conversation.local,
      conversation: conversation.id,
      text: cleanText(text),
      made: Date.now(),
      uncertain: false,
      ...(this.#bot ? { bot: this.#bot } : {}),
    };
    this.outbox.save(entry);
    conversation.pending.push(entry);
    conversation.changed();
    void this.#deliver(conversation);
  }

  /**
   * Sends a refused message once more, as a new one.
   * @param {Conversation} conversation
   * @param {Entry} entry
   */
  sayAgain(conversation, entry) {
    this.discard(conversation, entry);
    this.say(conversation, entry.text);
  }

  /**
   * @param {Conversation} conversation
   * @param {Entry} entry
   */
  discard(conversation, entry) {
    this.outbox.remove(entry.id);
    conversation.pending = conversation.pending.filter((other) => other !== entry);
    conversation.changed();
  }

  /**
   * Stops the answer that is being written.
   * @param {Conversation} conversation
   */
  async stopAnswer(conversation) {
    if (conversation.id) await this.#link?.stop(conversation.id);
  }

  /**
   * One page of older messages.
   * @param {Conversation} conversation
   */
  async older(conversation) {
    if (!conversation.id || !conversation.previous) return;
    const page = await this.#page(conversation.id, { before: conversation.previous, limit: String(PAGE) });
    conversation.previous = page.previous;
    conversation.add(page.messages, false);
  }

  /**
   * One page of one's own conversations, newest first.
   * @param {string | null} [before]
   * @returns {Promise<{ conversations: any[], next: string | null }>}
   */
  async list(before = null) {
    if (!this.token) return { conversations: [], next: null };
    const query = new URLSearchParams({ limit: '30', ...(before ? { before } : {}) });
    return request(`${this.base}v1/conversations?${query}`, { token: this.token });
  }

  /** @returns {string | null} */
  get token() {
    return this.#fixedToken ?? this.outbox.get('token');
  }

  // The link ------------------------------------------------------------------------------------------------------

  async #run() {
    while (this.#running) {
      this.#become('connecting');
      let began = 0;
      try {
        const { closed } = await this.#connect();
        began = Date.now();
        this.#become('online');
        for (const conversation of new Set(this.#conversations.values())) {
          void this.#follow(conversation);
          void this.#deliver(conversation);
        }
        await closed;
      } catch (error) {
        if (error instanceof Refusal && error.status === 401 && this.#forgetToken()) continue;
      }
      this.#link = null;
      for (const conversation of new Set(this.#conversations.values())) conversation.forgetDrafts();
      if (!this.#running) break;
      this.#failures = began > 0 && Date.now() - began > STEADY_MS ? 0 : this.#failures + 1;
      this.#become('waiting');
      await this.#pause(backOff(this.#failures));
    }
    this.#become('idle');
  }

  /** @returns {Promise<{ closed: Promise<void> }>} Connected; `closed` when that is over. */
  async #connect() {
    if (this.token) return this.#connectWith(this.token);
    // Without a token the first hello makes a guest: one tab at a time, or each tab would be another person.
    return this.outbox.alone('token', () => this.#connectWith(this.token));
  }

  /**
   * @param {string | null} token
   * @returns {Promise<{ closed: Promise<void> }>}
   */
  async #connectWith(token) {
    let over = () => {};
    /** @type {Promise<void>} */
    const closed = new Promise((resolve) => {
      over = resolve;
    });
    const hooks = { push: (/** @type {any} */ frame) => this.#take(frame), closed: () => over() };
    let link;
    try {
      link = await SocketLink.connect(this.base, token, hooks);
      this.#socketFailures = 0;
      this.#hadSocket = true;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      this.#socketFailures += 1;
      // Sockets worked before, so the server is away for a moment: better wait for one than go on without.
      if (this.#hadSocket && this.#socketFailures < SOCKET_TRIES) throw error;
      // A network that allows no sockets is recognised by plain requests getting through.
      link = await HttpLink.connect(this.base, token, hooks);
    }
    this.#link = link;
    this.kind = /** @type {'socket' | 'http'} */ (link.kind);
    if (link.welcome.token) this.#keepToken(link.welcome.token);
    if (link.welcome.server_time) this.#setClock(link.welcome.server_time);
    // Wrapped, since a promise inside a promise would be awaited along with it.
    return { closed };
  }

  /** @param {string} token */
  #keepToken(token) {
    if (!this.#fixedToken) this.outbox.set('token', token);
  }

  /** @returns {boolean} Whether to go on as a new guest. */
  #forgetToken() {
    if (this.#fixedToken || !this.outbox.get('token')) {
      this.notice = 'signed_out';
      this.#running = false;
      return true;
    }
    this.outbox.set('token', null);
    this.notice = 'new_guest';
    return true;
  }

  /** @param {string} serverTime */
  #setClock(serverTime) {
    const skewMs = Date.parse(serverTime) - Date.now();
    // Small differences are the way of the answer itself.
    if (Number.isFinite(skewMs)) this.#skewMs = Math.abs(skewMs) > 5000 ? skewMs : 0;
  }

  /** @param {any} frame */
  #take(frame) {
    const id = frame.conversation ?? frame.message?.conversation;
    const conversation = id ? this.#conversations.get(id) : undefined;
    if (frame.type === 'bye') this.#link?.close();
    if (!conversation) return;
    if (frame.type === 'message') this.#arrived(conversation, [frame.message]);
    else if (frame.type === 'draft') conversation.drafted(frame);
    else if (frame.type === 'working') conversation.works(frame);
    else if (frame.type === 'gap') {
      conversation.gaps.push({ after: frame.after, before: frame.before });
      void this.#fillGaps(conversation);
    }
  }

  /**
   * @param {Conversation} conversation
   * @param {Message[]} messages
   */
  #arrived(conversation, messages) {
    for (const message of messages) this.outbox.remove(message.id);
    conversation.add(messages, true);
    this.#know(conversation);
  }

  /** @param {Conversation} conversation */
  #know(conversation) {
    const last = conversation.messages.at(-1);
    if (!conversation.id || !last || !conversation.title) return;
    const known = this.outbox.known().find((one) => one.conversation === conversation.id);
    // A page of a long conversation does not hold its first words: what was known stays.
    const title = conversation.previous === null ? conversation.title : (known?.title ?? conversation.title);
    if (known && known.at >= last.at && known.title === title) return;
    this.outbox.know({ conversation: conversation.id, title, at: last.at });
    this.dispatchEvent(new Event('known'));
  }

  /** @param {'idle' | 'connecting' | 'online' | 'waiting'} state */
  #become(state) {
    this.link = state;
    this.dispatchEvent(new Event('link'));
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // Reading -------------------------------------------------------------------------------------------------------

  /**
   * Brings a wanted conversation up to now and keeps it live, as long as this link lasts.
   * @param {Conversation} conversation
   */
  async #follow(conversation) {
    const link = this.#link;
    const id = conversation.id;
    if (!link || !id || conversation.holders < 1 || conversation.state === 'missing') return;
    for (let failures = 0; this.#link === link && conversation.holders > 0; failures += 1) {
      try {
        if (conversation.state === 'waiting') {
          const page = await this.#page(id, { limit: String(PAGE) });
          conversation.previous = page.previous;
          conversation.cursor = page.next;
          conversation.state = 'ready';
          this.#arrived(conversation, page.messages);
          conversation.changed();
        }
        await link.watch(id, conversation.cursor);
        await this.#fillGaps(conversation);
        return;
      } catch (error) {
        if (error instanceof Refusal && error.status === 401) return link.close();
        if (error instanceof Refusal && !error.passing) {
          if (error.code === 'not_found' || error.code === 'invalid_id') conversation.state = 'missing';
          conversation.changed();
          return;
        }
        await sleep(backOff(failures));
      }
    }
  }

  /** @param {Conversation} conversation */
  async #fillGaps(conversation) {
    const link = this.#link;
    for (let failures = 0; conversation.gaps.length > 0 && this.#link === link && link; failures += 1) {
      const gap = /** @type {Gap} */ (conversation.gaps[0]);
      try {
        await this.#fillGap(conversation, gap);
        conversation.gaps = conversation.gaps.filter((other) => other !== gap);
        conversation.changed();
      } catch {
        await sleep(backOff(failures));
      }
    }
  }

  /**
   * @param {Conversation} conversation
   * @param {Gap} gap
   */
  async #fillGap(conversation, gap) {
    let after = gap.after;
    while (conversation.id && seqOf(after) < seqOf(gap.before)) {
      const page = await this.#page(conversation.id, { after, limit: '200' });
      conversation.add(page.messages, false);
      if (page.messages.length === 0 || !page.next || page.next === after) return;
      after = page.next;
    }
  }

  /**
   * @param {string} id
   * @param {Record<string, string>} query
   * @returns {Promise<{ messages: Message[], next: string | null, previous: string | null }>}
   */
  #page(id, query) {
    return request(`${this.base}v1/conversations/${id}/messages?${new URLSearchParams(query)}`, { token: this.token });
  }

  // Sending -------------------------------------------------------------------------------------------------------

  /**
   * Sends what waits in a conversation, one after the other, until all of it is stored or the link is gone.
   * @param {Conversation} conversation
   */
  async #deliver(conversation) {
    if (this.#sending.has(conversation)) return;
    this.#sending.add(conversation);
    let failures = 0;
    try {
      for (let entry = nextEntry(conversation); entry && this.#link; entry = nextEntry(conversation)) {
        try {
          await this.#deliverOne(conversation, entry, this.#link);
          failures = 0;
          conversation.isHeldUp = false;
        } catch (error) {
          failures += 1;
          if (error instanceof Refusal && error.status === 401) return this.#link?.close();
          if (error instanceof Refusal && !error.passing) this.#refused(conversation, entry, error, failures);
          else if (error instanceof Refusal) await this.#heldUp(conversation, Math.max(error.retryAfterMs, backOff(failures)));
          else if (error instanceof Unreachable) return;
          else throw error;
        }
      }
    } finally {
      this.#sending.delete(conversation);
    }
  }

  /**
   * The server is there and cannot take the message just now.
   * @param {Conversation} conversation
   * @param {number} ms
   */
  async #heldUp(conversation, ms) {
    conversation.isHeldUp = true;
    conversation.changed();
    await sleep(ms);
  }

  /**
   * @param {Conversation} conversation
   * @param {Entry} entry
   * @param {Link} link
   */
  async #deliverOne(conversation, entry, link) {
    if (!conversation.id) await this.outbox.alone(`open.${conversation.local}`, () => this.#open(conversation, link));
    if (!this.outbox.holds(entry.id)) {
      // Another tab has sent it; the watch brings it here.
      conversation.pending = conversation.pending.filter((other) => other !== entry);
      conversation.changed();
      return;
    }
    const id = /** @type {string} */ (conversation.id);
    this.outbox.save(entry);
    let accepted;
    try {
      accepted = await link.send(id, entry);
    } catch (error) {
      if (error instanceof Unreachable) {
        entry.uncertain = true;
        if (this.outbox.holds(entry.id)) this.outbox.save(entry);
      }
      throw error;
    }
    this.outbox.remove(entry.id);
    /** @type {Message} */
    const message = {
      id: entry.id,
      conversation: id,
      who: 'user',
      author: '',
      kind: 'text',
      text: entry.text,
      sent_at: new Date(entry.made).toISOString(),
      seq: accepted.seq,
      at: accepted.at,
      cursor: accepted.cursor,
    };
    // Not in order: an answer with a lower sequence may still be on its way to this watch.
    conversation.add([message], false);
    this.#know(conversation);
  }

  /**
   * @param {Conversation} conversation
   * @param {Link} link
   */
  async #open(conversation, link) {
    const byOtherTab = this.outbox.get(`opened.${conversation.local}`);
    if (byOtherTab) {
      this.#named(conversation, byOtherTab, 'waiting');
    } else {
      const opened = await link.open(this.#bot);
      if (opened.token) this.#keepToken(opened.token);
      this.outbox.set(`opened.${conversation.local}`, opened.conversation);
      conversation.cursor = opened.cursor;
      this.#named(conversation, opened.conversation, 'ready');
    }
    await this.#follow(conversation);
  }

  /**
   * @param {Conversation} conversation
   * @param {string} id
   * @param {'waiting' | 'ready'} state
   */
  #named(conversation, id, state) {
    conversation.id = id;
    conversation.state = state;
    this.#conversations.set(id, conversation);
    for (const entry of conversation.pending) {
      entry.conversation = id;
      if (this.outbox.holds(entry.id)) this.outbox.save(entry);
    }
    conversation.changed();
  }

  /**
   * @param {Conversation} conversation
   * @param {Entry} entry
   * @param {Refusal} refusal
   * @param {number} times
   */
  #refused(conversation, entry, refusal, times) {
    const { code, server_time: serverTime } = refusal.problem;
    const isClock = code === 'id_in_future' || code === 'id_too_old';
    if (serverTime && isClock) this.#setClock(serverTime);
    // An id that was refused for its time was never stored, unless an earlier attempt went unanswered.
    if (isClock && serverTime && times <= 2 && (code === 'id_in_future' || !entry.uncertain)) {
      this.outbox.remove(entry.id);
      entry.id = uuid7(Date.now() + this.#skewMs);
      this.outbox.save(entry);
      return;
    }
    entry.failed = refusal.problem;
    this.outbox.save(entry);
    conversation.changed();
  }

  /** @param {StorageEvent} event */
  #onStorage(event) {
    const key = this.outbox.ownKey(event.key);
    if (key === 'known') this.dispatchEvent(new Event('known'));
    if (!key?.startsWith('opened.') || !event.newValue) return;
    const conversation = this.#conversations.get(key.slice('opened.'.length));
    if (!conversation || conversation.id) return;
    this.#named(conversation, event.newValue, 'waiting');
    void this.#follow(conversation);
  }
}

/** @param {Conversation} conversation */
function nextEntry(conversation) {
  return conversation.pending.find((entry) => !entry.failed);
}

/**
 * Doubles up to a limit, and spreads, so that a restarted server is not met by everyone at once.
 * @param {number} failures
 */
function backOff(failures) {
  const most = Math.min(SLOWEST_MS, 400 * 2 ** Math.min(failures, 10));
  return most / 2 + (Math.random() * most) / 2;
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
