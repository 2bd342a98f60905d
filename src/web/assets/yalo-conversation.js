/**
 * One conversation as a page shows it: stored messages in the order of record, text on its way, the answer that is being
 * written. Knows no transport; the client feeds it.
 */

import { utf8Bytes, utf8Prefix } from './yalo-ids.js';

/** @typedef {import('./yalo-outbox.js').Entry} Entry */

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string} conversation
 * @property {'user' | 'bot' | 'agent' | 'meta' | 'log'} who
 * @property {string} author
 * @property {string} kind
 * @property {string} [text]
 * @property {{ id: string, seq: number }} [reply_to]
 * @property {string} [bot]
 * @property {string} sent_at
 * @property {unknown} [data]
 * @property {number} seq
 * @property {string} at
 * @property {string} cursor
 */

/** @typedef {{ question: number, revision: number, text: string, bytes: number }} Draft */
/** @typedef {{ after: string, before: string }} Gap */

/** Fires `change` when messages or their states changed, `draft` when only the running answer grew. */
export class Conversation extends EventTarget {
  /** @type {string | null} Null until the server has opened it. */
  id;
  /** @type {string} This browser's own name for it. */
  local;
  /** @type {Message[]} By `seq`. */
  messages = [];
  /** @type {Entry[]} Not stored yet, oldest first. */
  pending = [];
  /** @type {string | null} Everything up to here has arrived: live reading goes on from here. */
  cursor = null;
  /** @type {string | null} Where older messages begin; null at the beginning. */
  previous = null;
  /** @type {'new' | 'waiting' | 'ready' | 'missing'} `missing`: the server knows no such conversation of ours. */
  state = 'new';
  /** @type {Gap[]} What could not be delivered and has to be fetched. */
  gaps = [];
  /** The server is there and cannot take what waits just now. */
  isHeldUp = false;
  /** How many views want it live. */
  holders = 0;

  /** @type {Set<number>} */
  #seen = new Set();
  /** @type {Set<number>} */
  #answered = new Set();
  /** @type {Set<number>} */
  #working = new Set();
  /** @type {Map<number, Draft>} */
  #drafts = new Map();

  /**
   * @param {string | null} id
   * @param {string} local
   */
  constructor(id, local) {
    super();
    this.id = id;
    this.local = local;
    if (id) this.state = 'waiting';
  }

  /**
   * Takes stored messages, in any order and as often as they come.
   * @param {Message[]} messages
   * @param {boolean} inOrder They came by a live watch or a page from the cursor on: nothing before them is missing.
   */
  add(messages, inOrder) {
    for (const message of messages) {
      if (!this.#seen.has(message.seq)) this.#insert(message);
      if (inOrder && message.seq > seqOf(this.cursor)) this.cursor = message.cursor;
    }
    if (messages.length > 0) this.changed();
  }

  /** @param {Message} message */
  #insert(message) {
    this.#seen.add(message.seq);
    let index = this.messages.length;
    while (index > 0 && (this.messages[index - 1]?.seq ?? 0) > message.seq) index -= 1;
    this.messages.splice(index, 0, message);
    this.pending = this.pending.filter((entry) => entry.id !== message.id);
    if (message.reply_to) {
      this.#answered.add(message.reply_to.seq);
      this.#working.delete(message.reply_to.seq);
      this.#drafts.delete(message.reply_to.seq);
    }
  }

  /** @param {{ reply_to: { seq: number } }} frame */
  works(frame) {
    if (this.#answered.has(frame.reply_to.seq) || this.#working.has(frame.reply_to.seq)) return;
    this.#working.add(frame.reply_to.seq);
    this.changed();
  }

  /**
   * A piece of the running answer. Pieces can be lost or come twice; a snapshot from offset 0 heals everything.
   * @param {{ reply_to: { seq: number }, revision: number, offset: number, text: string }} frame
   */
  drafted(frame) {
    const question = frame.reply_to.seq;
    if (this.#answered.has(question)) return;
    let draft = this.#drafts.get(question);
    if (draft && frame.revision < draft.revision) return;
    if (!draft || frame.revision > draft.revision) draft = { question, revision: frame.revision, text: '', bytes: 0 };
    if (frame.offset > draft.bytes) return;
    const kept = frame.offset === draft.bytes ? draft.text : utf8Prefix(draft.text, frame.offset);
    const text = kept + frame.text;
    const bytes = frame.offset + utf8Bytes(frame.text);
    // A snapshot that is late must not take back what was read already.
    if (bytes < draft.bytes && draft.text.startsWith(text)) return;
    this.#drafts.set(question, { ...draft, text, bytes });
    this.dispatchEvent(new Event('draft'));
  }

  /** The answer that is being written to the newest open question. */
  get draft() {
    return [...this.#drafts.values()].sort((left, right) => right.question - left.question)[0] ?? null;
  }

  /** Whether a bot is at work on something that is not answered. */
  get isWorking() {
    return this.#working.size > 0 || this.#drafts.size > 0;
  }

  /** The link is gone: what was being written will be told anew. */
  forgetDrafts() {
    this.#working.clear();
    this.#drafts.clear();
    this.changed();
  }

  /** @param {number} seq */
  isAnswered(seq) {
    return this.#answered.has(seq);
  }

  /** The first words, for lists. */
  get title() {
    const said = this.messages.find((message) => message.who === 'user' && message.text)?.text ?? this.pending[0]?.text;
    return said ? said.trim().replace(/\s+/g, ' ').slice(0, 80) : '';
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }
}

/**
 * The sequence in a cursor; only for comparing positions that the server gave.
 * @param {string | null} cursor
 */
export function seqOf(cursor) {
  return cursor === null ? -1 : Number(cursor.slice(cursor.indexOf('-') + 1));
}
