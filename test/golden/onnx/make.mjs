// Exports small models of each kind, with what onnxruntime-node makes of them, for check.py to compare.
// npm run build && node test/golden/onnx/make.mjs FOLDER
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { exportOnnx } from '../../../dist/checkpoints/index.js';
import { createModel, modelSchema } from '../../../dist/models/index.js';
import { nameParameters, ParameterArena } from '../../../dist/nn/index.js';

const folder = process.argv[2];
const models = JSON.parse(readFileSync(new URL('models.json', import.meta.url), 'utf8'));
const sizes = { batchSize: 2, sequenceLength: 9, targetLength: 7 };

/** Ids below 23, masks whose second text is three tokens shorter, or states. */
function feed({ name, elementType, shape }, states) {
  const length = shape.reduce((a, b) => a * b, 1);
  const short = length - 3;
  if (elementType === 'FLOAT') return states;
  return Array.from({ length }, (_, i) => (name === 'input_ids' ? (i * 7 + 3) % 23 : Number(i < short)));
}

const samples = {};
for (const [name, settings] of Object.entries(models)) {
  const options = { ...modelSchema.parse(settings), vocabSize: 23 };
  const parameters = nameParameters(createModel(options));
  const { views } = ParameterArena.allocate(parameters, 1).initialize(parameters, 1);
  const readParameter = async (parameter, { at } = {}) => {
    const view = views.get(parameter);
    const length = view.length / (at === undefined ? 1 : parameters.get(parameter).shape[0]);
    return view.subarray((at ?? 0) * length, (at ?? 0) * length + length);
  };
  const { graphs } = await exportOnnx({ options, readParameter }, join(folder, name), sizes);
  let states;
  // The encoder comes first.
  for (const file of Object.keys(graphs)) {
    const { inputs } = graphs[file];
    const session = await InferenceSession.create(join(folder, name, file), { logSeverityLevel: 3 });
    const feeds = Object.fromEntries(inputs.map((input) => [input.name, feed(input, states)]));
    const tensors = inputs.map(({ name: each, elementType, shape }) => [
      each,
      elementType === 'FLOAT'
        ? new Tensor('float32', Float32Array.from(feeds[each]), shape)
        : new Tensor('int64', BigInt64Array.from(feeds[each], BigInt), shape),
    ]);
    const [[output, { data }]] = Object.entries(await session.run(Object.fromEntries(tensors)));
    await session.release();
    states = [...data];
    samples[join(name, file)] = { feeds, output, values: states };
  }
}
writeFileSync(join(folder, 'samples.json'), JSON.stringify(samples));
