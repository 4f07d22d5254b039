/**
 * Experts that lie in one aligned piece each: one read from the disk into the place where they are computed from.
 * @module
 */
import { decodeFloats, type Checkpoint, type TensorExtent } from '../../../checkpoints/index.js';
import {
  compileWidening,
  FlatMemory,
  type NarrowFloat,
  type WasmMemory,
  type Widen,
} from '../../../runtime/index.js';
import type { ColdExperts, ColdLayer, ColdTraits, PlacedParameter } from '../cold-experts.js';
import type { ExpertLayerInfo } from '../expert-store.js';
import { BLOCK, wholeBlocks, type Slot } from '../slot-memory.js';
import { DirectFile } from './direct-file.js';

type PackedDType = 'F32' | NarrowFloat;

/** Where an expert lies. */
interface Piece {
  readonly file: string;
  readonly begin: number;
  readonly bytes: number;
}

/** A layer whose experts are pieces. */
interface PackedLayer extends ColdLayer {
  readonly dtype: PackedDType;
  readonly pieces: readonly Piece[];
}

const names: Readonly<Record<PackedDType, string>> = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' };

/**
 * What `switchyard import --pack` writes, or any folder that happens to lie so. Narrow floats are read into the end of their
 * place and widened towards its start, so no other memory takes part.
 */
export class PackedExperts implements ColdExperts {
  readonly slotBytes: number;
  readonly traits: ColdTraits;
  private readonly widening = new Map<WasmMemory, Readonly<Record<NarrowFloat, Widen>>>();

  private constructor(
    private readonly checkpoint: Checkpoint,
    readonly layers: readonly PackedLayer[],
    private readonly files: ReadonlyMap<string, DirectFile>,
  ) {
    this.slotBytes = Math.max(BLOCK, ...layers.map(slotBytesOf));
    const isDirect = [...files.values()].every((file) => file.isDirect);
    const dtypes = [...new Set(layers.map(({ dtype }) => names[dtype]))];
    this.traits = {
      description: `packed folder, ${dtypes.join(' and ')}`,
      pageCache: isDirect ? 'bypassed' : 'used',
      ...(isDirect ? {} : { reason: 'the file system or the system has no direct reads (O_DIRECT)' }),
      residentBytes: 0,
    };
  }

  /**
   * Opens the files of a checkpoint's experts.
   * @param checkpoint is closed with what this returns; it stays open otherwise.
   * @param layers of the checkpoint's model.
   * @param direct whether the page cache is to be bypassed where that is possible.
   * @returns undefined if some expert does not lie in one aligned piece, the way round that `layers` want it.
   */
  static async open(
    checkpoint: Checkpoint,
    layers: readonly ExpertLayerInfo[],
    direct = true,
  ): Promise<PackedExperts | undefined> {
    const found = packedLayers(checkpoint, layers);
    if (!found) return undefined;
    const scratch = FlatMemory.reserve(BLOCK / 4);
    const bytes = scratch.memory && new Uint8Array(scratch.memory.buffer, 0, BLOCK);
    const files = new Map<string, DirectFile>();
    try {
      for (const { pieces } of found) {
        for (const { file } of pieces)
          if (!files.has(file)) files.set(file, await DirectFile.open(file, direct ? bytes : undefined));
      }
      return new PackedExperts(checkpoint, found, files);
    } catch (error) {
      for (const file of files.values()) await file.close();
      throw error;
    }
  }

  async read(layer: number, expert: number, slot: Slot): Promise<number> {
    const { dtype, pieces } = this.layers[layer];
    const { file, begin, bytes } = pieces[expert];
    const length = wholeBlocks(bytes);
    const { buffer, byteOffset, byteLength } = slot.data;
    const start = dtype === 'F32' ? byteOffset : byteOffset + byteLength - length;
    await this.files.get(file)!.read(new Uint8Array(buffer, start, length), begin, bytes);
    if (dtype !== 'F32') this.widen(slot, dtype, start, bytes / 2);
    return bytes;
  }

