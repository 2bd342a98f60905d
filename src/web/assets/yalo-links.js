/**
 * The two ways to the server, alike to their user: a WebSocket, and (where none can be had) requests with event streams.
 * A link is made by `connect`, tells what arrives through `push`, and says once through `closed` that it is over.
 */

import { readEvents, Refusal, request, Unreachable } from './yalo-http.js';

/**
 * @typedef {object} Hooks
 * @property {(frame: any) => void} push A frame as the WebSocket sends it.
 * @property {(why: Error) => void} closed
 */

/**
 * @typedef {object} Welcome
 * @property {string} [user]
 * @property {string} [token] Only when newly made.
 * @property {string} [server_time]
 */

const WAIT_MS = 15_000;
const PING_EVERY_MS = 20_000;

/** Everything over one WebSocket. */
export class SocketLink {
  kind = 'socket';
  /** @type {WebSocket} */
  #socket;
  #hooks;
  #count = 0;
  #over = false;
  /** @type {Map<string, { resolve: (frame: any) => void, reject: (error: Error) => void, timer: number }>} */
  #asked = new Map();
  /** @type {number | undefined} */
  #pinging;
  /** @type {Welcome} */
  welcome = {};

  /**
   * @param {WebSocket} socket
   * @param {Hooks} hooks
   */
  constructor(socket, hooks) {
    this.#socket = socket;
    this.#hooks = hooks;
  }

  /**
   * @param {string} base
   * @param {string | null} token
   * @param {Hooks} hooks
   * @returns {Promise<SocketLink>} Once the server has said welcome.
   */
  static async connect(base, token, hooks) {
    const address = new URL('v1/ws', base);
    address.protocol = address.protocol.replace('http', 'ws');
    const socket = new WebSocket(address, ['yalo.v1']);
    const link = new SocketLink(socket, hooks);
    const welcome = link.#expect('hello');
    socket.onopen = () => socket.send(JSON.stringify(token ? { type: 'hello', token } : { type: 'hello' }));
    socket.onmessage = (event) => link.#take(event.data);
    socket.onclose = () => link.#end(new Unreachable('the socket closed'));
    try {
      link.welcome = await welcome;
    } catch (error) {
      link.close();
      throw error;
    }
    link.#pinging = window.setInterval(() => link.#ping(), PING_EVERY_MS);
    return link;
  }

  /** @param {string} [bot] */
  open(bot) {
    return this.#ask({ type: 'open', ...(bot ? { bot } : {}) });
  }

  /**
   * @param {string} conversation
   * @param {string | null} after
   */
  watch(conversation, after) {
    return this.#ask({ type: 'watch', conversation, ...(after ? { after } : {}) });
  }

  /** @param {string} conversation */
  unwatch(conversation) {
    return this.#ask({ type: 'unwatch', conversation });
  }

  /**
   * @param {string} conversation
   * @param {{ id: string, text: string, bot?: string }} message
   */
  send(conversation, { id, text, bot }) {
    return this.#ask({ type: 'send', conversation, id, text, ...(bot ? { bot } : {}) });
  }

  /** @param {string} conversation */
  stop(conversation) {
    return this.#ask({ type: 'stop', conversation });
  }

  close() {
    this.#end(new Unreachable('closed by the page'));
  }

  #ping() {
    // An answer that does not come in time ends the link: a dead network says nothing by itself.
    this.#ask({ type: 'ping' }, 10_000).catch(() => {});
  }

  /**
   * @param {Record<string, unknown>} frame
   * @param {number} [waitMs]
   * @returns {Promise<any>}
   */
  #ask(frame, waitMs = WAIT_MS) {
    this.#count += 1;
    const ref = String(this.#count);
    const answer = this.#expect(ref, waitMs);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ ...frame, ref }));
    return answer;
  }

  /**
   * @param {string} ref
   * @param {number} [waitMs]
   * @returns {Promise<any>}
   */
  #expect(ref, waitMs = WAIT_MS) {
    if (this.#over) return Promise.reject(new Unreachable('the socket is closed'));
    return new Promise((resolve, reject) => {
      const timer = window.setTimeout(() => this.#end(new Unreachable('no answer in time')), waitMs);
      this.#asked.set(ref, { resolve, reject, timer });
    });
  }

  /** @param {unknown} text */
  #take(text) {
    let frame;
    try {
      frame = JSON.parse(String(text));
    } catch {
      this.#end(new Unreachable('a frame is not JSON'));
      return;
    }
    // Before the welcome there is no ref: everything then answers `hello`.
    const ref = frame.ref ?? (this.#asked.has('hello') ? 'hello' : undefined);
    const asked = ref === undefined ? undefined : this.#asked.get(ref);
    if (!asked) {
      this.#hooks.push(frame);
      return;
    }
    this.#asked.delete(ref);
    clearTimeout(asked.timer);
    if (frame.type === 'error') asked.reject(new Refusal(frame));
    else if (frame.type === 'bye') asked.reject(new Unreachable(frame.reason));
    else asked.resolve(frame);
  }

  /** @param {Error} why */
  #end(why) {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#pinging);
    for (const asked of this.#asked.values()) {
      clearTimeout(asked.timer);
      asked.reject(why);
    }
    this.#asked.clear();
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.close();
    this.#hooks.closed(why);
  }
}

