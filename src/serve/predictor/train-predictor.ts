/**
 * From a recording to a predictor in its folder.
 * @module
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { JsonObject, NamedTensor } from '../../checkpoints/index.js';
import type { ParameterArena } from '../../nn/index.js';
import { CheckpointStore, namedTensors } from '../../train/index.js';
import { PredictorError } from './errors.js';
import { predictorSchema, type PredictorOptions } from './options.js';
import { loadPredictor, savePredictor, type LoadedPredictor } from './predictor-folder.js';
import { PredictorTrainer, type PredictorStep } from './predictor-trainer.js';
import type { RoutingRecording } from './recording.js';
import type { PredictorTrainOptions } from './train-options.js';

/** Settings of {@link trainPredictor}. */
export interface TrainPredictorOptions {
  /** Folder of the predictor; training that was broken off there is gone on with. */
  readonly folder: string;
  readonly recording: RoutingRecording;
  /** The model's token embeddings `[vocabSize, embeddingSize]`, row after row. */
  readonly embeddings: Float32Array;
  /** Sizes and forms of the network; its layers are the recording's. */
  readonly network?: Partial<Omit<PredictorOptions, 'embeddingSize' | 'layers'>>;
  readonly train: PredictorTrainOptions;
  readonly onStep?: (step: PredictorStep) => void;
  readonly signal?: AbortSignal;
}

/** The network for the layers of a recording. */
function networkFor({ recording, embeddings, network = {} }: TrainPredictorOptions): PredictorOptions {
  const { vocabSize } = recording.manifest;
  if (embeddings.length % vocabSize !== 0)
    throw new PredictorError(
      `${recording.path}: it has a vocabulary of ${vocabSize}, which ${embeddings.length} numbers of embeddings do not divide into`,
    );
  return predictorSchema.parse({
    ...network,
    embeddingSize: embeddings.length / vocabSize,
    layers: recording.layers.map(({ candidates: _candidates, ...layer }) => layer),
  });
}

/**
 * Trains a predictor and saves it. Checkpoints are written on the way; the same call goes on after the newest one, with
 * the same numbers as if it had never been broken off. A folder with a finished predictor of the same training is read.
 *
 * @throws PredictorError if the folder holds the training of something else.
 */
export async function trainPredictor(settings: TrainPredictorOptions): Promise<LoadedPredictor> {
  const { folder, recording, embeddings, train, onStep, signal } = settings;
  const predictor = networkFor(settings);
  const trainedFor = recording.manifest.fingerprint;
  const checkpoints = join(folder, 'checkpoints');
  const facts = { predictor, train, trainedFor, tokens: recording.tokens } as unknown as JsonObject;
  if (existsSync(join(folder, 'model.safetensors')) && !existsSync(checkpoints)) {
    throw new PredictorError(`${folder}: there is a finished predictor; give another folder, or remove it`);
  }
  const trainer = PredictorTrainer.create({ recording, predictor, embeddings, options: train });
  try {
    const store = new CheckpointStore(checkpoints, { keepLast: 1 });
    await resume(store, trainer, facts);
    while (!trainer.done) {
      // A Ctrl-C must not wait for the end.
      await nextTurn();
      if (signal?.aborted) {
        await save(store, trainer, facts);
        signal.throwIfAborted();
      }
      const step = await trainer.update();
      onStep?.(step);
      if (!trainer.done && trainer.step % train.checkpointEvery === 0) await save(store, trainer, facts);
    }
    await savePredictor(folder, { options: predictor, trainedFor, weights: trainer.values.views });
    await rm(checkpoints, { recursive: true, force: true });
    return await loadPredictor(folder);
  } finally {
    await trainer.release();
  }
}

function tensorsOf(arena: ParameterArena, prefix = ''): NamedTensor[] {
  const shapes = new Map([...arena.layout].map(([name, { shape }]) => [name, shape]));
  return namedTensors(shapes, arena.views).map((tensor) => ({ ...tensor, name: prefix + tensor.name }));
}

function contents(trainer: PredictorTrainer): { model: NamedTensor[]; optimizer: NamedTensor[] } {
  const moments = [...trainer.optimizer.state].flatMap(([name, arena]) => tensorsOf(arena, `${name}.`));
  return { model: tensorsOf(trainer.values), optimizer: moments };
}

async function save(store: CheckpointStore, trainer: PredictorTrainer, facts: JsonObject): Promise<void> {
  const latest = await store.latest();
  if (latest?.step === trainer.step) return;
  await store.save(trainer.step, { ...contents(trainer), state: facts });
}

async function resume(store: CheckpointStore, trainer: PredictorTrainer, facts: JsonObject): Promise<void> {
  const latest = await store.latest();
  if (!latest) return;
  const { state } = await store.verify('latest');
  if (JSON.stringify(state) !== JSON.stringify(facts))
    throw new PredictorError(
      `${store.folder}: these checkpoints are of another training (network, options or recording differ): give another folder, or remove it`,
    );
  const { step } = await store.load('latest', contents(trainer));
  trainer.restore(step);
}
