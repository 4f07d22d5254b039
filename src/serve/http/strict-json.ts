/**
 * JSON of requests, read without surprises.
 * @module
 */

/** Objects and arrays inside one another that a request may have. */
const DEEPEST = 32;

/** Why a text is not JSON that a request may have. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

/**
 * Parses JSON and refuses what parsers disagree about: keys that are given twice, `__proto__`, and depth that could
 * exhaust a stack.
 * @throws JsonError saying what is wrong and where.
 */
export function parseStrictJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new JsonError(`the body is not JSON: ${(error as Error).message}`, { cause: error });
  }
  checkKeys(text);
  return value;
}

/** Walks the tokens of a text that is known to be JSON. */
function checkKeys(text: string): void {
  /** Keys of the objects that are open; undefined for arrays. */
  const open: (Set<string> | undefined)[] = [];
  let previous = '';
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g)) {
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : undefined);
      if (open.length > DEEPEST) throw new JsonError(`the body is nested deeper than ${DEEPEST} levels`);
    } else if (token === '}' || token === ']') open.pop();
    else if (token.startsWith('"') && (previous === '{' || previous === ',')) {
      const keys = open.at(-1);
      if (keys) addKey(keys, JSON.parse(token) as string, index);
    }
    previous = token;
  }
}

function addKey(keys: Set<string>, key: string, index: number): void {
  if (key === '__proto__') throw new JsonError(`the body has the key '__proto__' at character ${index}`);
  if (keys.has(key))
    throw new JsonError(`the body has the key ${JSON.stringify(key)} twice, again at character ${index}`);
  keys.add(key);
}
