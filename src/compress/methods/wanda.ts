/**
 * Wanda (Sun et al. 2024, arXiv 2306.11695, §3): weights are pruned by |w| · ‖x‖, the length of the input that they
 * multiply over some text, compared with the other weights of the same output.
 *
 * An expert's inputs are the tokens that were sent to it; what its second matrix reads are its own inner values on them.
 * An expert that got no token is pruned by |w| alone. Biases, which have no input, are kept.
 * @module
 */
import { z } from 'zod';
import {
  designSize,
  designWidth,
  sparseMatrix,
  type ColumnBlock,
  type StoredExpert,
} from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { energyOf } from '../align.js';
import { perExpertRatio } from '../budget.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';
import { largestMagnitudes } from '../matrices/largest.js';
import { layerWithoutCentre } from './whole.js';

const schema = z.strictObject({ kind: z.literal('wanda') });

class Wanda implements CompressionMethod {
  readonly needsCalibration = true;

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { name, numExperts, intermediateSize: rows, blocks, calibration } = layer;
    if (!calibration)
      throw new RangeError(`${name}: Wanda needs to know the inputs of the experts on some text`);
    const ratio = perExpertRatio(context.budget, numExperts, false);
    const columns = designWidth(blocks);
    const design = new Float32Array(designSize(layer));
    const experts: StoredExpert[] = [];
    let [error, energy] = [0, 0];
    for (let expert = 0; expert < numExperts; expert++) {
      await layer.readDesign(expert, design);
      const isUsed = calibration.tokensOf[expert] > 0;
      const keep = keptPlaces(design, rows, blocks, ratio, {
        input: isUsed ? calibration.inputNorms[expert] : undefined,
        hidden: isUsed ? calibration.hiddenNorms[expert] : undefined,
      });
      let lost = 0;
      const matrix = sparseMatrix(rows, columns, design, (value, place) => {
        if (keep[place] === 1) return true;
        lost += value * value;
        return false;
      });
      if (matrix.values.length === 0)
        throw new RangeError(
          `${name}: a share of ${ratio} keeps no weight of any output: keep at least ${1 / Math.max(rows, layer.hiddenSize)}`,
        );
      const isWhole = matrix.values.length === design.length;
      experts.push({
        matrices: [isWhole ? { kind: 'dense', rows, columns, values: design.slice() } : matrix],
      });
      error += lost / numExperts;
      energy += energyOf(design) / numExperts;
      context.onProgress?.({ stage: 'pruning by inputs', done: expert + 1, total: numExperts });
    }
    return { layer: layerWithoutCentre(layer, experts), report: { error, energy } };
  }
}

/** Lengths of the inputs of an expert's matrices; absent for one that got none. */
interface InputLengths {
  /** `[hiddenSize]` */
  readonly input: Float32Array | undefined;
  /** `[intermediateSize]` */
  readonly hidden: Float32Array | undefined;
}

/** 1 at the places of the design matrix that are kept. */
function keptPlaces(
  design: Float32Array,
  rows: number,
  blocks: readonly ColumnBlock[],
  ratio: number,
  { input, hidden }: InputLengths,
): Uint8Array {
  const columns = designWidth(blocks);
  const keep = new Uint8Array(design.length);
  let begin = 0;
  // Biases are kept whatever the share; the weights make up for them.
  const biases = blocks.filter(({ role }) => role.endsWith('Bias')).length * rows;
  const weightRatio = Math.max(0, (ratio * design.length - biases) / (design.length - biases));
  for (const { role, width } of blocks) {
    if (role.endsWith('Bias')) {
      for (let row = 0; row < rows; row++) keep[row * columns + begin] = 1;
    } else if (role === 'down') {
      // An output of the second matrix is a column here; its inputs are the neurons.
      for (let column = begin; column < begin + width; column++) {
        keepLargest(design, keep, weightRatio, rows, (row) => row * columns + column, hidden);
      }
    } else {
      for (let row = 0; row < rows; row++) {
        const first = row * columns + begin;
        keepLargest(design, keep, weightRatio, width, (column) => first + column, input);
      }
    }
    begin += width;
  }
  return keep;
}

/** Keeps the weights of one output that matter most. */
function keepLargest(
  design: Float32Array,
  keep: Uint8Array,
  ratio: number,
  count: number,
  placeOf: (index: number) => number,
  lengths: Float32Array | undefined,
): void {
  const kept = count - Math.round((1 - ratio) * count);
  if (kept === 0) return;
  const scores = Float32Array.from(
    { length: count },
    (_, index) => Math.abs(design[placeOf(index)]) * (lengths?.[index] ?? 1),
  );
  const { threshold, ties } = largestMagnitudes(scores, kept);
  let tiesLeft = ties;
  for (let index = 0; index < count; index++) {
    if (scores[index] > threshold || (scores[index] === threshold && tiesLeft-- > 0))
      keep[placeOf(index)] = 1;
  }
}

/** See the module. */
export const wanda = {
  schema,
  create: (): CompressionMethod => new Wanda(),
} satisfies Kind<KindSchema, void, CompressionMethod>;
