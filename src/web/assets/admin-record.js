/** The record: the list of conversations, one transcript in full, and single entries with all their details. */

import { api } from './admin-api.js';
import { button, failureNote, make, plain, time } from './admin-dom.js';

/** @typedef {import('./admin-api.js').Entry} Entry */
/** @typedef {import('./admin-api.js').Summary} Summary */
/** @typedef {import('./admin-api.js').Page} Page */

const PAGE = '50';

/**
 * How many messages there are, where the store counts them.
 * @param {number | null} messages
 */
function many(messages) {
  return messages === null ? '' : `, ${plain(messages)} ${messages === 1 ? 'message' : 'messages'}`;
}

/**
 * One entry as a line that opens.
 * @param {Entry} entry
 * @param {boolean} [withConversation]
 */
export function drawEntry(entry, withConversation = false) {
  const words = make('span', { class: 'words', dir: 'auto' });
  if (entry.raw !== undefined) words.append(make('span', { class: 'tag' }, 'not readable'));
  else if (entry.text !== undefined) words.append(entry.text);
  if (entry.kind && entry.kind !== 'text') words.prepend(make('span', { class: 'tag' }, entry.kind), ' ');
  const who = make('span', { class: 'who', dir: 'auto', title: entry.author ?? '' }, entry.who === 'bot' ? (entry.author ?? '') : (entry.who ?? 'unknown'));
  const line = make('summary', {}, make('span', { class: 'number soft' }, String(entry.seq)), time(entry.at), who, words);
  const element = make('details', { class: `entry ${entry.who ?? ''}`, 'data-seq': String(entry.seq) }, line);
  // Details are drawn when they are looked at: a long transcript stays light.
  element.addEventListener('toggle', () => {
    if (element.open && element.children.length === 1) element.append(facts(entry, withConversation));
  });
  return element;
}

/**
 * @param {Entry} entry
 * @param {boolean} withConversation
 */
function facts(entry, withConversation) {
  const list = make('dl', { class: 'facts' });
  /** @param {string} name @param {Node | string | undefined} value */
  const fact = (name, value) => {
    if (value !== undefined) list.append(make('dt', {}, name), make('dd', {}, value));
  };
  const code = (/** @type {string | undefined} */ text) => (text === undefined ? undefined : make('code', {}, text));
  fact('Sequence', make('a', { href: `#/m/${entry.seq}` }, code(String(entry.seq)) ?? ''));
  fact('Message id', code(entry.id));
  if (withConversation && entry.conversation) fact('Conversation', make('a', { href: `#/c/${entry.conversation}/${entry.seq}` }, entry.conversation));
  fact('Stored at', code(entry.at));
  fact('Sent at', code(entry.sent_at));
  fact('Author', entry.author);
  fact('Bot', entry.bot);
  if (entry.reply_to) fact('Answers', make('a', { href: `#/m/${entry.reply_to.seq}` }, `sequence ${entry.reply_to.seq}`));
  fact('Cursor', code(entry.cursor));
  fact('Subject', code(entry.subject));
  if (entry.data !== undefined) fact('Data', make('pre', {}, JSON.stringify(entry.data, null, 2)));
  if (entry.raw !== undefined) fact('Payload', make('pre', { dir: 'auto' }, readable(entry.raw)));
  fact('As JSON', make('pre', {}, JSON.stringify(entry, null, 2)));
  return list;
}

/**
 * The bytes of an unreadable row as far as they are text.
 * @param {string} base64
 */
function readable(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}

/** The list at the side, and the transcript of the chosen one. */
export class RecordView {
  element = make('div', { class: 'split' });
  #owner = make('input', { type: 'search', 'aria-label': 'Only of this owner', placeholder: 'Owner, such as guest-…' });
  #rows = make('ul', { class: 'rows' });
  #more = button('Show earlier ones', () => void this.#readList(this.#next), 'plain more');
  #listNote = make('div');
  #right = make('section', { class: 'pane', 'aria-label': 'Transcript' });
  #entries = make('div', { class: 'transcript' });
  /** @type {HTMLElement} */
  #scroll = make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Messages' }, this.#entries);
  #earlier = button('Earlier messages', () => void this.#page('before'), 'plain more');
  #later = button('Later messages', () => void this.#page('after'), 'plain more');
  #head = make('header', { class: 'head' });
  /** @type {Map<string, Summary>} */
  #list = new Map();
  /** @type {string | null} */
  #next = null;
  /** @type {string | null} */
  #chosen = null;
  /** @type {string | null} */
  #before = null;
  /** @type {string | null} */
  #after = null;
  #isAtEnd = false;
  #busy = false;
  #seenSeq = 0;

