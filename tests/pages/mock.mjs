/**
 * A frontend and an admin in memory, with an echo bot: enough of the API for the pages, in one process.
 * `node mock.mjs` serves both to look at; the tests start it when no `YALO_URL` is given.
 *
 * The bot: `slow ...` streams its words as drafts, `wait` works until stopped, `bot says: X` answers X, all else is echoed.
 */

import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const ASSETS = new URL('../../src/web/assets/', import.meta.url);
const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', json: 'application/json' };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STATUS = { not_found: 404, unauthorized: 401, invalid_json: 400, text_empty: 400, text_too_long: 413, id_in_future: 400, store_unavailable: 503, unavailable: 503 };

export const ADMIN_TOKEN = 'operator-token-of-the-tests';

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {number} [nowMs] */
function uuid7(nowMs = Date.now()) {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes[6] = 0x70 | (Number(bytes[6]) & 15);
  bytes[8] = 0x80 | (Number(bytes[8]) & 63);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

class Refused extends Error {
  /**
   * @param {keyof typeof STATUS} code
   * @param {string} detail
   * @param {object} [more]
   */
  constructor(code, detail, more = {}) {
    super(detail);
    this.problem = { title: code.replaceAll('_', ' '), status: STATUS[code], code, detail, ...more };
  }
}

/** The record, and what each side may do with it. */
class Chat {
  /** @type {any[]} */
  messages = [];
  /** @type {Map<string, { owner: string, first_at: string }>} */
  conversations = new Map();
  /** @type {Set<{ id: string, push: (frame: any) => void }>} */
  watchers = new Set();
  /** @type {Set<string>} */
  stopped = new Set();
  storeAway = false;
  skewMs = 0;
  nextSeq = 1;
  /** Whether the figures stay those of the past, and whether nobody may follow them. */
  isFrozen = false;
  isAway = false;
  /** @type {any} */
  lastStats = null;
  /** When somebody asked to follow. @type {number[]} */
  tries = [];
  /** @type {Set<import('node:http').ServerResponse>} */
  followers = new Set();
  /** @type {object} What is to be said of the proof. */
  proof = {};
  /** @type {any[]} */
  letters = [];
  nextLetter = 1;

  now() {
    return Date.now() + this.skewMs;
  }

  /** @param {string | null | undefined} token */
  signIn(token) {
    if (!token) {
      const user = `guest-${uuid7()}`;
      return { user, token: `token.${user}` };
    }
    if (!token.startsWith('token.guest-')) throw new Refused('unauthorized', 'the signature of the token is not ours');
    return { user: token.slice(6) };
  }

  /** @param {any} fields */
  record(fields) {
    const seq = this.nextSeq;
    this.nextSeq += 1;
    const at = new Date(this.now()).toISOString();
    const message = { id: uuid7(this.now()), ...fields, sent_at: at, seq, at, cursor: `${this.now()}-${seq}` };
    this.messages.push(message);
    this.push({ type: 'message', message });
    return message;
  }

  /**
   * A row that is no message, as a foreign publisher makes it.
   * @param {string} conversation
   * @param {string} payload
   */
  garbage(conversation, payload) {
    const [seq, nowMs] = [this.nextSeq, this.now()];
    this.nextSeq += 1;
    const raw = Buffer.from(payload).toString('base64');
    this.messages.push({ seq, at: new Date(nowMs).toISOString(), cursor: `${nowMs}-${seq}`, subject: `yalo.chat.1.${conversation}.user`, raw, conversation });
    return seq;
  }

  /**
   * A dead letter about a message.
   * @param {any} message
   * @param {string} role
   * @param {string} reason
   */
  layDown(message, role, reason) {
    const letter = this.nextLetter;
    this.nextLetter += 1;
    const about = message.raw === undefined ? { message } : { raw: message.raw };
    const common = { letter, at: new Date(this.now()).toISOString(), role, conversation: message.conversation, seq: message.seq, reason, replayable: message.who === 'user' };
    this.letters.push({ ...common, subject: `yalo.dead.${role}.1.${message.conversation}`, inside: { v: 1, role, reason, seq: message.seq, ...about } });
    return letter;
  }

  /** @param {number} letter */
  drop(letter) {
    const found = this.letters.find((one) => one.letter === letter);
    if (!found) throw new Refused('not_found', `there is no dead letter ${letter}`);
    this.letters = this.letters.filter((one) => one !== found);
    return found;
  }

  /** @param {any} frame */
  push(frame) {
    const id = frame.conversation ?? frame.message.conversation;
    for (const watcher of this.watchers) if (watcher.id === id) watcher.push(frame);
  }

  /** @param {string} user */
  open(user) {
    const conversation = uuid7(this.now());
    const message = this.record({ conversation, who: 'meta', author: user, kind: 'opened' });
    this.conversations.set(conversation, { owner: user, first_at: message.at });
    return { conversation, cursor: message.cursor };
  }

  /**
   * @param {string} user
   * @param {string} id
   */
  own(user, id) {
    if (this.conversations.get(id)?.owner !== user) throw new Refused('not_found', 'there is no such conversation');
  }

  /**
   * @param {string} user
   * @param {any} body
   */
  send(user, { conversation, id = uuid7(this.now()), text }) {
    this.own(user, conversation);
    if (!text) throw new Refused('text_empty', 'A message needs text.');
    if (Buffer.byteLength(text) > 16384) throw new Refused('text_too_long', 'the text is too long; at most 16384 bytes are accepted');
    const ahead = Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) - this.now();
    const serverTime = { server_time: new Date(this.now()).toISOString() };
    if (ahead > 30_000) throw new Refused('id_in_future', "The message id's time is ahead of this server's clock.", serverTime);
    const first = this.messages.find((message) => message.id === id && message.conversation === conversation);
    const message = first ?? this.record({ id, conversation, who: 'user', author: user, kind: 'text', text });
    if (!first) void this.answer(message);
    return { id, seq: message.seq, at: message.at, cursor: message.cursor, duplicate: first !== undefined };
  }

  /** @param {any} question */
  async answer(question) {
    const { conversation, text } = question;
    const about = { conversation, reply_to: { id: question.id, seq: question.seq } };
    /** @param {string} kind @param {string} words */
    const reply = (kind, words) => this.record({ ...about, who: 'bot', author: 'echo', kind, text: words, bot: 'echo' });
    this.stopped.delete(conversation);
    await sleep(15);
    this.push({ type: 'working', ...about });
    await sleep(15);
    if (text === 'wait' || text.startsWith('slow ')) {
      let said = '';
      for (const word of text === 'wait' ? Array(400).fill('so ') : text.slice(5).split(/(?<= )/)) {
        if (this.stopped.has(conversation)) return reply('stopped', said);
        const offset = Buffer.byteLength(said);
        said += word;
        this.push({ type: 'draft', ...about, revision: 1, offset, text: word });
        await sleep(60);
      }
      return reply('text', said);
    }
    return reply('text', text.startsWith('bot says: ') ? text.slice(10) : text);
  }

  /**
   * @param {any[]} all
   * @param {URLSearchParams} query
   */
  page(all, query) {
    /** @param {string | null} cursor */
    const seqOf = (cursor) => (cursor ? Number(cursor.split('-')[1]) : null);
    const [after, before, limit] = [seqOf(query.get('after')), seqOf(query.get('before')), Number(query.get('limit') ?? 50)];
    const inside = all.filter((one) => (after === null || one.seq > after) && (before === null || one.seq < before));
    const messages = after === null ? inside.slice(-limit) : inside.slice(0, limit);
    const first = messages[0];
    const previous = first && all.some((one) => one.seq < first.seq) ? first.cursor : null;
    return { messages, next: messages.at(-1)?.cursor ?? query.get('after'), previous };
  }

  /** @param {string} id */
  summary(id) {
    const all = this.messages.filter((message) => message.conversation === id);
    const last = all.at(-1);
    return { conversation: id, first_at: all[0].at, last_at: last.at, messages: all.length, last };
  }

  /**
   * @param {string | null} owner
   * @param {URLSearchParams} query
   */
  list(owner, query) {
    if (this.storeAway) throw new Refused('store_unavailable', 'The record cannot be read right now.');
    const limit = Number(query.get('limit') ?? 50);
    const skip = Number(query.get('before') ?? 0);
    const ids = [...this.conversations].filter(([, one]) => owner === null || one.owner === owner).map(([id]) => id);
    const all = ids.map((id) => this.summary(id)).sort((left, right) => right.last.seq - left.last.seq);
    return { page: all.slice(skip, skip + limit), next: all.length > skip + limit ? String(skip + limit) : null };
  }

  stats() {
    if (!this.isFrozen || !this.lastStats) this.lastStats = this.look();
    return this.lastStats;
  }

  /** Nobody follows any more until `isAway` is false again. */
  goAway() {
    this.isAway = true;
    this.tries = [];
    for (const response of this.followers) response.destroy();
  }

  look() {
    const [count, last] = [this.messages.length, this.messages.at(-1)];
    const consumer = (/** @type {string} */ name) => ({ name, pending: 0, ack_pending: 0, redelivered: 0, waiting: 1, ack_floor: this.nextSeq - 1, delivered: this.nextSeq - 1 });
    return {
      messages: count, conversations: this.conversations.size, first_seq: count ? 1 : 0, last_seq: this.nextSeq - 1,
      first_at: this.messages[0]?.at ?? null, last_at: last?.at ?? null, last_minute: count, last_hour: count, last_day: count, retired_below: 0,
      stream: { messages: count, bytes: count * 300, max_bytes: 10737418240, first_seq: 1, last_seq: this.nextSeq - 1 },
      consumers: [...Array.from({ length: 16 }, (_, index) => consumer(`bot-${index}`)), consumer('audit')],
      audit_gap: { behind: 0 },
      at: new Date(this.now()).toISOString(),
      proof: { to: this.nextSeq - 1, at: new Date(this.now() - 12_000).toISOString(), flawed: 0, findings: [], trouble: null, ...this.proof },
      dead_letters: { bot: 0, auditor: 0, nats: 0, ...Object.fromEntries(this.letters.map(({ role }) => [role, this.letters.filter((one) => one.role === role).length])) },
    };
  }
}

