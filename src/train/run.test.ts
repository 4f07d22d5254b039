import { EventEmitter } from 'node:events';
import { readFile, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  noisySwitch,
  temporaryFolder,
  tinyText,
  tinyTrainer,
  type TinyTraining,
} from '../../test/support/tiny-training.js';
import { SafetensorsFile } from '../checkpoints/index.js';
import { CheckpointStore } from './checkpoint-store.js';
import { Interruption } from './interruption.js';
import { readMetrics } from './metrics-log.js';
import { saveModelConfig } from './model-folder.js';
import { resumeTraining, runTraining, type TrainingListener, type TrainingResult } from './run.js';
import { RunFolder } from './run-folder.js';

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => rm(folder, { recursive: true, force: true }));

interface Options {
  readonly path?: string;
  readonly resume?: boolean;
  /** Asks the run to stop after this step. */
  readonly stopAfter?: number;
  readonly listener?: TrainingListener;
}

/** One process' share of a run. */
async function run(
  training: TinyTraining,
  { path = join(folder, 'run'), resume = false, stopAfter, listener = {} }: Options = {},
): Promise<TrainingResult & { passedOver: readonly string[] }> {
  const { trainer, data, options, model } = await tinyTrainer(training);
  const store = {
    checkpoints: {
      keepLast: options.checkpoint.keep,
      ...(options.earlyStop && { keepBest: { metric: 'validationLoss', mode: 'min' as const } }),
    },
  };
  const opened = resume
    ? await RunFolder.open(path, store)
    : await RunFolder.create(path, { name: 'tiny' }, store);
  const source = new EventEmitter();
  const interruption = new Interruption({ source });
  try {
    const passedOver = resume ? await resumeTraining(trainer, opened) : [];
    await saveModelConfig(join(path, 'model'), model.options, data.tokenizer);
    const result = await runTraining(trainer, opened, options, interruption, {
      ...listener,
      onStep: (report) => {
        listener.onStep?.(report);
        if (report.step === stopAfter) source.emit('SIGINT', 'SIGINT');
      },
    });
    return { ...result, passedOver };
  } finally {
    interruption.dispose();
    opened.close();
    await trainer.release();
  }
}
const readTensors = async (file: string): Promise<Map<string, Buffer>> => {
  const opened = await SafetensorsFile.open(file);
  try {
    const found = new Map<string, Buffer>();
    for (const name of opened.tensors.keys()) {
      const { buffer, byteOffset, byteLength } = await opened.read(name);
      found.set(name, Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength));
    }
    return found;
  } finally {
    await opened.close();
  }
};
const steps = async (path = join(folder, 'run')): Promise<number[]> =>
  (await new CheckpointStore(join(path, 'checkpoints')).list()).map(({ step }) => step);

