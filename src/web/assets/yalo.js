/**
 * The client of yalo: `YaloClient` to talk from a program, `<yalo-chat>` to talk from a page.
 *
 * ```html
 * <script type="module" src="https://chat.example.org/yalo.js"></script>
 * <yalo-chat></yalo-chat>
 * ```
 *
 * Text that a person sent is kept in the browser until the server has stored it: through reloads, lost connections and
 * restarts of the server. No dependencies, no build step.
 */

import { YaloChat } from './yalo-chat.js';

export { YaloClient } from './yalo-client.js';
export { Conversation } from './yalo-conversation.js';
export { Refusal, Unreachable } from './yalo-http.js';
export { YaloChat };

if (!customElements.get('yalo-chat')) customElements.define('yalo-chat', YaloChat);