  constructor() {
    const filter = make('form', { class: 'tools', role: 'search' }, this.#owner, make('button', { class: 'plain' }, 'Filter'));
    filter.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#list.clear();
      void this.#readList(null);
    });
    const scroll = make('div', { class: 'scroll' }, this.#rows, this.#listNote, this.#more);
    const left = make('section', { class: 'pane', 'aria-label': 'Conversations' }, filter, scroll);
    this.element.append(left, this.#right);
    this.#more.hidden = true;
    void this.#readList(null);
  }

  /**
   * @param {string | null} conversation
   * @param {number | null} seq The entry to point out.
   */
  async choose(conversation, seq = null) {
    this.#chosen = conversation;
    this.element.classList.toggle('chosen', conversation !== null);
    this.#drawList();
    this.#entries.replaceChildren();
    if (conversation === null) {
      this.#right.replaceChildren(make('p', { class: 'note' }, 'Choose a conversation to read it.'));
      return;
    }
    this.#head.replaceChildren(make('h1', {}, conversation));
    this.#right.replaceChildren(this.#head, this.#scroll);
    this.#scroll.replaceChildren(this.#earlier, this.#entries, this.#later);
    this.#earlier.hidden = true;
    this.#later.hidden = true;
    this.#isAtEnd = false;
    try {
      void this.#readHead(conversation);
      await (seq === null ? this.#readNewest(conversation) : this.#readAround(conversation, seq));
    } catch (error) {
      if (this.#chosen === conversation) this.#entries.replaceChildren(failureNote(error));
    }
  }

  /** @param {string | null} owner */
  filter(owner) {
    this.#owner.value = owner ?? '';
    this.#list.clear();
    void this.#readList(null);
  }

  /** Each second: what is new at the end of the list and of the transcript. */
  tick() {
    const seq = api.stats?.last_seq ?? 0;
    if (seq === this.#seenSeq || this.#busy) return;
    this.#seenSeq = seq;
    void this.#readList(null);
    if (this.#isAtEnd && this.#chosen) void this.#page('after');
  }

  /** @param {string | null} before */
  async #readList(before) {
    try {
      const page = await api.get('conversations', { limit: PAGE, before, owner: this.#owner.value.trim() });
      for (const one of page.conversations) this.#list.set(one.conversation, one);
      // A look at the newest must not forget how far down was read.
      if (before !== null || this.#list.size <= page.conversations.length) this.#next = page.next;
      this.#listNote.replaceChildren();
      if (this.#list.size === 0) this.#listNote.replaceChildren(make('p', { class: 'note' }, 'No conversation is stored yet.'));
    } catch (error) {
      this.#listNote.replaceChildren(failureNote(error));
    }
    this.#more.hidden = this.#next === null;
    this.#drawList();
  }

  #drawList() {
    const focused = this.#rows.contains(document.activeElement) ? document.activeElement?.getAttribute('href') : null;
    const newestFirst = [...this.#list.values()].sort((left, right) => (left.last_at < right.last_at ? 1 : -1));
    this.#rows.replaceChildren(
      ...newestFirst.map((one) => {
        const words = one.last?.text ?? one.last?.kind ?? 'not readable';
        const link = make(
          'a',
          { href: `#/c/${one.conversation}`, ...(one.conversation === this.#chosen ? { 'aria-current': 'page' } : {}) },
          make('span', { dir: 'auto' }, words.slice(0, 200)),
          time(one.last_at),
          make('span', { class: 'soft' }, one.owner ?? 'ingested'),
          make('span', { class: 'soft number', title: 'Messages' }, one.messages === null ? '' : plain(one.messages)),
        );
        return make('li', {}, link);
      }),
    );
    if (focused) /** @type {HTMLElement | null} */ (this.#rows.querySelector(`a[href="${focused}"]`))?.focus();
  }

  /** @param {string} conversation */
  async #readHead(conversation) {
    const one = /** @type {Summary} */ (await api.get(`conversations/${conversation}`).catch(() => null));
    if (!one || this.#chosen !== conversation) return;
    const owner = one.owner ? make('a', { href: `#/o/${encodeURIComponent(one.owner)}` }, one.owner) : 'nobody (ingested)';
    this.#head.replaceChildren(
      make('a', { class: 'back', href: '#/' }, 'All conversations'),
      make('h1', {}, make('code', {}, conversation)),
      make('p', {}, 'Owner ', owner),
      make('p', {}, 'From ', time(one.first_at), ' to ', time(one.last_at), many(one.messages)),
    );
  }

  /** @param {string} conversation */
  async #readNewest(conversation) {
    const page = await this.#read(conversation, { limit: PAGE });
    if (this.#chosen !== conversation) return;
    this.#place(page.messages, 'after');
    [this.#before, this.#after, this.#isAtEnd] = [page.previous, page.next, true];
    this.#earlier.hidden = page.previous === null;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /**
   * @param {string} conversation
   * @param {number} seq
   */
  async #readAround(conversation, seq) {
    const entry = /** @type {Entry} */ (await api.get(`messages/${seq}`));
    const [older, newer] = await Promise.all([
      this.#read(conversation, { before: entry.cursor, limit: '25' }),
      this.#read(conversation, { after: entry.cursor, limit: '25' }),
    ]);
    if (this.#chosen !== conversation) return;
    this.#place([...older.messages, entry, ...newer.messages], 'after');
    this.#before = older.previous;
    this.#after = newer.next ?? entry.cursor;
    this.#isAtEnd = newer.messages.length < 25;
    this.#earlier.hidden = this.#before === null;
    this.#later.hidden = this.#isAtEnd;
    const found = /** @type {HTMLDetailsElement | null} */ (this.#entries.querySelector(`[data-seq="${seq}"]`));
    found?.classList.add('found');
    found?.setAttribute('open', '');
    found?.scrollIntoView({ block: 'center' });
  }

  /**
   * @param {'before' | 'after'} way
   */
  async #page(way) {
    const conversation = this.#chosen;
    const cursor = way === 'before' ? this.#before : this.#after;
    if (!conversation || !cursor || this.#busy) return;
    this.#busy = true;
    try {
      const page = await this.#read(conversation, { [way]: cursor, limit: PAGE });
      if (this.#chosen !== conversation) return;
      const fromEnd = this.#scroll.scrollHeight - this.#scroll.scrollTop;
      const wasLow = fromEnd - this.#scroll.clientHeight < 60;
      this.#place(page.messages, way);
      if (way === 'before') {
        this.#before = page.previous;
        this.#earlier.hidden = page.previous === null;
        this.#scroll.scrollTop = this.#scroll.scrollHeight - fromEnd;
      } else {
        this.#after = page.next ?? this.#after;
        this.#isAtEnd ||= page.messages.length < Number(PAGE);
        this.#later.hidden = this.#isAtEnd;
        if (wasLow && this.#isAtEnd) this.#scroll.scrollTop = this.#scroll.scrollHeight;
      }
    } catch (error) {
      this.#head.append(failureNote(error));
    } finally {
      this.#busy = false;
    }
  }

  /**
   * @param {string} conversation
   * @param {Record<string, string>} query
   * @returns {Promise<Page>}
   */
  #read(conversation, query) {
    return api.get(`conversations/${conversation}/messages`, query);
  }

  /**
   * @param {Entry[]} entries
   * @param {'before' | 'after'} way
   */
  #place(entries, way) {
    const drawn = entries.map((entry) => drawEntry(entry));
    if (way === 'before') this.#entries.prepend(...drawn);
    else this.#entries.append(...drawn);
  }
}
