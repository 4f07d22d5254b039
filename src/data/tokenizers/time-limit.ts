/**
 * Calls that end, whatever a regular expression of a stranger's does.
 * @module
 */
import { createContext, Script } from 'node:vm';

/** Thrown by {@link withinTime}. */
export class TimeLimitError extends Error {
  override readonly name = 'TimeLimitError';
}

const call = new Script('run()');
const context = createContext({ run: undefined }) as { run: (() => unknown) | undefined };

/**
 * What `run` returns; it is cut off when it takes too long, even inside a regular expression. A call costs about a tenth
 * of a millisecond more than without.
 *
 * @param milliseconds of wall-clock time.
 * @throws TimeLimitError; and whatever `run` throws.
 */
export function withinTime<Result>(milliseconds: number, run: () => Result): Result {
  const outer = context.run;
  context.run = run;
  try {
    return call.runInContext(context, { timeout: milliseconds }) as Result;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
      throw new TimeLimitError(`took more than ${milliseconds} ms`);
    throw error;
  } finally {
    context.run = outer;
  }
}
