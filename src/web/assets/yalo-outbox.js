/**
 * What must survive a reload: text that is not stored yet, text that is still being typed, the token, and the
 * conversations that this browser opened. One key for each message, so that two tabs never overwrite each other.
 */

/**
 * @typedef {object} Entry A message on its way.
 * @property {string} id
 * @property {string} local Names the conversation until the server has.
 * @property {string | null} conversation
 * @property {string} text
 * @property {string} [bot]
 * @property {number} made Milliseconds since 1970, by this browser's clock.
 * @property {boolean} uncertain It was sent once and no answer came: it may be stored.
 * @property {import('./yalo-http.js').Problem} [failed] Refused for good; waits for the person to decide.
 */

/** @typedef {{ conversation: string, title: string, at: string }} Known */

const KNOWN = 100;

/** A `Storage` that may be full, forbidden or emptied: then this page's memory has to do. */
export class Outbox {
  /** @type {Map<string, string>} */
  #memory = new Map();
  #prefix;

  /** @param {string} prefix Keeps two servers on one page apart. */
  constructor(prefix) {
    this.#prefix = prefix;
    for (const key of this.#storedKeys()) {
      const value = localStorage.getItem(key);
      if (value !== null) this.#memory.set(key.slice(prefix.length), value);
    }
  }

  /** @returns {string[]} */
  #storedKeys() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix));
    } catch {
      return [];
    }
  }

  /**
   * @param {string} key
   * @returns {string | null}
   */
  get(key) {
    try {
      return localStorage.getItem(this.#prefix + key);
    } catch {
      return this.#memory.get(key) ?? null;
    }
  }

  /**
   * @param {string} key
   * @param {string | null} value
   */
  set(key, value) {
    if (value === null) this.#memory.delete(key);
    else this.#memory.set(key, value);
    try {
      if (value === null) localStorage.removeItem(this.#prefix + key);
      else localStorage.setItem(this.#prefix + key, value);
    } catch {
      // Full or forbidden: the text lives as long as the page.
    }
  }

  /**
   * The part of a storage key that is ours.
   * @param {string | null} key
   */
  ownKey(key) {
    return key?.startsWith(this.#prefix) ? key.slice(this.#prefix.length) : null;
  }

  /** @returns {Entry[]} Oldest first. */
  entries() {
    const keys = new Set([...this.#memory.keys(), ...this.#storedKeys().map((key) => key.slice(this.#prefix.length))]);
    const entries = [];
    for (const key of keys) {
      const entry = key.startsWith('out.') ? parsed(this.get(key)) : null;
      if (entry && typeof entry.id === 'string' && typeof entry.text === 'string') entries.push(entry);
    }
    return entries.sort((left, right) => left.made - right.made || (left.id < right.id ? -1 : 1));
  }

  /** @param {Entry} entry */
  save(entry) {
    this.set(`out.${entry.id}`, JSON.stringify(entry));
  }

  /** @param {string} id */
  remove(id) {
    this.set(`out.${id}`, null);
  }

  /**
   * False once another tab has seen it stored.
   * @param {string} id
   */
  holds(id) {
    return this.get(`out.${id}`) !== null;
  }

  /** @returns {Known[]} Newest first. */
  known() {
    const list = parsed(this.get('known'));
    return Array.isArray(list) ? list.filter((item) => typeof item?.conversation === 'string') : [];
  }

  /** @param {Known} item */
  know(item) {
    const others = this.known().filter((other) => other.conversation !== item.conversation);
    this.set('known', JSON.stringify([item, ...others].slice(0, KNOWN)));
  }

  /**
   * Runs `work` in one tab at a time; where there are no locks (plain http on another host), at once.
   * @template T
   * @param {string} name
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async alone(name, work) {
    if (!navigator.locks) return work();
    return navigator.locks.request(this.#prefix + name, work);
  }
}

/**
 * @param {string | null} text
 * @returns {any}
 */
function parsed(text) {
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}
