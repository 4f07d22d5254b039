/**
 * One line for every request that was answered.
 * @module
 */

/** What a line tells. Never a header, a body or a query: those may hold keys and prompts. */
export interface AccessRecord {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly status: number;
  /** Until the last byte. */
  readonly milliseconds: number;
  readonly requestId: string;
  /** Why it failed, of faults of our own. */
  readonly failure?: string;
}

/** Characters of a path that are told. */
const LONGEST = 200;

/** The line, without its end. */
export function accessLine(record: AccessRecord, now = new Date()): string {
  const { method, path, status, milliseconds, requestId, failure } = record;
  const line = `${now.toISOString()} ${requestId} ${printable(method)} ${printable(path)} ${status} ${milliseconds.toFixed(0)} ms`;
  return failure === undefined ? line : `${line} ${printable(failure, 4000)}`;
}

/** A text that cannot begin a line, move a cursor or change a colour: everything but visible ASCII is escaped. */
export function printable(text: string, longest = LONGEST): string {
  const cut = text.length > longest ? `${text.slice(0, longest)}…` : text;
  return cut.replaceAll(/[^\x20-\x7e…]|\\/g, (character) =>
    character === '\\' ? '\\\\' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
