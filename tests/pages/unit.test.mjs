/** What needs no browser: the documents are sound, drafts heal, event streams are read in pieces of any size. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { contractOf } from './contract.mjs';

const ASSETS = new URL('../../src/web/assets/', import.meta.url);
const CONVERSATION = '0198c0de-0000-7000-8000-000000000001';

/**
 * @param {unknown} value
 * @param {(node: any) => void} visit
 */
function walk(value, visit) {
  if (value === null || typeof value !== 'object') return;
  visit(value);
  for (const inner of Object.values(value)) walk(inner, visit);
}

for (const file of ['openapi.json', 'admin-openapi.json']) {
  test(`every reference of ${file} leads somewhere, every example is valid, every name is used once`, () => {
    const contract = contractOf(file);
    const { document } = contract;
    const resolve = (/** @type {string} */ ref) => ref.slice(2).split('/').reduce((node, key) => node?.[key], document);
    walk(document, (node) => {
      if (typeof node.$ref === 'string') assert.ok(resolve(node.$ref), node.$ref);
    });
    for (const [name, schema] of Object.entries(document.components.schemas)) {
      for (const example of schema.examples ?? []) contract.schema(name, example);
      if (schema.type === 'object') assert.equal(schema.additionalProperties, false, name);
    }
    const names = Object.values(document.paths).flatMap((path) => Object.values(path).map((operation) => operation.operationId));
    assert.equal(new Set(names).size, names.length);
    assert.deepEqual(contract.findings, []);
  });

  test(`${file} names exactly the files that its page loads`, () => {
    const page = file === 'openapi.json' ? 'chat.html' : 'admin.html';
    /** @type {Set<string>} */
    const loaded = new Set();
    /** @param {string} name */
    const load = (name) => {
      if (loaded.has(name)) return;
      loaded.add(name);
      const text = name.endsWith('.svg') ? '' : readFileSync(new URL(name, ASSETS), 'utf8');
      for (const [, imported, linked] of text.matchAll(/(?:from|import) '\.\/([\w.-]+)'|(?:src|href)="\/([\w.-]+)"/g)) load(imported ?? linked ?? '');
    };
    load(page);
    const { paths } = contractOf(file).document;
    const named = [...paths['/{asset}'].get.parameters[0].schema.enum, ...(paths['/yalo.js'] ? ['yalo.js'] : [])];
    assert.deepEqual([...loaded].filter((name) => name !== page).sort(), named.sort());
    for (const name of named) assert.ok(readdirSync(ASSETS).includes(name), name);
  });
}

test('the schemas refuse what is not in the contract', () => {
  const contract = contractOf('openapi.json');
  contract.serverFrame('{"type":"pong","ref":"1"}');
  contract.serverFrame('{"type":"unheard"}');
  contract.clientFrame('{"type":"hello","colour":"green"}');
  contract.answer('GET', '/v1/conversations', 404, 'application/problem+json', '{"code":"not_found"}');
  assert.equal(contract.findings.length, 4);
});

test('drafts heal after losses, never step back, and give way to the answer', async () => {
  const { Conversation } = await import('../../src/web/assets/yalo-conversation.js');
  const conversation = new Conversation(CONVERSATION, CONVERSATION);
  const reply_to = { id: '0198c0de-0001-7000-8000-00000000000a', seq: 7 };
  /** @param {number} revision @param {number} offset @param {string} text */
  const draft = (revision, offset, text) => conversation.drafted({ reply_to, revision, offset, text });
  draft(1, 0, 'Grüße');
  draft(1, 7, ', 世界');
  assert.equal(conversation.draft?.text, 'Grüße, 世界');
  draft(1, 40, 'lost its middle');
  draft(1, 0, 'Grüße');
  assert.equal(conversation.draft?.text, 'Grüße, 世界', 'a piece from beyond and a late snapshot change nothing');
  draft(1, 0, 'Grüße, 世界 und mehr');
  draft(2, 0, 'Anew');
  draft(1, 4, ' from a bot that was replaced');
  assert.equal(conversation.draft?.text, 'Anew');
  const at = '2026-11-23T22:04:13Z';
  const answer = { id: '0198c0de-0002-7000-8000-00000000000b', conversation: CONVERSATION, who: /** @type {const} */ ('bot'), author: 'echo', kind: 'text', text: 'Done', reply_to, sent_at: at, seq: 9, at, cursor: '1-9' };
  conversation.add([answer, answer], true);
  draft(3, 0, 'too late');
  assert.equal(conversation.draft, null);
  assert.equal(conversation.isWorking, false);
  assert.equal(conversation.messages.length, 1);
  assert.equal(conversation.cursor, '1-9');
});

test('an event stream is read the same in pieces of any size', async () => {
  const { eventParser } = await import('../../src/web/assets/yalo-http.js');
  const stream = ': alive\n\nevent: message\r\nid: 1-2\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:x\r\revent: bye\ndata\n\n';
  for (let size = 1; size < 12; size += 1) {
    /** @type {any[]} */
    const events = [];
    const parse = eventParser((event) => events.push([event.event, event.data, event.id]));
    for (let start = 0; start < stream.length; start += size) parse(stream.slice(start, start + size));
    assert.deepEqual(events, [['message', '{"a":\n1}', '1-2'], ['message', 'x', '1-2'], ['bye', '', '1-2']], `in pieces of ${size}`);
  }
});

test('ids carry the time and are in order of it', async () => {
  const { uuid7, cleanText, utf8Prefix } = await import('../../src/web/assets/yalo-ids.js');
  const contract = contractOf('openapi.json');
  const id = uuid7(0x0198c0de0001);
  contract.schema('MessageId', id);
  assert.deepEqual(contract.findings, []);
  assert.ok(id.startsWith('0198c0de-0001-7'));
  assert.equal(cleanText('a\0b\ud800c\ud83d\ude00'), 'ab\ufffdc\ud83d\ude00');
  assert.equal(utf8Prefix('Grüße', 4), 'Grü');
});
