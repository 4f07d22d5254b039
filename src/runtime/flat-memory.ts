/**
 * One block of memory for the large flat arrays of a training run: parameters, gradients, moments.
 *
 * It is WebAssembly memory, because code over it can use SIMD instructions, and an ordinary ArrayBuffer to everyone
 * else: ONNX Runtime reads and writes views of it in place. Such memory ends at 4 GiB; what does not fit is allocated
 * outside, and passes over it take the slower way.
 * @module
 */
import { webAssembly, type WasmMemory } from './web-assembly.js';

const PAGE = 65_536;
const LIMIT = 65_536;

/** Arrays start on multiples of this many bytes (a cache line). */
const ALIGNMENT = 64;

/** A block that hands out arrays and never takes them back. */
export class FlatMemory {
  private used = 0;

  private constructor(
    /** Absent when the block would exceed what WebAssembly or the system can address. */
    readonly memory: WasmMemory | undefined,
    private readonly bytes: number,
  ) {}

  /** Reserves room for `floats` float32 numbers; untouched pages cost no memory. */
  static reserve(floats: number): FlatMemory {
    const bytes = floats * 4 + ALIGNMENT * 16;
    const pages = Math.ceil(bytes / PAGE);
    if (pages > LIMIT) return new FlatMemory(undefined, 0);
    try {
      return new FlatMemory(new webAssembly.Memory({ initial: pages, maximum: pages }), pages * PAGE);
    } catch {
      // A limit on address space: ordinary arrays still serve.
      return new FlatMemory(undefined, 0);
    }
  }

  /** A zeroed array, in the block as long as there is room. */
  take(floats: number): Float32Array {
    const size = Math.ceil((floats * 4) / ALIGNMENT) * ALIGNMENT;
    if (!this.memory || this.used + size > this.bytes) return new Float32Array(floats);
    const array = new Float32Array(this.memory.buffer, this.used, floats);
    this.used += size;
    return array;
  }

  /** Whether an array lies in the block. */
  holds(array: Float32Array): boolean {
    return array.buffer === this.memory?.buffer;
  }
}
