/**
 * Reads recipes: by path or by the name of one that comes with the package, with overrides from the command line.
 * @module
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { explainIssues, nearestKey } from './explain.js';
import { recipeSchema, type Recipe } from './schema.js';

/** Thrown for anything wrong with a recipe; the message has one line per problem. */
export class RecipeError extends Error {
  override readonly name = 'RecipeError';
}

/** Folder of the recipes in the package. */
const LIBRARY = fileURLToPath(new URL('../../recipes/', import.meta.url));

/** Path of a recipe in the package. */
export function recipePath(name: string): string {
  return `${LIBRARY}${name}.json`;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Names of the recipes in the package; those of folders with the folder: `paper/switch-base-8`. */
export function recipeNames(): string[] {
  return readdirSync(LIBRARY, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length).split(sep).join('/'))
    .sort();
}

/**
 * Checks a recipe and fills in its defaults.
 * @param source file or other origin, for messages.
 * @throws RecipeError naming the source, and for each problem the key and what would be right.
 */
export function parseRecipe(value: unknown, source: string): Recipe {
  const result = recipeSchema.safeParse(value);
  if (result.success) return result.data;
  throw new RecipeError(`${source}: ${explainIssues(recipeSchema, value, result.error).join('; ')}`);
}

/**
 * Reads a recipe.
 *
 * @param nameOrPath a path to a JSON file, or a name from {@link recipeNames}.
 * @param overrides `path=value` texts; values are JSON, or plain text where they are not.
 * @throws RecipeError if there is no such recipe, it is not JSON, or it does not fit the schema.
 * @example
 * const recipe = loadRecipe('shakespeare-switch', ['model.sparse.numExperts=4', 'seed=2']);
 */
export function loadRecipe(nameOrPath: string, overrides: readonly string[] = []): Recipe {
  const path = isFile(nameOrPath) ? nameOrPath : recipePath(nameOrPath);
  if (!isFile(path)) {
    const names = recipeNames();
    const nearest = nearestKey(nameOrPath, names);
    const hint = nearest === undefined ? '' : `did you mean ${nearest}? Otherwise `;
    throw new RecipeError(
      `there is no recipe '${nameOrPath}': ${hint}give the path of a JSON file, or one of ${names.join(', ')}`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new RecipeError(`${path}: not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RecipeError(`${path}: a recipe is a JSON object`);
  }
  for (const override of overrides) setPath(value, override);
  return parseRecipe(value, overrides.length === 0 ? path : `${path} with --set`);
}

/**
 * Applies `path=value` to JSON that was not checked yet.
 * @throws RecipeError if it is no such pair, or the path leads through a value without keys.
 */
export function setPath(root: object, override: string): void {
  const at = override.indexOf('=');
  const keys = override.slice(0, at).split('.');
  if (at < 1 || keys.some((key) => key === '' || key === '__proto__')) {
    throw new RecipeError(`--set ${override}: expected path=value, such as train.steps=500`);
  }
  let node = root as Record<string, unknown>;
  for (const key of keys.slice(0, -1)) {
    const child = node[key];
    if (child === undefined || child === null) node[key] = {};
    else if (typeof child !== 'object') {
      throw new RecipeError(`--set ${override}: '${key}' is ${JSON.stringify(child)}, which has no keys`);
    }
    node = node[key] as Record<string, unknown>;
  }
  const text = override.slice(at + 1);
  let value: unknown = text;
  try {
    value = JSON.parse(text);
  } catch {
    // Not JSON: a plain text such as a path.
  }
  node[keys.at(-1)!] = value;
}

/** Paths at which two recipes differ, with both values: `train.steps: 100 → 200`. */
export function recipeDifferences(before: unknown, after: unknown, path = ''): string[] {
  if (Object.is(before, after)) return [];
  const plain = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null;
  if (!plain(before) || !plain(after)) {
    return [`${path}: ${JSON.stringify(before) ?? 'absent'} → ${JSON.stringify(after) ?? 'absent'}`];
  }
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap((key) =>
    recipeDifferences(before[key], after[key], path === '' ? key : `${path}.${key}`),
  );
}
