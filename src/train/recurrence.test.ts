import { EventEmitter } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  temporaryFolder,
  tinyData,
  tinyModel,
  tinyOptions,
  tinyText,
} from '../../test/support/tiny-training.js';
import { SafetensorsFile } from '../checkpoints/index.js';
import {
  ByteTokenizer,
  MemoryTokens,
  SequentialWindows,
  StreamSequence,
  StreamWindows,
  type OpenData,
} from '../data/index.js';
import { nameParameters } from '../nn/index.js';
import { Evaluator } from './evaluator.js';
import { createWeights } from './freeze.js';
import { Interruption } from './interruption.js';
import { resumeTraining, runTraining } from './run.js';
import { RunFolder } from './run-folder.js';
import { Trainer, type TrainerState } from './trainer.js';

const shape = { batchSize: 4, contextLength: 8 };
const tokenizer = new ByteTokenizer();
const open: { release(): Promise<void> }[] = [];
const folders: string[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.release();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

const kinds: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  transformerXL: {
    positions: 'transformerXL',
    memoryLength: 12,
    evaluationMemoryLength: 24,
    dropout: 0.1,
    sparse: { every: 2, numExperts: 4, router: { kind: 'softmax', jitter: 0.05 } },
  },
  span: { positions: 'span', memoryLength: 5, blockNorm: 'postDouble', dropout: 0.1, attentionDropout: 0.1 },
};

/** A stream of 6 batches an epoch. */
function streamData(text = tinyText(6 * 32 + 3), validation = tinyText(100, 2)): OpenData {
  return {
    ...tinyData(text, validation, shape),
    train: new StreamWindows(new MemoryTokens(text, 'text'), shape),
    validation: () => new StreamSequence(new MemoryTokens(validation, 'validation'), shape),
  };
}

async function create(
  model: Readonly<Record<string, unknown>>,
  train = {},
  data = streamData(),
): Promise<Trainer> {
  const options = tinyOptions(train);
  const trainer = await Trainer.create({ model: tinyModel(model), data, options, seed: 1, padded: false });
  open.push(trainer);
  return trainer;
}

/** Too small to change a weight. */
const still = {
  optimizer: { kind: 'sgd', momentum: 0 },
  schedule: { kind: 'constant', learningRate: 1e-30, warmupSteps: 0 },
};
const losses = async (trainer: Trainer, count: number): Promise<number[]> => {
  const all: number[] = [];
  for (let i = 0; i < count; i++) all.push((await trainer.update()).taskLoss);
  return all;
};

describe('training with a memory', () => {
  test('rows read on inside an epoch and begin anew with the next', async () => {
    const options = { positions: 'transformerXL', memoryLength: 12 };
    const trainer = await create(options, still);
    const [first, second] = [await losses(trainer, 6), await losses(trainer, 6)];
    expect(second).toEqual(first);
    const forgetful = await create({ ...options, memoryLength: 0 }, still);
    const alone = await losses(forgetful, 6);
    expect(alone[0]).toBeCloseTo(first[0]!, 5);
    for (let i = 1; i < 6; i++) expect(Math.abs(alone[i]! - first[i]!)).toBeGreaterThan(1e-6);
  });

  test('the batches of one update read on as well', async () => {
    const options = { positions: 'span', memoryLength: 5 };
    const [one, three] = [await create(options, still), await create(options, { ...still, accumulation: 3 })];
    const single = await losses(one, 6);
    const joined = await losses(three, 2);
    expect(joined[0]).toBeCloseTo((single[0]! + single[1]! + single[2]!) / 3, 6);
    expect(joined[1]).toBeCloseTo((single[3]! + single[4]! + single[5]!) / 3, 6);
  });

  test('a model learns with it', async () => {
    for (const model of Object.values(kinds)) {
      const trainer = await create(model, { steps: 60 });
      const all = await losses(trainer, 60);
      expect(all.at(-1)!).toBeLessThan(all[0]! - 1);
      expect((await trainer.evaluate()).loss).toBeLessThan(all[0]! - 1);
    }
  });

  test('other orders are refused', async () => {
    const data = tinyData(tinyText(200), tinyText(100), shape);
    await expect(create(kinds['span']!, {}, data)).rejects.toThrow(
      'segment recurrence needs data.order stream: training batches of other orders',
    );
  });

  test('the memory is a part of the position: without it the next loss is another', async () => {
    const [straight, resumed, forgetful] = [
      await create(kinds['transformerXL']!),
      await create(kinds['transformerXL']!),
      await create(kinds['transformerXL']!),
    ];
    await losses(straight, 4);
    const state = JSON.parse(JSON.stringify(straight.state())) as TrainerState;
    for (const other of [resumed, forgetful]) {
      other.restore(state);
      for (const [name, values] of straight.weights.all) other.weights.all.get(name)!.set(values);
      for (const [name, arena] of straight.optimizerState)
        other.optimizerState.get(name)!.data.set(arena.data);
    }
    for (const [name, { data }] of straight.memory) resumed.memory.get(name)!.data.set(data);
    const [expected, same, without] = [
      await losses(straight, 1),
      await losses(resumed, 1),
      await losses(forgetful, 1),
    ];
    expect(same).toEqual(expected);
    expect(without).not.toEqual(expected);
  });
});

