/**
 * Turns schema errors into lines that say where, what was wrong, and what would be right.
 * @module
 */
import type { z } from 'zod';

interface SchemaDefinition {
  readonly type: string;
  readonly shape?: Readonly<Record<string, Schema>>;
  readonly innerType?: Schema;
  readonly in?: Schema;
  readonly out?: Schema;
  readonly options?: readonly Schema[];
  readonly discriminator?: string;
  readonly values?: readonly unknown[];
  readonly element?: Schema;
}
interface Schema {
  readonly def: SchemaDefinition;
}

/** One line per problem of a failed parse. */
export function explainIssues(schema: z.ZodType, input: unknown, error: z.ZodError): string[] {
  return error.issues.flatMap((issue) => {
    const path = issue.path.map(String);
    if (issue.code !== 'unrecognized_keys') {
      const where = path.length === 0 ? 'the recipe' : path.join('.');
      return [`${where}: ${explainValue(issue, valueAt(input, path))}`];
    }
    const known = knownKeys(schema, input, path);
    return issue.keys.map((key) => {
      const nearest = nearestKey(key, known);
      const hint = nearest ? `did you mean ${nearest}?` : `known keys: ${known.join(', ')}`;
      return `${[...path, key].join('.')}: unknown key; ${hint}`;
    });
  });
}

function explainValue(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code === 'custom') return issue.message;
  if (value === undefined) {
    const expected =
      issue.code === 'invalid_type' ? issue.expected : issue.message.replace(/^.*Expected /, '');
    return `is missing; expected ${expected}`;
  }
  const isShort = ['string', 'number', 'boolean'].includes(typeof value);
  return isShort ? `${issue.message} (got ${JSON.stringify(value)})` : issue.message;
}

function valueAt(input: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], input);
}

/** Keys that the schema has at `path`, following discriminated unions by what the input chose. */
function knownKeys(schema: Schema, input: unknown, path: readonly string[]): string[] {
  let current: Schema | undefined = resolve(schema, input);
  let value = input;
  for (const key of path) {
    const { def } = current ?? schema;
    value = (value as Record<string, unknown> | undefined)?.[key];
    const next = def.shape?.[key] ?? def.element;
    current = next && resolve(next, value);
  }
  return Object.keys(current?.def.shape ?? {});
}

function resolve(schema: Schema, input: unknown): Schema | undefined {
  const { def } = schema;
  // A preprocessed schema is a pipe that begins with a function.
  if (def.type === 'pipe') return resolve(def.in!.def.type === 'transform' ? def.out! : def.in!, input);
  if (def.innerType) return resolve(def.innerType, input);
  if (def.options && def.discriminator !== undefined) {
    const { discriminator } = def;
    const chosen = (input as Record<string, unknown> | undefined)?.[discriminator];
    const fits = (option: Schema): boolean => {
      const literal = resolve(option, input)?.def.shape?.[discriminator];
      return (literal && resolve(literal, chosen)?.def.values?.includes(chosen)) ?? false;
    };
    // The first option is what a section without its discriminator means.
    const option = chosen === undefined ? def.options[0] : def.options.find(fits);
    return option && resolve(option, input);
  }
  return schema;
}

/** The known key that is closest to a misspelt one, or undefined when none is close. */
export function nearestKey(key: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best && best.distance <= Math.max(2, Math.ceil(key.length / 3)) ? best.candidate : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
