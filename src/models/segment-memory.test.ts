import { describe, expect, test } from 'vitest';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { add, gradients, input, mean, reshape, sum } from '../graph/index.js';
import { crossEntropy, evaluationContext, nameParameters, trainingContext } from '../nn/index.js';
import { LanguageModel, totalAuxiliaryLoss } from './language-model.js';
import { languageModelSchema } from './language-model-options.js';
import { memoryInputs, memoryOutputs, memoryShapes } from './segment-memory.js';

const vocabSize = 11;
const batch = 2;
const small = { hiddenSize: 8, numLayers: 2, numHeads: 2, intermediateSize: 12, contextLength: 4 };
type Input = Readonly<Record<string, unknown>>;

function create(options: Input): LanguageModel {
  return new LanguageModel({ ...languageModelSchema.parse({ ...small, ...options }), vocabSize });
}

const kinds: readonly (readonly [string, Input])[] = [
  ['transformerXL', { positions: 'transformerXL', norm: 'layer', feedForwardBias: true }],
  [
    'transformerXL, post-norm, fixed scale',
    { positions: 'transformerXL', blockNorm: 'post', learnedAttentionScale: false },
  ],
  ['span, double post-norm', { positions: 'span', blockNorm: 'postDouble', norm: 'layer', memoryLength: 3 }],
  ['span, pre-norm', { positions: 'span', memoryLength: 5, norm: 'layer' }],
  [
    'transformerXL, experts',
    {
      positions: 'transformerXL',
      memoryLength: 6,
      sparse: { numExperts: 3, topK: 2, router: { kind: 'softmax' } },
    },
  ],
];

const ids = (count: number): Int32Array =>
  Int32Array.from(randomNumbers(9, count, 0, vocabSize), (value) => Math.floor(value));

/** Columns `from` … `to` − 1 of `[batch, time]` ids. */
const columns = (all: Int32Array, time: number, from: number, to: number): Int32Array =>
  Int32Array.from({ length: batch * (to - from) }, (_, at) => {
    const row = Math.floor(at / (to - from));
    return all[row * time + from + (at % (to - from))]!;
  });

type Feed = readonly [string, Float64Array | Int32Array | readonly number[]];

/** Reads a text segment by segment and returns the logits in order of `[batch, time]`. */
async function readOn(
  model: LanguageModel,
  parameters: Iterable<Feed>,
  text: Int32Array,
  segments: readonly number[],
  length: number,
): Promise<number[][][]> {
  const time = segments.reduce((a, b) => a + b, 0);
  let memory = new Map<string, readonly number[]>(
    [...memoryShapes(model.options, batch, length)].map(([name, shape]) => [
      name,
      new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0),
    ]),
  );
  const rows: number[][][] = Array.from({ length: batch }, () => []);
  let from = 0;
  for (const size of segments) {
    const tokens = input('tokens', 'int32', [batch, size]);
    const given = memoryInputs(model.options, batch, length, 'float64');
    const traced = model.forward({ tokens, memory: given }, evaluationContext());
    const outputs = traced.memory ? memoryOutputs(traced.memory) : {};
    const results = await run({ logits: traced.logits, ...outputs } as Record<string, typeof traced.logits>, [
      ...parameters,
      ...memory,
      ['tokens', columns(text, time, from, from + size)],
    ]);
    memory = new Map([...memory.keys()].map((name) => [name, results[name]!]));
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < size; t++)
        rows[b]!.push(results['logits']!.slice((b * size + t) * vocabSize, (b * size + t + 1) * vocabSize));
    }
    from += size;
  }
  return rows;
}

