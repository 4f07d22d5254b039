/**
 * Some tensors of a source held in memory, exactly as they are stored.
 * @module
 */
import type { ReadOptions, StoredArray, TensorInfo } from '../safetensors/index.js';
import type { TensorSource } from '../tensors/source.js';

/** A source of which some tensors are in memory. Read whole, those are handed out without a copy: nobody may change them. */
export class HeldTensors implements TensorSource {
  private constructor(
    private readonly source: TensorSource,
    private readonly held: ReadonlyMap<string, StoredArray>,
  ) {}

  /** Reads the named tensors. */
  static async load(source: TensorSource, names: Iterable<string>): Promise<HeldTensors> {
    const held = new Map<string, StoredArray>();
    for (const name of names) held.set(name, await source.read(name));
    return new HeldTensors(source, held);
  }

  get location(): string {
    return this.source.location;
  }

  get tensors(): ReadonlyMap<string, TensorInfo> {
    return this.source.tensors;
  }

  /** Bytes of the tensors in memory. */
  get bytes(): number {
    return [...this.held.values()].reduce((total, { byteLength }) => total + byteLength, 0);
  }

  async read(name: string, options: ReadOptions = {}): Promise<StoredArray> {
    const held = this.held.get(name);
    return held && !options.into && !options.rows ? held : this.source.read(name, options);
  }

  async close(): Promise<void> {
    await this.source.close();
  }
}
