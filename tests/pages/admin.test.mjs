/** The admin page as an operator uses it, against the mock or (with YALO_URL, YALO_ADMIN_URL, YALO_ADMIN_TOKEN) a running yalo. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { fitsTheWidth, isAccessible, isMock, startStage } from './harness.mjs';

/** @typedef {import('playwright-core').Page} Page */

/** @type {import('./harness.mjs').Stage} */
let stage;
/** @type {string} */
let conversation;
/** @type {string} */
let owner;
const texts = Array.from({ length: 30 }, (_, index) => `word ${index}`);
texts.push('שלום', '<b>bold?</b>', `long ${'x'.repeat(2000)}`);

/**
 * @param {string} path
 * @param {unknown} body
 * @param {string} [token]
 * @returns {Promise<any>}
 */
async function post(path, body, token) {
  const headers = { 'Content-Type': 'application/json', ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(stage.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status}`);
  return response.json();
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
async function asOperator(path) {
  const response = await fetch(stage.adminUrl + path, { headers: { Authorization: `Bearer ${stage.adminToken}` } });
  return response.json();
}

before(async () => {
  stage = await startStage();
  const opened = await post('/v1/conversations', {});
  conversation = opened.conversation;
  for (const text of texts) await post(`/v1/conversations/${conversation}/messages`, { text }, opened.token);
  // One opened, the texts and their answers: wait until the store has them all.
  const deadline = Date.now() + 20_000;
  for (let stored = 0; stored < 1 + 2 * texts.length; ) {
    assert.ok(Date.now() < deadline, `only ${stored} messages were stored in time`);
    const one = await asOperator(`/admin/v1/conversations/${conversation}`);
    stored = one.messages ?? 0;
    owner = one.owner;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
afterEach(() => stage.settle());
after(() => stage.stop());

/** @param {import('playwright-core').BrowserContextOptions} [settings] */
async function signedIn(settings) {
  const page = await (await stage.person(settings)).newPage();
  await page.goto(stage.adminUrl);
  await page.getByLabel('Operator token').fill(stage.adminToken);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Health' }).waitFor();
  return page;
}

/** @param {Page} page */
const words = (page) => page.locator('.entry .words');

test('only the right token signs in, and signing out forgets it', async () => {
  const page = await (await stage.person()).newPage();
  await page.goto(stage.adminUrl);
  await isAccessible(page);
  await page.getByLabel('Operator token').fill('wrong');
  await page.keyboard.press('Enter');
  await page.getByText('This token is not the one.').waitFor();
  await page.getByLabel('Operator token').fill(stage.adminToken);
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Operator token').waitFor();
  await page.reload();
  await page.getByLabel('Operator token').waitFor();
});

test('a transcript is read from its end back to its beginning, every word as it was', async () => {
  const page = await signedIn();
  await page.goto(`${stage.adminUrl}/#/c/${conversation}`);
  await words(page).nth(49).waitFor();
  await page.getByRole('button', { name: 'Earlier messages' }).click();
  await words(page).nth(2 * texts.length).waitFor();
  const users = await page.locator('.entry.user .words').allTextContents();
  assert.deepEqual(users, texts);
  const bots = await page.locator('.entry.bot .words').allTextContents();
  assert.equal(bots.length, texts.length);
  await page.locator('.entry.bot').last().click();
  await page.getByText('Message id').waitFor();
  await page.getByText('Answers', { exact: true }).waitFor();
  await fitsTheWidth(page);
  await isAccessible(page);
});

test('the list shows conversations, and one owner alone', async () => {
  const page = await signedIn();
  await page.locator(`.rows a[href="#/c/${conversation}"]`).waitFor();
  await page.getByLabel('Only of this owner').fill(owner);
  await page.getByRole('button', { name: 'Filter' }).click();
  await page.waitForFunction(() => document.querySelectorAll('.rows a').length === 1);
  await page.locator('.rows a').click();
  await page.getByRole('heading', { name: conversation }).waitFor();
  await page.getByLabel('Only of this owner').fill('nobody at all');
  await page.getByRole('button', { name: 'Filter' }).click();
  await page.getByText('No conversation is stored yet.').waitFor();
  await isAccessible(page);
});

test('one message is found by sequence and by id, and leads to its place', async () => {
  const { messages } = await asOperator(`/admin/v1/conversations/${conversation}/messages?limit=40`);
  const wanted = messages[10];
  const page = await signedIn();
  await page.getByRole('link', { name: 'Find' }).click();
  await page.getByLabel('Sequence').fill(String(wanted.seq));
  await page.keyboard.press('Enter');
  await page.locator('.facts code', { hasText: wanted.id }).first().waitFor();
  await page.getByLabel('Conversation').fill(conversation);
  await page.getByLabel('Message id').fill(wanted.id);
  await page.getByRole('button', { name: 'Find by id' }).click();
  await page.locator('.facts').getByRole('link', { name: conversation }).click();
  await page.locator(`.entry.found[data-seq="${wanted.seq}"]`).waitFor();
  await page.goto(`${stage.adminUrl}/#/m/999999999`);
  await page.getByRole('alert').waitFor();
});

