/**
 * Experts of 4 or 8 bits on disk, each in one aligned piece, beside the model that they were rounded from.
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  createFolder,
  openCheckpoint,
  openTensors,
  saveTensors,
  type StoredArray,
  type TensorSource,
} from '../../checkpoints/index.js';
import { BLOCK_SIZE, type QuantisedMatrix } from '../../graph/index.js';
import { createModel } from '../../models/index.js';
import type { ColdExperts, ColdLayer, ColdTraits } from '../store/cold-experts.js';
import { expertBanks } from '../store/expert-banks.js';
import type { ExpertLayerInfo } from '../store/expert-store.js';
import { BLOCK, SlotMemory, wholeBlocks, type Slot } from '../store/slot-memory.js';
import { DirectFile } from '../store/sources/direct-file.js';
import { openColdExperts } from '../store/sources/open.js';
import type { QuantisedWeights } from './expert-program.js';
import { ordinaryBanks, type QuantisedSource } from './quantised-experts.js';
import { matrixSizes, roundExpert, RoundedExperts, type RoundingOptions } from './rounded-experts.js';

/** The folder of rounded experts inside that of a model. */
const folderOf = (model: string, bits: 4 | 8): string => join(model, `experts-int${bits}`);

/** One tensor of an expert. */
interface PlannedPart {
  readonly name: string;
  readonly dtype: 'F32' | 'U8';
  readonly shape: readonly number[];
  readonly take: (weights: QuantisedWeights) => StoredArray;
}

/**
 * Rounds the experts of a model folder into a folder inside it, `experts-int4` or `experts-int8`; the model keeps its own.
 * At most one expert is in memory.
 *
 * @throws FolderError if it is there already; RangeError if the experts are not ordinary matrices.
 */
