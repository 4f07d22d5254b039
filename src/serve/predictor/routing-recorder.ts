/**
 * Runs a model over texts and writes down what its routers decided.
 * @module
 */
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  encodeFloats,
  encodeJson,
  replaceFile,
  saveSafetensors,
  type NamedTensor,
} from '../../checkpoints/index.js';
import type { AnyBatch, BatchShape } from '../../data/index.js';
import { cast, topK, type Tensor } from '../../graph/index.js';
import { EncoderDecoder, type Model } from '../../models/index.js';
import type { RoutingRecord } from '../../moe/index.js';
import { evaluationContext } from '../../nn/index.js';
import { compile, type Program, type RuntimeOptions, type TensorData } from '../../runtime/index.js';
import { objectiveOf, type SegmentBuffers } from '../../train/index.js';
import { PredictorError } from './errors.js';
import { fromWeights, routingFingerprint } from './fingerprint.js';
import { PerBucket } from './length-buckets.js';
import {
  indexArray,
  partTensors,
  RECORDING_FILE,
  type RecordedLayer,
  type RecordingManifest,
  type RecordingPart,
} from './recording-format.js';
import { readManifest } from './recording.js';

/** Settings of {@link recordRouting}. */
export interface RecordingOptions {
  /** Folder of the recording; one that was broken off is gone on with. */
  readonly folder: string;
  readonly model: Model;
  /** Every parameter of the model by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** The texts, in the same order every time. */
  readonly batches: Iterable<AnyBatch> & Pick<BatchShape, 'contextLength'>;
  /** Where they come from, for readers; a recording is only gone on with from the same source. */
  readonly source: string;
  /** Real tokens that are enough; default 2 000 000. */
  readonly maxTokens?: number;
  /** Of how many of a layer's best experts the probability is kept: SiDA's T, default 30. */
  readonly truncation?: number;
  /** Whether to keep positions of padding as well, up to the length of the batches. */
  readonly padding?: boolean;
  /** Sequences in a part, which are run in the order of their lengths; default 1024. */
  readonly sequencesPerPart?: number;
  /** Sequences that run at once; default 32. */
  readonly batchSize?: number;
  readonly runtime?: RuntimeOptions;
  readonly onProgress?: (progress: { readonly tokens: number; readonly maxTokens: number }) => void;
  readonly signal?: AbortSignal;
}

/** A text before it is routed. */
interface Row {
  /** With padding where it is kept. */
  readonly tokens: Int32Array;
  readonly real: number;
}

/**
 * Records routing until the texts end or there are enough tokens. Written in parts: when it is broken off, the same call
 * goes on after the last whole part.
 *
 * @throws PredictorError if the folder holds a recording of something else, or the model has no router.
 */
export async function recordRouting(options: RecordingOptions): Promise<RecordingManifest> {
  const { folder, batches, maxTokens = 2_000_000, sequencesPerPart = 1024, signal } = options;
  await mkdir(folder, { recursive: true });
  let manifest = await startOrContinue(options);
  if (manifest.complete) return manifest;
  const teacher = new TeacherPrograms(options, manifest.layers);
  let skip = manifest.parts.reduce((sum, { sequences }) => sum + sequences, 0);
  let tokens = manifest.parts.reduce((sum, part) => sum + part.tokens, 0);
  let rows: Row[] = [];
  const flush = async (): Promise<void> => {
    if (rows.length === 0) return;
    const part = await teacher.route(rows, manifest.layers);
    manifest = await appendPart(folder, manifest, part);
    rows = [];
    options.onProgress?.({ tokens, maxTokens });
  };
  try {
    for (const batch of batches) {
      if (tokens >= maxTokens) break;
      for (const row of rowsOf(batch, options)) {
        if (skip-- > 0) continue;
        if (tokens >= maxTokens) break;
        rows.push(row);
        tokens += row.real;
        if (rows.length < sequencesPerPart) continue;
        await flush();
        signal?.throwIfAborted();
      }
    }
    await flush();
    if (manifest.parts.length === 0) throw new PredictorError(`${options.source}: there is no text to route`);
    manifest = { ...manifest, complete: true };
    await writeManifest(folder, manifest);
    return manifest;
  } finally {
    await teacher.release();
  }
}

