/**
 * Requests and event streams. Every failure is one of two: a `Refusal` (the server answered, and said why) or
 * `Unreachable` (no answer came, so nothing is known about what became of the request).
 */

/**
 * @typedef {object} Problem
 * @property {number} status
 * @property {string} code
 * @property {string} title
 * @property {string} detail
 * @property {string} [next]
 * @property {string} [field]
 * @property {string} [server_time]
 */

const PASSING = new Set(['overloaded', 'unavailable', 'store_unavailable', 'stopping', 'internal', 'body_timeout']);

/** The server answered and said no. */
export class Refusal extends Error {
  /**
   * @param {Problem} problem
   * @param {number} [retryAfterMs]
   */
  constructor(problem, retryAfterMs = 0) {
    super(problem.detail);
    this.name = 'Refusal';
    this.problem = problem;
    this.code = problem.code;
    this.status = problem.status;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return PASSING.has(this.code) || this.status === 429 || this.status >= 500;
  }
}

/**
 * What to tell a person of a refusal: what happened, then what to do.
 * @param {Problem} problem
 */
export function wordsOf({ detail, next }) {
  /** @param {string} words */
  const sentence = (words) => words.replace(/^\p{Ll}/u, (letter) => letter.toUpperCase()).replace(/[^.!?]$/, '$&.');
  return [detail, next].flatMap((words) => (words ? [sentence(words)] : [])).join(' ');
}

/** No answer came. */
export class Unreachable extends Error {
  /** @param {string} what */
  constructor(what) {
    super(what);
    this.name = 'Unreachable';
  }
}

/**
 * @typedef {object} RequestOptions
 * @property {string} [method]
 * @property {string | null} [token]
 * @property {unknown} [body] Sent as JSON.
 * @property {AbortSignal} [signal]
 * @property {number} [timeoutMs]
 * @property {Record<string, string>} [headers]
 */

/**
 * @param {string} url
 * @param {RequestOptions} options
 * @returns {Promise<Response>} An answer with a good status.
 */
async function exchange(url, options) {
  const headers = new Headers(options.headers);
  if (options.token) headers.set('Authorization', `Bearer ${options.token}`);
  if (options.body !== undefined) headers.set('Content-Type', 'application/json');
  /** @type {RequestInit} */
  const init = { method: options.method ?? 'GET', headers, cache: 'no-store', credentials: 'omit' };
  if (options.body !== undefined) init.body = JSON.stringify(options.body);
  if (options.signal) init.signal = options.signal;
  let response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    throw new Unreachable(String(error));
  }
  if (response.ok) return response;
  throw await refusalOf(response);
}

/**
 * @param {Response} response
 * @returns {Promise<Refusal | Unreachable>}
 */
async function refusalOf(response) {
  const isProblem = (response.headers.get('Content-Type') ?? '').startsWith('application/problem+json');
  const retryAfterMs = 1000 * (Number(response.headers.get('Retry-After')) || 0);
  if (isProblem) {
    try {
      return new Refusal(await response.json(), retryAfterMs);
    } catch {
      return new Unreachable('the answer broke off');
    }
  }
  // Something between us and the server answered, such as a proxy whose server is away.
  if (response.status >= 500) return new Unreachable(`status ${response.status}`);
  const title = response.statusText || 'Not accepted';
  return new Refusal({ status: response.status, code: 'unknown', title, detail: `The request was not accepted (${response.status}).` });
}

/**
 * One request, one JSON answer.
 * @param {string} url
 * @param {RequestOptions} [options]
 * @returns {Promise<any>}
 */
export async function request(url, options = {}) {
  const limit = AbortSignal.timeout(options.timeoutMs ?? 15_000);
  const signal = options.signal ? AbortSignal.any([limit, options.signal]) : limit;
  const response = await exchange(url, { ...options, signal });
  try {
    return await response.json();
  } catch {
    throw new Unreachable('the answer broke off');
  }
}

/**
 * @typedef {{ event: string, data: string, id: string }} ServerEvent
 */

/**
 * Reads server-sent events until the stream ends. EventSource cannot send a token, so this is fetch and a parser.
 * @param {string} url
 * @param {RequestOptions & { idleMs?: number, onOpen?: () => void }} options `idleMs`: longest silence.
 * @param {(event: ServerEvent) => void} onEvent
 */
export async function readEvents(url, options, onEvent) {
  const idle = new AbortController();
  const idleMs = options.idleMs ?? 45_000;
  let timer = setTimeout(() => idle.abort(), idleMs);
  const signal = options.signal ? AbortSignal.any([idle.signal, options.signal]) : idle.signal;
  const headers = { ...options.headers, Accept: 'text/event-stream' };
  try {
    const response = await exchange(url, { ...options, headers, signal });
    options.onOpen?.();
    const parse = eventParser(onEvent);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    while (reader) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => idle.abort(), idleMs);
      parse(value);
    }
  } catch (error) {
    if (error instanceof Refusal || error instanceof Unreachable) throw error;
    throw new Unreachable(String(error));
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The line grammar of server-sent events, fed in pieces of any size.
 * @param {(event: ServerEvent) => void} onEvent
 * @returns {(piece: string) => void}
 */
export function eventParser(onEvent) {
  let rest = '';
  let event = '';
  let id = '';
  /** @type {string[]} */
  let data = [];
  /** @param {string} line */
  const take = (line) => {
    if (line === '') {
      if (data.length > 0) onEvent({ event: event || 'message', data: data.join('\n'), id });
      event = '';
      data = [];
      return;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') event = value;
    else if (name === 'data') data.push(value);
    else if (name === 'id') id = value;
  };
  return (piece) => {
    rest += piece;
    // A CR at the very end may be half of a CR LF: it waits for the next piece.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    lines.forEach(take);
  };
}
