/**
 * A session whose bound outputs are not copied.
 *
 * onnxruntime-node writes into a bound output and then copies it once more, into a fresh ArrayBuffer for the object
 * that `session.run` returns (microsoft/onnxruntime#32346): 0.6 ms a MiB, more than the optimiser itself needs. It
 * converts outputs in the order of the model and stops at the first that it cannot represent. So the model's first
 * output is an empty sequence, which it refuses after everything has run and before anything is copied. A later
 * version that can represent sequences, or that no longer copies, works as well, only without the shortcut.
 * @module
 */
import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { MARKER } from './encode.js';

/** Bound output tensors by ONNX name; null asks ONNX Runtime to allocate. */
export type BoundOutputs = Readonly<Record<string, Tensor | null>>;

/** Wraps a session over a model that was encoded with `marker`. */
export class UncopiedSession {
  private constructor(private readonly session: InferenceSession) {}

  /** @throws Error of ONNX Runtime if the model cannot be opened with these options. */
  static async open(bytes: Uint8Array, options: InferenceSession.SessionOptions): Promise<UncopiedSession> {
    return new UncopiedSession(await InferenceSession.create(bytes, options));
  }

  /** Runs once; bound outputs are written in place. Returns the outputs that were not bound. */
  async run(
    inputs: InferenceSession.FeedsType,
    outputs: BoundOutputs,
  ): Promise<InferenceSession.OnnxValueMapType> {
    const allBound = Object.values(outputs).every((tensor) => tensor !== null);
    if (!allBound) return this.session.run(inputs, outputs);
    try {
      await this.session.run(inputs, { [MARKER]: null, ...outputs });
    } catch (error) {
      if (!isRefusedMarker(error)) throw error;
    }
    return {};
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.session.release();
  }
}

/** Failed runs report a status code; this is the message of the conversion that follows a successful one. */
function isRefusedMarker(error: unknown): boolean {
  return error instanceof Error && /^non tensor type/i.test(error.message);
}
