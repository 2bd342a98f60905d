/**
 * `<yalo-chat>`: one conversation with a bot, in any page.
 *
 * Attributes: `url` (the frontend), `bot`, `conversation` (an id), `heading`, `greeting`, `placeholder`, `suggestions`
 * (parted by `|`). Property `client`: a `YaloClient` that several elements share. Event `yalo-conversation` (bubbles):
 * the conversation got its id, or another one is shown; `detail.conversation`.
 */

import { draw, fillText, dayName, icon, make } from './yalo-chat-view.js';
import { sheet } from './yalo-chat-style.js';
import { YaloClient } from './yalo-client.js';
import { wordsOf } from './yalo-http.js';
import { TEXT_BYTES, utf8Bytes } from './yalo-ids.js';

/** @typedef {import('./yalo-conversation.js').Conversation} Conversation */
/** @typedef {import('./yalo-conversation.js').Message} Message */
/** @typedef {import('./yalo-outbox.js').Entry} Entry */
/** @typedef {import('./yalo-chat-view.js').Shown} Shown */

/** A connection lost for less than this is nobody's concern. */
const BANNER_AFTER_MS = 1500;
/** From here on the size of the text is shown. */
const NEARLY_FULL = TEXT_BYTES * 0.8;
/** How close to the end counts as reading the newest, in pixels. */
const AT_END = 80;

/** @type {Record<string, string>} What users read of the life of a conversation. */
const EVENTS = { closed: 'This conversation was closed.', joined: 'joined the conversation.', left: 'left the conversation.' };

export class YaloChat extends HTMLElement {
  static observedAttributes = ['conversation'];

  /** @type {YaloClient | null} */
  #client = null;
  /** @type {Conversation | null} */
  #conversation = null;
  /** @type {Map<string, { shown: string, element: HTMLElement }>} */
  #drawn = new Map();
  /** @type {AbortController} */
  #listening = new AbortController();
  /** @type {AbortController} */
  #reading = new AbortController();
  #announced = '';
  #drawing = false;
  #wasAtEnd = true;
  /** @type {number | undefined} */
  #bannerTimer;

  #log = make('div', { class: 'log', role: 'log', 'aria-live': 'polite', 'aria-label': 'Messages' });
  #runningText = make('div', { class: 'text', dir: 'auto' });
  #dots = make('div', { class: 'dots', 'aria-hidden': 'true' }, make('i'), make('i'), make('i'));
  #running = make('div', { class: 'message', hidden: '' }, this.#runningText, this.#dots);
  #status = make('span', { class: 'quiet', role: 'status' });
  #older = make('button', { class: 'older', type: 'button', hidden: '' }, 'Earlier messages');
  #empty = make('div', { class: 'empty', hidden: '' });
  #scroll = make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Conversation' });
  #jump = make('button', { class: 'jump', type: 'button', hidden: '' }, 'Newest messages ↓');
  #bannerText = make('span');
  #retry = make('button', { type: 'button' }, 'Try now');
  #banner = make('div', { class: 'banner', role: 'status', hidden: '' }, this.#bannerText, this.#retry);
  #text = make('textarea', { id: 'text', rows: '1', dir: 'auto', 'aria-describedby': 'hint', autocomplete: 'off' });
  #send = make('button', { class: 'send', type: 'submit', 'aria-label': 'Send', title: 'Send (Enter)' }, icon('send'));
  #stop = make('button', { class: 'stop', type: 'button', hidden: '', 'aria-label': 'Stop the answer', title: 'Stop (Escape)' }, icon('stop'));
  #hint = make('p', { class: 'hint', id: 'hint' });
  #form = make('form', { class: 'composer', novalidate: '' });

