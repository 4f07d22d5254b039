/**
 * Rounds experts of a float cold tier as they arrive.
 * @module
 */
import { BLOCK_SIZE } from '../../graph/index.js';
import type { ColdExperts, ColdLayer, ColdTraits } from '../store/cold-experts.js';
import { liesTransposed } from '../store/expert-banks.js';
import type { ExpertLayerInfo } from '../store/expert-store.js';
import { SlotMemory, type Slot } from '../store/slot-memory.js';
import { quantise, type QuantiseOptions } from './blocks.js';
import type { QuantisedWeights } from './expert-program.js';
import type { QuantisedSource } from './quantised-experts.js';

/** How experts are rounded. */
export type RoundingOptions = Pick<QuantiseOptions, 'bits' | 'mode'>;

/**
 * Reads floats and rounds them: any model folder can be served with 4- or 8-bit experts at once, but every miss moves the
 * floats from the disk and takes some milliseconds of arithmetic for each million weights. A packed folder of rounded
 * experts costs neither.
 */
export class RoundedExperts implements QuantisedSource {
  readonly layers: readonly ColdLayer[];
  readonly traits: ColdTraits;
  readonly largestBytes: number;
  private readonly idle: Slot[] = [];

  /** @param cold is closed with this. */
  constructor(
    private readonly cold: ColdExperts,
    private readonly options: RoundingOptions,
  ) {
    this.layers = cold.layers.map((layer) => ({ ...layer, placed: [] }));
    this.largestBytes = Math.max(...cold.layers.map((layer) => roundedBytes(layer, options)));
    this.traits = {
      ...cold.traits,
      description: `${cold.traits.description}, rounded to ${options.bits} bits`,
    };
  }

  async read(
    layer: number,
    expert: number,
    use: (weights: QuantisedWeights) => Promise<void>,
  ): Promise<number> {
    const slot = this.idle.pop() ?? new SlotMemory(1, this.cold.slotBytes).slots[0];
    try {
      const bytes = await this.cold.read(layer, expert, slot);
      const info = this.cold.layers[layer];
      const parts = info.placed.map(
        ({ name, offset, length }) => [name, slot.data.subarray(offset, offset + length)] as const,
      );
      await use(roundExpert(info, Object.fromEntries(parts), this.options));
      return bytes;
    } finally {
      this.idle.push(slot);
    }
  }

  async close(): Promise<void> {
    await this.cold.close();
  }
}

/** Rounds the matrices of one expert and copies its biases. */
export function roundExpert(
  info: ExpertLayerInfo,
  weights: Readonly<Record<string, Float32Array>>,
  options: RoundingOptions,
): QuantisedWeights {
  const matrices: Record<string, ReturnType<typeof quantise>> = {};
  const biases: Record<string, Float32Array> = {};
  for (const [name, data] of Object.entries(weights)) {
    const sizes = matrixSizes(info, name);
    const layout = liesTransposed(info, name) ? 'outIn' : 'inOut';
    if (sizes) matrices[name] = quantise(data, { ...options, ...sizes, layout });
    else biases[name] = data.slice();
  }
  return { matrices, biases };
}

/** Sizes of a matrix; undefined for a bias. */
export function matrixSizes(
  info: ExpertLayerInfo,
  name: string,
): { readonly outSize: number; readonly inSize: number } | undefined {
  const [first, second] = info.parameters[name];
  if (second === undefined) return undefined;
  return liesTransposed(info, name) ? { outSize: first, inSize: second } : { outSize: second, inSize: first };
}

/** Bytes of an expert once it is rounded. */
function roundedBytes(info: ExpertLayerInfo, { bits, mode }: RoundingOptions): number {
  return Object.entries(info.parameters).reduce((sum, [name, shape]) => {
    const sizes = matrixSizes(info, name);
    if (!sizes) return sum + 4 * shape[0];
    const blocks = Math.ceil(sizes.inSize / BLOCK_SIZE);
    const zeroPoints = mode === 'asymmetric' ? Math.ceil((blocks * bits) / 8) : 0;
    return sum + sizes.outSize * (blocks * (4 * bits + 4) + zeroPoints);
  }, 0);
}
