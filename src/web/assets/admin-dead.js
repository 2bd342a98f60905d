/** The dead letters: what nobody could handle and why, with everything in it, to be asked again or dropped. */

import { api } from './admin-api.js';
import { button, failureNote, make, time } from './admin-dom.js';
import { Refusal } from './yalo-http.js';

/** @typedef {import('./admin-api.js').Letter} Letter */

const PAGE = '50';
/** Who laid it down, in the words of people. */
const MAKERS = new Map([['bot', 'No answer'], ['auditor', 'Not readable'], ['nats', 'Given up']]);

/**
 * How many lie there.
 * @param {import('./admin-api.js').Stats} stats
 */
export const lying = ({ dead_letters }) => Object.values(dead_letters).reduce((sum, letters) => sum + letters, 0);

/** @param {number} letter */
const goneWords = (letter) => `Letter ${letter} is not there any more: somebody has dealt with it.`;

/** One letter as a line that opens, with what can be done about it. */
class LetterRow {
  element = make('li', { class: 'letter' });
  #payload = make('div');
  #acts = make('div', { class: 'line' });
  #note = make('div', { role: 'alert' });

  /**
   * @param {Letter} letter
   * @param {(words: (Node | string)[]) => void} onGone
   */
  constructor(letter, onGone) {
    this.letter = letter;
    this.onGone = onGone;
    const head = make(
      'summary',
      {},
      make('span', { class: 'number soft', title: 'Letter' }, String(letter.letter)),
      time(letter.at),
      make('span', { class: 'tag', title: `Laid down by ${letter.role}` }, MAKERS.get(letter.role) ?? letter.role),
      make('span', { class: 'words', dir: 'auto' }, letter.reason),
    );
    const details = make('details', { class: 'entry' }, head, this.#payload);
    details.addEventListener('toggle', () => details.open && this.#payload.children.length === 0 && void this.#read());
    this.#offer();
    this.element.append(details, this.#acts, this.#note);
  }

  /** The usual buttons. */
  #offer() {
    const { letter, conversation, seq, replayable } = this.letter;
    const named = (/** @type {HTMLElement} */ element, /** @type {string} */ words) => {
      element.setAttribute('aria-label', `${words} letter ${letter}`);
      return element;
    };
    const acts = [named(button('Drop', () => this.#askToDrop()), 'Drop')];
    if (replayable) acts.unshift(named(button('Replay', () => void this.#replay()), 'Replay'));
    if (conversation) acts.push(make('a', { href: seq === null ? `#/c/${conversation}` : `#/c/${conversation}/${seq}` }, 'Conversation'));
    else if (seq !== null) acts.push(make('a', { href: `#/m/${seq}` }, `Message ${seq}`));
    this.#acts.replaceChildren(...acts);
  }

  #askToDrop() {
    const keep = button('Keep it', () => {
      this.#offer();
      /** @type {HTMLElement | null} */ (this.#acts.querySelector('button:last-of-type'))?.focus();
    });
    const drop = button(`Drop letter ${this.letter.letter} for good`, () => void this.#drop(), 'plain danger');
    this.#acts.replaceChildren(make('span', {}, 'Its message stays in the record.'), drop, keep);
    // The harmless one: a key pressed twice drops nothing.
    keep.focus();
  }

  async #read() {
    try {
      const { subject, inside } = await api.get(`dead-letters/${this.letter.letter}`);
      const list = make('dl', { class: 'facts' });
      const fact = (/** @type {string} */ name, /** @type {string} */ value) => list.append(make('dt', {}, name), make('dd', {}, make('pre', { dir: 'auto' }, value)));
      fact('Subject', subject);
      if (typeof inside?.message?.text === 'string') fact('Text', inside.message.text);
      fact('Payload', typeof inside === 'string' ? inside : JSON.stringify(inside, null, 2));
      this.#payload.replaceChildren(list);
    } catch (error) {
      this.#payload.replaceChildren(failureNote(error));
    }
  }

  async #replay() {
    const { letter } = this.letter;
    await this.#act(async () => {
      const { conversation, seq } = await api.send('POST', `dead-letters/${letter}/replay`);
      return [`Letter ${letter} is asked again as `, make('a', { href: `#/c/${conversation}/${seq}` }, `message ${seq}`), '.'];
    });
  }

  async #drop() {
    const { letter } = this.letter;
    await this.#act(async () => {
      await api.send('DELETE', `dead-letters/${letter}`);
      return [`Letter ${letter} is dropped.`];
    });
  }

  /** @param {() => Promise<(Node | string)[]>} act Gives what to tell. */
  async #act(act) {
    for (const one of this.#acts.querySelectorAll('button')) one.disabled = true;
    this.#note.replaceChildren();
    try {
      this.onGone(await act());
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) {
        this.onGone([goneWords(this.letter.letter)]);
        return;
      }
      this.#offer();
      this.#note.replaceChildren(failureNote(error));
      this.#acts.querySelector('button')?.focus();
    }
  }
}

export class DeadView {
  element = make('div', { class: 'page' });
  #told = make('p', { class: 'told', role: 'status' });
  #list = make('ul', { class: 'letters', 'aria-label': 'Dead letters' });
  #note = make('div');
  #more = button('Show more', () => void this.#read(this.#next), 'plain more');
  /** @type {Map<number, LetterRow>} */
  #rows = new Map();
  /** @type {number | null} */
  #next = null;
  /** How many the list is about; -1 if that is not known. */
  #counted = api.stats ? lying(api.stats) : -1;
  #title = make('h1', { tabindex: '-1' }, 'Dead letters');

