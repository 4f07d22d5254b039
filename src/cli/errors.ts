/**
 * Which errors are the user's to mend: they get one line, all others a stack trace.
 * @module
 */

const unexpected: readonly (abstract new (...parameters: never[]) => Error)[] = [
  TypeError,
  ReferenceError,
  SyntaxError,
];

/** Whether an error explains itself. Bugs (type and reference errors, failed assertions) do not. */
export function isExpected(error: Error): boolean {
  return !unexpected.some((kind) => error instanceof kind) && error.name !== 'AssertionError';
}