async function startOrContinue(options: RecordingOptions): Promise<RecordingManifest> {
  const { folder, model, weights, batches, source, truncation = 30, padding = false } = options;
  const layers = predictableLayers(model).map(({ name, layerIndex, numExperts, topK: chosen }) => ({
    name,
    layerIndex,
    numExperts,
    topK: chosen,
    candidates: Math.max(chosen, Math.min(truncation, numExperts)),
  }));
  const wanted: RecordingManifest = {
    format: 'switchyard-routing-recording',
    version: 1,
    fingerprint: await routingFingerprint(model, fromWeights(weights)),
    source,
    vocabSize: model.options.vocabSize,
    contextLength: batches.contextLength,
    padding,
    layers,
    parts: [],
    complete: false,
  };
  const found = await readManifest(folder);
  if (!found) return wanted;
  const facts = ({ parts: _parts, complete: _complete, ...rest }: RecordingManifest): string =>
    JSON.stringify(rest);
  if (facts(found) === facts(wanted)) return found;
  const differs = (Object.keys(wanted) as (keyof RecordingManifest)[]).find(
    (key) =>
      key !== 'parts' && key !== 'complete' && JSON.stringify(found[key]) !== JSON.stringify(wanted[key]),
  );
  throw new PredictorError(
    `${folder} holds a recording with another ${differs}: give another folder, or remove it`,
  );
}

/**
 * Routing records that a predictor can foretell: of an encoder–decoder those of its encoder, as in SiDA, because the
 * decoder's texts are not known ahead.
 * @throws PredictorError if there is none.
 */
export function predictableLayers(model: Model): readonly RoutingRecord[] {
  const { records } = traceTeacher(model, 1, Math.min(2, model.options.contextLength));
  if (records.length > 0) return records;
  throw new PredictorError('no layer of this model has a router whose decisions could be predicted');
}

function traceTeacher(
  model: Model,
  batchSize: number,
  length: number,
): { records: readonly RoutingRecord[]; memory: SegmentBuffers | undefined } {
  const objective = objectiveOf(model);
  const shape = { batchSize, contextLength: length, targetLength: 1 };
  const { records } = objective.trace(evaluationContext(), { shape, padded: true });
  const kept =
    model instanceof EncoderDecoder ? records.filter(({ name }) => name.startsWith('encoder.')) : records;
  return { records: kept, memory: objective.memory(batchSize, false) };
}

/** Texts of a batch without their padding, or filled up to the context where padding is kept. */
function* rowsOf(
  batch: AnyBatch,
  { batches: { contextLength: width }, padding = false }: RecordingOptions,
): Generator<Row> {
  const [ids, mask] = 'tokens' in batch ? [batch.tokens, batch.mask] : [batch.source, batch.sourceMask];
  for (let start = 0; start < ids.length; start += width) {
    let real = 0;
    while (real < width && mask[start + real]) real++;
    if (real === 0) continue;
    yield { tokens: ids.slice(start, start + (padding ? width : real)), real };
  }
}

/** The model's routers, compiled for each length of text. */
class TeacherPrograms {
  private readonly batchSize: number;
  private readonly programs: PerBucket<Teacher>;

  constructor(
    { model, weights, batches, batchSize = 32, runtime = {} }: RecordingOptions,
    layers: readonly RecordedLayer[],
  ) {
    this.batchSize = batchSize;
    this.programs = new PerBucket(batches.contextLength, async (length) => {
      const { records, memory } = traceTeacher(model, batchSize, length);
      const outputs: Record<string, Tensor> = {};
      for (const [l, record] of records.entries()) {
        const best = topK(record.probabilities, layers[l].candidates);
        outputs[`${record.name}.experts`] = record.experts;
        outputs[`${record.name}.gates`] = record.gates;
        outputs[`${record.name}.candidates`] = cast(best.indices, 'int32');
        outputs[`${record.name}.probabilities`] = best.values;
      }
      const program = (await compile(outputs, runtime)).bindKnown(weights);
      return new Teacher(program, memory);
    });
  }

  /** Routes texts, the long ones apart from the short ones, and puts the decisions into the order of the texts. */
  async route(rows: readonly Row[], layers: readonly RecordedLayer[]): Promise<RecordingPart> {
    const part = emptyPart(rows, layers);
    const starts = startsOf(rows);
    const byLength = rows.map((_, i) => i).sort((a, b) => rows[a].tokens.length - rows[b].tokens.length);
    for (let first = 0; first < byLength.length; first += this.batchSize) {
      await nextTurn();
      const chosen = byLength.slice(first, first + this.batchSize);
      const longest = rows[chosen.at(-1)!].tokens.length;
      const { length, program } = await this.programs.for(longest);
      const results = await program.run(
        chosen.map((i) => rows[i]),
        this.batchSize,
        length,
      );
      chosen.forEach((row, at) => {
        layers.forEach((layer, l) =>
          copyDecisions(results, layer, at * length, part.layers[l], starts[row], rows[row]),
        );
      });
    }
    return part;
  }

  async release(): Promise<void> {
    await this.programs.release();
  }
}

