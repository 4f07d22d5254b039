/**
 * Every router with every dispatch and every expert, and the layers that have no router of their own: each trains, and
 * each has the right gradient.
 */
import { afterEach, describe, expect, test } from 'vitest';
import { add, input, mean, reshape } from '../src/graph/index.js';
import { LanguageModel, languageModelSchema, totalAuxiliaryLoss } from '../src/models/index.js';
import { activations, bankKinds, dispatchKinds, layerKinds, routerKinds } from '../src/moe/index.js';
import { crossEntropy, nameParameters, RandomStream, streamKey, trainingContext } from '../src/nn/index.js';
import type { Trainer } from '../src/train/index.js';
import { count } from './support/gradient-check.js';
import { leafGradientError } from './support/leaf-gradients.js';
import { randomParameters } from './support/numbers.js';
import { tinyTrainer } from './support/tiny-training.js';

const vocabSize = 7;
const [batch, time] = [2, 5];

type Options = Readonly<Record<string, unknown>>;

/**
 * Adaptive clustering weighs features by statistics of all tokens that are constants to the gradient but not to finite
 * differences: only what comes after them can be compared.
 */
const afterStatistics = /^(blocks\.1\.feedForward\.(experts|shared)\.|head\.|norm\.)/;

async function gradientError(sparse: Options, compared = /./): Promise<number> {
  const options = languageModelSchema.parse({
    hiddenSize: 4,
    numLayers: 2,
    numHeads: 2,
    intermediateSize: 3,
    contextLength: time,
    tieEmbeddings: false,
    sparse,
  });
  const model = new LanguageModel({ ...options, vocabSize });
  const parameters = nameParameters(model, 'float64');
  const tokens = input('tokens', 'int32', [batch, time]);
  const targets = input('targets', 'int32', [batch, time]);
  const context = trainingContext();
  const { logits, losses } = model.forward({ tokens }, context);
  const task = mean(crossEntropy(logits, reshape(targets, [batch * time])));
  const auxiliary = totalAuxiliaryLoss(losses);
  const loss = auxiliary ? add(task, auxiliary) : task;

  const random = new RandomStream(streamKey(4));
  const ids = (): Int32Array => Int32Array.from({ length: batch * time }, () => random.integer(vocabSize));
  const noise = Object.fromEntries(
    [...context.noise.feeds].map(([name, { shape }]) => [name, new Float64Array(count(shape as number[]))]),
  );
  context.noise.fill(1, 1, noise);
  const leaves = [...parameters].filter(([name, { trainable }]) => trainable && compared.test(name));
  expect(leaves.length).toBeGreaterThan(0);
  return leafGradientError(
    loss,
    new Map(leaves.map(([name, { tensor }]) => [name, tensor])),
    new Map<string, Float64Array | Int32Array>([
      ...randomParameters(parameters, 3, 0.8),
      ...Object.entries(noise),
      ['tokens', ids()],
      ['targets', ids()],
    ]),
    { samples: 2 },
  );
}

let open: Trainer | undefined;
afterEach(async () => {
  await open?.release();
  open = undefined;
});

/** A training step changes the loss, and everything stays a number. */
async function expectTraining(sparse: Options): Promise<void> {
  const { trainer } = await tinyTrainer({
    model: { hiddenSize: 8, intermediateSize: 8, sparse },
    train: { steps: 2 },
  });
  open = trainer;
  const first = await trainer.update();
  const second = await trainer.update();
  for (const { loss, gradientNorm } of [first, second]) {
    expect(loss).toBeGreaterThan(0);
    expect(gradientNorm).toBeGreaterThan(0);
    expect(Number.isFinite(loss) && Number.isFinite(gradientNorm)).toBe(true);
  }
  expect(second.loss).not.toBe(first.loss);
  expect(Number.isFinite((await trainer.evaluate()).loss)).toBe(true);
}

const dispatchOptions: Record<string, Options> = {
  dropless: { kind: 'dropless' },
  capacity: { kind: 'capacity', capacityFactor: 1, evalCapacityFactor: 1, minimumCapacity: 1 },
};