/**
 * @param {import('node:http').ServerResponse} response
 * @param {number} status
 * @param {unknown} body
 * @param {string} [type]
 */
function reply(response, status, body, type = 'application/json') {
  response.writeHead(status, { 'Content-Type': type, 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff' });
  response.end(Buffer.isBuffer(body) ? body : JSON.stringify(body));
}

/**
 * @param {(request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse, url: URL) => Promise<boolean>} api
 * @param {string} page
 * @param {string} openapi
 */
function serve(api, page, openapi) {
  return createServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://mock');
    try {
      if (await api(request, response, url)) return;
      const name = { '/': page, '/openapi.json': openapi }[url.pathname] ?? url.pathname.slice(1);
      const extension = /** @type {keyof typeof TYPES} */ (name.split('.').at(-1));
      if (!/^[a-z-]+\.[a-z]+$/.test(name)) throw new Refused('not_found', 'There is nothing here.');
      reply(response, 200, await readFile(new URL(name, ASSETS)), TYPES[extension]);
    } catch (error) {
      const refused = error instanceof Refused ? error : new Refused('not_found', String(error));
      const problem = { type: 'about:blank', ...refused.problem, request_id: 'mock' };
      if (!response.headersSent) reply(response, problem.status, problem, 'application/problem+json');
    }
  });
}

