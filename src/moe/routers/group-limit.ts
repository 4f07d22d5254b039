/**
 * Choices limited to a few groups of experts, so that a token visits few devices. DeepSeek-V2, arXiv 2405.04434 §2.2.2;
 * DeepSeek-V3, arXiv 2412.19437 §2.1.2.
 * @module
 */
import { z } from 'zod';
import { greater, oneHot, reshape, sum, topK as largest, where, type Tensor } from '../../graph/index.js';
import { size } from '../options.js';

/** Groups of neighbouring experts, equally large. */
export interface ExpertGroups {
  readonly count: number;
  /** Groups that a token may choose from. */
  readonly chosen: number;
  /** Which groups are best: those of the `largest` score, or of the largest sum of the `topTwo`. */
  readonly score: 'largest' | 'topTwo';
}

/** Options of {@link ExpertGroups} in a recipe; tokens choose from all experts when absent. */
export function groupsSchema(score: ExpertGroups['score']) {
  return z
    .strictObject({
      /** Groups of neighbouring experts, equally large. */
      count: size,
      /** Groups that a token may choose from. */
      chosen: size,
      /** Which groups are best: those of the `largest` score, or of the largest sum of the `topTwo`. */
      score: z.enum(['largest', 'topTwo']).default(score),
    })
    .optional();
}

/** Below every score. */
const NEVER = -1e30;

/**
 * Scores to choose by: those of experts outside the best groups are below all others. Equal groups go to the lowest
 * index.
 *
 * @param scores `[tokens, numExperts]`
 * @returns the same shape
 */
export function limitToGroups(scores: Tensor, { count, chosen, score }: ExpertGroups): Tensor {
  const [tokens, numExperts] = scores.shape as [number, number];
  const grouped = reshape(scores, [tokens, count, numExperts / count]);
  const best = largest(grouped, score === 'largest' ? 1 : 2).values;
  const groups = largest(sum(best, 2), chosen).indices;
  const mayChoose = greater(sum(oneHot(groups, count, scores.dtype), 1), 0);
  const limited = where(reshape(mayChoose, [tokens, count, 1]), grouped, NEVER);
  return reshape(limited, scores.shape);
}

/**
 * Checks groups against the experts that they divide.
 * @throws RangeError naming both numbers.
 */
export function checkGroups(
  { count, chosen, score }: ExpertGroups,
  { numExperts, topK }: { readonly numExperts: number; readonly topK: number },
): void {
  const each = numExperts / count;
  if (!Number.isInteger(each))
    throw new RangeError(`numExperts ${numExperts} is not divisible by groups.count ${count}`);
  if (chosen > count) throw new RangeError(`groups.chosen ${chosen} is more than groups.count ${count}`);
  if (topK > chosen * each)
    throw new RangeError(`topK ${topK} is more than the ${chosen * each} experts of groups.chosen ${chosen}`);
  if (score === 'topTwo' && each < 2)
    throw new RangeError(
      `groups of one expert have no two best: numExperts ${numExperts}, groups.count ${count}`,
    );
}