/** Plain requests, and one event stream for each watched conversation. */
export class HttpLink {
  kind = 'http';
  /** @type {Welcome} */
  welcome = {};
  #base;
  /** @type {string | null} */
  #token;
  #hooks;
  #over = false;
  /** @type {Map<string, AbortController>} */
  #streams = new Map();

  /**
   * @param {string} base
   * @param {string | null} token
   * @param {Hooks} hooks
   */
  constructor(base, token, hooks) {
    this.#base = base;
    this.#token = token;
    this.#hooks = hooks;
  }

  /**
   * @param {string} base
   * @param {string | null} token
   * @param {Hooks} hooks
   * @returns {Promise<HttpLink>} Once the server has answered at all.
   */
  static async connect(base, token, hooks) {
    try {
      await request(`${base}v1/conversations?limit=1`, { token, timeoutMs: 8000 });
    } catch (error) {
      // Any answer shows that the server is there; only a token that it does not take is a failure.
      const refusedToken = error instanceof Refusal && error.status === 401 && token !== null;
      const stopping = error instanceof Refusal && error.code === 'stopping';
      if (!(error instanceof Refusal) || refusedToken || stopping) throw error;
    }
    return new HttpLink(base, token, hooks);
  }

  /** @param {string} [bot] */
  async open(bot) {
    const opened = await this.#post('v1/conversations', bot ? { bot } : {});
    if (opened.token) this.#token = opened.token;
    return opened;
  }

  /**
   * @param {string} conversation
   * @param {string | null} after
   * @returns {Promise<unknown>} Once the stream is open.
   */
  watch(conversation, after) {
    const stream = new AbortController();
    this.#streams.get(conversation)?.abort();
    this.#streams.set(conversation, stream);
    return new Promise((resolve, reject) => {
      const query = after ? `?after=${encodeURIComponent(after)}` : '';
      const onOpen = () => resolve({});
      const options = { token: this.#token, signal: stream.signal, onOpen };
      readEvents(`${this.#base}v1/conversations/${conversation}/events${query}`, options, ({ event, data }) => {
        const body = JSON.parse(data);
        this.#hooks.push(event === 'message' ? { type: event, message: body } : { type: event, ...body });
      })
        .then(() => new Unreachable('the stream ended'), (error) => error)
        .then((error) => {
          reject(error);
          // A refusal concerns this conversation only; a broken stream means that the way is broken.
          if (!stream.signal.aborted && !(error instanceof Refusal)) this.#end(error);
        });
    });
  }

  /** @param {string} conversation */
  async unwatch(conversation) {
    this.#streams.get(conversation)?.abort();
    this.#streams.delete(conversation);
  }

  /**
   * @param {string} conversation
   * @param {{ id: string, text: string, bot?: string }} message
   */
  send(conversation, { id, text, bot }) {
    return this.#post(`v1/conversations/${conversation}/messages`, { id, text, ...(bot ? { bot } : {}) });
  }

  /** @param {string} conversation */
  stop(conversation) {
    return this.#post(`v1/conversations/${conversation}/stop`);
  }

  close() {
    this.#end(new Unreachable('closed by the page'));
  }

  /**
   * @param {string} path
   * @param {unknown} [body]
   */
  async #post(path, body) {
    try {
      return await request(this.#base + path, { method: 'POST', token: this.#token, body });
    } catch (error) {
      if (error instanceof Unreachable) this.#end(error);
      throw error;
    }
  }

  /** @param {Error} why */
  #end(why) {
    if (this.#over) return;
    this.#over = true;
    for (const stream of this.#streams.values()) stream.abort();
    this.#hooks.closed(why);
  }
}
