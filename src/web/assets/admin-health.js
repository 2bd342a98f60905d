/** The health of the flow, live: what is stored, how fast it comes, how full the stream is, how far each reader is. */

import { api } from './admin-api.js';
import { make, plain, size, span, time } from './admin-dom.js';

/** @typedef {import('./admin-api.js').Stats} Stats */

const SVG = 'http://www.w3.org/2000/svg';
/** A reader may be this far behind at any moment without anything being wrong. */
const BUSY = 1000;

/**
 * One sentence about the flow, and whether it is good.
 * @param {Stats} stats
 * @returns {{ isGood: boolean, words: string }}
 */
export function verdict(stats) {
  const { stream } = stats;
  const unanswered = stats.consumers.filter(({ name }) => name.startsWith('bot-')).reduce((sum, one) => sum + one.pending, 0);
  const fill = stream && stream.max_bytes > 0 ? stream.bytes / stream.max_bytes : 0;
  if (!stream) return { isGood: false, words: 'The stream cannot be asked right now' };
  if (stats.proof.flawed > 0) return { isGood: false, words: `${plain(stats.proof.flawed)} stored messages are missing or altered` };
  if (fill >= 0.9) return { isGood: false, words: 'The stream is nearly full: users are refused' };
  if (stats.audit_gap.behind > BUSY) return { isGood: false, words: `The store is ${plain(stats.audit_gap.behind)} messages behind` };
  if (unanswered > BUSY) return { isGood: false, words: `${plain(unanswered)} questions wait for a bot` };
  return { isGood: true, words: 'Everything flows' };
}

/** Since when the figures are those of the past, and why. */
export function staleWords() {
  const since = `Figures are from ${time(api.stats?.at ?? null).textContent}`;
  return api.isOpen ? `${since}: the server gets no news of stream or store` : `${since}: we lost the connection, trying again`;
}

/** @typedef {{ atMs: number, seq: number }} Sample */

/**
 * Messages a second between two samples. A stream that was made anew counts from below.
 * @param {Sample} before
 * @param {Sample} after
 */
export function rateBetween(before, after) {
  return Math.max(0, ((after.seq - before.seq) * 1000) / Math.max(1, after.atMs - before.atMs));
}

/** Between neighbouring samples. */
function rates() {
  const { samples } = api;
  return samples.slice(1).map((sample, index) => rateBetween(samples[index] ?? sample, sample));
}

/** Over the last five seconds; a dash until there is something to compare with. */
function rateNow() {
  const last = api.samples.slice(-6);
  const [first, newest] = [last[0], last.at(-1)];
  if (!first || !newest || first === newest) return '–';
  return rateBetween(first, newest).toLocaleString(undefined, { maximumFractionDigits: 1 });
}

export class HealthView {
  element = make('div', { class: 'page' });
  #dot = make('span', { class: 'dot', 'aria-hidden': 'true' });
  #words = make('h1');
  #cards = make('div', { class: 'grid' });
  #chart = document.createElementNS(SVG, 'svg');
  #line = document.createElementNS(SVG, 'path');
  #area = document.createElementNS(SVG, 'path');
  #peak = make('span', { class: 'soft' });
  #meter = make('meter', { min: '0', max: '1', high: '0.8', optimum: '0', 'aria-label': 'How full the stream is' });
  #fill = make('span', { class: 'soft' });
  #rows = make('tbody');
  #proof = make('p', { class: 'proof' });
  #findings = make('ul', { class: 'findings' });

