/** The chat page: which conversation is shown (its id is in the address), and the list of one's own. */

import { Refusal } from './yalo-http.js';
import './yalo.js';

/** @typedef {{ conversation: string, title: string, at: string }} Item */

/** The list says what the store knows; it is asked again this often while it cannot be read. */
const AGAIN_MS = 10_000;

/** @param {string} id */
const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const chat = /** @type {import('./yalo-chat.js').YaloChat} */ (find('chat'));
const side = find('side');
const menu = find('menu');
const list = find('list');
const more = /** @type {HTMLButtonElement} */ (find('more'));
const client = chat.client;
const small = matchMedia('(max-width: 48rem)');

/** @type {Map<string, Item>} From the server. */
const listed = new Map();
/** @type {string | null} */
let next = null;
/** @type {number | undefined} */
let again;

const when = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const today = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

/** @returns {string | null} */
function addressed() {
  return /^#c=([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
}

function showAddressed() {
  const id = addressed();
  // A conversation begun offline has no id yet: it stays on screen until another one is chosen.
  if (id !== null || chat.conversation?.id) chat.show(id);
  afterShow();
}

function afterShow() {
  closeSide();
  drawList();
  chat.focusComposer();
}

/** @param {Event} event */
function begin(event) {
  event.preventDefault();
  history.pushState(null, '', location.pathname);
  chat.show(null);
  afterShow();
}

// The list --------------------------------------------------------------------------------------------------------

/** @returns {Item[]} Newest first: what the server lists, and what only this browser knows yet. */
function items() {
  const all = new Map(listed);
  for (const item of client.outbox.known()) {
    const other = all.get(item.conversation);
    all.set(item.conversation, { ...item, at: other && other.at > item.at ? other.at : item.at });
  }
  return [...all.values()].sort((left, right) => (left.at < right.at ? 1 : -1));
}

function drawList() {
  const current = chat.conversation?.id ?? null;
  let title = 'yalo';
  const rows = items().map((item) => {
    const link = document.createElement('a');
    link.href = `#c=${item.conversation}`;
    const name = document.createElement('span');
    name.dir = 'auto';
    name.textContent = item.title || 'Without words';
    const time = document.createElement('time');
    const at = new Date(item.at);
    time.dateTime = item.at;
    time.textContent = (at.toDateString() === new Date().toDateString() ? today : when).format(at);
    link.append(name, time);
    if (item.conversation === current) {
      link.setAttribute('aria-current', 'page');
      title = item.title || title;
    }
    const row = document.createElement('li');
    row.append(link);
    return row;
  });
  keepFocus(() => list.replaceChildren(...rows));
  more.hidden = next === null;
  find('title').textContent = title;
  document.title = title === 'yalo' ? 'yalo' : `${title} · yalo`;
}

/**
 * Redraws without taking the keyboard's place away.
 * @param {() => void} redraw
 */
function keepFocus(redraw) {
  const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute('href') : null;
  redraw();
  if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`a[href="${focused}"]`))?.focus();
}

/** @param {string | null} before */
async function readList(before) {
  clearTimeout(again);
  try {
    const page = await client.list(before);
    for (const one of page.conversations) {
      const title = (one.last?.text ?? '').trim().replace(/\s+/g, ' ').slice(0, 80);
      // One that was opened and never used says nothing to anyone.
      if (title) listed.set(one.conversation, { conversation: one.conversation, title, at: one.last_at });
    }
    next = page.next;
    find('note').textContent = '';
  } catch (error) {
    const known = client.outbox.known().length > 0;
    const isStore = error instanceof Refusal && error.passing;
    if (isStore) {
      find('note').textContent = known
        ? 'Older conversations cannot be listed right now. Nothing is lost; trying again.'
        : 'Your conversations cannot be listed right now. Nothing is lost; trying again.';
    }
    again = window.setTimeout(() => void readList(before), AGAIN_MS);
  }
  drawList();
}

// The drawer of small screens ---------------------------------------------------------------------------------------

function openSide() {
  side.classList.add('open');
  find('shade').hidden = false;
  menu.setAttribute('aria-expanded', 'true');
  chat.parentElement?.setAttribute('inert', '');
  find('new').focus();
}

function closeSide() {
  if (!side.classList.contains('open')) return;
  side.classList.remove('open');
  find('shade').hidden = true;
  menu.setAttribute('aria-expanded', 'false');
  chat.parentElement?.removeAttribute('inert');
  menu.focus();
}

// The connection ----------------------------------------------------------------------------------------------------

let wasOnline = false;

function drawState() {
  const isOnline = client.link === 'online';
  find('dot').classList.toggle('online', isOnline);
  const guest = client.notice === 'new_guest' ? ' You are a new guest now: the earlier sign-in had ended.' : '';
  find('state').textContent = isOnline ? `Connected. This browser remembers you.${guest}` : 'Connecting';
  if (isOnline && !wasOnline) void readList(null);
  wasOnline = isOnline;
}

find('new').addEventListener('click', begin);
find('new-small').addEventListener('click', begin);
find('skip').addEventListener('click', (event) => {
  event.preventDefault();
  chat.focusComposer();
});
menu.addEventListener('click', () => (side.classList.contains('open') ? closeSide() : openSide()));
find('shade').addEventListener('click', closeSide);
more.addEventListener('click', () => void readList(next));
document.addEventListener('keydown', (event) => event.key === 'Escape' && closeSide());
small.addEventListener('change', closeSide);
window.addEventListener('hashchange', showAddressed);
window.addEventListener('popstate', () => addressed() === null && chat.conversation?.id && (chat.show(null), afterShow()));
client.addEventListener('known', drawList);
client.addEventListener('link', drawState);
chat.addEventListener('yalo-conversation', (event) => {
  const id = /** @type {CustomEvent<{ conversation: string | null }>} */ (event).detail.conversation;
  history.replaceState(null, '', id ? `#c=${id}` : location.pathname);
  drawList();
});

if (addressed() !== null) chat.show(addressed());
drawList();
drawState();
chat.focusComposer();