/** @param {import('node:http').IncomingMessage} request */
async function bodyOf(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return text === '' ? {} : JSON.parse(text);
}

/** @param {import('node:http').IncomingMessage} request */
const tokenOf = (request) => request.headers.authorization?.replace(/^Bearer /, '') ?? null;

/**
 * @param {import('node:http').ServerResponse} response
 * @param {string} event
 * @param {any} data
 */
function writeEvent(response, event, data) {
  response.write(`event: ${event}\n${data.cursor ? `id: ${data.cursor}\n` : ''}data: ${JSON.stringify(data)}\n\n`);
}

/** @param {Chat} chat */
function frontendApi(chat) {
  return async (/** @type {import('node:http').IncomingMessage} */ request, /** @type {import('node:http').ServerResponse} */ response, /** @type {URL} */ url) => {
    if (!url.pathname.startsWith('/v1/')) return false;
    const [, , , id = '', action] = url.pathname.split('/');
    const isPost = request.method === 'POST';
    if (!tokenOf(request) && !(isPost && id === '')) throw new Refused('unauthorized', 'A token is needed.');
    const { user, token } = chat.signIn(tokenOf(request));
    if (id === '') {
      if (isPost) reply(response, 201, { ...chat.open(user), ...(token ? { token } : {}) });
      else {
        const { page, next } = chat.list(user, url.searchParams);
        reply(response, 200, { conversations: page, next });
      }
      return true;
    }
    chat.own(user, id);
    if (action === 'messages' && isPost) reply(response, 202, chat.send(user, { ...(await bodyOf(request)), conversation: id }));
    else if (action === 'messages') reply(response, 200, chat.page(chat.messages.filter((one) => one.conversation === id), url.searchParams));
    else if (action === 'stop') {
      chat.stopped.add(id);
      reply(response, 202, {});
    } else if (action === 'events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(': hello\n\n');
      watch(chat, id, url.searchParams.get('after'), ({ type, ...body }) => writeEvent(response, type, type === 'message' ? body.message : body), response);
    } else return false;
    return true;
  };
}

