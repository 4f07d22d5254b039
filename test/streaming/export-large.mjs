// Exports a model whose experts are far larger than memory should be, and runs it once.
// node export-large.mjs FOLDER EXPERTS: a layer of EXPERTS experts of 50 MB each.
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { exportOnnx } from '../../dist/checkpoints/index.js';
import { createModel, modelSchema } from '../../dist/models/index.js';
import { nameParameters } from '../../dist/nn/index.js';

const [folder, numExperts] = [process.argv[2], Number(process.argv[3])];
const options = {
  ...modelSchema.parse({
    ...{ hiddenSize: 512, numLayers: 1, numHeads: 4, intermediateSize: 8192, contextLength: 4 },
    ...{ activation: 'swiglu', sparse: { every: 1, numExperts, dispatch: { kind: 'dropless' } } },
  }),
  vocabSize: 8,
};
const parameters = nameParameters(createModel(options));
const path = join(folder, 'model');
// One array serves every matrix: it is written before the next is asked for.
const numbers = new Map();
const readParameter = async (name, { at } = {}) => {
  const { shape, size } = parameters.get(name);
  const length = at === undefined ? size : size / shape[0];
  if (!numbers.has(length))
    numbers.set(
      length,
      Float32Array.from({ length }, (_, i) => Math.sin(i) / 16),
    );
  return numbers.get(length);
};
const { dataBytes } = await exportOnnx({ options, readParameter }, path);
const peak = process.resourceUsage().maxRSS * 1024;
const session = await InferenceSession.create(join(path, 'model.onnx'), { logSeverityLevel: 3 });
const ids = new Tensor('int64', BigInt64Array.of(1n, 2n, 3n, 4n), [1, 4]);
const mask = new Tensor('int64', BigInt64Array.of(1n, 1n, 1n, 1n), [1, 4]);
const { logits } = await session.run({ input_ids: ids, attention_mask: mask });
await session.release();
console.log(JSON.stringify({ dataBytes, peak, logits: [...logits.data] }));
