/**
 * Parsers of command-line options.
 * @module
 */
import { InvalidArgumentError } from 'commander';

/** Gathers an option that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** A number in a range, for commander. */
export function numberIn(low: number, high: number, whole = false): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
      const kind = whole ? 'whole number' : 'number';
      const range = high === Infinity ? `of at least ${low}` : `from ${low} to ${high}`;
      throw new InvalidArgumentError(`expected a ${kind} ${range}, not '${text}'`);
    }
    return value;
  };
}