describe('a memory', () => {
  test.each(kinds)('as long as the text: two segments are one long one, %s', async (_, options) => {
    const span = options['positions'] === 'span';
    const model = create({ ...options, contextLength: 8, ...(span ? {} : { memoryLength: 8 }) });
    const parameters = randomParameters(nameParameters(model, 'float64'), 3);
    const text = ids(batch * 8);
    const { training } = model.memoryLengths!;
    const whole = await readOn(model, parameters, text, [8], training);
    for (const segments of [
      [4, 4],
      [3, 5],
      [6, 2],
      [2, 2, 1, 3],
    ]) {
      const parts = await readOn(model, parameters, text, segments, training);
      expect(distance(parts.flat(2), whole.flat(2)), String(segments)).toBeLessThan(1e-12);
    }
    // Without a memory the model reads the whole text as one that begins.
    const tokens = input('tokens', 'int32', [batch, 8]);
    const { logits } = model.forward({ tokens }, evaluationContext());
    const plain = await run({ logits }, [...parameters, ['tokens', text]]);
    expect(distance(plain.logits, whole.flat(2))).toBeLessThan(1e-12);
    // What was read before matters.
    const changed = text.map((id, at) => (at % 8 < 2 ? (id + 1) % vocabSize : id));
    const other = await readOn(model, parameters, changed, [4, 4], training);
    expect(
      distance(other.map((row) => row.slice(4)).flat(2), whole.map((row) => row.slice(4)).flat(2)),
    ).toBeGreaterThan(1e-4);
  });

  test.each([2, 4, 6])(
    'of %d tokens passes no gradient to the segment that left it',
    async (memoryLength) => {
      const model = create({ positions: 'transformerXL', memoryLength });
      const parameters = nameParameters(model, 'float64');
      const given = memoryInputs(model.options, batch, memoryLength, 'float64')!;
      const tokens = input('tokens', 'int32', [batch, 4]);
      const { memory } = model.forward({ tokens, memory: given }, evaluationContext());
      const left = memory!.hidden.map((states) => sum(states)).reduce(add);
      const leaves = [parameters.get('embedding.weight')!.tensor, ...given.hidden];
      const outputs = Object.fromEntries(gradients(left, leaves).map((gradient, i) => [String(i), gradient]));
      const found = await run(outputs, [
        ...randomParameters(parameters, 3),
        ['tokens', ids(batch * 4)],
        ...[...memoryShapes(model.options, batch, memoryLength)].map(([name, shape]): Feed => [
          name,
          new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(1),
        ]),
      ]);
      for (const gradient of Object.values(found)) expect(gradient.every((value) => value === 0)).toBe(true);
    },
  );

  test('of one layer reaches exactly memoryLength tokens back from its segment', async () => {
    const model = create({ positions: 'transformerXL', numLayers: 1, memoryLength: 3, contextLength: 4 });
    const parameters = randomParameters(nameParameters(model, 'float64'), 3);
    const text = ids(batch * 8);
    const before = await readOn(model, parameters, text, [4, 4], 3);
    for (const [at, reaches] of [
      [0, false],
      [1, true],
    ] as const) {
      const changed = text.map((id, i) => (i % 8 === at ? (id + 1) % vocabSize : id));
      const after = await readOn(model, parameters, changed, [4, 4], 3);
      const difference = distance(after[0]!.slice(4).flat(), before[0]!.slice(4).flat());
      expect(difference > 1e-9, `token ${at}`).toBe(reaches);
    }
  });

  test('of span positions: one layer sees the span before a token, and not the token itself', async () => {
    const model = create({
      positions: 'span',
      numLayers: 1,
      memoryLength: 2,
      blockNorm: 'post',
      norm: 'layer',
    });
    const parameters = randomParameters(nameParameters(model, 'float64'), 3);
    const text = ids(batch * 8);
    const before = await readOn(model, parameters, text, [4, 4], 2);
    const changed = text.map((id, i) => (i === 3 ? (id + 1) % vocabSize : id));
    const after = await readOn(model, parameters, changed, [4, 4], 2);
    const moved = after[0]!.flatMap((row, t) => (distance(row, before[0]![t]!) > 1e-9 ? [t] : []));
    // Itself through the residual, and the two after it, across the border of the segments.
    expect(moved).toEqual([3, 4, 5]);
  });

  test.each(kinds)('gradients equal finite differences: %s', async (_, options) => {
    const model = create({
      ...options,
      tieEmbeddings: false,
      outputBias: true,
      dropout: 0.1,
      outputDropout: 0.2,
    });
    const parameters = nameParameters(model, 'float64');
    const { training } = model.memoryLengths!;
    const context = trainingContext();
    const tokens = input('tokens', 'int32', [batch, 4]);
    const memory = memoryInputs(model.options, batch, training, 'float64');
    const { logits, losses } = model.forward({ tokens, memory }, context);
    const task = mean(crossEntropy(logits, reshape(input('targets', 'int32', [batch, 4]), [batch * 4])));
    const auxiliary = totalAuxiliaryLoss(losses);
    expect([...context.noise.feeds.keys()]).toContain('noise.output');
    const noise = Object.fromEntries(
      [...context.noise.feeds].map(([name, { shape }]) => [
        name,
        new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
      ]),
    );
    context.noise.fill(1, 2, noise);
    const shapes = memoryShapes(model.options, batch, training);
    const error = await leafGradientError(
      auxiliary ? add(task, auxiliary) : task,
      new Map([...parameters].map(([name, { tensor }]) => [name, tensor])),
      new Map<string, Float64Array | Int32Array>([
        ...randomParameters(parameters, 3),
        ...[...shapes].map(([name, shape], i) => {
          const size = shape.reduce((a, b) => a * b, 1);
          const visible = Float64Array.from({ length: size }, (_, at) => Number(at % training > 0));
          return [name, name === 'memory.visible' ? visible : randomNumbers(20 + i, size)] as const;
        }),
        ['tokens', ids(batch * 4)],
        ['targets', ids(batch * 4).reverse()],
        ...Object.entries(noise),
      ]),
      { samples: 5, seed: 5 },
    );
    expect(error).toBeLessThan(1e-7);
  });

  test('padding at the end of a row reaches nothing and is not remembered', async () => {
    const model = create({ positions: 'transformerXL', memoryLength: 4 });
    const parameters = randomParameters(nameParameters(model, 'float64'), 3);
    const mask = [1, 1, 1, 0, 1, 1, 1, 1];
    const tokens = input('tokens', 'int32', [batch, 4]);
    const traced = model.forward(
      {
        tokens,
        mask: input('mask', 'float64', [batch, 4]),
        memory: memoryInputs(model.options, batch, 4, 'float64'),
      },
      evaluationContext(),
    );
    const zeros = [...memoryShapes(model.options, batch, 4)].map(([name, shape]): Feed => [
      name,
      new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0),
    ]);
    const read = (text: Int32Array) =>
      run({ logits: traced.logits, visible: traced.memory!.visible! }, [
        ...parameters,
        ...zeros,
        ['mask', mask],
        ['tokens', text],
      ]);
    const text = ids(8);
    const [a, b] = [
      await read(text),
      await read(text.map((id, at) => (at === 3 ? (id + 1) % vocabSize : id))),
    ];
    expect(a.visible).toEqual(mask);
    const real = ({ logits }: typeof a): number[] =>
      logits.filter((_, at) => mask[Math.floor(at / vocabSize)] === 1);
    expect(distance(real(b), real(a))).toBeLessThan(1e-12);
  });
});

