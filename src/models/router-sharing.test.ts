import { describe, expect, test } from 'vitest';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { add, gradients, input, mean, reshape, type Tensor } from '../graph/index.js';
import {
  crossEntropy,
  nameParameters,
  ParameterArena,
  RandomStream,
  streamKey,
  trainingContext,
} from '../nn/index.js';
import { languageModelSchema } from './language-model-options.js';
import { LanguageModel, totalAuxiliaryLoss } from './language-model.js';

const vocabSize = 11;
const [batch, time] = [2, 6];

function create(routerSharing: object | null, sparse: object = {}): LanguageModel {
  const options = languageModelSchema.parse({
    hiddenSize: 8,
    numLayers: 4,
    numHeads: 2,
    intermediateSize: 6,
    contextLength: 6,
    sparse: {
      numExperts: 3,
      topK: 1,
      router: { kind: 'softmax', zLossCoefficient: 0.1 },
      routerSharing,
      ...sparse,
    },
  });
  return new LanguageModel({ ...options, vocabSize });
}

const random = new RandomStream(streamKey(4));
const ids = (): Int32Array => Int32Array.from({ length: batch * time }, () => random.integer(vocabSize));
const feeds = [
  ['tokens', ids()],
  ['targets', ids()],
] as const;

function trace(model: LanguageModel) {
  const parameters = nameParameters(model, 'float64');
  const tokens = input('tokens', 'int32', [batch, time]);
  const targets = input('targets', 'int32', [batch, time]);
  const { logits, losses, records } = model.forward({ tokens }, trainingContext());
  const task = mean(crossEntropy(logits, reshape(targets, [batch * time])));
  return { parameters, records, logits, loss: add(task, totalAuxiliaryLoss(losses)!) };
}

const routersOf = (model: LanguageModel): string[] =>
  [...model.parameters().keys()].filter((name) => name.includes('.router.'));
const router = (block: number): string => `blocks.${block}.feedForward.router.classifier.weight`;

describe('Omni-router: one router for several layers', () => {
  test.each([
    [null, {}, [0, 1, 2, 3]],
    [{}, {}, [0]],
    [{ layers: 1 }, {}, [0, 1, 2, 3]],
    [{ layers: 2 }, {}, [0, 2]],
    [{ layers: 3 }, {}, [0, 3]],
    [{}, { every: 2 }, [1]],
    [{ share: 'decision', layers: 2 }, {}, [0, 2]],
    [{ share: 'initialization' }, {}, [0, 1, 2, 3]],
  ])('%j with %j: parameters keep the name of the first layer', (sharing, sparse, blocks) => {
    expect(routersOf(create(sharing, sparse))).toEqual(blocks.map(router));
  });

  test('the gradient is the sum over the layers, and equals finite differences', async () => {
    const shared = trace(create({ layers: 2 }));
    const data = randomParameters(shared.parameters, 3, 0.7);
    const leaves = [router(0), router(2)];
    const tensors = leaves.map((name) => [name, shared.parameters.get(name)!.tensor] as const);
    const error = await leafGradientError(
      shared.loss,
      new Map(tensors),
      new Map<string, Float64Array | Int32Array>([...data, ...feeds]),
    );
    expect(error).toBeLessThan(1e-7);
    const together = await run(
      Object.fromEntries(tensors.map(([name, tensor]) => [name, gradients(shared.loss, [tensor])[0]])),
      [...data, ...feeds],
    );

    const apart = trace(create(null));
    const copied = new Map(data);
    copied.set(router(1), data.get(router(0))!).set(router(3), data.get(router(2))!);
    const all = [0, 1, 2, 3].map((block) => apart.parameters.get(router(block))!.tensor);
    const alone: Record<string, number[]> = await run(
      {
        loss: apart.loss,
        ...Object.fromEntries(gradients(apart.loss, all).map((g, i) => [`of ${i}`, g])),
      },
      [...copied, ...feeds],
    );
    const sums = (a: number, b: number): number[] => alone[`of ${a}`].map((x, i) => x + alone[`of ${b}`][i]);
    expect(distance(together[router(0)], sums(0, 1))).toBeLessThan(1e-12);
    expect(distance(together[router(2)], sums(2, 3))).toBeLessThan(1e-12);
    expect(distance(sums(0, 1), alone['of 0'])).toBeGreaterThan(1e-4);
    expect((await run({ loss: shared.loss }, [...data, ...feeds])).loss[0]).toBeCloseTo(alone['loss'][0], 12);
  });

  test('weights are shared, not decisions: each layer routes its own hidden state', async () => {
    const { parameters, records } = trace(create({}));
    const outputs: Record<string, Tensor> = Object.fromEntries(
      records.map(({ experts }, i) => [`experts ${i}`, experts]),
    );
    const actual = await run(outputs, [...randomParameters(parameters, 3, 1), ...feeds]);
    expect(actual['experts 0']).not.toEqual(actual['experts 3']);
  });

  test('groups of one are no sharing at all', async () => {
    const [one, none] = [create({ layers: 1 }), create(null)].map(trace);
    const data = randomParameters(one.parameters, 3, 0.7);
    expect(await run({ logits: one.logits }, [...data, ...feeds])).toEqual(
      await run({ logits: none.logits }, [...data, ...feeds]),
    );
  });
});

