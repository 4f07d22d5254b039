import * as ort from 'onnxruntime-web';
import { expect, test } from 'vitest';
import { floats, relativeDifference } from '../../test/support/operator-check.js';
import * as graph from '../graph/index.js';
import type { Tensor } from '../graph/index.js';
import { compile, lower, type Port, type TensorData } from './index.js';

ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

/** Runs the bytes of a program on the WebAssembly build, feeding and fetching by the ONNX names behind each port. */
async function runOnWeb(
  bytes: Uint8Array,
  outputs: Readonly<Record<string, Tensor>>,
  feeds: Readonly<Record<string, TensorData>>,
): Promise<Record<string, number[]>> {
  const { feeds: feedPorts, fetches } = lower(outputs);
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] });
  const inputs: Record<string, ort.Tensor> = {};
  for (const { name, tensor, values, sliced } of feedPorts) {
    const data = feeds[name];
    const shape = (sliced ? tensor.shape.slice(1) : tensor.shape) as number[];
    const size = data.length / values.length;
    values.forEach((value, i) => {
      inputs[value] = new ort.Tensor(
        tensor.dtype,
        data.slice(i * size, (i + 1) * size) as Float32Array,
        shape,
      );
    });
  }
  const results = await session.run(inputs);
  const gathered = ({ name, values }: Port): [string, number[]] => [
    name,
    values.flatMap((value) => Array.from(results[value].data as ArrayLike<number | bigint>, Number)),
  ];
  const numbers = Object.fromEntries(fetches.map(gathered));
  await session.release();
  return numbers;
}

const operators = { tokens: 12, size: 8, inner: 16, experts: 3 };

/** A small sparse network with its gradients that goes through every lowering special to single precision. */
function network(): { outputs: Record<string, Tensor>; feeds: Record<string, TensorData> } {
  const { tokens, size, inner, experts } = operators;
  const shapes: Record<string, number[]> = {
    x: [tokens, size],
    norm: [size],
    gain: [size],
    bias: [size],
    router: [size, experts],
    up: [experts, size, inner],
    down: [experts, inner, size],
    decay: [size],
    kernel: [size, size, 3],
  };
  const p = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, graph.input(name, 'float32', shape)]),
  );
  const hidden = graph.rmsNorm(p['x'], p['norm']);
  const probabilities = graph.softmax(graph.matmul(hidden, p['router']));
  const { values, indices } = graph.topK(probabilities, 1);
  const expertOf = graph.reshape(indices, [tokens]);
  const order = graph.argSort(expertOf);
  const counts = graph.sum(graph.oneHot(expertOf, experts, 'int64'), 0);
  const sorted = graph.exchangeRows(hidden, order, graph.invertPermutation(order));
  const names = Array.from({ length: experts }, (_, e) => `expert${e}`);
  const ups = graph.unstack(p['up']);
  const downs = graph.unstack(p['down']);
  const pieces = graph
    .split(sorted, names, 0, counts)
    .map((rows, e) => graph.matmul(graph.gelu(graph.matmul(rows, ups[e])), downs[e]));
  const joined = graph.concat(pieces, 0, { size: tokens, counts });
  const back = graph.exchangeRows(joined, graph.invertPermutation(order), order);
  const mixed = graph.layerNorm(graph.add(p['x'], graph.multiply(back, values)), p['gain'], p['bias']);
  const heads = graph.transpose(graph.reshape(mixed, [tokens, 2, size / 2]), [1, 0, 2]);
  const scores = graph.softmax(graph.matmul(heads, heads, { transposeB: true, scale: 0.5 }));
  const attended = graph.reshape(graph.transpose(graph.matmul(scores, heads), [1, 0, 2]), [tokens, size]);
  const { carry, outputs } = graph.scan(
    ([state], [row]) => {
      const next = graph.add(graph.multiply(state, graph.sigmoid(p['decay'])), row);
      return { carry: [next], outputs: [graph.tanh(next)] };
    },
    [graph.fill('float32', [size], 0)],
    [attended],
  );
  const signal = graph.reshape(graph.transpose(outputs[0]), [1, size, tokens]);
  const convolved = graph.conv1d(signal, p['kernel'], { padding: 1, stride: 2 });
  const ids = graph.input('ids', 'int32', [tokens]);
  const picked = graph.gatherElements(graph.logSoftmax(mixed), graph.reshape(ids, [tokens, 1]));
  const gathered = graph.gather(mixed, ids);
  const loss = graph.add(
    graph.add(graph.sum(graph.square(carry[0])), graph.mean(graph.square(convolved))),
    graph.add(graph.negate(graph.mean(picked)), graph.sum(graph.erf(gathered))),
  );
  const sources = Object.values(p);
  const gradients = graph.gradients(loss, sources);
  // Expert banks come back piece by piece; the zeros of an idle expert are as good as any.
  const named = Object.keys(p).map((name, i) => [`${name}.gradient`, gradients[i]] as const);
  const feeds: Record<string, TensorData> = Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => [name, Float32Array.from(floats(i, shape).data!)]),
  );
  feeds['ids'] = Int32Array.from({ length: tokens }, (_, i) => (i * 5) % size);
  return { outputs: { loss, counts, convolved, ...Object.fromEntries(named) }, feeds };
}

test('the bytes of a program, forward and backward, run on onnxruntime-web as well', async () => {
  const { outputs, feeds } = network();
  const program = await compile(outputs);
  const types = new Set(lower(outputs).graph.nodes.map((node) => node.type));
  for (const type of [
    ...['FusedMatMul', 'Gemm', 'TopK', 'Split', 'ScatterElements', 'Gelu', 'SimplifiedLayerNormalization'],
    ...['LayerNormalization', 'Scan', 'Conv', 'Erf', 'GatherElements'],
  ]) {
    expect(types, 'operators of the program').toContain(type);
  }
  const native = await program.run(feeds);
  const web = await runOnWeb(program.bytes, outputs, feeds);
  for (const [name, values] of Object.entries(native)) {
    const expected = Array.from(values as ArrayLike<number | bigint>, Number);
    expect(relativeDifference(web[name], expected), name).toBeLessThan(1e-5);
    expect(expected.every(Number.isFinite), name).toBe(true);
  }
  expect(Array.from(native['counts'] as BigInt64Array, Number).reduce((a, b) => a + b)).toBe(
    operators.tokens,
  );
  await program.release();
});
