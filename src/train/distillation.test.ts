import { afterEach, describe, expect, test } from 'vitest';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { matrix } from '../../test/support/reference-moe.js';
import { noisySwitch, tinyData, tinyModel, tinyOptions, tinyText } from '../../test/support/tiny-training.js';
import { input } from '../graph/index.js';
import { EncoderDecoder, encoderDecoderSchema, type LanguageModel, type Model } from '../models/index.js';
import { evaluationContext, nameParameters, trainingContext } from '../nn/index.js';
import { copyFromTeacher, distilled, fingerprintOf, Teacher, type TeacherModel } from './distillation.js';
import { objectiveOf } from './objectives/index.js';
import { Trainer, type TrainerState } from './trainer.js';

const shape = { batchSize: 2, contextLength: 4 };
const vocabSize = 7;
const open: { release(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.release();
});

function teacherOf(model: Model, seed = 9, spread = 0.5): TeacherModel {
  const weights = new Map(
    [...randomParameters(model.parameters(), seed, spread)].map(([name, data]) => [
      name,
      Float32Array.from(data),
    ]),
  );
  return { model, weights };
}

async function createTeacher(model: Model, padded = false): Promise<Teacher> {
  const teacher = await Teacher.create(teacherOf(model), { shape, padded, runtime: {} });
  open.push(teacher);
  return teacher;
}

const logSoftmaxOf = (row: readonly number[]): number[] => {
  const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
  return row.map((x) => x - total);
};

describe('the loss', () => {
  const targets = Int32Array.of(3, 1, -1, -1, 0, 6, 2, -1);
  const tokens = Int32Array.of(1, 3, 1, 0, 5, 0, 6, 2);
  const opinion = Float64Array.from({ length: 8 * vocabSize }, (_, i) => Math.sin(3 * i) * 2);
  const settings = { shape, padded: true, dtype: 'float64' } as const;

  function trace(softWeight: number, temperature: number) {
    const model = tinyModel({ vocabSize, ...noisySwitch, dropout: 0 }, 4);
    const parameters = nameParameters(model, 'float64');
    const teacher = { logits: new Float32Array(8 * vocabSize), shape: [8, vocabSize] as const };
    const plain = objectiveOf(model);
    const { loss, losses, logits, taskLoss } = distilled(plain, teacher, { softWeight, temperature }).trace(
      evaluationContext(),
      settings,
    );
    const soft = losses.find(({ name }) => name === 'distillation')!.value;
    const hard = plain.trace(evaluationContext(), settings).loss;
    return { parameters, hard, outputs: { loss, soft, taskLoss, logits } };
  }

  const feeds = (parameters: ReadonlyMap<string, Float64Array>) =>
    new Map<string, Float64Array | Int32Array | Uint8Array>([
      ...parameters,
      ['tokens', tokens],
      ['targets', targets],
      ['teacherLogits', opinion],
      ['mask', Uint8Array.of(1, 1, 1, 0, 1, 1, 1, 1)],
    ]);

  test.each([
    [0.25, 1],
    [1, 2],
    [0, 1],
  ])('is the mix by hand: soft weight %d, temperature %d', async (softWeight, temperature) => {
    const { parameters, hard, outputs } = trace(softWeight, temperature);
    const known = feeds(randomParameters(parameters, 3));
    const actual = { ...(await run(outputs, known)), ...(await run({ hard }, known)) };
    const scaled = (flat: ArrayLike<number>): number[][] =>
      matrix(flat, vocabSize).map((row) => logSoftmaxOf(row.map((x) => x / temperature)));
    const [given, wanted] = [scaled(actual.logits), scaled(opinion)];
    const counted = [0, 1, 4, 5, 6];
    const soft =
      (temperature ** 2 / counted.length) *
      counted.reduce(
        (sum, at) => sum - wanted[at]!.reduce((s, logP, i) => s + Math.exp(logP) * given[at]![i]!, 0),
        0,
      );
    expect(actual.soft[0]).toBeCloseTo(soft, 10);
    const auxiliary = actual.hard[0]! - actual.taskLoss[0]!;
    expect(auxiliary).toBeGreaterThan(0);
    expect(actual.loss[0]).toBeCloseTo(
      (1 - softWeight) * actual.taskLoss[0]! + softWeight * soft + auxiliary,
      10,
    );
  });

  test('its gradients equal finite differences', async () => {
    const { parameters, outputs } = trace(0.25, 1.5);
    const error = await leafGradientError(
      outputs.loss,
      new Map([...parameters].map(([name, { tensor }]) => [name, tensor])),
      feeds(randomParameters(parameters, 3)) as Map<string, Float64Array | Int32Array>,
      { samples: 3, seed: 5 },
    );
    expect(error).toBeLessThan(1e-7);
  });

  test('other numbers of outputs are refused', () => {
    const model = tinyModel({ vocabSize }, 4);
    nameParameters(model);
    const teacher = { logits: new Float32Array(8 * 9), shape: [8, 9] as const };
    const objective = distilled(objectiveOf(model), teacher, { softWeight: 0.25, temperature: 1 });
    expect(() => objective.trace(trainingContext(), { shape, padded: false })).toThrow(
      'the student has 7 outputs, but the teacher 9',
    );
  });
});

