/**
 * A recipe: everything that decides a run, as JSON. Each room owns the options of its section; this file composes them.
 * @module
 */
import { z } from 'zod';
import { dataSchema } from '../data/index.js';
import { memoryLengths, modelSchema } from '../models/index.js';
import { trainSchema } from '../train/index.js';

/** Schema of a recipe. Unknown keys are errors at every level. */
export const recipeSchema = z
  .strictObject({
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
  })
  .superRefine(({ model, data }, context) => {
    const refuse = (key: string, message: string): void =>
      context.addIssue({ code: 'custom', path: ['data', key], message });
    if (model.kind === 'encoderDecoder') {
      if (data.kind === 'task' && data.target === undefined) {
        refuse('target', 'an encoder–decoder says text: give data.target instead of data.label');
      }
      return;
    }
    if (model.kind === 'classifier') {
      if (data.kind !== 'task') refuse('kind', `a classifier learns from kind task, not ${data.kind}`);
      else if (data.label === undefined) {
        refuse(
          'label',
          'a classifier learns classes: name their column in data.label instead of data.target',
        );
      }
      return;
    }
    if (data.kind === 'task') {
      refuse(
        'kind',
        'a language model reads kind text, dataset or cldr; tasks are for the other kinds of models',
      );
      return;
    }
    if (data.spanCorruption !== undefined) {
      refuse('spanCorruption', 'a language model predicts the next token; spans are for kind encoderDecoder');
    }
    if (memoryLengths(model) === undefined) return;
    if (data.kind === 'cldr') {
      const message = `${model.positions} positions remember earlier segments, which the cldr corpus does not put in a row; use kind text or dataset with order stream`;
      refuse('kind', message);
    } else if (data.order !== 'stream') {
      const message = `segment recurrence needs data.order stream, not ${data.order}: ${model.positions} positions remember earlier segments`;
      refuse('order', message);
    }
  });

/** Parsed form of {@link recipeSchema}: every default filled in. */
export type Recipe = z.infer<typeof recipeSchema>;

/** A recipe whose model is of one kind. */
export type RecipeOf<Kind extends Recipe['model']['kind']> = Omit<Recipe, 'model'> & {
  model: Extract<Recipe['model'], { kind: Kind }>;
};
