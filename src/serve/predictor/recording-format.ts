/**
 * A recording of a router's decisions on disk: `recording.json` and parts in safetensors.
 * @module
 */
import { z } from 'zod';
import { decodeFloats, type StoredDType, type TensorInfo } from '../../checkpoints/index.js';
import { PredictorError } from './errors.js';
import { predictedLayerSchema } from './options.js';

/** Name of the manifest in the folder of a recording. */
export const RECORDING_FILE = 'recording.json';

const size = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);

/** What a recording says of itself. */
export const recordingSchema = z.strictObject({
  format: z.literal('switchyard-routing-recording'),
  version: z.literal(1),
  /** {@link routingFingerprint} of the model. */
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
  /** Where the tokens came from. */
  source: z.string(),
  vocabSize: size,
  /** Most positions of a sequence. */
  contextLength: size,
  /** Whether sequences hold their padding as well, up to `contextLength`. */
  padding: z.boolean(),
  layers: z.array(predictedLayerSchema.extend({ candidates: size })).min(1),
  parts: z.array(
    z.strictObject({
      file: z.string().regex(/^part-\d{5}\.safetensors$/, 'expected part-00000.safetensors'),
      sequences: size,
      /** Positions, padding included where it is kept. */
      positions: size,
      /** Positions of real tokens. */
      tokens: z.int().min(0),
      bytes: size,
    }),
  ),
  /** Whether all that was asked for is recorded. */
  complete: z.boolean(),
});

/** What a recording says of itself. */
export type RecordingManifest = z.infer<typeof recordingSchema>;

/** A layer of a recording: of how many of its best experts it keeps the probability. */
export type RecordedLayer = RecordingManifest['layers'][number];

/** Decisions of one layer over the positions of a part. */
export interface RecordedDecisions {
  /** `[positions, topK]`: chosen experts, best first; 2¹⁶ − 1 or 2⁸ − 1 where there is none. */
  readonly experts: Uint8Array | Uint16Array;
  /** `[positions, topK]`: weights of the choices. */
  readonly gates: Float32Array;
  /** `[positions, candidates]`: the best experts, best first. */
  readonly candidates: Uint8Array | Uint16Array;
  /** `[positions, candidates]`, float16: their shares of the router's softmax over all experts. */
  readonly probabilities: Uint16Array;
}

/** One part in memory. */
export interface RecordingPart {
  /** Token ids, sequence after sequence. */
  readonly tokens: Int32Array;
  /** Positions of each sequence. */
  readonly lengths: Int32Array;
  /** Real tokens of each sequence: its first positions. */
  readonly real: Int32Array;
  readonly layers: readonly RecordedDecisions[];
}

/** Array in which expert indices rest: the last value means none. */
export function indexArray(numExperts: number): typeof Uint8Array | typeof Uint16Array {
  return numExperts < 255 ? Uint8Array : Uint16Array;
}

/** Tensors of a part, by name. */
export function partTensors(
  { layers }: Pick<RecordingManifest, 'layers'>,
  { sequences, positions }: { readonly sequences: number; readonly positions: number },
): TensorInfo[] {
  const tensor = (name: string, dtype: StoredDType, shape: readonly number[]): TensorInfo => ({
    name,
    dtype,
    shape,
  });
  return [
    tensor('tokens', 'I32', [positions]),
    tensor('lengths', 'I32', [sequences]),
    tensor('real', 'I32', [sequences]),
    ...layers.flatMap(({ name, topK, candidates, numExperts }) => {
      const index: StoredDType = indexArray(numExperts) === Uint8Array ? 'U8' : 'U16';
      return [
        tensor(`${name}.experts`, index, [positions, topK]),
        tensor(`${name}.gates`, 'F32', [positions, topK]),
        tensor(`${name}.candidates`, index, [positions, candidates]),
        tensor(`${name}.probabilities`, 'F16', [positions, candidates]),
      ];
    }),
  ];
}

/**
 * Checks the numbers of a part: nothing that is read from it can then lead outside an array.
 * @throws PredictorError naming the file and what is wrong.
 */
export function checkPart(file: string, part: RecordingPart, manifest: RecordingManifest): void {
  const { vocabSize, contextLength, layers } = manifest;
  const refuse = (what: string): never => {
    throw new PredictorError(`${file}: damaged: ${what}`);
  };
  for (const token of part.tokens) {
    if (token < 0 || token >= vocabSize) refuse(`token ${token} is not below vocabSize ${vocabSize}`);
  }
  let positions = 0;
  part.lengths.forEach((length, i) => {
    if (length < 1 || length > contextLength) refuse(`sequence ${i} has ${length} positions`);
    if (part.real[i] < 0 || part.real[i] > length) refuse(`sequence ${i} has ${part.real[i]} real tokens`);
    positions += length;
  });
  if (positions !== part.tokens.length)
    refuse(`its sequences have ${positions} positions, and there are ${part.tokens.length} tokens`);
  layers.forEach(({ name, numExperts }, l) => {
    const { experts, gates, candidates, probabilities } = part.layers[l];
    const none = 256 ** experts.BYTES_PER_ELEMENT - 1;
    for (const expert of experts) {
      if (expert >= numExperts && expert !== none)
        refuse(`layer ${name} chose expert ${expert} of ${numExperts}`);
    }
    for (const expert of candidates) {
      if (expert >= numExperts) refuse(`layer ${name} has candidate ${expert} of ${numExperts}`);
    }
    for (const gate of gates) if (!Number.isFinite(gate)) refuse(`layer ${name} has a gate of ${gate}`);
    // Float16 from 0 to 1 has bits from 0 to 0x3C00.
    for (const bits of probabilities) {
      if (bits > 0x3c00) {
        const [value] = decodeFloats('F16', Uint16Array.of(bits));
        refuse(`layer ${name} has a probability of ${value}`);
      }
    }
  });
}
