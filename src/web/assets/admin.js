/** The admin page: sign-in, the views by address, and the pulse of the flow in the bar. */

import { api } from './admin-api.js';
import { DeadView, lying } from './admin-dead.js';
import { failure, make, plain } from './admin-dom.js';
import { FindView } from './admin-find.js';
import { HealthView, staleWords, verdict } from './admin-health.js';
import { RecordView } from './admin-record.js';
import { Refusal } from './yalo-http.js';

/** @param {string} id */
const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = find('main');

/** @type {RecordView | null} */
let record = null;
/** @type {{ element: HTMLElement, tick?: () => void } | null} */
let view = null;

function signIn() {
  record = null;
  view = null;
  find('bar').hidden = true;
  const token = make('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: '' });
  const note = make('p', { class: 'alarm', role: 'alert' });
  const form = make(
    'form',
    { class: 'card sign-in' },
    make('h1', { class: 'brand' }, make('img', { src: '/favicon.svg', alt: '', width: '28', height: '28' }), 'yalo ', make('span', {}, 'admin')),
    make('label', { for: 'token' }, 'Operator token'),
    token,
    make('button', { class: 'main' }, 'Sign in'),
    note,
    make('p', { class: 'soft' }, 'It is set as admin.token, or was made at the first start and lies in the file admin-token in the data folder.'),
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    note.textContent = '';
    try {
      await api.signIn(token.value.trim());
      begin();
    } catch (error) {
      const isToken = error instanceof Refusal && error.status === 401;
      note.textContent = isToken ? 'This token is not the one. Look it up again and paste it whole.' : failure(error);
      token.select();
    }
  });
  main.replaceChildren(form);
  token.focus();
}

function begin() {
  find('bar').hidden = false;
  void api.live();
  route();
}

/** @param {{ element: HTMLElement, tick?: () => void }} next */
function show(next) {
  if (view === next) return;
  view = next;
  main.replaceChildren(next.element);
}

function route() {
  if (!api.token) return;
  const [place = '', first = '', second = ''] = location.hash.replace(/^#\//, '').split('/');
  if (place === 'health') show(new HealthView());
  else if (place === 'dead') show(new DeadView());
  else if (place === 'find' || place === 'm') {
    const finder = new FindView();
    show(finder);
    if (place === 'm') void finder.seq(Number(first));
  } else {
    record ??= new RecordView();
    show(record);
    if (place === 'o') record.filter(decodeURIComponent(first));
    void record.choose(place === 'c' ? decodeURIComponent(first) : null, second ? Number(second) : null);
  }
  for (const link of document.querySelectorAll('.bar nav a')) {
    const target = link.getAttribute('href')?.slice(2) ?? '';
    const isHere = target === (place === 'm' ? 'find' : place === 'c' || place === 'o' ? '' : place);
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

/** The bar says how it flows now or, without news, since when that is not known. */
function drawPulse() {
  const { stats } = api;
  if (!stats) return;
  const { isGood, words } = verdict(stats);
  const { behind } = stats.audit_gap;
  const full = isGood || behind === 0 ? words : `${words}, ${plain(behind)} not stored yet`;
  const text = api.isStale ? staleWords() : full;
  find('dot').classList.toggle('good', isGood && !api.isStale);
  // Said once, not each second: it is read aloud.
  if (find('pulse').textContent !== text) find('pulse').textContent = text;
}

api.addEventListener('stats', () => {
  const { stats } = api;
  if (!stats) return;
  drawPulse();
  const letters = lying(stats);
  find('lying').hidden = letters === 0;
  find('lying').textContent = plain(letters);
  view?.tick?.();
});
// Figures grow old also while nothing comes.
const look = () => {
  if (!api.token || !api.isStale) return;
  drawPulse();
  view?.tick?.();
};
api.addEventListener('lost', look);
setInterval(look, 1000);
api.addEventListener('signed-out', signIn);
find('sign-out').addEventListener('click', () => api.signOut());
find('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', route);

if (api.token) begin();
else signIn();