test('everything between two instants is read in pages', async () => {
  const page = await signedIn();
  await page.getByRole('link', { name: 'Find' }).click();
  await page.getByRole('button', { name: 'Last hour' }).click();
  await words(page).nth(2 * texts.length).waitFor();
  await isAccessible(page);
});

test('the health of the flow is live', async () => {
  const page = await signedIn();
  await page.getByRole('link', { name: 'Health' }).click();
  await page.getByRole('heading', { name: 'Everything flows' }).waitFor();
  await page.getByRole('rowheader', { name: 'audit' }).waitFor();
  assert.equal(await page.getByRole('rowheader').count(), 17);
  const stored = () => page.locator('.card', { hasText: 'Stored messages' }).locator('.big').textContent();
  const before = await stored();
  await post('/v1/chat', { text: 'one more' }).catch(() => post('/v1/conversations', {}));
  await page.waitForFunction((old) => document.querySelector('.grid .big')?.textContent !== old, before);
  await isAccessible(page);
});

test('the proof of the record is shown, and in red what it found', { skip: !isMock && 'a real record is whole' }, async () => {
  const chat = /** @type {NonNullable<typeof stage.mock>} */ (stage.mock).chat;
  const page = await signedIn({ viewport: { width: 360, height: 640 }, colorScheme: 'dark' });
  await page.getByRole('link', { name: 'Health' }).click();
  await page.getByText(/Proved up to #[\d,]+, 12 s ago: nothing is missing/).waitFor();
  chat.proof = { flawed: 4, findings: [{ from: 11, to: 14, flaw: 'missing', in_stream: true, words: '11 to 14 (4 messages): missing; the stream holds it, `--repair` stores it' }] };
  await page.getByText('4 messages are not as they must be').waitFor();
  await page.locator('.findings li', { hasText: '11 to 14' }).waitFor();
  await page.getByRole('heading', { name: '4 stored messages are missing or altered' }).waitFor();
  await fitsTheWidth(page);
  await isAccessible(page);
  chat.proof = { trouble: 'read the stream: nats is not reachable' };
  await page.getByText('It does not go on: read the stream').waitFor();
  chat.proof = {};
});

test('figures that grow old say since when, and the stream of events is asked for again ever more rarely', { skip: !isMock && 'a real server would have to be broken for it' }, async () => {
  const chat = /** @type {NonNullable<typeof stage.mock>} */ (stage.mock).chat;
  const page = await signedIn();
  await page.getByRole('link', { name: 'Health' }).click();
  await page.getByRole('heading', { name: 'Everything flows' }).waitFor();
  // The server is there, and hears nothing itself.
  chat.isFrozen = true;
  const old = /Figures are from \d\d:\d\d:\d\d: the server gets no news/;
  await page.getByRole('heading', { name: old }).waitFor();
  await page.getByRole('status').getByText(old).waitFor();
  await isAccessible(page);
  chat.isFrozen = false;
  await page.getByRole('heading', { name: 'Everything flows' }).waitFor();
  // The server is gone.
  chat.goAway();
  const lost = /Figures are from \d\d:\d\d:\d\d: we lost the connection, trying again/;
  await page.getByRole('status').getByText(lost).waitFor();
  await page.getByRole('heading', { name: lost }).waitFor();
  const deadline = Date.now() + 20_000;
  while (chat.tries.length < 4) {
    assert.ok(Date.now() < deadline, `only ${chat.tries.length} tries`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const [first = 0, second = 0, , fourth = 0] = chat.tries;
  assert.ok(fourth - second > 2.5 * Math.max(500, second - first) * 0.8, `tries at ${chat.tries.map((at) => at - first)} ms`);
  // The next try would be at least 4 s away; the network is back. The word for it may come while the last try fails.
  chat.isAway = false;
  const back = Date.now();
  while (chat.tries.length < 5) {
    assert.ok(Date.now() - back < 3500, 'the network came back and nobody tried');
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await page.getByRole('heading', { name: 'Everything flows' }).waitFor();
});

test('a phone and the dark show the same', async () => {
  const page = await signedIn({ viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true, colorScheme: 'dark' });
  await page.locator(`.rows a[href="#/c/${conversation}"]`).tap();
  await words(page).first().waitFor();
  await fitsTheWidth(page);
  await isAccessible(page);
  await page.getByRole('link', { name: 'All conversations' }).tap();
  await page.getByRole('link', { name: 'Health' }).tap();
  await page.getByRole('heading', { name: 'Everything flows' }).waitFor();
  await fitsTheWidth(page);
  await isAccessible(page);
});

test('a row that cannot be read is shown as it came', { skip: !isMock && 'only the mock has one at hand' }, async () => {
  const seq = stage.mock?.chat.garbage(conversation, '{"not": "ours"} \u00fc');
  const page = await signedIn();
  await page.goto(`${stage.adminUrl}/#/c/${conversation}`);
  await page.locator(`.entry[data-seq="${seq}"]`).click();
  await page.locator('.entry').getByText('not readable').waitFor();
  await page.getByText('{"not": "ours"} \u00fc', { exact: true }).waitFor();
});

/** Two questions that no attempt answers: the real bot fails by the drill's word, the mock is told so. */
async function twoLetters() {
  const opened = await post('/v1/conversations', {});
  for (const text of ['fail', 'fail again']) {
    const said = await post(`/v1/conversations/${opened.conversation}/messages`, { text }, opened.token);
    if (isMock) {
      const message = stage.mock?.chat.messages.find(({ seq }) => seq === said.seq);
      stage.mock?.chat.layDown(message, 'bot', 'the drill failed, as the question said');
    }
  }
  const deadline = Date.now() + 60_000;
  for (;;) {
    const { letters } = await asOperator('/admin/v1/dead-letters');
    const own = letters.filter((/** @type {any} */ letter) => letter.conversation === opened.conversation);
    if (own.length === 2) return own;
    assert.ok(Date.now() < deadline, `only ${own.length} letters lie there in time`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test('a dead letter is read, asked again and dropped, by keyboard alone', async () => {
  const [first, second] = await twoLetters();
  const page = await signedIn();
  await page.getByRole('link', { name: 'Dead letters' }).click();
  const row = (/** @type {any} */ letter) => page.locator('.letter', { has: page.locator('summary .number', { hasText: new RegExp(`^${letter.letter}$`) }) });
  await row(second).waitFor();
  await page.locator('#lying').getByText('2').waitFor();
  await isAccessible(page);
  // What it holds, and where it was said.
  await row(first).locator('summary').focus();
  await page.keyboard.press('Enter');
  await row(first).locator('.facts dd', { hasText: /^fail$/ }).waitFor();
  assert.match(await row(first).locator('summary .words').innerText(), /as the question said/);
  assert.equal(await row(first).getByRole('link', { name: 'Conversation' }).getAttribute('href'), `#/c/${first.conversation}/${first.seq}`);
  await isAccessible(page);
  // Again: a new message that names the old one.
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('status').getByText(`Letter ${first.letter} is asked again as message`).waitFor();
  assert.equal(await row(first).count(), 0);
  const { messages } = await asOperator(`/admin/v1/conversations/${first.conversation}/messages`);
  const again = messages.filter((/** @type {any} */ message) => message.data?.replay_of?.seq === first.seq);
  assert.equal(again.length, 1);
  // Dropped only after a second word; Escape from it is one key.
  await page.waitForFunction(() => document.activeElement?.matches('.letter summary'));
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await row(second).getByRole('button', { name: 'Drop' }).waitFor();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Shift+Tab');
  await isAccessible(page);
  await page.keyboard.press('Enter');
  await page.getByRole('status').getByText(`Letter ${second.letter} is dropped.`).waitFor();
});

test('dead letters on a phone, and none at all', { skip: !isMock && 'a real bot takes its time to fail' }, async () => {
  for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
    await twoLetters();
    const chat = /** @type {NonNullable<typeof stage.mock>} */ (stage.mock).chat;
    const seq = chat.garbage(conversation, 'gar\u00fcbage');
    chat.layDown(chat.messages.find((one) => one.seq === seq), 'auditor', 'the payload is not JSON: expected value at line 1 column 1');
    const page = await signedIn({ viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true, colorScheme });
    await page.getByRole('link', { name: 'Dead letters' }).tap();
    await page.locator('.letter').nth(2).waitFor();
    assert.equal(await page.locator('.letter').last().getByRole('button', { name: 'Replay' }).count(), 0);
    await page.locator('.letter summary').last().tap();
    await page.locator('.letter .facts').waitFor();
    await fitsTheWidth(page);
    await isAccessible(page);
    // What goes wrong is said, and the letter stays.
    chat.storeAway = true;
    await page.getByRole('button', { name: 'Replay' }).first().tap();
    await page.locator('.letter').first().getByText('Nats did not answer').waitFor();
    chat.storeAway = false;
    // Somebody else was faster.
    const [gone] = chat.letters;
    chat.drop(gone.letter);
    await page.getByRole('button', { name: `Replay letter ${gone.letter}` }).tap().catch(() => undefined);
    await page.locator('.letter').nth(1).waitFor();
    chat.letters = [];
    await page.getByText('No dead letters: everything was handled.').waitFor();
    await isAccessible(page);
  }
});
