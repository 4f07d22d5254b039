import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { evaluatePredictor } from './evaluate-predictor.js';
import { routingFingerprint, fromWeights } from './fingerprint.js';
import { loadPredictor } from './predictor-folder.js';
import { PredictorProgram } from './predictor-program.js';
import { RoutingRecording } from './recording.js';
import { recordRouting } from './routing-recorder.js';
import { longestText, smallClassifier, smallTexts } from './small-model.case.js';
import { predictorTrainSchema } from './train-options.js';
import { trainPredictor, type TrainPredictorOptions } from './train-predictor.js';

const small = smallClassifier();
const embeddings = small.weights.get('embedding.weight')!;
let root: string;
let recording: RoutingRecording;
let padded: RoutingRecording;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'predictor-'));
  const common = { ...small, source: 'random texts', batchSize: 8 };
  await recordRouting({ ...common, folder: join(root, 'train'), batches: smallTexts(200) });
  await recordRouting({ ...common, folder: join(root, 'padded'), batches: smallTexts(50, 2), padding: true });
  recording = await RoutingRecording.open(join(root, 'train'));
  padded = await RoutingRecording.open(join(root, 'padded'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const settings = (name: string, steps: number): TrainPredictorOptions => ({
  folder: join(root, name),
  recording,
  embeddings,
  network: { hiddenSize: 16, recurrentLayers: 1 },
  train: predictorTrainSchema.parse({
    steps,
    batchSize: 16,
    checkpointEvery: 7,
    schedule: { learningRate: 0.01, warmupSteps: 5 },
  }),
});

test('a predictor learns what the routers do, and says how well', async () => {
  const steps: number[] = [];
  const predictor = await trainPredictor({
    ...settings('learnt', 150),
    onStep: ({ hitRate }) => steps.push(hitRate),
  });
  expect(steps).toHaveLength(150);
  const { real, padded: all, layers, distinct } = await evaluatePredictor(predictor, padded, embeddings);
  // Two layers of four experts: chance is a quarter.
  expect(real.top1).toBeGreaterThan(0.6);
  expect(real.top3).toBeGreaterThan(real.top1);
  expect(real.recall).toBeCloseTo(real.top1, 12);
  expect(real.alphaError).toBeLessThan(real.constantAlphaError);
  expect(real.positions).toBe(padded.tokens);
  expect(all?.positions).toBe(50 * longestText);
  expect(layers.map(({ name }) => name)).toEqual(['encoder.1', 'encoder.3']);
  expect(distinct.router).toBeGreaterThan(1);
});

test('a predictor without attention predicts as well', async () => {
  const { network, ...rest } = settings('recurrent', 20);
  const predictor = await trainPredictor({ ...rest, network: { ...network, attention: 'none' } });
  const { real } = await evaluatePredictor(predictor, recording, embeddings, { maxSequences: 20 });
  expect(real.top1).toBeGreaterThan(0.2);
});

test('training that was broken off ends with the same bits', async () => {
  const whole = await trainPredictor(settings('whole', 20));
  const stop = new AbortController();
  const broken = settings('broken', 20);
  let last = 0;
  await expect(
    trainPredictor({
      ...broken,
      signal: stop.signal,
      onStep: ({ step }) => ((last = step), step === 10 && stop.abort()),
    }),
  ).rejects.toThrow('aborted');
  expect(last).toBe(10);
  await expect(trainPredictor({ ...broken, network: { hiddenSize: 8, recurrentLayers: 1 } })).rejects.toThrow(
    'another training',
  );
  const resumed = await trainPredictor(broken);
  for (const [name, values] of whole.weights) expect(resumed.weights.get(name)).toEqual(values);
  await expect(trainPredictor(broken)).rejects.toThrow('there is a finished predictor');
});

test('a predictor is refused where it does not belong or is damaged', async () => {
  const folder = join(root, 'refused');
  const predictor = await trainPredictor(settings('refused', 2));
  expect(predictor.trainedFor).toBe(await routingFingerprint(small.model, fromWeights(small.weights)));
  const other = smallClassifier(2);
  await recordRouting({
    ...other,
    folder: join(root, 'other'),
    batches: smallTexts(5),
    source: 'random texts',
  });
  const foreign = await RoutingRecording.open(join(root, 'other'));
  await expect(evaluatePredictor(predictor, foreign, embeddings)).rejects.toThrow(
    'was made for another model',
  );
  expect(() => new PredictorProgram(predictor, new Float32Array(9), { contextLength: 4 })).toThrow(
    'it reads embeddings of width 8',
  );
  await expect(loadPredictor(root)).rejects.toThrow('there is no predictor here');
  const file = join(folder, 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  const write = (change: object): Promise<void> => writeFile(file, JSON.stringify({ ...config, ...change }));
  await write({ hiddenSize: 17 });
  await expect(loadPredictor(folder)).rejects.toThrow('tensor compression.weight should be [17, 8]');
  await write({ model_type: 'olmoe' });
  await expect(loadPredictor(folder)).rejects.toThrow('config.json: model_type');
  await write({ trainedFor: 'x' });
  await expect(loadPredictor(folder)).rejects.toThrow('config.json: trainedFor: expected 64');
  await writeFile(file, '{');
  await expect(loadPredictor(folder)).rejects.toThrow('config.json: not JSON');
});
