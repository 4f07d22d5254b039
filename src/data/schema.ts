/**
 * The `data` section of a recipe.
 * @module
 */
import { z } from 'zod';
import { cldrLanguages } from './cldr/languages.js';
import { datasets, type DatasetName } from './fetch/datasets.js';

/** How text becomes tokens. */
export const tokenizerSchema = z.discriminatedUnion('kind', [
  z
    .strictObject({
      kind: z.literal('byte'),
      specialTokens: z.boolean().default(false).describe('add pad, bos and eos as ids 256 to 258'),
    })
    .describe('UTF-8 bytes'),
  z
    .strictObject({ kind: z.literal('character') })
    .describe('the distinct characters of the corpus, in code point order'),
  z
    .strictObject({
      kind: z.literal('bpe'),
      vocabSize: z
        .int()
        .min(257)
        .max(1_000_000)
        .describe('all tokens: 256 bytes, the merges and <|endoftext|>'),
      sentinels: z
        .int()
        .min(1)
        .max(10_000)
        .optional()
        .describe('as T5: <pad> 0, </s> 1, and so many <extra_id_…> as the last ids; no <|endoftext|>'),
    })
    .describe('byte-level byte-pair encoding, learnt from the training text'),
  z.strictObject({ kind: z.literal('file'), path: z.string().min(1) }).describe('a tokenizer.json'),
]);

const tokenizer = tokenizerSchema.prefault({ kind: 'byte' });
const languageCode = z.enum(cldrLanguages.map((language) => language.code));
const distinct = (codes: readonly string[]): boolean => new Set(codes).size === codes.length;

const spanCorruption = z
  .strictObject({
    noiseDensity: z.number().gt(0).lt(1).default(0.15).describe('share of the tokens that are taken out'),
    meanSpanLength: z.number().min(1).default(3).describe('mean tokens of a stretch that is taken out'),
  })
  .optional()
  .describe('how an encoder–decoder reads the text: it says what was taken out (T5)');

const cldrSchema = z
  .strictObject({
    kind: z.literal('cldr'),
    languages: z
      .array(languageCode)
      .min(1)
      .refine(distinct, 'a language is named twice')
      .default(() => cldrLanguages.map((language) => language.code))
      .describe('BCP 47 codes; their order numbers the languages'),
    layout: z
      .enum(['packed', 'padded'])
      .default('packed')
      .describe('packed: lines one after another in full rows; padded: one line a row'),
    validationLines: z.int().positive().default(2048),
    spanCorruption,
    tokenizer,
  })
  .describe('the built-in multilingual corpus');

/** How training windows are taken from a text. */
const textOrder = z
  .enum(['random', 'shuffled', 'stream'])
  .default('random')
  .describe(
    'random: windows that start anywhere; shuffled: epochs of consecutive windows; stream: each row reads on where it stopped',
  );
const validationFraction = z
  .number()
  .gt(0)
  .lt(1)
  .describe('the last part of the text, kept for validation; default 0.1');

const textSchema = z
  .strictObject({
    kind: z.literal('text'),
    path: z
      .string()
      .min(1)
      .describe('a UTF-8 text file, a folder with train.txt and valid.txt, or a folder of .txt files'),
    validation: z.string().min(1).optional().describe('a file or folder; default: the last part of the text'),
    validationFraction: validationFraction.optional(),
    order: textOrder,
    spanCorruption,
    tokenizer,
  })
  .refine((data) => data.validation === undefined || data.validationFraction === undefined, {
    path: ['validationFraction'],
    message: 'give either validation or validationFraction, not both',
  })
  .describe('plain text of any size');

const datasetSchema = z
  .strictObject({
    kind: z.literal('dataset'),
    name: z.enum(Object.keys(datasets) as [DatasetName, ...DatasetName[]]),
    validationFraction: validationFraction.optional(),
    order: textOrder,
    spanCorruption,
    tokenizer,
  })
  .describe('a public data set, downloaded once with `switchyard data fetch NAME`');

const template = z.string().min(1).describe('text with columns in braces, such as "sentence: {sentence}"');
const taskSchema = z
  .strictObject({
    kind: z.literal('task'),
    train: z.string().min(1).describe('a tab-separated file with a header line and no quoting'),
    validation: z.string().min(1).describe('another'),
    source: template,
    label: z.string().min(1).optional().describe('the column of the class, for a classifier'),
    classes: z
      .array(z.string())
      .min(2)
      .refine(distinct, 'a class is named twice')
      .optional()
      .describe(
        'values of the label column in the order of the classes; default: those of the training file, sorted',
      ),
    target: template.optional().describe('what an encoder–decoder says, instead of label'),
    tokenizer,
  })
  .refine(({ label, target }) => (label === undefined) !== (target === undefined), {
    path: ['label'],
    message: 'give either label (the column of the class) or target (what is said)',
  })
  .refine(({ label, classes }) => classes === undefined || label !== undefined, {
    path: ['classes'],
    message: 'classes are the values of the label column: give label',
  })
  .describe('examples of a task in tab-separated files');

/** Options of the data room, as they stand in a recipe. */
export const dataSchema = z.discriminatedUnion('kind', [cldrSchema, textSchema, datasetSchema, taskSchema]);

/** Checked options of a tokenizer. */
export type TokenizerConfig = z.output<typeof tokenizerSchema>;
/** Checked options of the data room. */
export type DataConfig = z.output<typeof dataSchema>;
/** Options of the data room as they may be written, with defaults left out. */
export type DataConfigInput = z.input<typeof dataSchema>;
/** Checked options of the built-in corpus. */
export type CldrConfig = Extract<DataConfig, { kind: 'cldr' }>;
/** Checked options of a task. */
export type TaskConfig = Extract<DataConfig, { kind: 'task' }>;
/** Checked options of plain text. */
export type TextConfig = Extract<DataConfig, { kind: 'text' }>;
