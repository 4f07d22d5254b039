import { describe, expect, test } from 'vitest';
import { layerContext, layerSizes } from '../../test/support/moe-context.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { gradients, input, sum, type Tensor } from '../graph/index.js';
import { nameParameters, normal } from '../nn/index.js';
import { createSparseLayer, sparseSchema } from './config.js';
import type { RouterModule } from './router.js';
import { RepeatedDecision, RouterPool, routerSharingSchema } from './router-sharing.js';
import { SoftmaxTopKRouter } from './routers/softmax-top-k.js';

const create = (): RouterModule =>
  new SoftmaxTopKRouter({ hiddenSize: 4, numExperts: 3, topK: 1 }, normal(1));

/** Routers of six sparse layers, each by the number of the first that is the same object. */
function taken(sharing: object | null): { routers: RouterModule[]; groups: number[] } {
  const pool = new RouterPool();
  const parsed = sharing && routerSharingSchema.parse(sharing);
  const routers = Array.from({ length: 6 }, (_, index) => pool.take(parsed, index, create));
  return { routers, groups: routers.map((router) => routers.indexOf(router)) };
}

describe('who shares a router', () => {
  test.each([
    [null, [0, 1, 2, 3, 4, 5]],
    [{}, [0, 0, 0, 0, 0, 0]],
    [{ layers: 1 }, [0, 1, 2, 3, 4, 5]],
    [{ layers: 2 }, [0, 0, 2, 2, 4, 4]],
    [{ layers: 4 }, [0, 0, 0, 0, 4, 4]],
    [{ share: 'initialization' }, [0, 1, 2, 3, 4, 5]],
    [{ share: 'decision', layers: 3 }, [0, 1, 2, 3, 4, 5]],
  ])('%j: %j', (sharing, expected) => expect(taken(sharing).groups).toEqual(expected));

  test('decisions are made by the first of a group and repeated by the others', () => {
    const repeated = taken({ share: 'decision', layers: 3 }).routers.map(
      (r) => r instanceof RepeatedDecision,
    );
    expect(repeated).toEqual([false, true, true, false, true, true]);
  });

  test('routers that start equal read the same random stream, each group its own', () => {
    const streams = taken({ share: 'initialization', layers: 2 }).routers.map(
      (router) => router.parameters().get('classifier.weight')!.stream,
    );
    expect(streams.map((stream) => streams.indexOf(stream))).toEqual([0, 0, 2, 2, 4, 4]);
    expect(taken(null).routers[0].parameters().get('classifier.weight')!.stream).toBeUndefined();
  });

  test('two models share nothing', () => {
    const [a, b] = [taken({}), taken({})];
    expect(a.routers[0]).not.toBe(b.routers[0]);
  });

  test.each([
    ['layers', { layers: 0 }, '>=1'],
    ['share', { share: 'gradient' }, '"weights"'],
  ])('refuses a bad %s', (key, options, message) => {
    const { error } = routerSharingSchema.safeParse(options);
    expect(error!.issues[0].path).toEqual([key]);
    expect(error!.issues[0].message).toContain(message);
  });
});

describe('a repeated decision', () => {
  test('needs one to repeat', () => {
    const router = new RepeatedDecision(create());
    const hidden = input('hidden', 'float32', [3, 4]);
    expect(() => router.route(hidden, layerContext({ layerIndex: 2 }))).toThrow(
      'layer 2 repeats a decision that no layer before it made',
    );
  });

  test('is like the router that makes it', () => {
    const first = Object.assign(create(), { expectedTopK: 1.5, leak: 'it looks ahead' });
    const { numExperts, topK, expectedTopK, leak } = new RepeatedDecision(first);
    expect({ numExperts, topK, expectedTopK, leak }).toEqual({
      numExperts: 3,
      topK: 1,
      expectedTopK: 1.5,
      leak: 'it looks ahead',
    });
    expect(new RepeatedDecision(create()).parameters().size).toBe(0);
  });

  test.each(['softmax', 'expertChoice', 'sBase', 'hash'])(
    'sends tokens where the %s router of the first layer sent them',
    async (kind) => {
      const routers = new RouterPool();
      const options = sparseSchema.parse({
        numExperts: 3,
        topK: 2,
        router: { kind },
        routerSharing: { share: 'decision' },
      });
      const [first, second] = [0, 1].map((sparseIndex) =>
        createSparseLayer(options, { ...layerSizes(), routers, sparseIndex, layerIndex: sparseIndex }),
      );
      const parameters = new Map(
        [first, second].flatMap((layer, i) => {
          const named = nameParameters(layer, 'float64');
          return [...named].map(([name, parameter]) => [`${i}.${name}`, parameter] as const);
        }),
      );
      // Both layers name their parameters alike; give each leaf a name of its own.
      for (const [name, parameter] of parameters) parameter.place(name, 'float64');
      const rows = input('hidden', 'float64', [7, 4]);
      const other = input('other', 'float64', [7, 4]);
      const tokenIds = input('ids', 'int32', [7]);
      const a = first.forward(rows, layerContext({ training: true, tokenIds, site: 'a' }));
      const context = { training: true, tokenIds, site: 'b', previousRouting: a.routing! };
      const b = second.forward(other, layerContext(context));
      const router = parameters.get('0.router.classifier.weight')?.tensor;
      const outputs: Record<string, Tensor> = {
        firstExperts: a.records[0].experts,
        secondExperts: b.records[0].experts,
        firstGates: a.records[0].gates,
        secondGates: b.records[0].gates,
        output: b.output,
        ...(router && { gradient: gradients(sum(b.output), [router])[0] }),
      };
      const data = randomParameters(parameters, 3, 1);
      const actual: Record<string, number[]> = await run(outputs, [
        ...data,
        ['hidden', randomNumbers(1, 28)],
        ['other', randomNumbers(2, 28)],
        ['ids', Int32Array.from([0, 1, 2, 3, 4, 5, 6])],
      ]);
      expect(actual['secondExperts']).toEqual(actual['firstExperts']);
      expect(actual['secondGates']).toEqual(actual['firstGates']);
      expect(b.losses).toEqual([]);
      expect([...second.parameters().keys()].filter((name) => name.startsWith('router'))).toEqual([]);
      if (router) expect(distance(actual['gradient'], new Array(12).fill(0))).toBeGreaterThan(1e-6);
    },
  );
});
