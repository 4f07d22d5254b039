/**
 * A compressed checkpoint that looks like the original: the tensors of its experts are rebuilt when they are read.
 * @module
 */
import {
  encodeFloats,
  quote,
  SafetensorsError,
  storedDTypes,
  type ReadOptions,
  type StoredArray,
  type TensorInfo,
} from '../safetensors/index.js';
import { elementsOf } from '../safetensors/dtypes.js';
import type { TensorSource } from '../tensors/source.js';
import { ByteCache } from './byte-cache.js';
import { CompressedFormatError } from './errors.js';
import { EXPERT, scatterDesign, sliceOf, type ExpertTensor } from './expert-tensors.js';
import type { CompressionHeader } from './header.js';
import { HeldTensors } from './held-tensors.js';
import { LayerReader } from './layer-reader.js';
import { COMPRESSED_PREFIX } from './names.js';

/** How experts are rebuilt. */
export interface RestoreOptions {
  /** Bytes of rebuilt experts and centres that are kept, those used last; 256 MiB when absent. */
  readonly cacheBytes?: number;
  /** Whether what the layers store is read from disk each time, or held in memory as it is stored. */
  readonly hold?: 'disk' | 'memory';
}

/** Where a restored tensor comes from. */
interface Restored {
  readonly layer: LayerReader;
  readonly tensor: ExpertTensor;
  /** The expert, if the tensor is of one. */
  readonly expert?: number;
}

/** See the module. Reading a row range of a tensor that holds all experts rebuilds only those. */
export class RestoringSource implements TensorSource {
  /** Tensors under their original names, with their original types and shapes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The compressed layers, by name. */
  readonly layers: ReadonlyMap<string, LayerReader>;
  private readonly restored = new Map<string, Restored>();
  private readonly cache: ByteCache<Float32Array>;
  /** Experts that are being rebuilt: whoever else asks for one waits for it. */
  private readonly making = new Map<string, Promise<Float32Array>>();

  private constructor(
    private readonly source: TensorSource,
    readonly header: CompressionHeader,
    { cacheBytes = 256 << 20 }: RestoreOptions,
  ) {
    this.cache = new ByteCache(cacheBytes);
    this.layers = new Map(header.layers.map((layer) => [layer.name, new LayerReader(layer, source)]));
    const tensors = new Map([...source.tensors].filter(([name]) => !name.startsWith(COMPRESSED_PREFIX)));
    for (const layer of this.layers.values()) this.addRestored(layer, tensors);
    this.tensors = tensors;
    const used = new Set([...this.layers.values()].flatMap((layer) => [...layer.tensors]));
    const stray = [...source.tensors.keys()].filter(
      (name) => name.startsWith(COMPRESSED_PREFIX) && !used.has(name),
    );
    if (stray.length > 0)
      throw new CompressedFormatError(
        source.location,
        `config.json does not know ${stray.length === 1 ? 'tensor' : `${stray.length} tensors, the first of them`} ${quote(stray[0])}`,
      );
  }

