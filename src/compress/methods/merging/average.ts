/**
 * Plain average: the experts of a group are averaged as they are, weight by weight (the average of ResMoE's comparison,
 * §12 of its spec; model soups, Wortsman et al. 2022, arXiv 2203.05482).
 * @module
 */
import { z } from 'zod';
import type { Kind, KindSchema } from '../../../moe/index.js';
import type { CompressionMethod } from '../../method.js';
import { groupingSchema } from './groups.js';
import { MergeMethod } from './merge-method.js';

const schema = z.strictObject({
  kind: z.literal('average'),
  /** Which experts become one. */
  grouping: groupingSchema.default('consecutive'),
});

/** See the module. */
export const average = {
  schema,
  create: ({ grouping }: z.output<typeof schema>): CompressionMethod =>
    new MergeMethod({ grouping, aligns: false, needsCalibration: grouping === 'routerLogits' }),
} satisfies Kind<KindSchema, void, CompressionMethod>;
