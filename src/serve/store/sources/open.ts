/**
 * The best way to read the experts of a checkpoint.
 * @module
 */
import { RestoringSource, type Checkpoint } from '../../../checkpoints/index.js';
import type { ColdExperts } from '../cold-experts.js';
import type { ExpertLayerInfo } from '../expert-store.js';
import { CheckpointExperts } from './checkpoint-experts.js';
import { FactorExperts } from './factor-experts.js';
import { PackedExperts } from './packed-experts.js';
import { ResidualExperts } from './residual-experts.js';

/**
 * Opens a cold tier over a checkpoint. Packed experts are one direct read each; of a compressed checkpoint only residuals
 * or factors are read; everything else is read by ranges.
 *
 * @param checkpoint is closed with the tier. One that `factorised` made gives factors.
 * @param layers of experts of the checkpoint's model; names and shapes as the model has them.
 */
export async function openColdExperts(
  checkpoint: Checkpoint,
  layers: readonly ExpertLayerInfo[],
): Promise<ColdExperts> {
  const { source } = checkpoint;
  if (source instanceof RestoringSource)
    return layers.some(({ parameters }) => 'left' in parameters)
      ? new FactorExperts(checkpoint, source, layers)
      : ResidualExperts.open(checkpoint, source, layers);
  return (await PackedExperts.open(checkpoint, layers)) ?? new CheckpointExperts(checkpoint, layers);
}