  constructor() {
    this.#chart.setAttribute('class', 'spark');
    this.#chart.setAttribute('viewBox', '0 0 180 50');
    this.#chart.setAttribute('preserveAspectRatio', 'none');
    this.#chart.setAttribute('role', 'img');
    this.#area.setAttribute('class', 'area');
    this.#chart.append(this.#area, this.#line);
    const heads = ['Reader', 'Waiting messages', 'Unacknowledged', 'Redelivered', 'Open pulls', 'Acknowledged to', 'Delivered to'];
    const head = make('thead', {}, make('tr', {}, ...heads.map((words) => make('th', { scope: 'col' }, words))));
    /** @param {string} title @param {Node} aside @param {Node} content */
    const card = (title, aside, content) => make('section', { class: 'card wide' }, make('header', {}, make('h2', {}, title), aside), content);
    const table = make('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Readers of the stream' }, make('table', {}, head, this.#rows));
    this.element.append(
      make('header', { class: 'headline' }, this.#dot, this.#words),
      this.#cards,
      card('Proof of the record', make('span'), make('div', {}, this.#proof, this.#findings)),
      card('Messages a second, the last three minutes', this.#peak, this.#chart),
      card('Stream', this.#fill, this.#meter),
      card('Readers', make('span'), table),
    );
    this.tick();
  }

  /** Each second. */
  tick() {
    const { stats } = api;
    if (!stats) {
      this.#words.textContent = 'Asking';
      return;
    }
    const { isStale } = api;
    const now = verdict(stats);
    const words = isStale ? staleWords() : now.words;
    this.#dot.classList.toggle('good', now.isGood && !isStale);
    this.element.classList.toggle('stale', isStale);
    if (this.#words.textContent !== words) this.#words.textContent = words;
    this.#drawCards(stats);
    this.#drawProof(stats);
    this.#drawChart();
    this.#drawStream(stats);
    this.#drawReaders(stats);
  }

  /** @param {Stats} stats */
  #drawCards(stats) {
    /** @param {string} name @param {string} value @param {Node | string} [below] */
    const card = (name, value, below = '') => make('div', { class: 'card' }, make('p', { class: 'soft' }, name), make('p', { class: 'big' }, value), make('p', { class: 'soft' }, below));
    const gap = stats.audit_gap.behind;
    this.#cards.replaceChildren(
      card('Stored messages', plain(stats.messages), stats.first_seq === null ? 'None yet' : `${plain(stats.first_seq)} to ${plain(stats.last_seq ?? 0)}`),
      card('Conversations', stats.conversations === null ? 'Not counted' : plain(stats.conversations), time(stats.last_at)),
      card('A second', rateNow(), `${plain(stats.last_minute)} in the last minute`),
      card('Last hour', plain(stats.last_hour), `${plain(stats.last_day)} in the last day`),
      card('Not stored yet', plain(gap), gap === 0 ? 'The store has everything' : 'The stream holds them'),
    );
  }

  /**
   * Rewritten only when it says something else: a person may be reading or copying a finding.
   * @param {Stats} stats
   */
  #drawProof({ at, proof }) {
    const age = proof.at === null ? '' : `, ${span(Date.parse(at) - Date.parse(proof.at))} ago`;
    const upTo = proof.to === 0 ? 'Nothing is checked yet' : `up to #${plain(proof.to)}${age}`;
    const stuck = proof.trouble === null ? '' : ` It does not go on: ${proof.trouble}. It is tried again.`;
    if (proof.flawed === 0) this.#proof.textContent = `${proof.to === 0 ? upTo : `Proved ${upTo}: nothing is missing, nothing is altered`}.${stuck}`;
    else this.#proof.textContent = `${plain(proof.flawed)} messages are not as they must be (checked ${upTo}). Run yalo audit verify for all of them; with --repair it stores what is missing and the stream still holds. What was altered is restored from a backup.${stuck}`;
    this.#proof.classList.toggle('alarm', proof.flawed > 0 || proof.trouble !== null);
    const words = proof.findings.map((finding) => finding.words);
    if (words.join('\n') === [...this.#findings.children].map((item) => item.textContent).join('\n')) return;
    this.#findings.replaceChildren(...words.map((finding) => make('li', { class: 'alarm' }, finding)));
  }

  #drawChart() {
    const points = rates();
    const most = Math.max(1, ...points);
    const start = 180 - points.length;
    const path = points.map((rate, index) => `${index === 0 ? 'M' : 'L'}${start + index} ${(48 - (rate / most) * 46).toFixed(1)}`).join('');
    this.#line.setAttribute('d', path || 'M0 48H180');
    this.#area.setAttribute('d', path ? `${path}L179 50L${start} 50Z` : '');
    const now = points.at(-1) ?? 0;
    this.#peak.textContent = `most ${most.toLocaleString(undefined, { maximumFractionDigits: 0 })}`;
    this.#chart.setAttribute('aria-label', `${Math.round(now)} messages a second now, at most ${Math.round(most)}`);
  }

  /** @param {Stats} stats */
  #drawStream(stats) {
    const { stream } = stats;
    if (!stream) {
      this.#fill.textContent = 'It cannot be asked right now.';
      return;
    }
    const share = stream.max_bytes > 0 ? stream.bytes / stream.max_bytes : 0;
    this.#meter.value = share;
    const limit = stream.max_bytes > 0 ? ` of ${size(stream.max_bytes)} (${(share * 100).toFixed(1)} %)` : '';
    this.#fill.textContent = `${size(stream.bytes)}${limit}, ${plain(stream.messages)} messages, ${plain(stream.first_seq)} to ${plain(stream.last_seq)}`;
  }

  /** @param {Stats} stats */
  #drawReaders(stats) {
    this.#rows.replaceChildren(
      ...stats.consumers.map((one) => {
        const cells = [one.pending, one.ack_pending, one.redelivered, one.waiting, one.ack_floor, one.delivered];
        const isLate = one.pending > BUSY || one.redelivered > 0;
        return make('tr', isLate ? { class: 'late' } : {}, make('th', { scope: 'row' }, one.name), ...cells.map((cell) => make('td', {}, plain(cell))));
      }),
    );
  }
}
