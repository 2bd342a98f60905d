/** The admin API: the operator's token (kept for this tab only), reading, and the live state of the flow. */

import { readEvents, Refusal, request } from './yalo-http.js';

/**
 * @typedef {object} Entry A message, or (with `raw`) a row that could not be read as one.
 * @property {number} seq
 * @property {string} at
 * @property {string} cursor
 * @property {string | null} conversation
 * @property {string} [id]
 * @property {string} [who]
 * @property {string} [author]
 * @property {string} [kind]
 * @property {string} [text]
 * @property {{ id: string, seq: number }} [reply_to]
 * @property {string} [bot]
 * @property {string} [sent_at]
 * @property {unknown} [data]
 * @property {string} [subject]
 * @property {string} [raw]
 */

/** @typedef {{ messages: Entry[], next: string | null, previous: string | null }} Page */
/** @typedef {{ conversation: string, owner: string | null, first_at: string, last_at: string, messages: number | null, last: Entry | null }} Summary */
/** @typedef {{ name: string, pending: number, ack_pending: number, redelivered: number, waiting: number, ack_floor: number, delivered: number }} Consumer */

/**
 * @typedef {object} Stats
 * @property {number} messages
 * @property {number | null} conversations
 * @property {number | null} first_seq
 * @property {number | null} last_seq
 * @property {string | null} first_at
 * @property {string | null} last_at
 * @property {number} last_minute
 * @property {number} last_hour
 * @property {number} last_day
 * @property {number} retired_below
 * @property {{ messages: number, bytes: number, max_bytes: number, first_seq: number, last_seq: number } | null} stream
 * @property {Consumer[]} consumers
 * @property {{ behind: number }} audit_gap
 * @property {Record<string, number>} dead_letters By who laid them down.
 * @property {string} at
 * @property {{ to: number, at: string | null, flawed: number, findings: { from: number, to: number, flaw: string, words: string }[], trouble: string | null }} proof
 */

/** @typedef {{ letter: number, at: string, role: string, conversation: string | null, seq: number | null, reason: string, replayable: boolean }} Letter */

const KEY = 'yalo.operator';
/** The rest before the stream of events is asked for again: doubled each time, up to the second. */
const AGAIN_MS = 1000;
const AGAIN_MOST_MS = 30_000;
/** The server says something at least every 15 s, if only a comment: longer silence is a dead connection. */
const SILENCE_MS = 20_000;
/** Figures come each second; older ones are told to be old. */
const STALE_MS = 5000;
/** Samples of the last minutes, one a second. */
const SAMPLES = 180;
/** Closer together than this they are not a second apart. */
const APART_MS = 500;

/**
 * Ends early when the network is back, when somebody looks at the page again, or at the sign-out.
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = () => {
      clearTimeout(timer);
      over.abort();
      resolve(undefined);
    };
    const timer = setTimeout(end, ms);
    window.addEventListener('online', end, { signal: over.signal });
    document.addEventListener('visibilitychange', () => document.hidden || end(), { signal: over.signal });
    signal.addEventListener('abort', end, { signal: over.signal });
  });
}

/** Fires `stats` each second, `lost` when the stream broke, `signed-out` when the token is not taken any more. */
class Api extends EventTarget {
  /** @type {Stats | null} */
  stats = null;
  /** @type {{ atMs: number, seq: number }[]} */
  samples = [];
  /** Whether the stream of events is open. */
  isOpen = false;
  /** When the newest figures came, by this machine's own clock. */
  #freshMs = 0;
  #stop = new AbortController();

  /** Whether the figures are too old to be taken for the state of now. */
  get isStale() {
    return this.stats !== null && (!this.isOpen || performance.now() - this.#freshMs > STALE_MS);
  }

  get token() {
    return sessionStorage.getItem(KEY);
  }

  /**
   * Keeps the token if the server takes it.
   * @param {string} token
   */
  async signIn(token) {
    this.#take(await request('/admin/v1/stats', { token }));
    sessionStorage.setItem(KEY, token);
  }

  signOut() {
    sessionStorage.removeItem(KEY);
    this.#stop.abort();
    this.stats = null;
    this.samples = [];
    this.dispatchEvent(new Event('signed-out'));
  }

  /**
   * @param {string} path
   * @param {Record<string, string | null | undefined>} [query]
   * @returns {Promise<any>}
   */
  async get(path, query = {}) {
    const set = Object.entries(query).filter(([, value]) => value);
    const search = new URLSearchParams(/** @type {[string, string][]} */ (set)).toString();
    return this.send('GET', `${path}${search ? `?${search}` : ''}`);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @returns {Promise<any>}
   */
  async send(method, path) {
    try {
      return await request(`/admin/v1/${path}`, { method, token: this.token });
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) this.signOut();
      throw error;
    }
  }

  /** Follows the flow until the sign-out. */
  async live() {
    this.#stop.abort();
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    let rest = AGAIN_MS;
    const onOpen = () => {
      this.isOpen = true;
    };
    while (!signal.aborted) {
      try {
        const options = { token: this.token, signal, idleMs: SILENCE_MS, onOpen };
        await readEvents('/admin/v1/events', options, ({ event, data }) => {
          if (event !== 'stats') return;
          // It works: the next break begins anew.
          rest = AGAIN_MS;
          this.#take(JSON.parse(data));
        });
      } catch (error) {
        if (error instanceof Refusal && error.status === 401) this.signOut();
      }
      if (signal.aborted) return;
      this.isOpen = false;
      this.dispatchEvent(new Event('lost'));
      // Half of it by chance: pages that lost the same server do not come back in step.
      await pause(rest * (0.5 + Math.random() / 2), signal);
      rest = Math.min(rest * 2, AGAIN_MOST_MS);
    }
  }

  /**
   * Two that came in one piece, after a pause of the network, are one: the time between them says nothing.
   * @param {{ atMs: number, seq: number }} sample
   */
  #sample(sample) {
    const last = this.samples.at(-1);
    if (last && sample.atMs - last.atMs < APART_MS) this.samples.pop();
    this.samples.push(sample);
    this.samples.splice(0, this.samples.length - SAMPLES);
  }

  /** @param {Stats} stats */
  #take(stats) {
    // After a reconnect the last figures come again: that makes them no younger.
    if (this.stats?.at !== stats.at) this.#freshMs = performance.now();
    this.stats = stats;
    if (stats.stream) this.#sample({ atMs: performance.now(), seq: stats.stream.last_seq });
    this.dispatchEvent(new Event('stats'));
  }
}

export const api = new Api();