  constructor() {
    const why = 'Messages that nobody could handle, each with its reason. Replay asks the question again, as a new message of the same conversation. Drop removes the letter; the message stays in the record.';
    this.element.append(this.#title, make('p', { class: 'soft' }, why), this.#told, this.#note, this.#list, this.#more);
    this.#more.hidden = true;
    void this.#read(null);
  }

  /** Each second: reads the list again if their number is another one, or if it could not be read. */
  tick() {
    const count = api.stats ? lying(api.stats) : -1;
    if (count === this.#counted) return;
    this.#counted = count;
    void this.#read(null);
  }

  /** @param {number | null} after */
  async #read(after) {
    try {
      const page = await api.get('dead-letters', { limit: PAGE, after: after === null ? null : String(after) });
      this.#take(page.letters, page.next, after);
      this.#note.replaceChildren();
      if (this.#rows.size === 0) this.#note.replaceChildren(make('p', { class: 'note' }, 'No dead letters: everything was handled.'));
    } catch (error) {
      this.#note.replaceChildren(failureNote(error));
      this.#counted = -1;
    }
  }

  /**
   * Rows that are there stay as they are: one may be open, or have the focus.
   * @param {Letter[]} letters
   * @param {number | null} next
   * @param {number | null} after
   */
  #take(letters, next, after) {
    const end = next ?? Infinity;
    const there = new Set(letters.map(({ letter }) => letter));
    for (const [number, row] of [...this.#rows]) {
      if (number <= (after ?? 0) || number > end || there.has(number)) continue;
      if (row.element.contains(document.activeElement)) row.onGone([goneWords(number)]);
      else this.#remove(number);
    }
    for (const letter of letters) if (!this.#rows.has(letter.letter)) this.#add(letter);
    // A look at the first page must not forget how far down was read.
    if (after !== null || this.#rows.size <= letters.length) this.#next = next;
    this.#more.hidden = this.#next === null;
  }

  /** @param {Letter} letter */
  #add(letter) {
    const row = new LetterRow(letter, (words) => this.#gone(letter.letter, words));
    this.#rows.set(letter.letter, row);
    const behind = [...this.#rows.values()].filter((other) => other.letter.letter > letter.letter);
    const before = behind.sort((left, right) => left.letter.letter - right.letter.letter)[0];
    this.#list.insertBefore(row.element, before?.element ?? null);
  }

  /** @param {number} number */
  #remove(number) {
    this.#rows.get(number)?.element.remove();
    this.#rows.delete(number);
  }

  /**
   * The focus goes on to the next letter: whoever works through a list by keyboard stays in it.
   * @param {number} number
   * @param {(Node | string)[]} words
   */
  #gone(number, words) {
    const element = this.#rows.get(number)?.element;
    const next = element?.nextElementSibling ?? element?.previousElementSibling;
    this.#remove(number);
    this.#told.replaceChildren(...words);
    /** @type {HTMLElement} */ (next?.querySelector('summary') ?? this.#title).focus();
    void this.#read(null);
  }
}
