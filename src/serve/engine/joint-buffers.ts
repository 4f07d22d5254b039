/**
 * Buffers between the stages of a pass.
 * @module
 */
import { sizeOf, type Tensor } from '../../graph/index.js';
import { allocate, type TensorData } from '../../runtime/index.js';

/** Hands out buffers by name; one that is over is handed out again to the next of its size, so that layers take turns. */
export class JointBuffers {
  private readonly held = new Map<string, TensorData>();
  private readonly idle = new Map<string, TensorData[]>();
  private allocated = 0;

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.allocated;
  }

  /** A buffer for a tensor. */
  take(name: string, tensor: Tensor): TensorData {
    const data = this.idle.get(kindOf(tensor))?.pop() ?? this.allocate(tensor);
    this.held.set(name, data);
    return data;
  }

  /** The buffer that a name has now. */
  get(name: string): TensorData | undefined {
    return this.held.get(name);
  }

  /** Ends the use of a buffer. */
  giveBack(name: string, tensor: Tensor): void {
    const data = this.held.get(name);
    if (!data) return;
    this.held.delete(name);
    const key = kindOf(tensor);
    this.idle.set(key, [...(this.idle.get(key) ?? []), data]);
  }

  private allocate({ dtype, shape }: Tensor): TensorData {
    const data = allocate(dtype, sizeOf(shape));
    this.allocated += data.byteLength;
    return data;
  }
}

function kindOf({ dtype, shape }: Tensor): string {
  return `${dtype} ${sizeOf(shape)}`;
}
