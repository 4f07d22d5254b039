/**
 * A grid: one base recipe, several variants of it, several seeds. As JSON, like recipes.
 * @module
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { explainIssues, nearestKey } from '../recipes/index.js';

/** Thrown for anything wrong with a grid; the message is one line that says where. */
export class GridError extends Error {
  override readonly name = 'GridError';
}

/** What a comparison can hold equal. */
export const matchMeasures = ['parameters', 'activeParameters', 'flops'] as const;

/** One of {@link matchMeasures}; `flops` is one token's forward pass at full context. */
export type MatchMeasure = (typeof matchMeasures)[number];

const name = z
  .string()
  .regex(/^\w[\w.-]*$/, 'a name is made of letters, digits, dots, dashes and underscores');
const sections = ['model', 'data', 'train'];
const settings = ['description', 'free', 'match', 'evaluations'];

/** Paths into a recipe with what to write there. */
const overrides = z
  .record(z.string(), z.json())
  .superRefine((value, context) => refuseUnknown(value, context, sections));

const freeSize = z.union([
  z
    .string()
    .min(1)
    .transform((path) => ({ path, multipleOf: 1, min: 1 })),
  z.strictObject({
    path: z.string().min(1),
    /** The size is this many times what the solver finds. */
    multipleOf: z.int().min(1).default(1),
    /** Least multiple that is tried. */
    min: z.int().min(1).default(1),
  }),
]);

/** A size that the solver may set. Several of one variant grow together, each by its own multiple. */
export type FreeSize = z.output<typeof freeSize>;

const variantSchema = z
  .object({
    description: z.string().optional(),
    /** Sizes that are set so that the variant matches the baseline. */
    free: z.array(freeSize).min(1).optional(),
    /** False: stands in the table though it does not match. */
    match: z.boolean().default(true),
    /** Further evaluations of the trained weights with other routing, by name: paths below `model.sparse`. */
    evaluations: z.record(name, overrides).default({}),
  })
  .catchall(z.json())
  .superRefine((value, context) => refuseUnknown(value, context, [...settings, ...sections]));

/** Schema of a grid file. Unknown keys are errors at every level. */
export const gridSchema = z
  .strictObject({
    /** Names the folders of runs and results. */
    name,
    description: z.string().optional(),
    /** A recipe's name or path. */
    base: z.string().min(1),
    /** Changes to the base that all variants share. */
    overrides: overrides.default({}),
    seeds: z
      .array(z.int().min(0))
      .min(1)
      .refine((seeds) => new Set(seeds).size === seeds.length, 'a seed is named twice')
      .default([1, 2, 3]),
    /** The variant that others are compared with; the first when absent. */
    baseline: z.string().optional(),
    /** What is held equal to the baseline; nothing when null. */
    match: z
      .strictObject({
        measure: z.enum(matchMeasures).default('parameters'),
        /** Largest accepted difference, as a fraction of the baseline's. */
        tolerance: z.number().positive().lt(1).default(0.01),
      })
      .nullable()
      .default(null),
    /** By name; each holds `path: value` changes to the base. */
    variants: z.record(name, variantSchema),
    /** Further texts that every run is measured on. */
    evaluate: z
      .array(
        z.strictObject({
          name: z.string().min(1),
          /** A UTF-8 text or a folder of them. */
          path: z.string().min(1),
          /** Batches that are read; null reads all. */
          maxBatches: z.int().min(1).nullable().default(null),
        }),
      )
      .default([]),
  })
  .superRefine(({ variants, baseline, evaluate }, context) => {
    const names = Object.keys(variants);
    if (names.length === 0)
      context.addIssue({ code: 'custom', path: ['variants'], message: 'a grid needs at least one variant' });
    if (baseline !== undefined && !names.includes(baseline)) {
      const message = `there is no variant '${baseline}'; ${suggest(baseline, names)}`;
      context.addIssue({ code: 'custom', path: ['baseline'], message });
    }
    const texts = evaluate.map((text) => text.name);
    const twice = texts.find((text, i) => texts.indexOf(text) !== i);
    if (twice !== undefined)
      context.addIssue({ code: 'custom', path: ['evaluate'], message: `'${twice}' is named twice` });
  });

/** Parsed form of {@link gridSchema}. */
export type Grid = z.output<typeof gridSchema>;
/** One variant of a {@link Grid}. */
export type Variant = Grid['variants'][string];
/** A text beside the validation set. */
export type FurtherText = Grid['evaluate'][number];

/** The changes of a variant to its base, without its settings. */
export function variantOverrides(variant: Variant): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(variant).filter(([key]) => !settings.includes(key)));
}

/** What would have been right instead of an unknown name. */
export function suggest(wrong: string, known: readonly string[]): string {
  const nearest = nearestKey(wrong, known);
  return nearest === undefined ? `known: ${known.join(', ')}` : `did you mean ${nearest}?`;
}

/**
 * Checks a grid and fills in its defaults.
 * @param source file or other origin, for messages.
 * @throws GridError naming the source, and for each problem the key and what would be right.
 */
export function parseGrid(value: unknown, source: string): Grid {
  const result = gridSchema.safeParse(value);
  if (result.success) return result.data;
  const lines = explainIssues(gridSchema, value, result.error);
  throw new GridError(`${source}: ${lines.join('; ').replace(/^the recipe:/, 'the grid:')}`);
}

/** @throws GridError if the file is missing, not JSON, or no grid. */
export function loadGrid(path: string): Grid {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new GridError(`cannot read the grid ${path}: ${(error as Error).message}`);
  }
  try {
    return parseGrid(JSON.parse(text), path);
  } catch (error) {
    if (error instanceof SyntaxError) throw new GridError(`${path}: not JSON: ${error.message}`);
    throw error;
  }
}

function refuseUnknown(value: object, context: z.RefinementCtx, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    const [section, ...rest] = key.split('.');
    const isPath = sections.includes(section) && rest.length > 0;
    if (isPath || (settings.includes(key) && known.includes(key))) continue;
    const message = sections.includes(key)
      ? `a path goes into the section, such as ${key}.…`
      : `unknown key; ${section === 'seed' ? 'seeds belong to the grid' : suggestPath(section, rest, known)}`;
    context.addIssue({ code: 'custom', path: [key], message });
  }
}

function suggestPath(section: string, rest: readonly string[], known: readonly string[]): string {
  const nearest = nearestKey(section, known);
  if (nearest !== undefined) return `did you mean ${[nearest, ...rest].join('.')}?`;
  return `expected a path such as model.sparse.topK${known.includes('free') ? `, or one of ${settings.join(', ')}` : ''}`;
}
