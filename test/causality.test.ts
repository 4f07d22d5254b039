/**
 * What a model says about a token must not depend on what comes after it, unless the model says so.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { isExpected } from '../src/cli/errors.js';
import { Generator } from '../src/decode/index.js';
import { input } from '../src/graph/index.js';
import { LanguageModel, languageModelSchema } from '../src/models/index.js';
import { layerKinds, routerKinds, type SparseOptions } from '../src/moe/index.js';
import {
  evaluationContext,
  fillUniform,
  nameParameters,
  ParameterArena,
  streamKey,
} from '../src/nn/index.js';
import { compile } from '../src/runtime/index.js';
import { distance, typed } from './support/numbers.js';

type Options = Readonly<Record<string, unknown>>;

const [batch, time, vocabSize] = [2, 12, 23];

/** Kinds of routers that have more to them than their defaults. */
const routerVariants: Readonly<Record<string, readonly Options[]>> = {
  softmax: [{}, { groups: { count: 2, chosen: 1, score: 'largest' } }],
  biasBalanced: [{}, { groups: { count: 2, chosen: 1 } }],
  expertChoice: [{}, { evaluation: 'experts' }, { evaluation: 'experts', group: 'sequence' }],
  adaptiveClustering: [
    {},
    { stats: 'prefix', label: 'mixed' },
    { weights: 'random' },
    { preset: 'paper' },
    { preset: 'released-lm' },
    { preset: 'released-vision', dispersion: 'var' },
  ],
};

/** The least that every kind of layer has to be told. */
const layerOptions: Readonly<Record<SparseOptions['kind'], Options>> = {
  experts: { numExperts: 4, topK: 2 },
  stratified: { strata: [2, 3] },
  topKActivation: { topK: 5 },
  productKey: { heads: 2, subKeys: 5, topK: 3 },
};

const routers = routerKinds.flatMap(({ schema }): Options[] => {
  const kind = schema.shape.kind.value;
  const variants = routerVariants[kind] ?? [{}];
  return variants.map((variant) => ({
    kind: 'experts',
    numExperts: 4,
    topK: 2,
    router: { kind, ...variant },
  }));
});
const layers = layerKinds.map(({ schema }): Options => {
  const kind = schema.shape.kind.value;
  return { kind, ...layerOptions[kind] };
});
const shared = { kind: 'experts', numExperts: 4, topK: 2, routerSharing: {} };
const cases: readonly Options[] = [
  ...routers,
  ...layers,
  { ...shared, dispatch: { kind: 'capacity', evalCapacityFactor: 0.5, minimumCapacity: 1 } },
  { ...shared, dispatch: { kind: 'capacity', evalCapacityFactor: 2, minimumCapacity: 1 } },
  { ...shared, topK: 1, dispatch: { kind: 'capacity', group: 'sequence', minimumCapacity: 1 } },
  { ...shared, router: { kind: 'adaptiveClustering' } },
  { ...shared, router: { kind: 'adaptiveClustering', preset: 'released-lm' } },
  {
    ...shared,
    router: { kind: 'expertChoice', evaluation: 'experts' },
    routerSharing: { share: 'decision' },
  },
];

function build(sparse: Options): { model: LanguageModel; weights: Map<string, Float32Array> } {
  const model = new LanguageModel({
    ...languageModelSchema.parse({
      hiddenSize: 16,
      numLayers: 3,
      numHeads: 2,
      intermediateSize: 24,
      contextLength: time,
      // Large enough that decisions are made for good reasons, and that a change of one is seen.
      initialization: { scale: 4, embedding: 1 },
      sparse,
    }),
    vocabSize,
  });
  const parameters = nameParameters(model);
  const weights = new Map(ParameterArena.allocate(parameters).initialize(parameters, 5).views);
  // As training would have left it: state that is all zeros hides what depends on it.
  for (const [name, { trainable, size }] of parameters) {
    if (trainable) continue;
    const state = new Float32Array(size);
    fillUniform(streamKey(6, name), state);
    weights.set(name, state);
  }
  return { model, weights };
}

/** A function from ids `[batch · time]` to logits by token. */
async function logitsOf(sparse: Options, dtype: 'float32' | 'float64' = 'float64') {
  const { model, weights } = build(sparse);
  nameParameters(model, dtype);
  const tokens = input('tokens', 'int32', [batch, time]);
  const { logits } = model.forward({ tokens }, evaluationContext());
  const program = await compile({ logits });
  program.bindKnown([...weights].map(([name, values]) => [name, typed(values, dtype)] as const));
  const predict = async (ids: Int32Array): Promise<number[][]> => {
    const flat = Array.from((await program.run({ tokens: ids })).logits as ArrayLike<number>);
    return Array.from({ length: batch * time }, (_, t) => flat.slice(t * vocabSize, (t + 1) * vocabSize));
  };
  return { model, predict, release: () => program.release() };
}