  /**
   * @param source as stored; it is closed with this one, or at once if this throws.
   * @throws CompressedFormatError if the tensors are not what the header promises.
   */
  static async open(
    source: TensorSource,
    header: CompressionHeader,
    options: RestoreOptions = {},
  ): Promise<RestoringSource> {
    try {
      const restoring = new RestoringSource(source, header, options);
      if (options.hold !== 'memory') return restoring;
      const names = [...restoring.layers.values()].flatMap((layer) => [...layer.tensors]);
      return new RestoringSource(await HeldTensors.load(source, names), header, options);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  get location(): string {
    return this.source.location;
  }

  /** Bytes of tensors held in memory, and of rebuilt experts and centres kept. */
  get residentBytes(): { readonly compressed: number; readonly cache: number } {
    const compressed = this.source instanceof HeldTensors ? this.source.bytes : 0;
    return { compressed, cache: this.cache.bytes };
  }

  /** Whether a tensor is rebuilt when it is read, rather than stored. */
  isRestored(name: string): boolean {
    return this.restored.has(name);
  }

  async read(name: string, options: ReadOptions = {}): Promise<StoredArray> {
    const restored = this.restored.get(name);
    if (!restored && !this.tensors.has(name))
      throw new SafetensorsError('missing', this.location, `there is no tensor ${quote(name)}`);
    if (!restored) return this.source.read(name, options);
    const { layer, tensor, expert } = restored;
    const { shape } = tensor;
    const [first, last] = options.rows ?? [0, shape[0]];
    if (!(
      Number.isInteger(first) &&
      Number.isInteger(last) &&
      first >= 0 &&
      first <= last &&
      last <= shape[0]
    ))
      return this.fail(
        `tensor ${quote(name)} of shape [${shape.join(', ')}] has no rows ${first} to ${last}`,
      );
    const { dtype } = layer.header;
    const rowLength = elementsOf(shape.slice(1));
    const length = (last - first) * rowLength;
    const target = options.into ?? new storedDTypes[dtype].array(length);
    if (!(target instanceof storedDTypes[dtype].array) || target.length !== length)
      return this.fail(
        `tensor ${quote(name)} takes a ${storedDTypes[dtype].array.name} of ${length} elements, not a ${target.constructor.name} of ${target.length}`,
      );
    const [rows, columns] = sliceOf(tensor);
    if (expert !== undefined) {
      const slice = await this.slice(layer, tensor, expert, new Float32Array(rows * columns));
      put(encodeFloats(dtype, slice.subarray(first * rowLength, last * rowLength)), target, 0);
      return target;
    }
    const buffer = new Float32Array(rowLength);
    for (let e = first; e < last; e++) {
      put(encodeFloats(dtype, await this.slice(layer, tensor, e, buffer)), target, (e - first) * rowLength);
    }
    return target;
  }

  async close(): Promise<void> {
    await this.source.close();
  }

  private fail(reason: string): never {
    throw new SafetensorsError('target', this.location, reason);
  }

  private addRestored(layer: LayerReader, tensors: Map<string, TensorInfo>): void {
    const { dtype, expertOf, tensors: originals } = layer.header;
    const add = (name: string, restored: Restored): void => {
      if (tensors.has(name))
        throw new CompressedFormatError(
          this.source.location,
          `tensor ${quote(name)} is stored, though config.json says that layer ${layer.header.name} is compressed`,
        );
      tensors.set(name, { name, dtype, shape: restored.tensor.shape });
      this.restored.set(name, restored);
    };
    for (const tensor of originals) {
      if (!tensor.name.includes(EXPERT)) add(tensor.name, { layer, tensor });
      else
        expertOf.forEach((_, expert) =>
          add(tensor.name.replaceAll(EXPERT, String(expert)), { layer, tensor, expert }),
        );
    }
  }

  private async slice(
    layer: LayerReader,
    tensor: ExpertTensor,
    expert: number,
    into: Float32Array,
  ): Promise<Float32Array> {
    const isBias = tensor.parts.some(({ role }) => role === 'outputBias');
    const biases = isBias ? await layer.readOutputBiases(expert) : undefined;
    const needsDesign = tensor.parts.some(({ role }) => role !== 'outputBias');
    const design = needsDesign ? await this.design(layer, expert) : new Float32Array();
    scatterDesign(tensor, into, layer.blocks, design, biases);
    return into;
  }

  /** A rebuilt expert, from the cache where it is there. */
  private async design(layer: LayerReader, expert: number): Promise<Float32Array> {
    const { name, expertOf } = layer.header;
    // Experts that were merged are the same expert.
    return this.cached(`${name}#${expertOf[expert]}`, async () => {
      const centre = layer.header.centre ? await this.centre(layer) : undefined;
      return layer.restore(expert, centre);
    });
  }

  private async centre(layer: LayerReader): Promise<Float32Array> {
    const read = async (): Promise<Float32Array> => (await layer.readCentre())!;
    // What is held as float32 is at hand already.
    const isHeld = this.source instanceof HeldTensors && layer.header.dtype === 'F32';
    return isHeld ? read() : this.cached(layer.header.name, read);
  }

  private async cached(key: string, make: () => Promise<Float32Array>): Promise<Float32Array> {
    const kept = this.cache.get(key);
    if (kept) return kept;
    const waiting = this.making.get(key);
    if (waiting) return waiting;
    const made = make().finally(() => this.making.delete(key));
    this.making.set(key, made);
    const value = await made;
    this.cache.set(key, value);
    return value;
  }
}

function put(values: StoredArray, target: StoredArray, at: number): void {
  (target as Float32Array).set(values as Float32Array, at);
}
