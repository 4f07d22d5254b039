/**
 * JSON values, and an encoder that refuses what JSON would silently lose.
 * @module
 */

/** A value that JSON keeps exactly. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** An object of {@link JsonValue}s. */
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/**
 * JSON text of a value. `JSON.stringify` turns NaN into null and drops functions and `undefined` array entries; here
 * these are errors, because a state that is written must come back the same. Keys whose value is `undefined` are left
 * out.
 *
 * @param indent spaces per level; 0 gives one line.
 * @throws TypeError in one line that names the key.
 */
export function encodeJson(value: unknown, indent = 0): string {
  check(value, '');
  return JSON.stringify(value, undefined, indent);
}

function check(value: unknown, path: string): void {
  const where = path || 'the value';
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return;
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError(`${where} is ${value}, which JSON cannot hold`);
      return;
    case 'object':
      if (value === null) return;
      if (Array.isArray(value)) return value.forEach((item, index) => check(item, `${path}[${index}]`));
      if (ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set)
        throw new TypeError(`${where} is a ${value.constructor.name}; give a plain object or array`);
      for (const [key, item] of Object.entries(value)) {
        if (item !== undefined) check(item, path ? `${path}.${key}` : key);
      }
      return;
    default:
      throw new TypeError(`${where} is a ${typeof value}, which JSON cannot hold`);
  }
}