  async close(): Promise<void> {
    for (const file of this.files.values()) await file.close();
    await this.checkpoint.close();
  }

  private widen({ data, memory }: Slot, dtype: NarrowFloat, start: number, count: number): void {
    if (!memory) {
      decodeFloats(dtype, new Uint16Array(data.buffer, start, count).slice(), data.subarray(0, count));
      return;
    }
    let functions = this.widening.get(memory);
    if (!functions) this.widening.set(memory, (functions = compileWidening(memory)));
    functions[dtype](start, data.byteOffset, count);
  }
}

/** A place must hold the expert, and, where it is widened, as much again of it as it lies in the file. */
function slotBytesOf({ dtype, pieces, expertBytes }: PackedLayer): number {
  return dtype === 'F32' ? wholeBlocks(expertBytes) : 2 * wholeBlocks(pieces[0].bytes);
}

function packedLayers(
  checkpoint: Checkpoint,
  layers: readonly ExpertLayerInfo[],
): readonly PackedLayer[] | undefined {
  if (!checkpoint.source.extentOf) return undefined;
  const places = new TensorPlaces(checkpoint);
  const found: PackedLayer[] = [];
  for (const layer of layers) {
    let first: { dtype: PackedDType; placed: readonly PlacedParameter[] } | undefined;
    const pieces: Piece[] = [];
    for (let expert = 0; expert < layer.numExperts; expert++) {
      const packed = places.pieceOf(layer, expert);
      if (!packed) return undefined;
      first ??= packed;
      if (packed.dtype !== first.dtype || JSON.stringify(packed.placed) !== JSON.stringify(first.placed))
        return undefined;
      pieces.push(packed.piece);
    }
    if (first) found.push({ ...layer, ...first, pieces });
  }
  return found;
}

/** Finds the tensors of single experts. */
class TensorPlaces {
  private readonly bySlice = new Map<string, { readonly tensor: string; readonly transpose: boolean }>();

  constructor(private readonly checkpoint: Checkpoint) {
    for (const { tensor, parts } of checkpoint.mapping) {
      const [part] = parts;
      // A tensor that holds more than a slice of one expert is not one to read by itself.
      if (parts.length !== 1 || part.at === undefined || part.from !== undefined || part.rows) continue;
      this.bySlice.set(`${part.parameter}#${part.at}`, { tensor, transpose: part.transpose ?? false });
    }
  }

  /** The piece that an expert's tensors make, and where its parameters are in it. */
  pieceOf(
    { name, parameters, transposed }: ExpertLayerInfo,
    expert: number,
  ):
    | { readonly dtype: PackedDType; readonly placed: readonly PlacedParameter[]; readonly piece: Piece }
    | undefined {
    const { source } = this.checkpoint;
    const parts: (TensorExtent & { readonly parameter: string; readonly dtype: string })[] = [];
    for (const [parameter, shape] of Object.entries(parameters)) {
      const slice = this.bySlice.get(`${name}.${parameter}#${expert}`);
      if (!slice || (shape.length === 2 && slice.transpose !== transposed)) return undefined;
      const extent = source.extentOf!(slice.tensor);
      const info = source.tensors.get(slice.tensor);
      if (!extent || !info) return undefined;
      parts.push({ ...extent, parameter, dtype: info.dtype });
    }
    parts.sort((a, b) => a.begin - b.begin);
    const [{ file, begin, dtype }] = parts;
    const width = dtype === 'F32' ? 4 : 2;
    let end = begin;
    const placed: PlacedParameter[] = [];
    for (const part of parts) {
      if (part.file !== file || part.begin !== end || part.dtype !== dtype) return undefined;
      placed.push({ name: part.parameter, offset: (end - begin) / width, length: part.bytes / width });
      end += part.bytes;
    }
    if (begin % BLOCK !== 0 || !(dtype in names)) return undefined;
    return { dtype: dtype as PackedDType, placed, piece: { file, begin, bytes: end - begin } };
  }
}
