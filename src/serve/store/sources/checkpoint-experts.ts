/**
 * Experts read by range from the tensors of a checkpoint, whatever their layout.
 * @module
 */
import { storedDTypes, type Checkpoint } from '../../../checkpoints/index.js';
import { placeParameters, type ColdExperts, type ColdLayer, type ColdTraits } from '../cold-experts.js';
import { liesTransposed } from '../expert-banks.js';
import type { ExpertLayerInfo } from '../expert-store.js';
import type { Slot } from '../slot-memory.js';

/**
 * Every parameter of an expert is a read of its own, through the page cache; matrices that are stored the other way round
 * are turned on arrival, and narrower floats widened. {@link PackedExperts} does with one read for each expert.
 */
export class CheckpointExperts implements ColdExperts {
  readonly layers: readonly ColdLayer[];
  readonly slotBytes: number;
  readonly traits: ColdTraits;
  /** Stored bytes of one expert, by layer. */
  private readonly storedBytes: readonly number[];

  /**
   * @param checkpoint is closed with this.
   * @param layers of the checkpoint's model.
   * @param traits what to say of it in other words, as where experts are rebuilt from what is stored.
   */
  constructor(
    private readonly checkpoint: Checkpoint,
    layers: readonly ExpertLayerInfo[],
    traits: Partial<ColdTraits> = {},
  ) {
    this.layers = layers.map((layer) => ({ ...layer, placed: placeParameters(layer.parameters) }));
    this.slotBytes = Math.max(4, ...layers.map(({ expertBytes }) => expertBytes));
    const bits = storedBits(checkpoint);
    this.storedBytes = this.layers.map(({ name, placed }) =>
      placed.reduce((sum, one) => sum + (one.length * (bits.get(`${name}.${one.name}`) ?? 32)) / 8, 0),
    );
    this.traits = {
      description: 'model folder, by range',
      pageCache: 'used',
      reason:
        'the experts of this folder do not lie in one piece each; `switchyard import --pack` lays them so',
      residentBytes: 0,
      ...traits,
    };
  }

  async read(layer: number, expert: number, { data }: Slot): Promise<number> {
    const { name, placed, transposed } = this.layers[layer];
    const reads = placed.map((parameter) =>
      this.checkpoint.readParameter(`${name}.${parameter.name}`, {
        at: expert,
        into: data.subarray(parameter.offset, parameter.offset + parameter.length),
        transposed: liesTransposed({ transposed }, parameter.name),
      }),
    );
    // Until the last has ended the place is being written to, whatever became of the others.
    const failed = (await Promise.allSettled(reads)).find((result) => result.status === 'rejected');
    if (failed) throw failed.reason as Error;
    return this.storedBytes[layer];
  }

  async close(): Promise<void> {
    await this.checkpoint.close();
  }
}

/** Bits of an element of every parameter, as it is stored. */
function storedBits({ mapping, source }: Checkpoint): ReadonlyMap<string, number> {
  const bits = new Map<string, number>();
  for (const { tensor, parts } of mapping) {
    const stored = source.tensors.get(tensor);
    if (!stored) continue;
    for (const { parameter } of parts) bits.set(parameter, storedDTypes[stored.dtype].bits);
  }
  return bits;
}