describe('a run that was stopped and goes on has the bits of one that never stopped', () => {
  test.each(
    Object.keys(kinds).flatMap((kind) => [
      [kind, 'in the middle of an epoch', 4],
      [kind, 'at the end of an epoch', 6],
    ]) as [string, string, number][],
  )('%s, %s', async (kind, _, stopAfter) => {
    const folder = await temporaryFolder();
    folders.push(folder);
    const options = { steps: 10, evaluation: { every: 3 }, checkpoint: { every: 100 } };
    const finish = async (name: string, stops: readonly number[]): Promise<Trainer> => {
      const path = join(folder, name);
      let trainer: Trainer;
      for (const [turn, stop] of [...stops, Infinity].entries()) {
        trainer = await create(kinds[kind]!, options);
        const run = turn === 0 ? await RunFolder.create(path, { name }) : await RunFolder.open(path);
        await mkdir(join(path, 'model'), { recursive: true });
        const source = new EventEmitter();
        const interruption = new Interruption({ source });
        if (turn > 0) expect(await resumeTraining(trainer, run)).toEqual([]);
        await runTraining(trainer, run, tinyOptions(options), interruption, {
          onStep: ({ step }) => step === stop && source.emit('SIGINT', 'SIGINT'),
        });
        interruption.dispose();
        run.close();
      }
      return trainer!;
    };
    const [straight, resumed] = [await finish('straight', []), await finish('resumed', [stopAfter])];
    expect([straight.step, resumed.step]).toEqual([10, 10]);
    for (const [name, values] of straight.weights.all) {
      expect(
        Buffer.compare(
          Buffer.from(values.slice().buffer),
          Buffer.from(resumed.weights.all.get(name)!.slice().buffer),
        ),
        name,
      ).toBe(0);
    }
    for (const [name, { data }] of straight.memory)
      expect(resumed.memory.get(name)!.data, name).toEqual(data);
    expect(resumed.state()).toEqual(straight.state());
    const stored = await SafetensorsFile.open(
      join(folder, 'resumed/checkpoints/step-000010/optimizer.safetensors'),
    );
    expect([...stored.tensors.keys()].filter((name) => name.startsWith('memory.'))).toEqual([
      ...straight.memory.keys(),
    ]);
    await stored.close();
  });
});

describe('evaluation with a memory', () => {
  async function evaluator(options: Readonly<Record<string, unknown>>, rows: number, contextLength: number) {
    const model = tinyModel({ positions: 'transformerXL', ...options }, contextLength);
    const { all } = createWeights(nameParameters(model), [], 3);
    const made = await Evaluator.create(model, all, { batchSize: rows, contextLength }, {});
    open.push(made);
    return made;
  }
  const sequence = (length: number, batchSize: number, contextLength: number) =>
    new StreamSequence(new MemoryTokens(tinyText(length), 'text'), { batchSize, contextLength });

  test('windows with a long memory are one long window, padding and the end of a row included', async () => {
    const short = await evaluator({ evaluationMemoryLength: 40 }, 2, 8);
    const long = await evaluator({ memoryLength: 0 }, 2, 40);
    // 75 targets: rows of 38 and 37, in 5 windows of 8.
    const parts = await short.evaluate(sequence(76, 2, 8), tokenizer);
    const whole = await long.evaluate(sequence(76, 2, 40), tokenizer);
    expect(parts.tokens).toBe(75);
    expect(parts.loss).toBeCloseTo(whole.loss, 5);
    const without = await (
      await evaluator({ memoryLength: 0 }, 2, 8)
    ).evaluate(sequence(76, 2, 8), tokenizer);
    expect(Math.abs(without.loss - whole.loss)).toBeGreaterThan(1e-5);
    // Nothing of the first evaluation is left.
    expect(await short.evaluate(sequence(76, 2, 8), tokenizer)).toEqual(parts);
  });

  test('needs rows that read on', async () => {
    const made = await evaluator({}, 2, 8);
    const windows = new SequentialWindows(new MemoryTokens(tinyText(76), 'text'), {
      batchSize: 2,
      contextLength: 8,
    });
    await expect(made.evaluate(windows, tokenizer)).rejects.toThrow(
      'segment recurrence needs data.order stream: validation batches of other orders',
    );
  });
});