/** The routers for texts of one length. */
class Teacher {
  constructor(
    private readonly program: Program,
    private readonly memory: SegmentBuffers | undefined,
  ) {}

  async run(
    rows: readonly Row[],
    batchSize: number,
    length: number,
  ): Promise<Readonly<Record<string, TensorData>>> {
    const ids = new Int32Array(batchSize * length);
    const mask = new Uint8Array(batchSize * length);
    rows.forEach(({ tokens, real }, at) => {
      ids.set(tokens, at * length);
      mask.fill(1, at * length, at * length + real);
    });
    this.program.bindKnown([
      ['tokens', ids],
      ['mask', mask],
      ['source', ids],
      ['sourceMask', mask],
      ['languages', new Int32Array(batchSize * length)],
    ]);
    this.memory?.reset();
    this.memory?.bind(this.program);
    return this.program.run();
  }

  async release(): Promise<void> {
    await this.program.release();
  }
}

function startsOf(rows: readonly Row[]): number[] {
  let start = 0;
  return rows.map(({ tokens }) => (start += tokens.length) - tokens.length);
}

function emptyPart(rows: readonly Row[], layers: readonly RecordedLayer[]): RecordingPart {
  const lengths = Int32Array.from(rows, ({ tokens }) => tokens.length);
  const positions = lengths.reduce((a, b) => a + b, 0);
  const tokens = new Int32Array(positions);
  startsOf(rows).forEach((start, i) => tokens.set(rows[i].tokens, start));
  return {
    tokens,
    lengths,
    real: Int32Array.from(rows, ({ real }) => real),
    layers: layers.map(({ numExperts, topK: chosen, candidates }) => ({
      experts: new (indexArray(numExperts))(positions * chosen),
      gates: new Float32Array(positions * chosen),
      candidates: new (indexArray(numExperts))(positions * candidates),
      probabilities: new Uint16Array(positions * candidates),
    })),
  };
}

/** What a layer decided about one text. Padding, which it gives no expert, has its best ones with their probabilities. */
function copyDecisions(
  results: Readonly<Record<string, TensorData>>,
  { name, topK: chosen, candidates: width }: RecordedLayer,
  from: number,
  into: RecordingPart['layers'][number],
  to: number,
  { tokens, real }: Row,
): void {
  const experts = results[`${name}.experts`] as Int32Array;
  const gates = results[`${name}.gates`] as Float32Array;
  const candidates = results[`${name}.candidates`] as Int32Array;
  const probabilities = results[`${name}.probabilities`] as Float32Array;
  const shares = new Float32Array(tokens.length * width);
  for (let t = 0; t < tokens.length; t++) {
    for (let k = 0; k < chosen; k++) {
      const at = (from + t) * chosen + k;
      const best = (from + t) * width + k;
      // −1 wraps around to the largest index, which means none.
      into.experts[(to + t) * chosen + k] = t < real ? experts[at] : candidates[best];
      into.gates[(to + t) * chosen + k] = t < real ? gates[at] : probabilities[best];
    }
    for (let k = 0; k < width; k++) {
      into.candidates[(to + t) * width + k] = candidates[(from + t) * width + k];
      shares[t * width + k] = Math.min(1, probabilities[(from + t) * width + k]);
    }
  }
  into.probabilities.set(encodeFloats('F16', shares) as Uint16Array, to * width);
}

async function appendPart(
  folder: string,
  manifest: RecordingManifest,
  part: RecordingPart,
): Promise<RecordingManifest> {
  const file = `part-${String(manifest.parts.length).padStart(5, '0')}.safetensors`;
  const size = { sequences: part.lengths.length, positions: part.tokens.length };
  const arrays = new Map<string, NamedTensor['data']>([
    ['tokens', part.tokens],
    ['lengths', part.lengths],
    ['real', part.real],
    ...manifest.layers.flatMap(({ name }, l) =>
      Object.entries(part.layers[l]).map(
        ([key, data]) => [`${name}.${key}`, data as NamedTensor['data']] as const,
      ),
    ),
  ]);
  const tensors = partTensors(manifest, size).map((info) => ({ ...info, data: arrays.get(info.name)! }));
  await saveSafetensors(join(folder, file), tensors);
  const { size: bytes } = await stat(join(folder, file));
  const tokens = part.real.reduce((a, b) => a + b, 0);
  const next = { ...manifest, parts: [...manifest.parts, { file, ...size, tokens, bytes }] };
  await writeManifest(folder, next);
  return next;
}

async function writeManifest(folder: string, manifest: RecordingManifest): Promise<void> {
  await replaceFile(join(folder, RECORDING_FILE), (handle) =>
    handle.writeFile(`${encodeJson(manifest, 1)}\n`),
  );
}
