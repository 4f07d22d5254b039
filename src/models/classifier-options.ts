/**
 * Options of classifiers of whole texts, as they stand in a recipe.
 * @module
 */
import { z } from 'zod';
import { refuseUnfitStacks, stackFields } from './encoder-decoder-options.js';

const rate = z.number().min(0).lt(1);

/** Options of a {@link Classifier}: those of an encoder–decoder without its output layer, and those of the head. */
export const classifierSchema = z
  .strictObject({
    kind: z.literal('classifier'),
    ...stackFields,
    /** Blocks of the decoder, for `decoderEos`; 0 for `encoderMean`, which has none. */
    numDecoderLayers: z.int().min(0).default(0),
    /** Classes to choose from. */
    numLabels: z.int().min(2),
    /**
     * What the head reads. `decoderEos`: the decoder's state at the end of the text, which it reads shifted right by one
     * (ResMoE's released code; T5 and BART in Hugging Face). `encoderMean`: the mean of the encoder's states (SiDA).
     */
    head: z.enum(['decoderEos', 'encoderMean']),
    /**
     * Positions in the mean of `encoderMean`: real tokens (`masked`, when absent), or padding as well (`released`), as
     * SiDA's code has it, which makes the result depend on how far a batch is padded.
     */
    mean: z.enum(['masked', 'released']).optional(),
    /** On what the head reads and inside it. */
    headDropout: rate.default(0),
  })
  .superRefine((options, context) => {
    refuseUnfitStacks(options, context);
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    const { head, numDecoderLayers, mean } = options;
    if (head === 'decoderEos' && numDecoderLayers === 0) {
      refuse('numDecoderLayers', 'decoderEos reads the decoder: set numDecoderLayers');
    }
    if (head === 'encoderMean' && numDecoderLayers > 0) {
      refuse('numDecoderLayers', 'encoderMean reads the encoder alone: leave numDecoderLayers out');
    }
    if (head === 'decoderEos' && mean !== undefined) {
      refuse('mean', 'decoderEos takes no mean: leave it out, or use head encoderMean');
    }
  });

/** Options with the vocabulary known. */
export type ClassifierOptions = z.infer<typeof classifierSchema> & { readonly vocabSize: number };
