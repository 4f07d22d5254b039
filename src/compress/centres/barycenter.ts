/**
 * The free-support Wasserstein barycenter of the experts (ResMoE, KDD 2025, arXiv 2503.06881, §3): the matrix that is
 * nearest to all of them when each may order its neurons as it likes.
 *
 * With equal masses every optimal coupling is a permutation, so the problem is
 * `min over ω, T of (1/N) Σ ‖T_k D_k − ω‖²`, solved in turns: ω fixed, T_k is an assignment; T fixed, ω is the mean. No turn
 * raises the objective; the end is a local optimum, which depends on the expert that was the first ω.
 * @module
 */
import { z } from 'zod';
import { designWidth } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { alignedDistance, averageInto, energyOf } from '../align.js';
import type { Alignment, CentreFinder } from '../centre.js';
import { initialExpertSchema, readInitial } from './initial-expert.js';
import { NeuronMatcher } from './matching.js';

const schema = z.strictObject({
  kind: z.literal('barycenter'),
  initialExpert: initialExpertSchema,
  /** It ends sooner when no assignment changes: then a further iteration would change nothing. */
  maxIterations: z.int().min(1).default(100),
});

class Barycenter implements CentreFinder {
  constructor(private readonly options: z.output<typeof schema>) {}

  async find(...[layer, onProgress]: Parameters<CentreFinder['find']>): Promise<Alignment> {
    const { numExperts, intermediateSize, blocks } = layer;
    let centre = await readInitial(layer, this.options.initialExpert);
    let mean: Float32Array = new Float32Array(centre.length);
    const design = new Float32Array(centre.length);
    const permutations: Int32Array[] = [];
    const energies: number[] = [];
    const residuals: number[] = [];
    const objective: number[] = [];
    const matcher = await NeuronMatcher.open(intermediateSize, designWidth(blocks));
    try {
      for (let iteration = 1; ; iteration++) {
        let changed = false;
        mean.fill(0);
        for (let expert = 0; expert < numExperts; expert++) {
          await layer.readDesign(expert, design);
          const before = permutations[expert] as Int32Array | undefined;
          const order = await matcher.match(centre, design, expert, before);
          changed ||= order !== before;
          permutations[expert] = order;
          energies[expert] = energyOf(design);
          residuals[expert] = alignedDistance(centre, design, order);
          averageInto(mean, design, order, expert + 1);
          onProgress?.({
            stage: `aligning experts, iteration ${iteration}`,
            done: expert + 1,
            total: numExperts,
          });
        }
        objective.push(residuals.reduce((sum, one) => sum + one, 0) / numExperts);
        assertMonotone(objective, energies);
        // The centre stays the one that the experts are aligned with.
        if (!changed || iteration === this.options.maxIterations) break;
        [centre, mean] = [mean, centre];
      }
    } finally {
      await matcher.release();
    }
    return { centre, permutations, objective, energies, residuals };
  }
}

/** Neither an assignment nor a mean can be worse than the one before: if one is, the arithmetic is broken. */
function assertMonotone(objective: readonly number[], energies: readonly number[]): void {
  const [before, after] = objective.slice(-2) as [number, number?];
  // The mean is rounded to float32, which the objective feels in second order.
  const slack = 1e-12 * Math.max(...energies);
  if (after !== undefined && !(after <= before + slack))
    throw new Error(`the objective of a barycenter rose from ${before} to ${after}`);
}

/** See the module. */
export const barycenter = {
  schema,
  create: (options: z.output<typeof schema>): CentreFinder => new Barycenter(options),
} satisfies Kind<KindSchema, void, CentreFinder>;