const kindOf = ({ schema }: (typeof routerKinds)[number] | (typeof dispatchKinds)[number]): string =>
  schema.shape.kind.value;

const routers = routerKinds.map(kindOf);
const pairs = routers.flatMap((router) =>
  dispatchKinds
    .map(kindOf)
    // Expert choice gives out the places itself; the other pair is refused when options are read.
    .filter((dispatch) => router !== 'expertChoice' || dispatch === 'dropless')
    .map((dispatch) => [router, dispatch] as const),
);

describe.each(pairs)('%s with %s', (router, dispatch) => {
  const sparse = (activation: string): Options => ({
    numExperts: 3,
    topK: 2,
    router: { kind: router },
    dispatch: dispatchOptions[dispatch]!,
    experts: { kind: 'feedForward', activation },
  });

  test.each(Object.keys(activations))(
    'and %s experts: gradients equal finite differences',
    async (activation) => {
      const compared = router === 'adaptiveClustering' ? afterStatistics : /./;
      expect(await gradientError(sparse(activation), compared)).toBeLessThan(1e-6);
    },
  );

  test('trains', () => expectTraining(sparse('swiglu')));
});

const composed: readonly { name: string; sparse: Options; compared?: RegExp }[] = [
  {
    name: 'one adaptive-clustering router with sigmoid gates for all layers, over fine-grained SwiGLU experts',
    sparse: {
      numExperts: 8,
      topK: 4,
      intermediateSize: 2,
      router: { kind: 'adaptiveClustering', inner: { kind: 'sigmoid' } },
      routerSharing: { share: 'weights' },
      experts: { kind: 'feedForward', activation: 'swiglu' },
    },
    compared: afterStatistics,
  },
  {
    name: 'stratified experts with sigmoid gates, as released in all else',
    sparse: {
      kind: 'stratified',
      strata: [2, 3],
      score: 'sigmoid',
      residual: 'released',
      combineWeights: 'renormalized',
      secondExpert: 'sample',
      capacityFactor: 1,
      evaluationCapacity: 0.5,
      balanceOver: 'gatesRun',
    },
  },
  {
    name: 'stratified experts with sigmoid gates',
    sparse: { kind: 'stratified', strata: [2, 2], score: 'sigmoid' },
  },
  {
    name: 'shared experts with a gate, beside fine-grained ones balanced by biases',
    sparse: {
      numExperts: 6,
      topK: 3,
      intermediateSize: 2,
      router: { kind: 'biasBalanced' },
      sharedIntermediateSize: 3,
      sharedGate: true,
    },
  },
  ...Object.values(dispatchOptions).map((dispatch) => ({
    name: `experts that differ from a centre by their factors, ${String(dispatch['kind'])} dispatch`,
    sparse: {
      numExperts: 3,
      topK: 2,
      dispatch,
      experts: { kind: 'factorised', rank: 2, activation: 'swiglu' },
    },
  })),
  { name: 'top-K activations', sparse: { kind: 'topKActivation', topK: 2 } },
  { name: 'product keys', sparse: { kind: 'productKey', heads: 2, subKeys: 4, topK: 3 } },
];

describe.each(composed)('$name', ({ sparse, compared }) => {
  test('gradients equal finite differences', async () => {
    expect(await gradientError(sparse, compared)).toBeLessThan(1e-6);
  });

  test('trains', () => expectTraining(sparse));
});

test('every kind of dispatch, of experts and of layer is here', () => {
  expect(Object.keys(dispatchOptions).sort()).toEqual(dispatchKinds.map(kindOf).sort());
  const banks = composed.flatMap(({ sparse }) => (sparse['experts'] as Options | undefined)?.['kind'] ?? []);
  expect([...new Set(banks)].sort()).toEqual(bankKinds.map(({ schema }) => schema.shape.kind.value).sort());
  const layers = new Set(composed.map(({ sparse: { kind = 'experts' } }) => kind));
  expect([...layers].sort()).toEqual(layerKinds.map(({ schema }) => schema.shape.kind.value).sort());
});
