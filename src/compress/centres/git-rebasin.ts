/**
 * Git Re-Basin's weight matching: all experts in the order of one of them, then averaged (Ainsworth, Hayase & Srinivasa,
 * ICLR 2023, arXiv 2209.04836, §3.2; with one hidden layer its coordinate descent is one assignment).
 * @module
 */
import { z } from 'zod';
import { designSize, designWidth } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { alignedDistance, averageInto, energyOf } from '../align.js';
import type { Alignment, CentreFinder } from '../centre.js';
import { initialExpertSchema, readInitial } from './initial-expert.js';
import { NeuronMatcher } from './matching.js';

const schema = z.strictObject({ kind: z.literal('gitRebasin'), initialExpert: initialExpertSchema });

class GitRebasinCentre implements CentreFinder {
  constructor(private readonly options: z.output<typeof schema>) {}

  async find(...[layer, onProgress]: Parameters<CentreFinder['find']>): Promise<Alignment> {
    const { numExperts, intermediateSize, blocks } = layer;
    const reference = await readInitial(layer, this.options.initialExpert);
    const centre = new Float32Array(designSize(layer));
    const design = new Float32Array(centre.length);
    const permutations: Int32Array[] = [];
    const energies: number[] = [];
    const report = (done: number): void =>
      onProgress?.({ stage: 'aligning experts', done, total: numExperts });
    const matcher = await NeuronMatcher.open(intermediateSize, designWidth(blocks));
    try {
      for (let expert = 0; expert < numExperts; expert++) {
        await layer.readDesign(expert, design);
        const order = await matcher.match(reference, design, expert);
        permutations.push(order);
        energies.push(energyOf(design));
        averageInto(centre, design, order, expert + 1);
        report(expert + 1);
      }
    } finally {
      await matcher.release();
    }
    const residuals: number[] = [];
    for (let expert = 0; expert < numExperts; expert++) {
      await layer.readDesign(expert, design);
      residuals.push(alignedDistance(centre, design, permutations[expert]));
    }
    const objective = [residuals.reduce((sum, one) => sum + one, 0) / numExperts];
    return { centre, permutations, objective, energies, residuals };
  }
}

/** See the module. */
export const gitRebasin = {
  schema,
  create: (options: z.output<typeof schema>): CentreFinder => new GitRebasinCentre(options),
} satisfies Kind<KindSchema, void, CentreFinder>;