/**
 * How many rows an expert multiplies decides how its sums are rounded, so equal is what is equal but for the last bits
 * of a double; whatever is let through shows a million times as large.
 */
const differ = (a: readonly number[], b: readonly number[]): boolean => distance(a, b) > 1e-12;

const text = Int32Array.from({ length: batch * time }, (_, i) => (7 * i + Math.floor(i / 5)) % vocabSize);
const other = (id: number): number => (3 * id + 11) % vocabSize;

const named = cases.map((sparse) => [JSON.stringify(sparse), sparse] as const);

test.each(named)('%s: a token sees those before it, unless the layer says more', async (_name, sparse) => {
  const { model, predict, release } = await logitsOf(sparse);
  const before = await predict(text);
  let seen = 0;
  for (const last of [0, 3, 7, 10]) {
    const after = await predict(text.map((id, i) => (i % time > last ? other(id) : id)));
    const early = before.flatMap((_, t) => (t % time <= last ? [t] : []));
    seen += early.filter((t) => differ(after[t], before[t])).length;
    const late = before.flatMap((_, t) => (t % time > last ? [t] : []));
    expect(late.some((t) => differ(after[t], before[t]))).toBe(true);
  }
  // The second sequence is another text altogether.
  const alone = await predict(text.map((id, i) => (i >= time ? other(id) : id)));
  const strangers = before.slice(0, time).filter((row, t) => differ(alone[t], row)).length;
  await release();
  if (model.leaks.length === 0) expect([seen, strangers]).toEqual([0, 0]);
  else expect(seen).toBeGreaterThan(0);
});

/**
 * With places for everybody an expert multiplies as many rows whoever comes, and its sums are rounded alike: what a token
 * says then depends on nothing after it, to the last bit.
 */
const everybody = { kind: 'capacity', evalCapacityFactor: 4, minimumCapacity: batch * time };
const fixedRows = cases
  .filter(
    ({ kind, router }) =>
      kind !== 'stratified' && (router as Options | undefined)?.['kind'] !== 'expertChoice',
  )
  .filter((sparse) => build(sparse).model.leaks.length === 0)
  .map((sparse) => (sparse['kind'] === 'experts' ? { ...sparse, dispatch: everybody } : sparse));

test.each(fixedRows.map((sparse) => [JSON.stringify(sparse), sparse] as const))(
  '%s: the same bits in float32',
  async (_name, sparse) => {
    const { predict, release } = await logitsOf(sparse, 'float32');
    const before = await predict(text);
    for (const last of [0, 3, 7, 10]) {
      const after = await predict(text.map((id, i) => (i % time > last ? other(id) : id)));
      const early = before.flatMap((_, t) => (t % time <= last ? [t] : []));
      for (const t of early) expect(after[t]).toEqual(before[t]);
    }
    await release();
  },
);

describe('a model that looks ahead', () => {
  const leaking = {
    numExperts: 4,
    topK: 2,
    router: { kind: 'expertChoice', evaluation: 'experts', group: 'sequence' },
  };

  test('does not write text: one line says why, and what would be right', async () => {
    const { model, weights } = build(leaking);
    const error = await Generator.create(model, weights).then(
      () => undefined,
      (reason: unknown) => reason as Error,
    );
    expect(error?.message).toBe(
      'the model looks ahead, so it cannot write text from left to right: layer 0: experts choose among the whole ' +
        "sequence, later tokens included; evaluation: 'topK' lets each token choose by itself (and 2 more)",
    );
    // The command line prints what it expects as one line, without a stack.
    expect(isExpected(error!)).toBe(true);
  });

  test('writes text once it is told not to', async () => {
    const { model, weights } = build({ ...leaking, router: { ...leaking.router, evaluation: 'topK' } });
    const generator = await Generator.create(model, weights);
    const ids: number[] = [];
    const options = { maxTokens: 3, temperature: 1, topK: 0, topP: 1, seed: 1 };
    for await (const id of generator.generate([1, 2], options)) ids.push(id);
    await generator.release();
    expect(ids).toHaveLength(3);
  });
});
