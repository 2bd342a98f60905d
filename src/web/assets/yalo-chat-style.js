/** How `<yalo-chat>` looks. A constructed sheet, so that a page with a strict content policy can embed it. */

const css = `
:host {
  --ink: #1d2321; --soft: #5c6763; --faint: #e3e6e1; --paper: #fbfaf7; --raised: #ffffff; --own: #dcebe4; --own-ink: #14312a;
  --accent: #2b6a5c; --accent-ink: #ffffff; --alarm: #9a3412; --alarm-paper: #fdf0e7; --code: #f0f1ec; --shadow: 0 1px 2px #1d232114, 0 6px 24px #1d23210f;
  color-scheme: light dark; display: block; block-size: 100%; min-block-size: 16rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; text-align: start;
}
@media (prefers-color-scheme: dark) {
  :host {
    --ink: #e5eae7; --soft: #9aa7a1; --faint: #2c3432; --paper: #141817; --raised: #1c2220; --own: #214239; --own-ink: #e3f3ed;
    --accent: #7fc8b4; --accent-ink: #0d201b; --alarm: #f3a77c; --alarm-paper: #33221a; --code: #212826; --shadow: 0 1px 2px #0006, 0 6px 24px #0005;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.frame { position: relative; display: flex; flex-direction: column; block-size: 100%; min-inline-size: 0; overflow: hidden; }
.quiet { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
button { font: inherit; color: inherit; cursor: pointer; border: 0; background: none; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.banner { display: flex; gap: .75rem; align-items: center; justify-content: center; flex-wrap: wrap; padding: .5rem 1rem; font-size: .9rem; color: var(--alarm); background: var(--alarm-paper); }
.banner button { padding: .1rem .7rem; border: 1px solid currentColor; border-radius: 99px; }

.scroll { flex: 1; min-block-size: 0; overflow-y: auto; overscroll-behavior: contain; scrollbar-gutter: stable both-edges; }
.scroll:focus-visible { outline-offset: -3px; }
.column { display: flex; flex-direction: column; min-block-size: 100%; max-inline-size: 46rem; margin-inline: auto; padding: 1.25rem 1.25rem .75rem; }
.older { align-self: center; margin-block-end: 1rem; padding: .25rem .9rem; font-size: .85rem; color: var(--soft); border: 1px solid var(--faint); border-radius: 99px; }
.older:hover { color: var(--ink); }

.empty { margin: auto; padding: 2rem 0; text-align: center; max-inline-size: 30rem; }
.empty svg { inline-size: 3.25rem; block-size: 3.25rem; color: var(--accent); }
.empty h2 { margin: .75rem 0 .35rem; font-size: 1.45rem; font-weight: 600; letter-spacing: -.01em; }
.empty p { margin: 0; color: var(--soft); text-wrap: balance; }
.chips { display: flex; flex-wrap: wrap; gap: .5rem; justify-content: center; margin-block-start: 1.4rem; }
.chips button { padding: .45rem 1rem; border: 1px solid var(--faint); border-radius: 99px; background: var(--raised); transition: border-color .15s; }
.chips button:hover { border-color: var(--accent); }

.log { display: flex; flex-direction: column; margin-block-start: auto; }
.day { align-self: center; margin: 1.1rem 0 .6rem; font-size: .78rem; color: var(--soft); }
.message { display: flex; flex-direction: column; align-items: flex-start; max-inline-size: 100%; margin-block-start: .85rem; }
.message.same { margin-block-start: .3rem; }
.message.own { align-items: flex-end; }
.name { margin: 0 0 .1rem; font-size: .8rem; font-weight: 600; color: var(--soft); }
.same .name { display: none; }
.text { max-inline-size: 100%; min-inline-size: 0; overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: plaintext; }
.own .text { max-inline-size: min(85%, 36rem); padding: .5rem .9rem; border-radius: 1.15rem; border-end-end-radius: .4rem; color: var(--own-ink); background: var(--own); }
.text a { color: inherit; text-decoration-color: var(--accent); text-underline-offset: .15em; }
.text a:hover { color: var(--accent); }
.text pre { margin: .4rem 0; padding: .7rem .9rem; overflow-x: auto; overflow-wrap: normal; white-space: pre; unicode-bidi: isolate; border-radius: .6rem; background: var(--code); font: .88rem/1.5 ui-monospace, "SF Mono", Consolas, monospace; }
.apology .text, .stopped .text { color: var(--soft); font-style: italic; }
.meta { display: flex; gap: .35rem; align-items: center; flex-wrap: wrap; margin-block-start: .15rem; font-size: .75rem; color: var(--soft); }
.own .meta { justify-content: flex-end; padding-inline-end: .3rem; }
.message:not(.own) .meta { opacity: 0; transition: opacity .15s; }
.message:hover .meta, .message:focus-within .meta, .message.last .meta { opacity: 1; }
@media (hover: none) { .message:not(.own) .meta { opacity: 1; } }
.meta svg { inline-size: .95rem; block-size: .95rem; }
.meta button { padding: 0 .3rem; text-decoration: underline; text-underline-offset: .15em; border-radius: .3rem; color: inherit; }
.meta button:hover { color: var(--ink); }
.sending .text { opacity: .72; }
.failed .meta { color: var(--alarm); }
.event { align-self: center; margin-block: .7rem; font-size: .85rem; color: var(--soft); text-align: center; }

.dots { display: inline-flex; gap: .3rem; padding: .55rem .1rem; }
.dots i { inline-size: .45rem; block-size: .45rem; border-radius: 50%; background: var(--soft); animation: breathe 1.2s infinite ease-in-out; }
.dots i:nth-child(2) { animation-delay: .15s; }
.dots i:nth-child(3) { animation-delay: .3s; }
@keyframes breathe { 0%, 60%, 100% { opacity: .3; } 30% { opacity: 1; } }

.jump { position: absolute; inset-block-end: 100%; inset-inline-start: 50%; translate: -50%; margin-block-end: .5rem; padding: .3rem .9rem; font-size: .85rem; border-radius: 99px; color: var(--ink); background: var(--raised); box-shadow: var(--shadow); border: 1px solid var(--faint); }
.jump:dir(rtl) { translate: 50%; }
.composer { position: relative; inline-size: 100%; max-inline-size: 46rem; margin: 0 auto; padding: 0 1.25rem max(.9rem, env(safe-area-inset-bottom)); }
.box { display: flex; align-items: flex-end; gap: .4rem; padding: .4rem .4rem .4rem 1rem; border: 1px solid var(--faint); border-radius: 1.5rem; background: var(--raised); box-shadow: var(--shadow); transition: border-color .15s; }
.box:focus-within { border-color: var(--accent); }
textarea { flex: 1; min-inline-size: 0; max-block-size: 38vh; padding: .42rem 0; font: inherit; color: inherit; background: none; border: 0; outline: 0; resize: none; field-sizing: content; unicode-bidi: plaintext; overflow-wrap: anywhere; }
textarea:focus-visible { outline: none; }
textarea::placeholder { color: var(--soft); opacity: 1; }
.send, .stop { display: grid; place-items: center; flex: none; inline-size: 2.4rem; block-size: 2.4rem; border-radius: 50%; transition: background-color .15s, opacity .15s; }
.send { color: var(--accent-ink); background: var(--accent); }
.send:dir(rtl) svg { scale: -1 1; }
.send:disabled { color: var(--soft); background: var(--faint); cursor: default; }
.stop { border: 1px solid var(--faint); color: var(--ink); }
.send svg, .stop svg { inline-size: 1.15rem; block-size: 1.15rem; }
.hint { min-block-size: 1.2em; margin: .35rem 1rem 0; font-size: .78rem; color: var(--soft); }
.hint.over { color: var(--alarm); }
@media (max-width: 40rem) {
  .column { padding-inline: .9rem; }
  .composer { padding-inline: .6rem; }
  .hint:empty { display: none; }
}
@media (prefers-reduced-motion: reduce) {
  * { animation: none !important; transition: none !important; scroll-behavior: auto !important; }
}
@media (forced-colors: active) { .own .text, .box { border: 1px solid; } }
`;

export const sheet = new CSSStyleSheet();
sheet.replaceSync(css);
