import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { afterAll, expect, test } from 'vitest';
import type { OnnxConstant, OnnxGraph } from '../../graph/index.js';
import { FeedForwardBank } from '../../moe/index.js';
import { RandomStream, zeros } from '../../nn/index.js';
import { encodeModel } from '../../runtime/index.js';
import { quantise } from './blocks.js';
import { openQuantisedExpert, type QuantisedExpert } from './expert-program.js';

const [hiddenSize, intermediateSize, numExperts, topK, tokens] = [64, 96, 4, 2, 5];
const opened: { release(): Promise<void> }[] = [];
afterAll(async () => {
  for (const session of opened) await session.release();
});

const random = new RandomStream(7);
const numbers = (length: number): Float32Array => Float32Array.from({ length }, () => random.uniform() - 0.5);
const [rows, scores] = [numbers(tokens * hiddenSize), numbers(tokens * numExperts)];
const gates = Float32Array.from(numbers(tokens * numExperts), Math.abs);

/** Every second row of the result is of a, the others of b. */
function interleaved<Data extends Uint8Array | Float32Array>(a: Data, b: Data, rowCount: number): Data {
  const width = a.length / rowCount;
  const joined = new (a.constructor as new (length: number) => Data)(2 * a.length);
  for (let row = 0; row < rowCount; row++) {
    joined.set(a.subarray(row * width, (row + 1) * width), 2 * row * width);
    joined.set(b.subarray(row * width, (row + 1) * width), (2 * row + 1) * width);
  }
  return joined;
}

function concatenated<Data extends Uint8Array | Float32Array>(parts: readonly Data[]): Data {
  const all = new (parts[0].constructor as new (length: number) => Data)(parts.length * parts[0].length);
  parts.forEach((part, i) => all.set(part, i * part.length));
  return all;
}

// What a whole layer costs by this operator is in docs/performance.md: too much to serve with, but it is another reader of
// the same blocks.
test.each([4, 8] as const)('%d bits: the experts one by one are the QMoE operator', async (bits) => {
  const round = (outSize: number, inSize: number) =>
    quantise(numbers(outSize * inSize), { bits, outSize, inSize, layout: 'outIn', mode: 'symmetric' });
  const experts = Array.from({ length: numExperts }, () => ({
    gate: round(intermediateSize, hiddenSize),
    up: round(intermediateSize, hiddenSize),
    down: round(hiddenSize, intermediateSize),
  }));
  const constants = new Map<string, OnnxConstant>();
  const join = (
    name: string,
    shape: number[],
    dtype: 'uint8' | 'float32',
    data: readonly (Uint8Array | Float32Array)[],
  ): void =>
    void constants.set(name, {
      dtype,
      shape: [numExperts, ...shape],
      data: concatenated(data as Uint8Array[]),
    });
  join(
    'in',
    [2 * intermediateSize, (hiddenSize * bits) / 8],
    'uint8',
    experts.map(({ gate, up }) => interleaved(gate.values, up.values, intermediateSize)),
  );
  join(
    'inScales',
    [2 * intermediateSize, hiddenSize / 32],
    'float32',
    experts.map(({ gate, up }) => interleaved(gate.scales, up.scales, intermediateSize)),
  );
  join(
    'out',
    [hiddenSize, (intermediateSize * bits) / 8],
    'uint8',
    experts.map(({ down }) => down.values),
  );
  join(
    'outScales',
    [hiddenSize, intermediateSize / 32],
    'float32',
    experts.map(({ down }) => down.scales),
  );
  const graph: OnnxGraph = {
    name: 'layer',
    inputs: [
      { name: 'rows', dtype: 'float32', shape: [tokens, hiddenSize] },
      { name: 'scores', dtype: 'float32', shape: [tokens, numExperts] },
      { name: 'gates', dtype: 'float32', shape: [tokens, numExperts] },
    ],
    outputs: [{ name: 'output', dtype: 'float32', shape: [tokens, hiddenSize] }],
    nodes: [
      {
        type: 'QMoE',
        domain: 'com.microsoft',
        inputs: [
          'rows',
          'scores',
          'in',
          'inScales',
          '',
          'out',
          'outScales',
          '',
          '',
          '',
          '',
          '',
          '',
          '',
          'gates',
        ],
        outputs: ['output'],
        attributes: {
          k: topK,
          expert_weight_bits: bits,
          block_size: 32,
          activation_type: 'swiglu',
          swiglu_fusion: 1,
          activation_alpha: { float: 1 },
          activation_beta: { float: 0 },
          normalize_routing_weights: 0,
        },
      },
    ],
    constants,
  };
  const session = await InferenceSession.create(encodeModel(graph));
  opened.push(session);
  const { output } = await session.run({
    rows: new OrtTensor('float32', rows, [tokens, hiddenSize]),
    scores: new OrtTensor('float32', scores, [tokens, numExperts]),
    gates: new OrtTensor('float32', gates, [tokens, numExperts]),
  });
  const bank = new FeedForwardBank(
    { numExperts, hiddenSize, intermediateSize, activation: 'swiglu' },
    zeros,
    zeros,
  );
  const programs: QuantisedExpert[] = [];
  for (const matrices of experts)
    programs.push(await openQuantisedExpert(bank, { matrices, biases: {} }, hiddenSize, {}, 'float32'));
  opened.push(...programs);
  const expected = new Float32Array(tokens * hiddenSize);
  for (let token = 0; token < tokens; token++) {
    const own = [...scores.subarray(token * numExperts, (token + 1) * numExperts)];
    const chosen = own
      .map((_, e) => e)
      .sort((a, b) => own[b] - own[a])
      .slice(0, topK);
    for (const expert of chosen) {
      const made = new Float32Array(hiddenSize);
      await programs[expert].run(rows.subarray(token * hiddenSize, (token + 1) * hiddenSize), made, 1);
      made.forEach(
        (value, i) => (expected[token * hiddenSize + i] += gates[token * numExperts + expert] * value),
      );
    }
  }
  (output.data as Float32Array).forEach((value, i) => expect(value).toBeCloseTo(expected[i], 4));
});
