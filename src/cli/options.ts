/**
 * Parsers of command-line options.
 * @module
 */
import { InvalidArgumentError, Option } from 'commander';
import { expertForms } from '../train/index.js';
import { setPath } from '../recipes/index.js';
import { policyNames } from '../serve/index.js';
import { parseBytes } from '../serve/index.js';

/** Gathers an option that may be given several times. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}

/** How the experts of a compressed model are computed. */
export function expertsOption(): Option {
  return new Option(
    '--experts <form>',
    'of a compressed model: rebuilt when it is loaded, or computed from the factors as they are stored',
  ).choices(expertForms);
}

/** Policies of those who do not know the future. */
const policies = policyNames.filter((name) => name !== 'belady');

/** Which expert gives way under a budget. */
export function policyOption(): Option {
  return new Option('--policy <name>', 'under a budget: which expert gives way').choices(policies);
}

/** What `--policy static` goes by. */
export function routingTraceOption(): Option {
  return new Option(
    '--routing-trace <file>',
    'for --policy static: what `inspect --routing … --json` printed, a text a line',
  );
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

/** An amount of memory, for commander. */
export function bytesOption(text: string): number {
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** What `--set model.…=value` changes in the configuration of a trained model. */
export function changeModel(overrides: readonly string[] = []): (config: object) => void {
  const stray = overrides.find((override) => !override.startsWith('model.'));
  if (stray !== undefined)
    throw new Error(
      `--set ${stray}: a trained model has only its model section, such as model.sparse.router.stats=prefix`,
    );
  return (config) => {
    for (const override of overrides) setPath({ model: config }, override);
  };
}