export async function storeRoundedExperts(
  model: string,
  options: RoundingOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<void> {
  const checkpoint = await openCheckpoint(model);
  ordinaryBanks(createModel(checkpoint.options));
  const cold = await openColdExperts(checkpoint, expertBanks(checkpoint.options, true));
  try {
    const [slot] = new SlotMemory(1, cold.slotBytes).slots;
    let last: { readonly key: string; readonly weights: QuantisedWeights } | undefined;
    const round = async (layer: number, expert: number): Promise<QuantisedWeights> => {
      const key = `${layer}.${expert}`;
      if (last?.key === key) return last.weights;
      await cold.read(layer, expert, slot);
      last = { key, weights: roundExpert(cold.layers[layer], weightsIn(cold.layers[layer], slot), options) };
      return last.weights;
    };
    const total = cold.layers.reduce((sum, { numExperts }) => sum + numExperts, 0);
    let done = 0;
    const groups = cold.layers.flatMap((info, layer) =>
      Array.from({ length: info.numExperts }, (_, expert) =>
        partsOf(info, options).map(({ take, name, ...part }, index, { length }) => ({
          ...part,
          name: `${info.name}.${expert}.${name}`,
          data: async () => {
            const data = take(await round(layer, expert));
            if (index === length - 1) onProgress?.(++done, total);
            return data;
          },
        })),
      ),
    );
    await createFolder(folderOf(model, options.bits), (folder) => saveTensors(folder, [], { groups }));
  } finally {
    await cold.close();
  }
}

/**
 * Rounded experts of a model: from the disk if {@link storeRoundedExperts} has written them, otherwise from the floats as
 * they arrive.
 *
 * @param model folder
 * @param floats is closed with what this returns, or at once where it is not needed.
 */
export async function openRoundedExperts(
  model: string,
  floats: ColdExperts,
  options: RoundingOptions,
): Promise<QuantisedSource> {
  const folder = folderOf(model, options.bits);
  if (!existsSync(folder)) return new RoundedExperts(floats, options);
  const { layers } = floats;
  await floats.close();
  return StoredExperts.open(folder, layers, options.bits);
}

/** What was written, read by one direct read for each expert. */
class StoredExperts implements QuantisedSource {
  readonly layers: readonly ColdLayer[];
  readonly largestBytes: number;
  readonly traits: ColdTraits;
  private readonly idle: Slot[] = [];

  private constructor(
    private readonly source: TensorSource,
    layers: readonly ColdLayer[],
    private readonly options: RoundingOptions,
    private readonly files: ReadonlyMap<string, DirectFile>,
  ) {
    this.layers = layers.map((layer) => ({ ...layer, placed: [] }));
    this.largestBytes = Math.max(...layers.map((layer) => bytesOf(partsOf(layer, options))));
    const isDirect = [...files.values()].every((file) => file.isDirect);
    this.traits = {
      description: `packed folder, ${options.bits} bits`,
      pageCache: isDirect ? 'bypassed' : 'used',
      residentBytes: 0,
    };
  }

  static async open(folder: string, layers: readonly ColdLayer[], bits: 4 | 8): Promise<StoredExperts> {
    const source = await openTensors(folder);
    const files = new Map<string, DirectFile>();
    try {
      const isAsymmetric = [...source.tensors.keys()].some((name) => name.endsWith('.zeroPoints'));
      const options: RoundingOptions = { bits, mode: isAsymmetric ? 'asymmetric' : 'symmetric' };
      const [scratch] = new SlotMemory(1, BLOCK).slots;
      for (const info of layers) {
        for (let expert = 0; expert < info.numExperts; expert++) {
          checkParts(source, info, expert, options);
          const { file } = source.extentOf!(`${info.name}.${expert}.${partsOf(info, options)[0].name}`)!;
          if (!files.has(file)) files.set(file, await DirectFile.open(file, bytesIn(scratch, BLOCK)));
        }
      }
      return new StoredExperts(source, layers, options, files);
    } catch (error) {
      for (const file of files.values()) await file.close();
      await source.close();
      throw error;
    }
  }

  async read(
    layer: number,
    expert: number,
    use: (weights: QuantisedWeights) => Promise<void>,
  ): Promise<number> {
    const info = this.layers[layer];
    const parts = partsOf(info, this.options);
    const { file, begin } = this.source.extentOf!(`${info.name}.${expert}.${parts[0].name}`)!;
    const bytes = bytesOf(parts);
    const slot = this.idle.pop() ?? new SlotMemory(1, this.largestBytes).slots[0];
    try {
      await this.files.get(file)!.read(bytesIn(slot, wholeBlocks(bytes)), begin, bytes);
      await use(this.weightsAt(info, parts, slot));
    } finally {
      this.idle.push(slot);
    }
    return bytes;
  }

  async close(): Promise<void> {
    for (const file of this.files.values()) await file.close();
    await this.source.close();
  }

  private weightsAt(info: ExpertLayerInfo, parts: readonly PlannedPart[], slot: Slot): QuantisedWeights {
    const { buffer, byteOffset } = slot.data;
    const views = new Map<string, Uint8Array | Float32Array>();
    let at = byteOffset;
    for (const part of parts) {
      const length = part.shape.reduce((a, b) => a * b, 1);
      views.set(
        part.name,
        part.dtype === 'F32' ? new Float32Array(buffer, at, length) : new Uint8Array(buffer, at, length),
      );
      at += bytesOf([part]);
    }
    const matrices: Record<string, QuantisedMatrix> = {};
    const biases: Record<string, Float32Array> = {};
    for (const name of Object.keys(info.parameters)) {
      const sizes = matrixSizes(info, name);
      if (!sizes) {
        biases[name] = views.get(name) as Float32Array;
        continue;
      }
      const zeroPoints = views.get(`${name}.zeroPoints`) as Uint8Array | undefined;
      matrices[name] = {
        ...sizes,
        bits: this.options.bits,
        values: views.get(`${name}.values`) as Uint8Array,
        scales: views.get(`${name}.scales`) as Float32Array,
        ...(zeroPoints && { zeroPoints }),
      };
    }
    return { matrices, biases };
  }
}

/** The tensors of an expert in the order in which they lie: floats first, so that all of them are aligned. */
function partsOf(info: ExpertLayerInfo, { bits, mode }: RoundingOptions): readonly PlannedPart[] {
  const floats: PlannedPart[] = [];
  const values: PlannedPart[] = [];
  const zeroPoints: PlannedPart[] = [];
  for (const [name, shape] of Object.entries(info.parameters)) {
    const sizes = matrixSizes(info, name);
    if (!sizes) {
      floats.push({ name, dtype: 'F32', shape, take: ({ biases }) => biases[name] });
      continue;
    }
    const { outSize, inSize } = sizes;
    const blocks = Math.ceil(inSize / BLOCK_SIZE);
    floats.push({
      name: `${name}.scales`,
      dtype: 'F32',
      shape: [outSize, blocks],
      take: ({ matrices }) => matrices[name].scales,
    });
    values.push({
      name: `${name}.values`,
      dtype: 'U8',
      shape: [outSize, blocks, (bits * BLOCK_SIZE) / 8],
      take: ({ matrices }) => matrices[name].values,
    });
    if (mode === 'asymmetric') {
      zeroPoints.push({
        name: `${name}.zeroPoints`,
        dtype: 'U8',
        shape: [outSize, Math.ceil((blocks * bits) / 8)],
        take: ({ matrices }) => matrices[name].zeroPoints!,
      });
    }
  }
  return [...floats, ...values, ...zeroPoints];
}

/** @throws Error naming the tensor that is not there, of another shape, or somewhere else. */
function checkParts(
  source: TensorSource,
  info: ExpertLayerInfo,
  expert: number,
  options: RoundingOptions,
): void {
  let end: number | undefined;
  let first: string | undefined;
  for (const part of partsOf(info, options)) {
    const name = `${info.name}.${expert}.${part.name}`;
    const found = source.tensors.get(name);
    const extent = source.extentOf?.(name);
    const wanted = `${part.dtype} [${part.shape.join(', ')}]`;
    const there = found && `${found.dtype} [${found.shape.join(', ')}]`;
    if (there !== wanted || !extent) {
      throw new Error(
        `${source.location}: the tensor ${name} should be ${wanted}, but ${there === undefined ? 'is not there' : `is ${there}`}; ` +
          'the experts are of another model, or were not written whole: delete the folder and round them again',
      );
    }
    const isInPlace =
      end === undefined ? extent.begin % BLOCK === 0 : extent.begin === end && extent.file === first;
    if (!isInPlace)
      throw new Error(`${source.location}: the tensor ${name} does not lie behind the one before it`);
    end = extent.begin + extent.bytes;
    first = extent.file;
  }
}

const bytesOf = (parts: readonly PlannedPart[]): number =>
  parts.reduce(
    (sum, { dtype, shape }) => sum + (dtype === 'F32' ? 4 : 1) * shape.reduce((a, b) => a * b, 1),
    0,
  );

const bytesIn = ({ data }: Slot, length: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(data.buffer, data.byteOffset, length);

function weightsIn({ placed }: ColdLayer, { data }: Slot): Record<string, Float32Array> {
  return Object.fromEntries(
    placed.map(({ name, offset, length }) => [name, data.subarray(offset, offset + length)]),
  );
}
