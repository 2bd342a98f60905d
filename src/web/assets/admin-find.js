/** Finding: one message by its sequence or id, and everything between two instants. */

import { api } from './admin-api.js';
import { button, failureNote, make } from './admin-dom.js';
import { drawEntry } from './admin-record.js';

const MINUTE_MS = 60_000;

export class FindView {
  element = make('div', { class: 'page' });
  #seq = make('input', { inputmode: 'numeric', pattern: '[0-9]+', required: '', placeholder: '84521' });
  #conversation = make('input', { required: '', placeholder: '0198c0de-…', autocapitalize: 'off', spellcheck: 'false' });
  #message = make('input', { placeholder: 'Empty: the whole conversation', autocapitalize: 'off', spellcheck: 'false' });
  #from = make('input', { type: 'datetime-local', step: '1', required: '' });
  #to = make('input', { type: 'datetime-local', step: '1', required: '' });
  #results = make('section', { 'aria-label': 'Found', 'aria-live': 'polite' });

  constructor() {
    const label = (/** @type {string} */ words, /** @type {HTMLElement} */ input) => make('label', {}, words, input);
    const go = (/** @type {string} */ words) => make('button', { class: 'main' }, words);
    const bySeq = make('form', { class: 'card' }, make('h2', {}, 'By sequence'), label('Sequence', this.#seq), make('div', { class: 'line' }, go('Find by sequence')));
    const byId = make(
      'form',
      { class: 'card' },
      make('h2', {}, 'By id'),
      label('Conversation', this.#conversation),
      label('Message id', this.#message),
      make('div', { class: 'line' }, go('Find by id')),
    );
    const presets = [5, 60, 24 * 60].map((minutes) => button(minutes < 60 ? `Last ${minutes} minutes` : minutes === 60 ? 'Last hour' : 'Last day', () => this.#last(minutes)));
    const between = make(
      'form',
      { class: 'card' },
      make('h2', {}, 'Between two instants'),
      make('div', { class: 'line' }, label('From (your time zone)', this.#from), label('To', this.#to)),
      make('div', { class: 'line' }, go('Read'), ...presets),
    );
    this.#on(bySeq, () => this.seq(Number(this.#seq.value)));
    this.#on(byId, () => this.#byId(this.#conversation.value.trim(), this.#message.value.trim()));
    this.#on(between, () => this.#between(new Date(this.#from.value), new Date(this.#to.value)));
    this.element.append(make('h1', {}, 'Find'), make('div', { class: 'forms' }, bySeq, byId, between), this.#results);
  }

  /**
   * @param {HTMLFormElement} form
   * @param {() => Promise<void>} act
   */
  #on(form, act) {
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      try {
        await act();
      } catch (error) {
        this.#results.replaceChildren(failureNote(error));
      }
    });
  }

  /**
   * Shows one message, opened.
   * @param {number} seq
   */
  async seq(seq) {
    this.#seq.value = String(seq);
    try {
      this.#show(await api.get(`messages/${seq}`));
    } catch (error) {
      this.#results.replaceChildren(failureNote(error));
    }
  }

  /**
   * @param {string} conversation
   * @param {string} message
   */
  async #byId(conversation, message) {
    if (message === '') location.hash = `#/c/${conversation}`;
    else this.#show(await api.get(`conversations/${encodeURIComponent(conversation)}/messages/${encodeURIComponent(message)}`));
  }

  /** @param {import('./admin-api.js').Entry} entry */
  #show(entry) {
    const drawn = drawEntry(entry, true);
    drawn.open = true;
    this.#results.replaceChildren(drawn);
  }

  /** @param {number} minutes */
  #last(minutes) {
    const to = new Date(Date.now() + 1000);
    const from = new Date(to.getTime() - minutes * MINUTE_MS);
    this.#from.value = localInput(from);
    this.#to.value = localInput(to);
    void this.#between(from, to).catch((error) => this.#results.replaceChildren(failureNote(error)));
  }

  /**
   * @param {Date} from
   * @param {Date} to
   */
  async #between(from, to) {
    this.#results.replaceChildren();
    const query = { from: from.toISOString(), to: to.toISOString(), limit: '100' };
    const more = button('Show more', () => void read(), 'plain more');
    /** @type {string | null} */
    let after = null;
    const read = async () => {
      try {
        const page = await api.get('messages', { ...query, after });
        more.remove();
        this.#results.append(...page.messages.map((/** @type {any} */ entry) => drawEntry(entry, true)));
        if (this.#results.children.length === 0) this.#results.append(make('p', { class: 'note' }, 'Nothing was said between these instants.'));
        after = page.next;
        if (after !== null && page.messages.length > 0) this.#results.append(more);
      } catch (error) {
        this.#results.append(failureNote(error));
      }
    };
    await read();
  }
}

/**
 * @param {Date} instant
 * @returns {string} As `datetime-local` wants it.
 */
function localInput(instant) {
  const local = new Date(instant.getTime() - instant.getTimezoneOffset() * MINUTE_MS);
  return local.toISOString().slice(0, 19);
}
