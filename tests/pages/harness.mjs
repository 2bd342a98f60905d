/** A browser before a server, through a network that can be cut. Every page that ends with an error in it fails its test. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { contractOf } from './contract.mjs';
import { startMock } from './mock.mjs';
import { startProxy } from './proxy.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'];

/** @typedef {import('playwright-core').Page} Page */
/** @typedef {import('playwright-core').BrowserContext} Context */

/** Whether the tests talk to a mock: some things only a mock can be told to do. */
export const isMock = !process.env.YALO_URL;

/** @param {{ noSockets?: boolean }} [options] */
export async function startStage(options = {}) {
  const mock = isMock || options.noSockets ? await startMock(options) : null;
  const target = mock?.url ?? String(process.env.YALO_URL);
  const adminUrl = mock?.adminUrl ?? String(process.env.YALO_ADMIN_URL);
  const adminToken = mock?.adminToken ?? String(process.env.YALO_ADMIN_TOKEN);
  const network = await startProxy(target);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  const contracts = { frontend: contractOf('openapi.json'), admin: contractOf('admin-openapi.json') };
  /** @type {string[]} */
  const complaints = [];
  /** @type {Context[]} */
  const contexts = [];

  /** @param {Page} page */
  function listen(page) {
    page.on('pageerror', (error) => complaints.push(`error in the page: ${error.stack}`));
    page.on('console', (message) => {
      // A cut network and a refused request are logged by the browser itself; that is what the tests make.
      const isNetwork = /net::ERR_|Failed to load resource|WebSocket connection to/.test(message.text());
      if (message.type() === 'error' && !isNetwork) complaints.push(`console: ${message.text()}`);
    });
    page.on('websocket', (socket) => {
      socket.on('framesent', ({ payload }) => contracts.frontend.clientFrame(String(payload)));
      socket.on('framereceived', ({ payload }) => contracts.frontend.serverFrame(String(payload)));
    });
    page.on('response', async (response) => {
      const url = new URL(response.url());
      const contract = url.origin === new URL(adminUrl).origin ? contracts.admin : contracts.frontend;
      const type = response.headers()['content-type'] ?? '';
      if (!url.protocol.startsWith('http') || !type.includes('json')) return;
      const body = await response.text().catch(() => null);
      if (body !== null) contract.answer(response.request().method(), url.pathname, response.status(), type, body);
    });
  }

  /** @param {import('playwright-core').BrowserContextOptions} [settings] */
  async function person(settings = {}) {
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, locale: 'en-GB', ...settings });
    context.setDefaultTimeout(10_000);
    context.on('page', listen);
    contexts.push(context);
    return context;
  }

  return {
    mock,
    network,
    adminUrl,
    adminToken,
    url: network.url,
    person,
    /** Call after each test: closes what it opened, and fails it for any complaint. */
    async settle() {
      await Promise.all(contexts.splice(0).map((context) => context.close()));
      network.up();
      const found = [...complaints.splice(0), ...contracts.frontend.findings.splice(0), ...contracts.admin.findings.splice(0)];
      assert.deepEqual(found, []);
    },
    async stop() {
      await browser.close();
      network.stop();
      mock?.stop();
    },
  };
}

/** @typedef {Awaited<ReturnType<typeof startStage>>} Stage */

/**
 * No serious finding of axe, shadow roots included.
 * @param {Page} page
 */
export async function isAccessible(page) {
  // Injected by the debugger: the page's own policy allows no such script, and shall not.
  await page.evaluate(AXE);
  // @ts-expect-error: `axe` is a global of the page now.
  const { violations } = await page.evaluate(() => axe.run(document));
  const serious = violations.filter((/** @type {any} */ one) => one.impact === 'serious' || one.impact === 'critical');
  assert.deepEqual(serious.map((/** @type {any} */ one) => `${one.id}: ${one.nodes.map((/** @type {any} */ node) => `${node.target} ${node.failureSummary}`)}`), []);
}

/**
 * Nothing sticks out at the side.
 * @param {Page} page
 */
export async function fitsTheWidth(page) {
  const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(Number(inner) <= Number(outer), `the page is ${inner} wide in a window of ${outer}`);
  for (const part of await page.locator('.scroll:visible').all()) {
    const [content, box] = await part.evaluate((element) => [element.scrollWidth, element.clientWidth]);
    assert.ok(Number(content) <= Number(box), `what scrolls is ${content} wide in a box of ${box}`);
  }
}
