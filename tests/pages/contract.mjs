/** Holds what a browser sends and receives against the two OpenAPI documents. */

import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

/** @param {string} name */
const load = (name) => JSON.parse(readFileSync(new URL(`../../src/web/assets/${name}`, import.meta.url), 'utf8'));

/** @param {string} file */
export function contractOf(file) {
  const document = load(file);
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  formats.default(ajv);
  ajv.addSchema(document, 'api');
  /** @type {string[]} */
  const findings = [];
  /** @type {Map<string, import('ajv').ValidateFunction>} */
  const validators = new Map();

  /**
   * @param {string} pointer
   * @param {unknown} value
   * @param {string} what
   */
  function check(pointer, value, what) {
    const validate = validators.get(pointer) ?? ajv.compile({ $ref: `api${pointer}` });
    validators.set(pointer, validate);
    if (!validate(value)) findings.push(`${what}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(value).slice(0, 400)}`);
  }

  /**
   * The route of a path, as the document writes it.
   * @param {string} path
   */
  function routeOf(path) {
    return Object.keys(document.paths).find((route) => new RegExp(`^${route.replace(/\{\w+\}/g, '[^/]+')}$`).test(path));
  }

  return {
    document,
    findings,
    /**
     * @param {string} name
     * @param {unknown} value
     */
    schema: (name, value) => check(`#/components/schemas/${name}`, value, name),
    /** @param {string} text */
    clientFrame: (text) => check('#/components/schemas/ClientFrame', JSON.parse(text), 'frame sent'),
    /** @param {string} text */
    serverFrame: (text) => check('#/components/schemas/ServerFrame', JSON.parse(text), 'frame received'),
    /**
     * @param {string} method
     * @param {string} path
     * @param {number} status
     * @param {string} type
     * @param {string} body
     */
    answer(method, path, status, type, body) {
      const what = `${method} ${path} ${status}`;
      const route = routeOf(path);
      const responses = route && document.paths[route][method.toLowerCase()]?.responses;
      if (!route || !responses) return findings.push(`${what}: no such route in the document`);
      const key = responses[status] ? String(status) : 'default';
      const media = type.split(';')[0] ?? '';
      if (media !== 'application/json' && media !== 'application/problem+json') return 0;
      const escaped = route.replaceAll('~', '~0').replaceAll('/', '~1').replaceAll('{', '%7B').replaceAll('}', '%7D');
      const local = responses[key]?.$ref ?? `#/paths/${escaped}/${method.toLowerCase()}/responses/${key}`;
      return check(`${local}/content/${media.replace('/', '~1').replace('+', '%2B')}/schema`, JSON.parse(body), what);
    },
  };
}