test('initialization: routers start equal within a group, and learn by themselves', async () => {
  const model = create({ share: 'initialization', layers: 2 });
  const { views } = ParameterArena.allocate(model.parameters()).initialize(model.parameters(), 7);
  const [a, b, c, d] = [0, 1, 2, 3].map((block) => [...views.get(router(block))!]);
  expect(b).toEqual(a);
  expect(d).toEqual(c);
  expect(c).not.toEqual(a);
  const experts = [0, 1].map((block) => [...views.get(`blocks.${block}.feedForward.experts.up`)!]);
  expect(experts[1]).not.toEqual(experts[0]);

  const { parameters, loss } = trace(model);
  const tensors = [0, 1].map((block) => parameters.get(router(block))!.tensor);
  const [first, second] = gradients(loss, tensors);
  const start = [...views].map(([name, data]) => [name, Float64Array.from(data)] as const);
  const actual = await run({ first, second }, [...start, ...feeds]);
  expect(distance(actual.first, actual.second)).toBeGreaterThan(1e-9);
});

test('decision: layers repeat the experts of the first, which gets the gradients of all', async () => {
  const { parameters, records, loss } = trace(create({ share: 'decision', layers: 3 }));
  const data = randomParameters(parameters, 3, 0.7);
  const outputs: Record<string, Tensor> = Object.fromEntries(
    records.flatMap(({ experts, gates }, i) => [
      [`experts ${i}`, experts],
      [`gates ${i}`, gates],
    ]),
  );
  const actual = await run(outputs, [...data, ...feeds]);
  for (const follower of [1, 2]) {
    expect(actual[`experts ${follower}`]).toEqual(actual['experts 0']);
    expect(actual[`gates ${follower}`]).toEqual(actual['gates 0']);
  }
  expect(actual['gates 3']).not.toEqual(actual['gates 0']);
  const leaves = new Map([0, 3].map((block) => [router(block), parameters.get(router(block))!.tensor]));
  const error = await leafGradientError(
    loss,
    leaves,
    new Map<string, Float64Array | Int32Array>([...data, ...feeds]),
  );
  expect(error).toBeLessThan(1e-7);
});

test('decision: it passes through dense layers in between', async () => {
  const { parameters, records } = trace(create({ share: 'decision' }, { every: 2 }));
  const outputs = Object.fromEntries(records.map(({ name, experts }) => [name, experts]));
  const actual = await run(outputs, [...randomParameters(parameters, 3, 0.7), ...feeds]);
  expect(Object.keys(actual)).toEqual(['1', '3']);
  expect(actual['3']).toEqual(actual['1']);
});
