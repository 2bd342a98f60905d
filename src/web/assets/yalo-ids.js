/** Identities and sizes: message ids with the time in them, and text as the server counts it. */

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The longest text of a message, in bytes of UTF-8. */
export const TEXT_BYTES = 16 * 1024;

/**
 * A UUID of version 7. The server refuses ids whose time is off, so the caller passes the corrected clock.
 * @param {number} nowMs
 * @returns {string}
 */
export function uuid7(nowMs) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, Math.floor(nowMs / 0x1_0000_0000));
  view.setUint32(2, nowMs % 0x1_0000_0000);
  view.setUint8(6, 0x70 | (view.getUint8(6) & 0x0f));
  view.setUint8(8, 0x80 | (view.getUint8(8) & 0x3f));
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/**
 * The size of a text as the server counts it.
 * @param {string} text
 */
export function utf8Bytes(text) {
  return encoder.encode(text).length;
}

/**
 * The first `length` bytes of a text, for drafts whose offset steps back.
 * @param {string} text
 * @param {number} length
 */
export function utf8Prefix(text, length) {
  return decoder.decode(encoder.encode(text).subarray(0, length));
}

/**
 * What a keyboard or the clipboard gave, without what no message may hold: NUL and halves of a character.
 * @param {string} text
 */
export function cleanText(text) {
  return text.replaceAll('\0', '').replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD');
}
