/** The parts of `<yalo-chat>` as DOM: one message, its text, its state. Text never becomes markup. */

const SVG = 'http://www.w3.org/2000/svg';

const ICONS = {
  send: 'M12 20V5M5.5 11.5 12 5l6.5 6.5',
  stop: 'M7 7h10v10H7z',
  clock: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 8v4.5l3 1.5',
  stored: 'm5 12.5 4.5 4.5L19 7.5',
  answered: 'm2.5 12.5 4.5 4.5 9-9.5M12 16l1 1 9-9.5',
  alarm: 'M12 8v5M12 16.5v.01M12 3.5 2.5 20h19z',
  talk: 'M5 5h14a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-7l-5 4v-4H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2z',
};

/**
 * @typedef {object} Shown One message as it is to be drawn.
 * @property {string} key
 * @property {'message' | 'event' | 'day'} type
 * @property {string} [style] Class names.
 * @property {string} [name]
 * @property {string} [said] For those who cannot see on which side it stands.
 * @property {string} [text]
 * @property {string} [at] RFC 3339.
 * @property {{ icon: keyof typeof ICONS, words: string }} [state]
 * @property {{ words: string, act: () => void }[]} [acts]
 */

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
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const path = document.createElementNS(SVG, 'path');
  const attributes = { viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': '2', 'stroke-linecap': 'round' };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  svg.setAttribute('stroke-linejoin', 'round');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Fills `parent` with a text: fenced code as such, web addresses as links, everything else as it is.
 * @param {Element} parent
 * @param {string} text
 */
export function fillText(parent, text) {
  const parts = text.split(/\n?^```[^\n`]*\n([\s\S]*?)\n?^```[ \t]*$\n?/m);
  const nodes = parts.flatMap((part, index) => {
    if (part === '') return [];
    return index % 2 === 1 ? [make('pre', { dir: 'ltr', tabindex: '0' }, make('code', {}, part))] : linked(part);
  });
  parent.replaceChildren(...nodes);
}

/**
 * @param {string} text
 * @returns {(Node | string)[]}
 */
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}…。，])/).map((part, index) => {
    const isAddress = index % 2 === 1 && URL.canParse(part);
    return isAddress ? make('a', { href: part, target: '_blank', rel: 'noopener noreferrer nofollow' }, part) : part;
  });
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const dayOf = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });

/**
 * The day of an instant, in words.
 * @param {string} at
 */
export function dayName(at) {
  const day = new Date(at);
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (day.toDateString() === today.toDateString()) return 'Today';
  if (day.toDateString() === yesterday.toDateString()) return 'Yesterday';
  return dayOf.format(day);
}

/**
 * @param {Shown} shown
 * @returns {HTMLElement}
 */
export function draw(shown) {
  if (shown.type === 'day') return make('div', { class: 'day' }, shown.text ?? '');
  if (shown.type === 'event') return make('div', { class: 'event', dir: 'auto' }, shown.text ?? '');
  const text = make('div', { class: 'text', dir: 'auto' });
  fillText(text, shown.text ?? '');
  const element = make('div', { class: `message ${shown.style ?? ''}` });
  if (shown.name) element.append(make('p', { class: 'name', dir: 'auto' }, shown.name));
  if (shown.said) element.append(make('span', { class: 'quiet' }, shown.said));
  element.append(text, meta(shown));
  return element;
}

/**
 * @param {Shown} shown
 * @returns {HTMLElement}
 */
function meta(shown) {
  const line = make('div', { class: 'meta' });
  if (shown.at) {
    const at = new Date(shown.at);
    line.append(make('time', { datetime: shown.at, title: full.format(at) }, clock.format(at)));
  }
  if (shown.state) line.append(icon(shown.state.icon), make('span', { class: 'state' }, shown.state.words));
  for (const { words, act } of shown.acts ?? []) {
    const button = make('button', { type: 'button' }, words);
    button.addEventListener('click', act);
    line.append(button);
  }
  return line;
}