describe('structure', () => {
  const names = (options: Input): string[] => [
    ...create({ numLayers: 1, ...options })
      .parameters()
      .keys(),
  ];

  test('parameter names are part of the format of checkpoints', () => {
    expect(
      names({
        positions: 'transformerXL',
        norm: 'layer',
        feedForwardBias: true,
        tieEmbeddings: false,
        outputBias: true,
      }),
    ).toEqual([
      'embedding.weight',
      'blocks.0.attentionNorm.weight',
      'blocks.0.attentionNorm.bias',
      ...['query', 'key', 'value', 'output', 'position'].map((name) => `blocks.0.attention.${name}.weight`),
      'blocks.0.attention.contentBias',
      'blocks.0.attention.positionBias',
      'blocks.0.attention.scale',
      'blocks.0.feedForwardNorm.weight',
      'blocks.0.feedForwardNorm.bias',
      'blocks.0.feedForward.up.weight',
      'blocks.0.feedForward.up.bias',
      'blocks.0.feedForward.down.weight',
      'blocks.0.feedForward.down.bias',
      'norm.weight',
      'norm.bias',
      'head.weight',
      'head.bias',
    ]);
    expect(names({ positions: 'span', blockNorm: 'postDouble' })).toEqual([
      'embedding.weight',
      'position.weight',
      'blocks.0.attentionNorm.weight',
      ...['query', 'key', 'value', 'output'].map((name) => `blocks.0.attention.${name}.weight`),
      'blocks.0.feedForwardNorm.weight',
      'blocks.0.feedForward.up.weight',
      'blocks.0.feedForward.down.weight',
      'blocks.0.innerNorm.weight',
    ]);
  });

  test('σ-MoE’s dense model of 47 M parameters has as many as its layers say', () => {
    // WT-S: d 412, F 2053, 16 layers, 10 heads of 41, 8000 pieces.
    const model = new LanguageModel({
      ...languageModelSchema.parse({
        hiddenSize: 412,
        intermediateSize: 2053,
        numLayers: 16,
        numHeads: 10,
        headSize: 41,
        contextLength: 256,
        evaluationMemoryLength: 1024,
        positions: 'transformerXL',
        norm: 'layer',
        feedForwardBias: true,
        tieEmbeddings: false,
        outputBias: true,
        initialization: { kind: 'depthScaled', embedding: 'xavier' },
      }),
      vocabSize: 8000,
    });
    const [d, f, width] = [412, 2053, 410];
    const layer = 5 * d * width + 2 * width + 1 + 2 * d * f + f + d + 4 * d;
    const total = [...model.parameters().values()].reduce((sum, { size }) => sum + size, 0);
    expect(total).toBe(16 * layer + 2 * 8000 * d + 8000 + 2 * d);
    expect(total / 1e6).toBeCloseTo(47.2, 0);
    expect([model.memoryLengths, model.windowLength]).toEqual([{ training: 256, evaluation: 1024 }, 1280]);
  });

  test('models without a memory refuse one', () => {
    const model = create({});
    nameParameters(model);
    expect(model.memoryLengths).toBeUndefined();
    expect(memoryShapes(model.options, 1, 0).size).toBe(0);
    const memory = {
      hidden: [input('memory.0', 'float32', [1, 4, 8]), input('memory.1', 'float32', [1, 4, 8])],
    };
    expect(() =>
      model.forward({ tokens: input('tokens', 'int32', [1, 4]), memory }, evaluationContext()),
    ).toThrow('rotary positions have no memory');
  });
});

