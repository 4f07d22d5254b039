/**
 * The best way to read the experts of a checkpoint.
 * @module
 */
import type { Checkpoint } from '../../../checkpoints/index.js';
import type { ColdExperts } from '../cold-experts.js';
import type { ExpertLayerInfo } from '../expert-store.js';
import { CheckpointExperts } from './checkpoint-experts.js';
import { PackedExperts } from './packed-experts.js';

/**
 * Opens a cold tier over a checkpoint: by one direct read for each expert where they are packed, by ranges otherwise.
 *
 * @param checkpoint is closed with the tier.
 * @param layers of experts of the checkpoint's model; names and shapes as the model has them.
 */
export async function openColdExperts(
  checkpoint: Checkpoint,
  layers: readonly ExpertLayerInfo[],
): Promise<ColdExperts> {
  return (await PackedExperts.open(checkpoint, layers)) ?? new CheckpointExperts(checkpoint, layers);
}
