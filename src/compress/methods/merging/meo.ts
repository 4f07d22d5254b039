/**
 * MEO, merging experts into one (He et al., EMNLP 2023, arXiv 2310.09832, §3): experts are summed weight by weight, each
 * times its gate, without alignment.
 *
 * The paper does so for every token with the gates of that token, which saves computation and no memory. As a way to
 * store fewer experts, as ResMoE compares it, a gate is its mean over a text: the router's softmax.
 * @module
 */
import { z } from 'zod';
import type { Kind, KindSchema } from '../../../moe/index.js';
import type { CompressionMethod, LayerExperts } from '../../method.js';
import { groupingSchema } from './groups.js';
import { MergeMethod } from './merge-method.js';

const schema = z.strictObject({
  kind: z.literal('meo'),
  /** Which experts become one. */
  grouping: groupingSchema.default('routerLogits'),
});

/** Mean probability of each expert over the tokens of the text. */
function meanGates({ calibration, numExperts }: LayerExperts): number[] {
  const { routerLogits } = calibration!;
  const tokens = routerLogits.length / numExperts;
  const gates = new Array<number>(numExperts).fill(0);
  for (let token = 0; token < tokens; token++) {
    const logits = routerLogits.subarray(token * numExperts, (token + 1) * numExperts);
    const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
    logits.forEach((logit, expert) => (gates[expert] += Math.exp(logit - highest) / total / tokens));
  }
  return gates;
}

/** See the module. */
export const meo = {
  schema,
  create: ({ grouping }: z.output<typeof schema>): CompressionMethod =>
    new MergeMethod({ grouping, aligns: false, needsCalibration: true, weights: meanGates }),
} satisfies Kind<KindSchema, void, CompressionMethod>;