describe('the teacher', () => {
  const pair = new EncoderDecoder({
    ...encoderDecoderSchema.parse({
      kind: 'encoderDecoder',
      hiddenSize: 8,
      numEncoderLayers: 1,
      numDecoderLayers: 1,
      numHeads: 2,
      intermediateSize: 12,
      contextLength: 4,
      dropout: 0.5,
    }),
    vocabSize,
  });

  test('says what its model says about a batch, without noise and padding', async () => {
    const teacher = await createTeacher(pair, true);
    const ids = (start: number): Int32Array =>
      Int32Array.from({ length: 8 }, (_, i) => (start + 3 * i) % vocabSize);
    const real = Uint8Array.of(1, 1, 1, 0, 1, 1, 1, 1);
    const batch = { source: ids(1), sourceMask: real, target: ids(2), targetMask: real, targets: ids(5) };
    await teacher.run(batch as never);
    const [source, target] = ['source', 'target'].map((name) => input(name, 'int32', [2, 4]));
    const mask = input('mask', 'float32', [2, 4]);
    const { logits } = pair.forward(
      { source: source!, sourceMask: mask, target: target!, targetMask: mask },
      evaluationContext(),
    );
    const { weights } = teacherOf(pair);
    const feeds = [
      ...weights,
      ['source', ids(1)],
      ['target', ids(2)],
      ['mask', Float32Array.from(real)],
    ] as const;
    const expected = await run({ logits }, feeds as never, 'float32');
    expect(teacher.shape).toEqual([8, vocabSize]);
    expect(distance(teacher.logits, expected.logits)).toBeLessThan(1e-6);
  });

  test.each<[string, () => LanguageModel, string]>([
    [
      'looks ahead',
      () =>
        tinyModel(
          { vocabSize, sparse: { numExperts: 2, router: { kind: 'expertChoice', evaluation: 'experts' } } },
          4,
        ),
      'the teacher looks ahead',
    ],
    [
      'remembers',
      () => tinyModel({ vocabSize, positions: 'transformerXL' }, 4),
      'remembers earlier segments',
    ],
    ['is too short', () => tinyModel({ vocabSize }, 3), 'the teacher: 4 tokens do not fit contextLength 3'],
  ])('is refused when it %s', async (_, model, message) => {
    await expect(createTeacher(model())).rejects.toThrow(message);
  });

  test('gives the weights that a student has as well, and no experts', () => {
    const teacher = teacherOf(tinyModel({ vocabSize, ...noisySwitch }, 4));
    const student = tinyModel({ vocabSize }, 4).parameters();
    const shapes = new Map([...student].map(([name, parameter]) => [name, parameter.shape]));
    const weights = new Map([...student].map(([name, { size }]) => [name, new Float32Array(size)]));
    const given = copyFromTeacher(weights, shapes, teacher);
    const own = ['blocks.1.feedForward.up.weight', 'blocks.1.feedForward.down.weight'];
    expect([...student.keys()].filter((name) => !given.includes(name))).toEqual(own);
    for (const name of given) expect(weights.get(name)).toEqual(teacher.weights.get(name));
    expect(weights.get(own[0]!)!.every((value) => value === 0)).toBe(true);
    // A smaller student takes what still fits.
    const narrow = new Map([['norm.weight', new Float32Array(8)]]);
    expect(copyFromTeacher(narrow, new Map([['norm.weight', [8]]]), teacher)).toEqual([]);
  });

  test('its fingerprint follows its weights', () => {
    const model = tinyModel({ vocabSize }, 4);
    expect(fingerprintOf(teacherOf(model, 1))).toBe(fingerprintOf(teacherOf(model, 1)));
    expect(fingerprintOf(teacherOf(model, 1))).not.toBe(fingerprintOf(teacherOf(model, 2)));
  });
});

