/**
 * Git Re-Basin merge (Ainsworth, Hayase & Srinivasa, ICLR 2023, arXiv 2209.04836, §3.2): the neurons of each expert of a
 * group are put in the order of the first, then the experts are averaged.
 * @module
 */
import { z } from 'zod';
import type { Kind, KindSchema } from '../../../moe/index.js';
import type { CompressionMethod } from '../../method.js';
import { groupingSchema } from './groups.js';
import { MergeMethod } from './merge-method.js';

const schema = z.strictObject({
  kind: z.literal('gitRebasin'),
  /** Which experts become one. */
  grouping: groupingSchema.default('consecutive'),
});

/** See the module. */
export const gitRebasinMerge = {
  schema,
  create: ({ grouping }: z.output<typeof schema>): CompressionMethod =>
    new MergeMethod({ grouping, aligns: true, needsCalibration: grouping === 'routerLogits' }),
} satisfies Kind<KindSchema, void, CompressionMethod>;