/**
 * @param {Chat} chat
 * @param {string} id
 * @param {string | null} after
 * @param {(frame: any) => void} push
 * @param {import('node:events').EventEmitter} [until]
 */
function watch(chat, id, after, push, until) {
  const seq = after ? Number(after.split('-')[1]) : chat.nextSeq;
  for (const message of chat.messages) if (message.conversation === id && message.seq > seq) push({ type: 'message', message });
  const watcher = { id, push };
  chat.watchers.add(watcher);
  until?.on('close', () => chat.watchers.delete(watcher));
}

/**
 * @param {Chat} chat
 * @param {import('ws').WebSocket} socket
 */
function serveSocket(chat, socket) {
  let user = '';
  socket.setMaxListeners(0);
  const push = (/** @type {any} */ frame) => socket.send(JSON.stringify(frame));
  socket.on('message', (raw) => {
    const { type, ref, ...frame } = JSON.parse(String(raw));
    const conversation = frame.conversation;
    try {
      if (type === 'hello') {
        const signed = chat.signIn(frame.token);
        user = signed.user;
        push({ type: 'welcome', ...signed, server_time: new Date(chat.now()).toISOString() });
      } else if (type === 'ping') push({ type: 'pong', ref, server_time: new Date(chat.now()).toISOString() });
      else if (type === 'open') push({ type: 'opened', ref, ...chat.open(user) });
      else if (type === 'send') push({ type: 'accepted', ref, conversation, ...chat.send(user, frame) });
      else {
        chat.own(user, conversation);
        if (type === 'watch') {
          push({ type: 'watching', ref, conversation, cursor: frame.after ?? `${chat.now()}-${chat.nextSeq - 1}` });
          watch(chat, conversation, frame.after ?? null, push, socket);
        } else if (type === 'unwatch') {
          for (const watcher of chat.watchers) if (watcher.id === conversation && watcher.push === push) chat.watchers.delete(watcher);
          push({ type: 'unwatched', ref, conversation });
        } else if (type === 'stop') {
          chat.stopped.add(conversation);
          push({ type: 'stopping', ref, conversation });
        }
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      push({ type: 'error', ...(ref ? { ref } : {}), ...error.problem });
    }
  });
}

/** @param {Chat} chat */
function adminApi(chat) {
  return async (/** @type {import('node:http').IncomingMessage} */ request, /** @type {import('node:http').ServerResponse} */ response, /** @type {URL} */ url) => {
    const [, admin, , kind, id, messages, message] = url.pathname.split('/');
    if (admin !== 'admin') return false;
    if (tokenOf(request) !== ADMIN_TOKEN) throw new Refused('unauthorized', 'The operator token is needed.');
    const query = url.searchParams;
    const missing = new Refused('not_found', 'There is no such message or conversation.');
    const summary = (/** @type {any} */ one) => ({ ...one, owner: chat.conversations.get(one.conversation)?.owner ?? null });
    if (kind === 'stats') reply(response, 200, chat.stats());
    else if (kind === 'events') {
      chat.tries.push(Date.now());
      if (chat.isAway) throw new Refused('unavailable', 'nobody is there');
      chat.followers.add(response);
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      const timer = setInterval(() => writeEvent(response, 'stats', chat.stats()), 1000);
      writeEvent(response, 'stats', chat.stats());
      response.on('close', () => {
        clearInterval(timer);
        chat.followers.delete(response);
      });
    } else if (kind === 'conversations' && !id) {
      const { page, next } = chat.list(query.get('owner'), query);
      reply(response, 200, { conversations: page.map(summary), next });
    } else if (kind === 'conversations') {
      const all = chat.messages.filter((one) => one.conversation === id);
      if (all.length === 0) throw missing;
      if (!messages) reply(response, 200, summary(chat.summary(String(id))));
      else if (!message) reply(response, 200, chat.page(all, query));
      else {
        const found = all.find((one) => one.id === message);
        if (!found) throw missing;
        reply(response, 200, found);
      }
    } else if (kind === 'messages' && id) {
      const found = chat.messages.find((one) => one.seq === Number(id));
      if (!found) throw missing;
      reply(response, 200, found);
    } else if (kind === 'messages') {
      const [from, to] = [Date.parse(String(query.get('from'))), Date.parse(String(query.get('to')))];
      const all = chat.messages.filter((one) => Date.parse(one.at) >= from && Date.parse(one.at) < to);
      if (!query.has('after')) query.set('after', '0-0');
      const page = chat.page(all, query);
      reply(response, 200, { messages: page.messages, next: page.messages.at(-1) === all.at(-1) ? null : page.next });
    } else if (kind === 'dead-letters') deadLetters(chat, request, response, query, id, messages);
    else throw missing;
    return true;
  };
}

/**
 * @param {Chat} chat
 * @param {import('node:http').IncomingMessage} request
 * @param {import('node:http').ServerResponse} response
 * @param {URLSearchParams} query
 * @param {string | undefined} id
 * @param {string | undefined} act
 */
function deadLetters(chat, request, response, query, id, act) {
  if (chat.storeAway) throw new Refused('unavailable', 'nats did not answer');
  const number = Number(id);
  if (id === undefined) {
    const [limit, after] = [Number(query.get('limit') ?? 50), Number(query.get('after') ?? 0)];
    const behind = chat.letters.filter(({ letter }) => letter > after);
    const letters = behind.slice(0, limit).map(({ subject, inside, ...letter }) => letter);
    reply(response, 200, { letters, next: behind.length > limit ? letters.at(-1)?.letter : null });
  } else if (request.method === 'DELETE') reply(response, 200, { letter: chat.drop(number).letter });
  else if (act === 'replay') {
    const { conversation, seq, inside } = chat.drop(number);
    const data = { replay_of: { id: inside.message.id, seq } };
    const { id: again, text } = { ...inside.message, id: uuid7(chat.now()) };
    const message = chat.record({ id: again, conversation, who: 'user', author: inside.message.author, kind: 'text', text, data });
    void chat.answer(message);
    reply(response, 202, { letter: number, conversation, seq: message.seq, duplicate: false });
  } else {
    const found = chat.letters.find(({ letter }) => letter === number);
    if (!found) throw new Refused('not_found', `there is no dead letter ${number}`);
    reply(response, 200, found);
  }
}

/**
 * @param {{ port?: number, adminPort?: number, noSockets?: boolean }} [options]
 */
export async function startMock({ port = 0, adminPort = 0, noSockets = false } = {}) {
  const chat = new Chat();
  const frontend = serve(frontendApi(chat), 'chat.html', 'openapi.json');
  const admin = serve(adminApi(chat), 'admin.html', 'admin-openapi.json');
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'yalo.v1' });
  frontend.on('upgrade', (request, socket, head) => {
    if (noSockets) socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    else sockets.handleUpgrade(request, socket, head, (websocket) => serveSocket(chat, websocket));
  });
  /** @param {import('node:http').Server} server @param {number} on */
  const listen = (server, on) => new Promise((resolve) => server.listen(on, '127.0.0.1', () => resolve(undefined)));
  await Promise.all([listen(frontend, port), listen(admin, adminPort)]);
  const addressOf = (/** @type {import('node:http').Server} */ server) => `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
  const stop = () => {
    for (const client of sockets.clients) client.terminate();
    for (const server of [frontend, admin]) {
      server.closeAllConnections();
      server.close();
    }
  };
  return { chat, url: addressOf(frontend), adminUrl: addressOf(admin), adminToken: ADMIN_TOKEN, stop };
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { url, adminUrl } = await startMock({ port: 8080, adminPort: 8081 });
  console.log(`chat ${url}\nadmin ${adminUrl} (token ${ADMIN_TOKEN})`);
}
