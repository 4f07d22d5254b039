/**
 * A recipe: everything that decides a run, as JSON. Each room owns the options of its section; this file composes them.
 * @module
 */
import { z } from 'zod';
import { dataSchema } from '../data/index.js';
import { modelSchema } from '../models/index.js';
import { trainSchema } from '../train/index.js';

/** Schema of a recipe. Unknown keys are errors at every level. */
export const recipeSchema = z.strictObject({
  /** Name of the run folder when none is given. */
  name: z
    .string()
    .regex(/^[\w.-]+$/, 'a name is made of letters, digits, dots, dashes and underscores')
    .default('run'),
  /** Where the recipe comes from, or what it shows. */
  description: z.string().optional(),
  /** Seed of weights, noise and data order. */
  seed: z.int().min(0).default(1),
  model: modelSchema,
  data: dataSchema.prefault({ kind: 'cldr' }),
  train: trainSchema,
  /** Versions and data that a run was made with; written by the run, not compared on resume. */
  environment: z.record(z.string(), z.string()).optional(),
});

/** Parsed form of {@link recipeSchema}: every default filled in. */
export type Recipe = z.infer<typeof recipeSchema>;

/** A recipe whose model is of one kind. */
export type RecipeOf<Kind extends Recipe['model']['kind']> = Omit<Recipe, 'model'> & {
  model: Extract<Recipe['model'], { kind: Kind }>;
};
