/**
 * M-SMoE (Li et al., ICLR 2024, arXiv 2310.01334, §3.1): the most used experts are dominant; every other expert joins
 * the dominant one whose router logits over a text are most like its own; its neurons are aligned with those of the
 * dominant one; the group is averaged, weighted by how often each was used.
 *
 * The paper divides the number of groups between layers by use; here every layer gets what the budget says, as in
 * ResMoE's comparison (8 experts to 2).
 * @module
 */
import { z } from 'zod';
import type { Kind, KindSchema } from '../../../moe/index.js';
import type { CompressionMethod } from '../../method.js';
import { MergeMethod } from './merge-method.js';

const schema = z.strictObject({
  kind: z.literal('mSmoe'),
  /** `routerLogits` over a text, as the paper; `routerWeights` needs none, and then all experts weigh the same. */
  grouping: z.enum(['routerLogits', 'routerWeights']).default('routerLogits'),
});

/** See the module. */
export const mSmoe = {
  schema,
  create: ({ grouping }: z.output<typeof schema>): CompressionMethod =>
    new MergeMethod({
      grouping,
      aligns: true,
      needsCalibration: grouping === 'routerLogits',
      weights: ({ calibration, numExperts }) =>
        calibration?.tokensOf ?? new Array<number>(numExperts).fill(1),
    }),
} satisfies Kind<KindSchema, void, CompressionMethod>;
