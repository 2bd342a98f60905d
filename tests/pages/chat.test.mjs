/** The chat page as people use it, against the mock or (with YALO_URL) a running yalo with the echo bot. */

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { fitsTheWidth, isAccessible, isMock, startStage } from './harness.mjs';

/** @typedef {import('playwright-core').Page} Page */

/** @type {import('./harness.mjs').Stage} */
let stage;

before(async () => {
  stage = await startStage();
});
afterEach(() => stage.settle());
after(() => stage.stop());

/**
 * @param {import('playwright-core').BrowserContext} person
 * @param {string} [hash]
 */
async function openChat(person, hash = '') {
  const page = await person.newPage();
  await page.goto(stage.url + '/' + hash);
  await page.getByLabel('Message', { exact: true }).waitFor();
  return page;
}

/** @param {Page} page */
const composer = (page) => page.getByLabel('Message', { exact: true });
/** @param {Page} page */
const own = (page) => page.locator('yalo-chat .own .text');
/** @param {Page} page */
const answers = (page) => page.locator('yalo-chat .other .text');

/**
 * @param {Page} page
 * @param {string} text
 */
async function say(page, text) {
  await composer(page).fill(text);
  await composer(page).press('Enter');
}

/**
 * @param {import('playwright-core').Locator} locator
 * @param {string[]} expected
 */
async function reads(locator, expected) {
  await locator.nth(expected.length - 1).waitFor();
  assert.deepEqual(await locator.allTextContents(), expected);
}

/**
 * @param {Page} page
 * @param {string} words
 */
const stateIs = (page, words) => page.locator('yalo-chat .own .state').last().getByText(words, { exact: true }).waitFor();

