/** Small makers of DOM for the admin page, and the ways it writes times, numbers and failures. */

import { Refusal, wordsOf } from './yalo-http.js';

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * @param {string} words
 * @param {() => void} act
 * @param {string} [style]
 */
export function button(words, act, style = 'plain') {
  const element = make('button', { type: 'button', class: style }, words);
  element.addEventListener('click', act);
  return element;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/**
 * Today's as a clock, others with their day; the exact instant in the title.
 * @param {string | null} at
 */
export function time(at) {
  if (at === null) return make('span', {}, 'none yet');
  const instant = new Date(at);
  const isToday = instant.toDateString() === new Date().toDateString();
  return make('time', { datetime: at, title: at }, (isToday ? clock : date).format(instant));
}

const UNIT_S = /** @type {const} */ ([['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]]);

/**
 * How long something took, in its largest unit: `12 s`, `3 min`.
 * @param {number} ms
 */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [unit, length] = UNIT_S.find(([, length]) => seconds >= length) ?? ['s', 1];
  return `${Math.floor(seconds / length)} ${unit}`;
}

/** @param {number} number */
export const plain = (number) => number.toLocaleString();

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

/** @param {number} bytes */
export function size(bytes) {
  let unit = 0;
  let rest = bytes;
  for (; rest >= 1024 && unit < UNITS.length - 1; unit += 1) rest /= 1024;
  return `${rest.toLocaleString(undefined, { maximumFractionDigits: unit === 0 ? 0 : 1 })} ${UNITS[unit]}`;
}

/**
 * What to tell of a failure, with the next step.
 * @param {unknown} error
 */
export function failure(error) {
  if (error instanceof Refusal) return wordsOf(error.problem);
  return 'The server does not answer. Trying again helps when it is back.';
}

/** @param {unknown} error */
export const failureNote = (error) => make('p', { class: 'note', role: 'alert' }, failure(error));