describe('a student', () => {
  // With a decided opinion.
  const teacher = teacherOf(tinyModel(noisySwitch), 9, 2);

  async function student(distillation: object | null, train: object = {}): Promise<Trainer> {
    const options = tinyOptions({ steps: 60, ...train, ...(distillation ? { distillation } : {}) });
    const trainer = await Trainer.create({
      model: tinyModel({ dropout: 0.1 }),
      data: tinyData(tinyText(401), tinyText(100, 2), { batchSize: 4, contextLength: 8 }),
      options,
      seed: 1,
      padded: false,
      teacher: distillation ? teacher : undefined,
    });
    open.push(trainer);
    return trainer;
  }
  const listening = { teacher: 'unused', softWeight: 1 };

  test('comes to agree with its teacher, whatever the data says', async () => {
    const trainer = await student(listening);
    const soft = async (): Promise<number> => (await trainer.update()).auxiliary['distillation']!;
    const before = await soft();
    for (let i = 0; i < 40; i++) await trainer.update();
    expect(await soft()).toBeLessThan(0.8 * before);
  });

  test('is measured by the data alone', async () => {
    const [taught, alone] = [await student(listening), await student(null)];
    expect(await taught.evaluate()).toEqual(await alone.evaluate());
  });

  test.each([1, 2])(
    'goes on bit for bit where it was stopped, accumulating %d batches',
    async (accumulation) => {
      const training = { ...listening, softWeight: 0.25, temperature: 2 };
      const straight = await student(training, { accumulation });
      for (let i = 0; i < 4; i++) await straight.update();
      const state = JSON.parse(JSON.stringify(straight.state())) as TrainerState;
      const resumed = await student(training, { accumulation });
      resumed.restore(state);
      for (const [name, values] of straight.weights.all) resumed.weights.all.get(name)!.set(values);
      for (const [name, arena] of straight.optimizerState)
        resumed.optimizerState.get(name)!.data.set(arena.data);
      for (let i = 0; i < 3; i++) {
        const { milliseconds: _a, ...expected } = await straight.update();
        const { milliseconds: _b, ...actual } = await resumed.update();
        expect(actual).toEqual(expected);
      }
      expect(new Map(resumed.weights.all)).toEqual(new Map(straight.weights.all));
    },
  );

  test('needs a teacher, and a teacher needs to be asked for', async () => {
    const parts = {
      model: tinyModel(),
      data: tinyData(tinyText(401), tinyText(100, 2), { batchSize: 4, contextLength: 8 }),
      seed: 1,
      padded: false,
    };
    const need = 'a teacher and train.distillation need each other';
    const asked = tinyOptions({ distillation: listening });
    await expect(Trainer.create({ ...parts, options: asked })).rejects.toThrow(need);
    await expect(Trainer.create({ ...parts, options: tinyOptions(), teacher })).rejects.toThrow(need);
  });
});