  constructor() {
    super();
    const shadow = this.attachShadow({ mode: 'open' });
    shadow.adoptedStyleSheets = [sheet];
    const label = make('label', { for: 'text', class: 'quiet' }, 'Message');
    this.#form.append(this.#jump, make('div', { class: 'box' }, label, this.#text, this.#stop, this.#send), this.#hint);
    this.#scroll.append(make('div', { class: 'column' }, this.#older, this.#empty, this.#log, this.#running));
    shadow.append(make('div', { class: 'frame' }, this.#banner, this.#scroll, this.#status, this.#form));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener('input', () => this.#typed());
    this.#text.addEventListener('keydown', (event) => this.#onKey(event));
    this.addEventListener('keydown', (event) => this.#onEscape(event));
    this.#stop.addEventListener('click', () => this.#stopAnswer());
    this.#retry.addEventListener('click', () => this.client.retryNow());
    this.#older.addEventListener('click', () => this.#showOlder());
    this.#jump.addEventListener('click', () => this.#toEnd());
    this.#scroll.addEventListener('scroll', () => this.#onScroll(), { passive: true });
    new ResizeObserver(() => this.#wasAtEnd && this.#toEnd()).observe(this.#scroll);
  }

  connectedCallback() {
    this.#text.placeholder = this.getAttribute('placeholder') ?? 'Write a message';
    this.#drawEmpty();
    this.#listening = new AbortController();
    this.client.addEventListener('link', () => this.#drawLink(), { signal: this.#listening.signal });
    this.#drawLink();
    if (!this.#conversation) this.show(this.getAttribute('conversation') ?? this.client.unopened()?.local ?? null);
    else this.#listen(this.#conversation);
    this.client.start();
  }

  disconnectedCallback() {
    this.#listening.abort();
    this.#reading.abort();
    if (this.#conversation) this.client.release(this.#conversation);
  }

  /**
   * @param {string} _name
   * @param {string | null} before
   * @param {string | null} after
   */
  attributeChangedCallback(_name, before, after) {
    if (this.isConnected && before !== after && after !== this.#conversation?.id) this.show(after);
  }

  /** @returns {YaloClient} */
  get client() {
    const url = this.getAttribute('url');
    const bot = this.getAttribute('bot');
    this.#client ??= new YaloClient({ ...(url ? { url } : {}), ...(bot ? { bot } : {}) });
    return this.#client;
  }

  set client(client) {
    this.#client = client;
  }

  /** @returns {Conversation | null} */
  get conversation() {
    return this.#conversation;
  }

  /**
   * Shows a conversation; null begins a new one.
   * @param {string | null} name
   */
  show(name) {
    const next = this.client.conversation(name);
    if (next === this.#conversation) return;
    if (this.#conversation) {
      this.#reading.abort();
      this.client.release(this.#conversation);
    }
    this.#conversation = next;
    this.#announced = next.id ?? '';
    this.#drawn.clear();
    this.#log.replaceChildren();
    this.#wasAtEnd = true;
    this.#text.value = this.client.outbox.get(this.#typedKey()) ?? '';
    this.#measure();
    if (this.isConnected) this.#listen(next);
  }

  /** Puts the cursor where one writes. */
  focusComposer() {
    this.#text.focus();
  }

  /** @param {Conversation} conversation */
  #listen(conversation) {
    this.#reading = new AbortController();
    const options = { signal: this.#reading.signal };
    conversation.addEventListener('change', () => this.#soon(), options);
    conversation.addEventListener('draft', () => this.#soon(), options);
    this.client.hold(conversation);
    this.#draw();
  }

  // Writing -------------------------------------------------------------------------------------------------------

  #typedKey() {
    const conversation = this.#conversation;
    // One that is not open has no name that lasts, unless something waits in it.
    return `typed.${conversation?.id ?? (conversation?.pending.length ? conversation.local : 'new')}`;
  }

  #typed() {
    this.client.outbox.set(this.#typedKey(), this.#text.value || null);
    this.#measure();
  }

  #measure() {
    const bytes = utf8Bytes(this.#text.value);
    const over = bytes - TEXT_BYTES;
    const isOver = over > 0;
    this.#hint.classList.toggle('over', isOver);
    this.#text.setAttribute('aria-invalid', String(isOver));
    if (isOver) this.#hint.textContent = `This is ${characters(over)} too long for one message. Shorten it, or send it in parts.`;
    else this.#hint.textContent = bytes > NEARLY_FULL ? `Room for ${characters(-over, 'more ')}.` : '';
    this.#send.disabled = isOver || this.#text.value.trim() === '';
    if (!CSS.supports('field-sizing', 'content')) {
      this.#text.style.blockSize = 'auto';
      this.#text.style.blockSize = `${this.#text.scrollHeight}px`;
    }
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    // While an input method composes, Enter chooses a word.
    if (event.isComposing || event.keyCode === 229) return;
    const isTouch = matchMedia('(hover: none) and (pointer: coarse)').matches;
    if (event.key === 'Enter' && !event.shiftKey && !isTouch) {
      event.preventDefault();
      this.#submit();
    }
  }

  /**
   * Wherever one reads or writes.
   * @param {KeyboardEvent} event
   */
  #onEscape(event) {
    if (event.key !== 'Escape' || event.isComposing || !this.#conversation?.isWorking) return;
    event.preventDefault();
    event.stopPropagation();
    this.#stopAnswer();
  }

  #submit() {
    if (this.#send.disabled) return;
    this.#say(this.#text.value);
    this.client.outbox.set(this.#typedKey(), null);
    this.client.outbox.set('typed.new', null);
    this.#text.value = '';
    this.#measure();
    this.#text.focus();
  }

  /** @param {string} text */
  #say(text) {
    if (!this.#conversation) return;
    this.#wasAtEnd = true;
    this.client.say(this.#conversation, text);
  }

  #stopAnswer() {
    const conversation = this.#conversation;
    if (!conversation) return;
    this.#text.focus();
    // Refused or unreachable: the answer goes on and arrives, which is what one then sees.
    this.client.stopAnswer(conversation).catch(() => {});
  }

  /** @param {Entry} entry */
  #edit(entry) {
    const conversation = this.#conversation;
    if (!conversation) return;
    const typed = this.#text.value;
    this.client.discard(conversation, entry);
    this.#text.value = typed ? `${entry.text}\n${typed}` : entry.text;
    this.#typed();
    this.#text.focus();
  }

  // Drawing -------------------------------------------------------------------------------------------------------

  #soon() {
    if (this.#drawing) return;
    this.#drawing = true;
    // Not an animation frame: a tab in the background draws too, so that it is up to date when it is looked at.
    setTimeout(() => {
      this.#drawing = false;
      this.#draw();
    }, 16);
  }

  #draw() {
    const conversation = this.#conversation;
    if (!conversation) return;
    const shown = this.#shown(conversation);
    this.#reconcile(shown);
    this.#drawRunning(conversation);
    this.#older.hidden = conversation.previous === null;
    this.#empty.hidden = shown.length > 0 || conversation.state === 'waiting';
    if (conversation.state === 'missing') this.#drawMissing();
    if (this.#wasAtEnd) this.#toEnd();
    else this.#jump.hidden = false;
    if (conversation.id && conversation.id !== this.#announced) {
      this.#announced = conversation.id;
      const detail = { conversation: conversation.id };
      this.dispatchEvent(new CustomEvent('yalo-conversation', { bubbles: true, composed: true, detail }));
    }
  }

  /**
   * @param {Conversation} conversation
   * @returns {Shown[]}
   */
  #shown(conversation) {
    /** @type {Shown[]} */
    const shown = [];
    let day = '';
    let lastAuthor = '';
    for (const message of conversation.messages) {
      const one = this.#shownMessage(message, conversation);
      if (!one) continue;
      const itsDay = dayName(message.at);
      if (itsDay !== day) {
        shown.push({ key: `day ${itsDay}`, type: 'day', text: itsDay });
        lastAuthor = '';
      }
      day = itsDay;
      const author = `${message.who} ${message.who === 'user' ? '' : message.author}`;
      if (one.type === 'message' && author === lastAuthor) one.style += ' same';
      lastAuthor = one.type === 'message' ? author : '';
      shown.push(one);
    }
    for (const entry of conversation.pending) shown.push(this.#shownEntry(entry, conversation));
    const last = shown.at(-1);
    if (last?.type === 'message') last.style += ' last';
    return shown;
  }

  /**
   * @param {Message} message
   * @param {Conversation} conversation
   * @returns {Shown | null}
   */
  #shownMessage(message, conversation) {
    const key = `${message.id} ${message.seq}`;
    const isOwn = message.who === 'user';
    const hasWords = message.text !== undefined || message.kind === 'text' || message.kind === 'stopped';
    if (message.who === 'meta' || !hasWords) {
      const words = EVENTS[message.kind];
      if (!words) return null;
      return { key, type: 'event', text: message.kind === 'closed' ? words : `${message.author} ${words}` };
    }
    if (message.kind === 'none') return null;
    /** @type {Shown} */
    const shown = { key, type: 'message', style: `${isOwn ? 'own' : 'other'} ${message.kind}`, text: message.text ?? (message.kind === 'stopped' ? 'The answer was stopped.' : ''), at: message.at };
    if (isOwn) {
      const isAnswered = conversation.isAnswered(message.seq);
      shown.key = `own ${message.id}`;
      shown.said = 'You: ';
      shown.state = isAnswered ? { icon: 'answered', words: 'Answered' } : { icon: 'stored', words: 'Stored' };
    } else {
      shown.name = message.author;
      if (message.kind === 'stopped') shown.state = { icon: 'stop', words: 'Stopped' };
      if (message.who === 'agent') shown.name = `${message.author} (a person)`;
    }
    return shown;
  }

  /**
   * @param {Entry} entry
   * @param {Conversation} conversation
   * @returns {Shown}
   */
  #shownEntry(entry, conversation) {
    /** @type {Shown} */
    const shown = { key: `own ${entry.id}`, type: 'message', style: 'own sending', text: entry.text, at: new Date(entry.made).toISOString(), said: 'You: ' };
    if (entry.failed) {
      shown.style = 'own failed';
      shown.state = { icon: 'alarm', words: entry.uncertain ? 'It is not certain that this was stored.' : `Not sent. ${wordsOf(entry.failed)}` };
      shown.acts = [
        { words: 'Send again', act: () => this.client.sayAgain(conversation, entry) },
        { words: 'Edit', act: () => this.#edit(entry) },
        { words: 'Remove', act: () => this.client.discard(conversation, entry) },
      ];
    } else {
      const isAway = this.client.link === 'waiting';
      const words = isAway ? 'Kept, waiting for the connection' : conversation.isHeldUp ? 'Kept, trying again' : 'Sending';
      shown.state = { icon: 'clock', words };
    }
    return shown;
  }

  /**
   * Changes only what differs, so that a screen reader reads what is new and nothing else.
   * @param {Shown[]} shown
   */
  #reconcile(shown) {
    const kept = new Set(shown.map((one) => one.key));
    for (const [key, { element }] of this.#drawn) {
      if (kept.has(key)) continue;
      element.remove();
      this.#drawn.delete(key);
    }
    let place = this.#log.firstElementChild;
    for (const one of shown) {
      const before = this.#drawn.get(one.key);
      const now = JSON.stringify(one);
      let element = before?.element;
      if (!element || before?.shown !== now) {
        const drawn = draw(one);
        if (element) {
          if (place === element) place = drawn;
          element.replaceWith(drawn);
        }
        element = drawn;
        this.#drawn.set(one.key, { shown: now, element });
      }
      if (place === element) place = element.nextElementSibling;
      else this.#log.insertBefore(element, place);
    }
  }

  /** @param {Conversation} conversation */
  #drawRunning(conversation) {
    const draft = conversation.draft;
    const isWorking = conversation.isWorking;
    this.#running.hidden = !isWorking;
    this.#stop.hidden = !isWorking;
    this.#runningText.hidden = !draft;
    if (draft) fillText(this.#runningText, draft.text);
    const words = isWorking ? 'An answer is being written.' : '';
    if (this.#status.textContent !== words) this.#status.textContent = words;
  }

  #drawEmpty() {
    const heading = make('h2', { dir: 'auto' }, this.getAttribute('heading') ?? 'What is on your mind?');
    const greeting = make('p', { dir: 'auto' }, this.getAttribute('greeting') ?? 'Write a message to begin.');
    const chips = make('div', { class: 'chips' });
    for (const words of (this.getAttribute('suggestions') ?? '').split('|').filter(Boolean)) {
      const chip = make('button', { type: 'button', dir: 'auto' }, words);
      chip.addEventListener('click', () => {
        this.#say(words);
        this.#text.focus();
      });
      chips.append(chip);
    }
    this.#empty.replaceChildren(icon('talk'), heading, greeting, chips);
  }

  #drawMissing() {
    const anew = make('button', { type: 'button' }, 'Begin a new one');
    anew.addEventListener('click', () => {
      this.#drawEmpty();
      this.show(null);
      this.dispatchEvent(new CustomEvent('yalo-conversation', { bubbles: true, composed: true, detail: { conversation: null } }));
      this.#text.focus();
    });
    const heading = make('h2', {}, 'This conversation is not here');
    const words = make('p', {}, 'It may have been begun in another browser.');
    this.#empty.replaceChildren(icon('talk'), heading, words, make('div', { class: 'chips' }, anew));
    this.#empty.hidden = false;
  }

  #drawLink() {
    const { link, notice } = this.client;
    // Trying and waiting take turns while the connection is away: the first of them counts.
    const isAway = link === 'connecting' || link === 'waiting';
    if (!isAway) clearTimeout(this.#bannerTimer);
    if (!isAway) this.#bannerTimer = undefined;
    this.#retry.hidden = link !== 'waiting';
    if (link === 'idle' && notice === 'signed_out') {
      this.#sayInBanner('Your sign-in has ended. Sign in again; your text is kept.');
    } else if (link === 'online') {
      this.#banner.hidden = true;
    } else if (isAway && this.#bannerTimer === undefined) {
      this.#bannerTimer = window.setTimeout(() => {
        this.#sayInBanner('We lost the connection. Your text is kept; trying again.');
      }, BANNER_AFTER_MS);
    }
    this.#soon();
  }

  /** @param {string} words */
  #sayInBanner(words) {
    this.#bannerText.textContent = words;
    this.#banner.hidden = false;
  }

  async #showOlder() {
    const conversation = this.#conversation;
    if (!conversation) return;
    this.#older.disabled = true;
    this.#wasAtEnd = false;
    const fromEnd = this.#scroll.scrollHeight - this.#scroll.scrollTop;
    try {
      await this.client.older(conversation);
      this.#older.textContent = 'Earlier messages';
      this.#draw();
      // What one was reading stays where it was.
      this.#scroll.scrollTop = this.#scroll.scrollHeight - fromEnd;
    } catch {
      this.#older.textContent = 'Earlier messages cannot be read right now. Try again';
    } finally {
      this.#older.disabled = false;
    }
  }

  #onScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#wasAtEnd = scrollHeight - scrollTop - clientHeight < AT_END;
    if (this.#wasAtEnd) this.#jump.hidden = true;
  }

  #toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#jump.hidden = true;
  }
}

/**
 * Bytes are the server's measure; to people they are characters, which is exact for plain Latin text.
 * @param {number} bytes
 * @param {string} [more]
 */
function characters(bytes, more = '') {
  return `${bytes.toLocaleString()} ${more}${bytes === 1 ? 'character' : 'characters'}`;
}