test('a question is stored, answered, and both can be read', async () => {
  const page = await openChat(await stage.person());
  await say(page, 'hello there');
  await reads(own(page), ['hello there']);
  await reads(answers(page), ['hello there']);
  await stateIs(page, 'Answered');
  await page.locator('nav a[aria-current]', { hasText: 'hello there' }).waitFor();
  assert.match(page.url(), /#c=[0-9a-f-]{36}$/);
  await isAccessible(page);
});

test('a conversation needs nothing but a keyboard', async () => {
  const page = await openChat(await stage.person());
  const isAtStart = () => page.evaluate(() => document.activeElement?.id === 'skip');
  for (let steps = 0; steps < 12 && !(await isAtStart()); steps += 1) await page.keyboard.press('Shift+Tab');
  assert.ok(await isAtStart(), 'the skip link comes first');
  await page.keyboard.press('Enter');
  await page.keyboard.type('first line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('second line');
  await page.keyboard.press('Enter');
  await reads(own(page), ['first line\nsecond line']);
  await reads(answers(page), ['first line\nsecond line']);
  await page.keyboard.type('again');
  await page.keyboard.press('Enter');
  await reads(answers(page), ['first line\nsecond line', 'again']);
});

test('text of any script and length stays inside and keeps its direction', async () => {
  const page = await openChat(await stage.person());
  const texts = ['שלום, מה שלומך?', 'x'.repeat(3000), '<img src=x onerror=alert(1)> & "quotes"', '漢字かな交じり文 👩‍👩‍👧'];
  for (const text of texts) {
    await say(page, text);
    await answers(page).nth(texts.indexOf(text)).waitFor();
  }
  await reads(answers(page), texts);
  const direction = await answers(page).first().evaluate((element) => getComputedStyle(element).direction);
  assert.equal(direction, 'rtl');
  await fitsTheWidth(page);
});

test('the limit is shown before it is hit, and too long a text is not sent', async () => {
  const page = await openChat(await stage.person());
  await composer(page).fill('a'.repeat(16_000));
  await page.getByText('Room for 384 more characters.').waitFor();
  await composer(page).fill('ä'.repeat(8193));
  await page.getByText('This is 2 characters too long for one message.').waitFor();
  assert.ok(await page.getByRole('button', { name: 'Send' }).isDisabled());
  await composer(page).press('Enter');
  assert.equal(await own(page).count(), 0);
});

test('text written while the connection is away is kept, also through a reload, and arrives once and in order', async () => {
  const page = await openChat(await stage.person());
  await say(page, 'before');
  await reads(answers(page), ['before']);
  stage.network.down();
  await page.getByText('We lost the connection. Your text is kept; trying again.').waitFor();
  await say(page, 'one');
  await say(page, 'two');
  await composer(page).fill('half a thought');
  await stateIs(page, 'Kept, waiting for the connection');
  assert.equal(await answers(page).count(), 1);
  stage.network.up();
  await page.reload();
  await reads(answers(page), ['before', 'one', 'two']);
  await reads(own(page), ['before', 'one', 'two']);
  assert.equal(await composer(page).inputValue(), 'half a thought');
});

test('the very first words may be written without a connection', async () => {
  const person = await stage.person();
  const page = await openChat(person);
  stage.network.down();
  await say(page, 'anyone there?');
  await page.getByText('We lost the connection.').waitFor();
  // Asked for while it is still away: once the network is back the page may have found it before any click.
  await page.getByRole('button', { name: 'Try now' }).click();
  stage.network.up();
  await reads(answers(page), ['anyone there?']);
  await reads(own(page), ['anyone there?']);
});

test('connections cut while messages are on their way lose nothing and double nothing', async () => {
  const page = await openChat(await stage.person());
  const texts = Array.from({ length: 12 }, (_, index) => `message ${index}`);
  for (const [index, text] of texts.entries()) {
    await say(page, text);
    if (index % 3 === 1) stage.network.cut();
  }
  await reads(answers(page), texts);
  await reads(own(page), texts);
});

test('a reload shows the same conversation', async () => {
  const page = await openChat(await stage.person());
  await say(page, 'remember me');
  await reads(answers(page), ['remember me']);
  await page.reload();
  await reads(own(page), ['remember me']);
  await reads(answers(page), ['remember me']);
  await stateIs(page, 'Answered');
});

test('a second tab sees the same, live, and both can write', async () => {
  const person = await stage.person();
  const first = await openChat(person);
  await say(first, 'from the first');
  await reads(answers(first), ['from the first']);
  const second = await openChat(person, new URL(first.url()).hash);
  await reads(answers(second), ['from the first']);
  await say(second, 'from the second');
  await reads(own(first), ['from the first', 'from the second']);
  await reads(answers(first), ['from the first', 'from the second']);
});

test('another conversation can be begun, and the list leads back', async () => {
  const page = await openChat(await stage.person());
  await say(page, 'the first one');
  await reads(answers(page), ['the first one']);
  await page.getByRole('button', { name: 'New conversation' }).first().click();
  await page.getByRole('heading', { name: 'What is on your mind?' }).waitFor();
  await say(page, 'the second one');
  await reads(answers(page), ['the second one']);
  await page.getByRole('link', { name: 'the first one' }).click();
  await reads(answers(page), ['the first one']);
  await page.goBack();
  await reads(answers(page), ['the second one']);
});

test("someone else's conversation is not here", async () => {
  const page = await openChat(await stage.person());
  await say(page, 'private');
  await reads(answers(page), ['private']);
  const stranger = await openChat(await stage.person(), new URL(page.url()).hash);
  await stranger.getByRole('heading', { name: 'This conversation is not here' }).waitFor();
  await stranger.getByRole('button', { name: 'Begin a new one' }).click();
  await say(stranger, 'mine');
  await reads(answers(stranger), ['mine']);
});

test('a phone shows the conversation in full width, and the list as a drawer', async () => {
  const page = await openChat(await stage.person({ viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true }));
  await composer(page).fill('from a phone');
  await page.getByRole('button', { name: 'Send' }).tap();
  await reads(answers(page), ['from a phone']);
  await fitsTheWidth(page);
  await page.getByRole('button', { name: 'Your conversations' }).tap();
  await page.getByRole('link', { name: 'from a phone' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: 'from a phone' }).waitFor({ state: 'hidden' });
  await isAccessible(page);
});

test('dark and light both have enough contrast', async () => {
  for (const colorScheme of /** @type {const} */ (['dark', 'light'])) {
    const page = await openChat(await stage.person({ colorScheme }));
    await isAccessible(page);
    await say(page, 'look at https://example.org/a?b=c.');
    await reads(answers(page), ['look at https://example.org/a?b=c.']);
    assert.equal(await answers(page).locator('a').getAttribute('href'), 'https://example.org/a?b=c');
    await stateIs(page, 'Answered');
    await isAccessible(page);
  }
});

test('without sockets, plain requests do the same', async () => {
  const plain = await startStage({ noSockets: true });
  try {
    const page = await (await plain.person()).newPage();
    await page.goto(plain.url);
    await say(page, 'over HTTP');
    await reads(answers(page), ['over HTTP']);
    plain.network.cut();
    await say(page, 'and again');
    await reads(answers(page), ['over HTTP', 'and again']);
    await plain.settle();
  } finally {
    await plain.stop();
  }
});

test('an answer is shown while it is written, and can be stopped', { skip: !isMock && 'the echo bot writes no drafts' }, async () => {
  const page = await openChat(await stage.person());
  await say(page, 'slow one two three four five six');
  await page.getByText('An answer is being written.').waitFor({ state: 'attached' });
  await page.getByText(/^one two/).first().waitFor();
  await reads(answers(page), ['one two three four five six']);
  await say(page, 'wait');
  await page.getByText(/^so so/).first().waitFor();
  await page.keyboard.press('Escape');
  await page.locator('yalo-chat .stopped').waitFor();
});

test('an answer that takes long is announced, and stopped by the keyboard', async () => {
  const page = await openChat(await stage.person());
  await say(page, isMock ? 'wait' : 'sleep 60000');
  await page.getByText('An answer is being written.').waitFor({ state: 'attached' });
  // Wherever one is in the conversation.
  await page.getByRole('region', { name: 'Conversation' }).focus();
  await page.keyboard.press('Escape');
  await page.locator('yalo-chat .stopped').waitFor();
  await say(page, 'and on');
  await answers(page).getByText('and on', { exact: true }).waitFor();
});

test('a list that cannot be read says so gently, and chatting goes on', { skip: !isMock && 'only the mock can lose its store' }, async () => {
  const mock = /** @type {NonNullable<typeof stage.mock>} */ (stage.mock);
  mock.chat.storeAway = true;
  try {
    const page = await openChat(await stage.person());
    await page.getByText('cannot be listed right now. Nothing is lost; trying again.').waitFor();
    await say(page, 'still here');
    await reads(answers(page), ['still here']);
  } finally {
    mock.chat.storeAway = false;
  }
});

test('a browser with a wrong clock is corrected by the server', { skip: !isMock && 'only the mock has another clock' }, async () => {
  const mock = /** @type {NonNullable<typeof stage.mock>} */ (stage.mock);
  const page = await openChat(await stage.person());
  await say(page, 'in time');
  await reads(answers(page), ['in time']);
  // From here on the browser is a minute ahead, and has no welcome to learn it from.
  mock.chat.skewMs = -60_000;
  try {
    await say(page, 'ahead of time');
    await reads(answers(page), ['in time', 'ahead of time']);
    await reads(own(page), ['in time', 'ahead of time']);
  } finally {
    mock.chat.skewMs = 0;
  }
});

test('a refused message stays on screen, says why, and can be sent again', { skip: !isMock && 'only the mock refuses on demand' }, async () => {
  const mock = /** @type {NonNullable<typeof stage.mock>} */ (stage.mock);
  const page = await openChat(await stage.person());
  await say(page, 'welcome');
  await reads(answers(page), ['welcome']);
  const owners = new Map(mock.chat.conversations);
  mock.chat.conversations.clear();
  await say(page, 'refused');
  await page.getByText('Not sent. There is no such conversation.').waitFor();
  await isAccessible(page);
  await page.reload();
  await page.getByRole('heading', { name: 'This conversation is not here' }).waitFor();
  mock.chat.conversations = owners;
  await page.reload();
  await page.getByRole('button', { name: 'Send again' }).click();
  await reads(answers(page), ['welcome', 'refused']);
  await reads(own(page), ['welcome', 'refused']);
});

test('a token that ran out makes a new guest, and the text is not lost', { skip: !isMock && 'needs a token that is no longer taken' }, async () => {
  const page = await openChat(await stage.person());
  await say(page, 'as the first guest');
  await reads(answers(page), ['as the first guest']);
  await page.evaluate(() => localStorage.setItem('yalo.token', 'no longer good'));
  stage.network.cut();
  await page.getByText('You are a new guest now').waitFor();
  await say(page, 'still mine?');
  await page.getByText('Not sent. There is no such conversation.').waitFor();
  await page.getByRole('button', { name: 'New conversation' }).first().click();
  await say(page, 'as the second guest');
  await reads(answers(page), ['as the second guest']);
});