describe('a run', () => {
  const train = { steps: 10, evaluation: { every: 4 }, checkpoint: { every: 3, keep: 3 } };

  test('logs every step, evaluates and saves on time and at the end', async () => {
    const told: string[] = [];
    const result = await run(
      { model: noisySwitch, train },
      {
        listener: {
          onStep: ({ step }) => told.push(`step ${step}`),
          onEvaluation: (step) => told.push(`evaluation ${step}`),
          onCheckpoint: ({ step }) => told.push(`checkpoint ${step}`),
        },
      },
    );
    expect(told.filter((line) => !line.startsWith('step'))).toEqual([
      'checkpoint 3',
      'evaluation 4',
      'checkpoint 6',
      'evaluation 8',
      'checkpoint 9',
      'evaluation 10',
      'checkpoint 10',
    ]);
    expect(await steps()).toEqual([6, 9, 10]);
    expect(result).toMatchObject({
      outcome: 'finished',
      step: 10,
      modelStep: 10,
      evaluation: { tokens: 99 },
    });

    const records = readMetrics(join(folder, 'run', 'metrics.jsonl'));
    const ofSteps = records.filter((record) => 'loss' in record);
    expect(ofSteps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(Object.keys(ofSteps[0])).toEqual([
      'step',
      'loss',
      'taskLoss',
      'learningRate',
      'gradientNorm',
      'tokens',
      'milliseconds',
      'auxiliary',
      'dropped',
      'routing',
    ]);
    expect(ofSteps[0]['routing']).toMatchObject([
      { layer: '1', load: expect.any(Array) as number[], dead: expect.any(Number) as number },
    ]);
    const evaluations = records.filter((record) => 'validation' in record);
    expect(evaluations.map(({ step }) => step)).toEqual([4, 8, 10]);
    expect(evaluations[2]['validation']).toEqual({
      loss: result.evaluation!.loss,
      perplexity: result.evaluation!.perplexity,
      bitsPerByte: result.evaluation!.bitsPerByte,
      tokens: 99,
    });
    const routing = JSON.parse(
      await readFile(join(folder, 'run', 'routing', 'step-000010.json'), 'utf8'),
    ) as object;
    expect(routing).toEqual({
      step: 10,
      dropped: 0,
      layers: [{ layer: '1', load: result.evaluation!.loads[0], balance: expect.any(Number) as number }],
    });
    const final = await readTensors(join(folder, 'run', 'checkpoints', 'step-000010', 'model.safetensors'));
    expect(await readTensors(join(folder, 'run', 'model', 'model.safetensors'))).toEqual(final);
  });

  test('a dense run has no routing to log', async () => {
    await run({ train });
    const [first] = readMetrics(join(folder, 'run', 'metrics.jsonl'));
    expect(Object.keys(first)).toEqual([
      'step',
      'loss',
      'taskLoss',
      'learningRate',
      'gradientNorm',
      'tokens',
      'milliseconds',
    ]);
  });

  test('stopped and resumed twice is the run that never stopped', async () => {
    const training = { model: noisySwitch, train };
    const straight = join(folder, 'straight');
    await run(training, { path: straight });
    const first = await run(training, { stopAfter: 4 });
    expect(first).toMatchObject({ outcome: 'interrupted', step: 4, modelStep: undefined });
    expect(await steps()).toEqual([3, 4]);
    expect(await run(training, { resume: true, stopAfter: 6 })).toMatchObject({
      outcome: 'interrupted',
      step: 6,
    });
    expect(await run(training, { resume: true })).toMatchObject({
      outcome: 'finished',
      step: 10,
      passedOver: [],
    });
    for (const file of [
      'checkpoints/step-000010/model.safetensors',
      'checkpoints/step-000010/optimizer.safetensors',
      'checkpoints/step-000010/state.json',
      'model/model.safetensors',
    ]) {
      expect(
        Buffer.compare(await readFile(join(folder, 'run', file)), await readFile(join(straight, file))),
        file,
      ).toBe(0);
    }
    const log = (path: string): object[] =>
      readMetrics(join(path, 'metrics.jsonl')).map(({ milliseconds: _, ...record }) => record);
    expect(log(join(folder, 'run'))).toEqual(log(straight));
  });

  test('a resume passes over a damaged checkpoint, says so, and ends at the same bits', async () => {
    const training = { model: noisySwitch, train };
    const straight = join(folder, 'straight');
    await run(training, { path: straight });
    await run(training, { stopAfter: 7 });
    await rm(join(folder, 'run', 'checkpoints', 'step-000007', 'optimizer.safetensors'));
    const { passedOver } = await run(training, { resume: true });
    expect(passedOver).toHaveLength(2);
    expect(passedOver[0]).toMatch(
      /step-000007 is damaged: .*optimizer\.safetensors.*; falling back to step-000006$/,
    );
    expect(passedOver[1]).toMatch(/^set aside .*step-000007\.abandoned-1$/);
    const file = 'model/model.safetensors';
    expect(
      Buffer.compare(await readFile(join(folder, 'run', file)), await readFile(join(straight, file))),
    ).toBe(0);
  });

  test('resuming what is over writes the model again and trains nothing', async () => {
    await run({ train });
    await rm(join(folder, 'run', 'model'), { recursive: true });
    const reports: number[] = [];
    const result = await run(
      { train },
      { resume: true, listener: { onStep: ({ step }) => reports.push(step) } },
    );
    expect(result).toMatchObject({ outcome: 'finished', step: 10, modelStep: 10, evaluation: undefined });
    expect(reports).toEqual([]);
    expect((await readTensors(join(folder, 'run', 'model', 'model.safetensors'))).size).toBeGreaterThan(5);
  });

  test('a run that was stopped before its first checkpoint starts over', async () => {
    await RunFolder.create(join(folder, 'run'), { name: 'tiny' }).then((created) => created.close());
    expect(await run({ train }, { resume: true })).toMatchObject({ outcome: 'finished', step: 10 });
  });

  test('early stopping leaves the best weights in the model folder, however old', async () => {
    const training: TinyTraining = {
      // A text of one letter teaches nothing about the others: validation only gets worse.
      text: new Int32Array(400).fill(97),
      validation: tinyText(60),
      train: {
        steps: 50,
        evaluation: { every: 2 },
        checkpoint: { every: 2, keep: 1 },
        earlyStop: { patience: 3 },
        schedule: { kind: 'constant', learningRate: 0.03, warmupSteps: 0 },
      },
    };
    const losses: number[] = [];
    const result = await run(training, { listener: { onEvaluation: (_, { loss }) => losses.push(loss) } });
    expect(losses).toHaveLength(4);
    expect(Math.min(...losses)).toBe(losses[0]);
    expect(result).toMatchObject({ outcome: 'stoppedEarly', step: 8, modelStep: 2 });
    expect(await steps()).toEqual([2, 8]);
    const best = await readTensors(join(folder, 'run', 'checkpoints', 'step-000002', 'model.safetensors'));
    const last = await readTensors(join(folder, 'run', 'checkpoints', 'step-000008', 'model.safetensors'));
    const kept = await readTensors(join(folder, 'run', 'model', 'model.safetensors'));
    expect(kept).toEqual(best);
    expect(kept).not.toEqual(last);
    // And a resume of it neither trains on nor forgets which was best.
    expect(await run(training, { resume: true })).toMatchObject({
      outcome: 'stoppedEarly',
      step: 8,
      modelStep: 2,
    });
  });

  test('when the best weights are lost, the last ones become the model, and it is said', async () => {
    const training: TinyTraining = {
      text: new Int32Array(400).fill(97),
      validation: tinyText(60),
      train: {
        steps: 50,
        evaluation: { every: 2 },
        earlyStop: { patience: 3 },
        schedule: { kind: 'constant', learningRate: 0.03, warmupSteps: 0 },
      },
    };
    await run(training, { stopAfter: 5 });
    await truncate(join(folder, 'run', 'checkpoints', 'step-000002', 'model.safetensors'), 50);
    const told: string[] = [];
    const listener = { onWarning: (line: string): unknown => told.push(line) };
    const result = await run(training, { resume: true, listener });
    expect(result).toMatchObject({ outcome: 'stoppedEarly', step: 8, modelStep: 8 });
    expect(told).toEqual([
      expect.stringMatching(
        /^the best weights, of step 2, are lost; the model gets the last ones: .*damaged/,
      ),
    ]);
    const last = await readTensors(join(folder, 'run', 'checkpoints', 'step-000008', 'model.safetensors'));
    expect(await readTensors(join(folder, 'run', 'model', 'model.safetensors'))).toEqual(last);
  });

  test('the reported evaluation is that of the weights in the model folder', async () => {
    const losses: number[] = [];
    const listener: TrainingListener = { onEvaluation: (_, { loss }) => losses.push(loss) };
    const train = {
      steps: 50,
      evaluation: { every: 2 },
      earlyStop: { patience: 2 },
      schedule: { kind: 'constant', learningRate: 0.03, warmupSteps: 0 },
    };
    const text = new Int32Array(400).fill(97);
    const { evaluation, modelStep } = await run({ text, validation: tinyText(60), train }, { listener });
    expect([modelStep, evaluation!.loss]).toEqual([2, losses[0]]);
  });

  test('an early stop survives an interruption: patience goes on counting', async () => {
    const training: TinyTraining = {
      text: new Int32Array(400).fill(97),
      validation: tinyText(60),
      train: {
        steps: 50,
        evaluation: { every: 2 },
        earlyStop: { patience: 3 },
        schedule: { kind: 'constant', learningRate: 0.03, warmupSteps: 0 },
      },
    };
    expect(await run(training, { stopAfter: 5 })).toMatchObject({ outcome: 'interrupted', step: 5 });
    expect(await run(training, { resume: true })).toMatchObject({
      outcome: 'stoppedEarly',
      step: 8,
      modelStep: 2,
    });
  });

  test('warns of dead experts in the log and to the listener, unless told not to', async () => {
    // Two tokens a step for 32 experts: some get nothing in fifty steps.
    const model = { sparse: { numExperts: 32, router: { kind: 'softmax', balanceCoefficient: 0 } } };
    const training = (collapseWarning: boolean): TinyTraining => ({
      model,
      contextLength: 2,
      text: tinyText(101),
      validation: tinyText(3),
      train: { batchSize: 1, steps: 60, collapseWarning },
    });
    const told: string[] = [];
    await run(training(true), {
      listener: { onWarning: (line, warning) => told.push(`${warning!.kind} ${line}`) },
    });
    expect(told.length).toBeGreaterThan(0);
    expect(told[0]).toMatch(/^deadExperts layer 0: \d+ of 32 experts got no token in the last 50 steps/);
    const logged = readMetrics(join(folder, 'run', 'metrics.jsonl')).filter((record) => 'warning' in record);
    expect(logged.map(({ step, warning }) => `${step} ${warning as string}`)).toEqual(
      told.map((line) => `50 ${line.slice(line.indexOf(' ') + 1)}`),
    );
    await run(training(false), {
      path: join(folder, 'silent'),
      listener: { onWarning: () => expect.unreachable() },
    });
  });
});
