/**
 * Any model by its `kind`.
 * @module
 */
import { z } from 'zod';
import { Classifier } from './classifier.js';
import { classifierSchema } from './classifier-options.js';
import { EncoderDecoder } from './encoder-decoder.js';
import { encoderDecoderSchema } from './encoder-decoder-options.js';
import { LanguageModel } from './language-model.js';
import { languageModelSchema } from './language-model-options.js';

/** Options of any model; without a `kind` they are a language model's. */
export const modelSchema = z.preprocess(
  (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && !('kind' in value)
      ? { kind: 'languageModel', ...value }
      : value,
  z.discriminatedUnion('kind', [
    // With its default the union would list 'undefined' among the kinds.
    languageModelSchema.safeExtend({ kind: z.literal('languageModel') }),
    encoderDecoderSchema,
    classifierSchema,
  ]),
);

/** Options of any model with the vocabulary known. */
export type ModelOptions = z.infer<typeof modelSchema> & { readonly vocabSize: number };

/** Any model. */
export type Model = LanguageModel | EncoderDecoder | Classifier;

/** Builds the module tree that the options describe; nothing is allocated. */
export function createModel(options: ModelOptions): Model {
  switch (options.kind) {
    case 'languageModel':
      return new LanguageModel(options);
    case 'encoderDecoder':
      return new EncoderDecoder(options);
    case 'classifier':
      return new Classifier(options);
  }
}
