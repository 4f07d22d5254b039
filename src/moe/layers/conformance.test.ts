import { expect, test } from 'vitest';
import { referenceProductKey, referenceTopKActivation } from '../../../test/support/reference-memories.js';
import { referenceLayer, type ReferenceInputs } from '../../../test/support/reference-moe.js';
import { referenceStratified, type ReferenceStrata } from '../../../test/support/reference-stratified.js';
import { feedForwardConformance, type FeedForwardSubject } from '../feed-forward.case.js';
import type { SparseOptions } from '../config.js';
import { layerKinds } from './index.js';
import { withShared } from '../../../test/support/reference-shared.js';

const [hiddenSize, intermediateSize] = [4, 6];
const sizes = { hiddenSize, intermediateSize, activation: 'relu' } as const;
/** Weights of one ReLU network of width 6. */
const network = 2 * hiddenSize * intermediateSize;

const noRouter = 'the layer has no router, so nothing is recorded';

function stratifiedSubject(
  name: string,
  options: Omit<ReferenceStrata, 'hiddenSize' | 'intermediateSize' | 'activation' | 'norm'>,
  cost: FeedForwardSubject['cost'],
): FeedForwardSubject {
  const reference = { ...options, ...sizes, norm: 'rms' } as const;
  return {
    name,
    options: { kind: 'stratified', ...options },
    noisy: { options: { kind: 'stratified', ...options, secondExpert: 'sample' }, sizes: { dropout: 0.2 } },
    reference: (inputs) => {
      const { output, balance, experts } = referenceStratified(reference, inputs);
      return { output, experts, losses: { balance } };
    },
    cost,
  };
}

function memorySubject(
  name: string,
  options: Readonly<Record<string, unknown>>,
  reference: FeedForwardSubject['reference'],
  cost: FeedForwardSubject['cost'],
  noisy?: FeedForwardSubject['noisy'],
): FeedForwardSubject {
  const noNoise = 'the layer draws nothing';
  return {
    name,
    options,
    reference,
    cost,
    ...(noisy && { noisy }),
    skip: {
      'records are well formed': noRouter,
      ...(noisy
        ? {}
        : {
            'noise is for training only': noNoise,
            'the backward pass sees the noise of the forward pass': noNoise,
          }),
    },
  };
}

const expertsOptions = { kind: 'experts', numExperts: 5, topK: 2 } as const;
const expertsReference = (inputs: ReferenceInputs) => {
  const { output, experts, balance, z } = referenceLayer({ ...expertsOptions, ...sizes }, inputs);
  return { output, experts: [experts], losses: { balance, z } };
};
const noisyExperts = {
  router: { kind: 'softmax', jitter: 0.1 },
  experts: { kind: 'feedForward', expertDropout: 0.2 },
};

/** Every kind of layer is here, or this does not compile. */
const subjects: Record<SparseOptions['kind'], readonly FeedForwardSubject[]> = {
  experts: [
    {
      name: 'experts, top-2 of 5',
      options: { ...expertsOptions },
      noisy: { options: { ...expertsOptions, ...noisyExperts } },
      reference: expertsReference,
      cost: { parameters: 5 * hiddenSize + 2 * network, flops: 2 * (5 * hiddenSize + 2 * network) },
    },
    {
      name: 'experts with a shared one and its gate',
      options: { ...expertsOptions, sharedIntermediateSize: 3, sharedGate: true },
      noisy: { options: { ...expertsOptions, ...noisyExperts, sharedIntermediateSize: 3, sharedGate: true } },
      reference: (inputs) => ({
        ...expertsReference(inputs),
        output: withShared(expertsReference(inputs).output, inputs),
      }),
      cost: {
        parameters: 5 * 4 + 2 * network + 2 * 4 * 3 + 4,
        flops: 2 * (5 * 4 + 2 * network + 2 * 4 * 3 + 4),
      },
    },
  ],
  stratified: [
    stratifiedSubject(
      'stratified 2-3',
      { strata: [2, 3], topK: 2 },
      // The second gate is passed by 2 tokens of 5.
      {
        parameters: 4 + 5 * 4 + 2 * network + 0.4 * (4 + 3 * 4 + 2 * network),
        flops: 2 * (5 * 4 + 2 * network + 0.4 * (3 * 4 + 2 * network)),
      },
    ),
    stratifiedSubject(
      'stratified 2-1, as released, sigmoid scores',
      { strata: [2, 1], topK: 2, residual: 'released', combineWeights: 'renormalized', score: 'sigmoid' },
      // Two tokens of three pass the second gate, which sees one expert.
      {
        parameters: 4 + 4 + 3 * 4 + 2 * network + (2 / 3) * (4 + 4 + network),
        flops: 2 * (3 * 4 + 2 * network + (2 / 3) * (4 + network)),
      },
    ),
  ],
  topKActivation: [
    memorySubject(
      'top-2 activations',
      { kind: 'topKActivation', topK: 2 },
      (inputs) => ({ output: referenceTopKActivation({ topK: 2 }, inputs) }),
      { parameters: 4 * 6 + 4 * 2, flops: 2 * (4 * 6 + 4 * 2) },
      { options: { kind: 'topKActivation', topK: 2, dropout: 0.3 } },
    ),
    memorySubject(
      'top-2 activations by the length of their values, with biases',
      { kind: 'topKActivation', topK: 2, byValueNorm: true, bias: true },
      (inputs) => ({ output: referenceTopKActivation({ topK: 2, byValueNorm: true }, inputs) }),
      { parameters: 4 * 6 + 6 + 4 * 2 + 4, flops: 2 * (4 * 6 + 4 * 2) },
      {
        options: { kind: 'topKActivation', topK: 2, byValueNorm: true, bias: true },
        sizes: { dropout: 0.3 },
      },
    ),
  ],
  productKey: [
    memorySubject(
      'product keys, ReLU',
      { kind: 'productKey', heads: 2, subKeys: 4, topK: 3 },
      (inputs) => referenceProductKey({ heads: 2, subKeys: 4, topK: 3, activation: 'relu' }, inputs),
      { parameters: 2 * 4 * 4 + 6 * 4, flops: 2 * (2 * 4 * 4 + 6 * 4) },
    ),
    memorySubject(
      'product keys, dense',
      { kind: 'productKey', heads: 3, subKeys: 3, topK: 3, path: 'auto', activation: 'softmax' },
      (inputs) =>
        referenceProductKey({ heads: 3, subKeys: 3, topK: 3, activation: 'softmax', dense: true }, inputs),
      { parameters: 3 * 3 * 4 + 9 * 4, flops: 2 * (3 * 3 * 4 + 9 * 4) },
    ),
    memorySubject(
      'product keys as first published',
      {
        kind: 'productKey',
        heads: 2,
        subKeys: 4,
        topK: 2,
        activation: 'softmax',
        softmaxOver: 'head',
        querySize: 6,
        initialization: 'original',
      },
      (inputs) =>
        referenceProductKey(
          { heads: 2, subKeys: 4, topK: 2, activation: 'softmax', softmaxOver: 'head', querySize: 6 },
          inputs,
        ),
      // 12 biases of the query multiply nothing.
      { parameters: 2 * 6 * 4 + 12 + 2 * 4 * 6 + 4 * 4, flops: 2 * (2 * 6 * 4 + 2 * 4 * 6 + 4 * 4) },
    ),
  ],
};

for (const subject of Object.values(subjects).flat()) feedForwardConformance(subject);

test('every registered kind is under test', () => {
  const kinds = layerKinds.map(({ schema }) => schema.shape.kind.value);
  expect(Object.keys(subjects).sort()).toEqual([...kinds].sort());
});