describe('options', () => {
  test.each([
    ['memoryLength', { memoryLength: 4 }, 'rotary positions have no memory'],
    [
      'evaluationMemoryLength',
      { positions: 'none', evaluationMemoryLength: 4 },
      'none positions have no memory',
    ],
    [
      'learnedAttentionScale',
      { positions: 'span', learnedAttentionScale: true },
      'only transformerXL positions',
    ],
    ['numKeyValueHeads', { positions: 'span', numKeyValueHeads: 1 }, 'as many key/value heads as numHeads 2'],
    ['hiddenSize', { positions: 'transformerXL', hiddenSize: 9, headSize: 4 }, 'even hiddenSize, not 9'],
    ['memoryLength', { positions: 'span', memoryLength: 0 }, 'at least 1 step'],
    [
      'evaluationMemoryLength',
      { positions: 'span', memoryLength: 3, evaluationMemoryLength: 4 },
      'as far outside',
    ],
    ['outputBias', { outputBias: true }, 'set tieEmbeddings to false'],
    [
      'initialization.scaleOutputsByDepth',
      { initialization: { kind: 'depthScaled', scaleOutputsByDepth: true } },
      'leave scaleOutputsByDepth out',
    ],
  ])('a bad %s is refused once, where it stands: %j', (path, options, message) => {
    const { error } = languageModelSchema.safeParse({ ...small, ...options });
    expect(error?.issues.map((issue) => issue.path.join('.'))).toEqual([path]);
    expect(error!.issues[0]!.message).toContain(message);
  });
});
