/**
 * Reads recordings of routing.
 * @module
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeFloats, explain, SafetensorsFile, type StoredArray } from '../../checkpoints/index.js';
import { PredictorError } from './errors.js';
import {
  checkPart,
  partTensors,
  RECORDING_FILE,
  recordingSchema,
  type RecordedDecisions,
  type RecordedLayer,
  type RecordingManifest,
  type RecordingPart,
} from './recording-format.js';

/** Where a sequence lies. */
interface Place {
  readonly part: RecordingPart;
  readonly start: number;
  readonly length: number;
  readonly real: number;
}

/** A recording in memory: about `candidates · 3` bytes a position and layer. */
export class RoutingRecording {
  private constructor(
    /** Its folder. */
    readonly path: string,
    readonly manifest: RecordingManifest,
    private readonly places: readonly Place[],
  ) {}

  /**
   * Reads a finished recording and checks every number of it.
   * @throws PredictorError or SafetensorsError naming the file that is missing or damaged.
   */
  static async open(folder: string): Promise<RoutingRecording> {
    const manifest = await readManifest(folder);
    if (!manifest)
      throw new PredictorError(
        `${folder}: there is no recording here (no ${RECORDING_FILE}): make one first`,
      );
    if (!manifest.complete)
      throw new PredictorError(`${folder}: the recording is not finished: record into it again to go on`);
    const places: Place[] = [];
    for (const described of manifest.parts) {
      const part = await readPart(folder, manifest, described);
      let start = 0;
      part.lengths.forEach((length, i) => {
        places.push({ part, start, length, real: part.real[i] });
        start += length;
      });
    }
    if (places.length === 0) throw new PredictorError(`${folder}: the recording has no sequence`);
    return new RoutingRecording(folder, manifest, places);
  }

  get layers(): readonly RecordedLayer[] {
    return this.manifest.layers;
  }

  /** Number of sequences. */
  get sequences(): number {
    return this.places.length;
  }

  /** Real tokens of all sequences. */
  get tokens(): number {
    return this.places.reduce((sum, { real }) => sum + real, 0);
  }

  /** Positions of a sequence, padding included where it is kept. */
  lengthOf(sequence: number): number {
    return this.places[sequence].length;
  }

  /** Real tokens of a sequence: its first positions. */
  realOf(sequence: number): number {
    return this.places[sequence].real;
  }

  /** Token ids of a sequence, a view. */
  tokensOf(sequence: number): Int32Array {
    const { part, start, length } = this.places[sequence];
    return part.tokens.subarray(start, start + length);
  }

  /** What a layer decided about a sequence, views of `[length, topK]` and `[length, candidates]`. */
  decisionsOf(sequence: number, layer: number): RecordedDecisions {
    const { part, start, length } = this.places[sequence];
    const { topK, candidates: width } = this.layers[layer];
    const { experts, gates, candidates, probabilities } = part.layers[layer];
    const [chosen, best] = [
      [start * topK, (start + length) * topK],
      [start * width, (start + length) * width],
    ] as const;
    return {
      experts: experts.subarray(...chosen),
      gates: gates.subarray(...chosen),
      candidates: candidates.subarray(...best),
      probabilities: probabilities.subarray(...best),
    };
  }

  /** The candidates' shares of the softmax over all experts, as numbers. */
  sharesOf(sequence: number, layer: number): Float32Array {
    return decodeFloats('F16', this.decisionsOf(sequence, layer).probabilities);
  }
}

/**
 * The manifest of a recording, finished or not; undefined where there is none.
 * @throws PredictorError if it is not one.
 */
export async function readManifest(folder: string): Promise<RecordingManifest | undefined> {
  const file = join(folder, RECORDING_FILE);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new PredictorError(`cannot read ${file}: ${explain(error)}`, { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PredictorError(`${file}: not JSON: ${(error as Error).message}`);
  }
  const parsed = recordingSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new PredictorError(`${file}: ${path.join('.') || 'the manifest'}: ${message}`);
}

async function readPart(
  folder: string,
  manifest: RecordingManifest,
  described: RecordingManifest['parts'][number],
): Promise<RecordingPart> {
  const path = join(folder, described.file);
  const expected = partTensors(manifest, described);
  const { size } = await stat(path).catch((error: unknown) => {
    throw new PredictorError(`cannot read ${path}: ${explain(error)}`, { cause: error });
  });
  if (size !== described.bytes)
    throw new PredictorError(`${path}: damaged: it has ${size} bytes instead of ${described.bytes}`);
  const file = await SafetensorsFile.open(path);
  try {
    for (const { name, dtype, shape } of expected) {
      const found = file.tensors.get(name);
      if (!found || found.dtype !== dtype || found.shape.join() !== shape.join())
        throw new PredictorError(
          `${path}: damaged: tensor ${name} should be ${dtype} [${shape.join(', ')}] and is ${found ? `${found.dtype} [${found.shape.join(', ')}]` : 'missing'}`,
        );
    }
    const arrays = new Map<string, StoredArray>();
    for (const { name } of expected) arrays.set(name, await file.read(name));
    const part: RecordingPart = {
      tokens: arrays.get('tokens') as Int32Array,
      lengths: arrays.get('lengths') as Int32Array,
      real: arrays.get('real') as Int32Array,
      layers: manifest.layers.map(({ name }) => ({
        experts: arrays.get(`${name}.experts`) as Uint8Array,
        gates: arrays.get(`${name}.gates`) as Float32Array,
        candidates: arrays.get(`${name}.candidates`) as Uint8Array,
        probabilities: arrays.get(`${name}.probabilities`) as Uint16Array,
      })),
    };
    checkPart(path, part, manifest);
    return part;
  } finally {
    await file.close();
  }
}
