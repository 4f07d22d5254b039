/**
 * Experts of a compressed model as factors: nothing is rebuilt, and a place in memory holds the factors alone.
 * @module
 */
import {
  designWidth,
  type Checkpoint,
  type LayerReader,
  type RestoringSource,
} from '../../../checkpoints/index.js';
import type { ColdExperts, ColdLayer, ColdTraits } from '../cold-experts.js';
import type { ExpertLayerInfo } from '../expert-store.js';
import type { Slot } from '../slot-memory.js';
import { CheckpointExperts } from './checkpoint-experts.js';
import { copyColumns, storedBytes } from './columns.js';

/** Parameters of a factorised bank that are columns of V, and whether they lie the other way round there. */
const columns = [
  ['rightGate', 'gate', true],
  ['rightUp', 'up', true],
  ['rightUpBias', 'upBias', true],
  ['rightDown', 'down', false],
] as const;

/**
 * Reads U and V of an expert once and lays them out as a `FactorisedBank` has them. Its centre is no single expert's: it
 * stays with the weights that every pass reads. Layers that are not compressed are read by range.
 */
export class FactorExperts implements ColdExperts {
  readonly layers: readonly ColdLayer[];
  readonly slotBytes: number;
  readonly traits: ColdTraits = {
    description: 'compressed folder, factors by range',
    pageCache: 'used',
    reason: 'factors do not lie on blocks',
    residentBytes: 0,
  };
  private readonly whole: CheckpointExperts;
  private readonly readers: readonly (LayerReader | undefined)[];

  /** @param checkpoint as `factorised` makes it; it is closed with this. */
  constructor(checkpoint: Checkpoint, source: RestoringSource, layers: readonly ExpertLayerInfo[]) {
    this.whole = new CheckpointExperts(checkpoint, layers);
    this.layers = this.whole.layers;
    this.slotBytes = this.whole.slotBytes;
    this.readers = layers.map(({ name, parameters }) =>
      'left' in parameters ? source.layers.get(name.replace(/\.feedForward\.experts$/, '')) : undefined,
    );
  }

  async read(layer: number, expert: number, slot: Slot): Promise<number> {
    const reader = this.readers[layer];
    if (!reader) return this.whole.read(layer, expert, slot);
    const { dtype, outputBiases } = reader.header;
    const [[matrix], biases] = await Promise.all([
      reader.readMatrices(expert),
      outputBiases ? reader.readOutputBiases(expert) : undefined,
    ]);
    if (matrix.kind !== 'lowRank') throw new Error(`expert ${expert} is not stored as factors`);
    const { placed } = this.layers[layer];
    const target = (parameter: string): Float32Array | undefined => {
      const place = placed.find(({ name }) => name === parameter);
      return place && slot.data.subarray(place.offset, place.offset + place.length);
    };
    target('left')!.set(matrix.left);
    if (biases) target('downBias')?.set(biases);
    const { blocks } = reader;
    for (const [parameter, role, isTurned] of columns) {
      const at = blocks.findIndex((block) => block.role === role);
      const into = target(parameter);
      if (at < 0 || !into) continue;
      const range = {
        rows: matrix.rank,
        stride: designWidth(blocks),
        begin: designWidth(blocks.slice(0, at)),
        width: blocks[at].width,
      };
      copyColumns(matrix.right, into, range, isTurned);
    }
    const width = dtype === 'F32' ? 4 : 2;
    return storedBytes(matrix, width) + (biases?.length ?? 0) * width;
  }

  async close(): Promise<void> {
    await this.whole.close();
  }
}
