/**
 * The model that is measured: the shape of Switch-base-128's encoder with a classifier's head, weights made up, every expert
 * in one aligned piece of the files (as `switchyard import --pack` writes them).
 */
import { existsSync, rmSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownModelType, saveTensors } from '../../dist/checkpoints/index.js';
import { createModel, modelSchema } from '../../dist/models/index.js';
import { expertBanks, expertParameters } from '../../dist/serve/index.js';

/** Of 14.5 GB, and of 13 MB. */
export const sizes = {
  whole: { hiddenSize: 768, intermediateSize: 3072, numHeads: 12, numEncoderLayers: 12, numExperts: 128 },
  small: { hiddenSize: 64, intermediateSize: 128, numHeads: 4, numEncoderLayers: 6, numExperts: 64 },
};

/** Options of the model of a size. */
export function modelOptions({ numExperts, ...size }) {
  return modelSchema.parse({
    kind: 'classifier',
    ...size,
    vocabSize: 4096,
    contextLength: 512,
    attentionScale: 1,
    numLabels: 2,
    head: 'encoderMean',
    sparse: {
      kind: 'experts',
      every: 2,
      numExperts,
      topK: 1,
      router: { kind: 'softmax' },
      dispatch: { kind: 'capacity' },
    },
  });
}

/** Small numbers, as fast as memory. */
function fill(into, seed, scale) {
  let state = (Math.imul(seed, 2654435761) + 12345) | 1;
  for (let i = 0; i < into.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    into[i] = (state / 2 ** 31) * scale;
  }
}

/**
 * Writes the model folder, unless it is there.
 * @returns seconds that it took.
 */
export async function generate(folder, size, say = () => undefined) {
  if (existsSync(join(folder, 'config.json'))) return 0;
  const began = performance.now();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const options = modelOptions(size);
  // One block of numbers for all experts: what is measured is how they move, and no file system here looks for copies.
  const block = new Float32Array(size.hiddenSize * size.intermediateSize);
  fill(block, 1, 1 / Math.sqrt(size.hiddenSize));
  const layers = expertBanks(options, true);
  const groups = layers.flatMap(({ name, numExperts, parameters }) =>
    Array.from({ length: numExperts }, (_, expert) =>
      Object.entries(parameters).map(([parameter, shape]) => ({
        ...{ name: `${name}.${expert}.${parameter}.weight`, dtype: 'F32', shape },
        data: () => block,
      })),
    ),
  );
  const own = expertParameters({ layers });
  const others = [...createModel(options).parameters()].filter(([name]) => !own.has(name));
  const ordinary = others.map(([name, { shape, size: length }], index) => ({
    ...{ name, dtype: 'F32', shape },
    data: () => {
      const numbers = new Float32Array(length);
      if (/norm/i.test(name)) numbers.fill(1);
      else fill(numbers, index, 1 / Math.sqrt(shape[0]));
      return numbers;
    },
  }));
  let told = 0;
  await saveTensors(folder, ordinary, {
    groups,
    onProgress: ({ bytes, totalBytes }) => {
      if (bytes - told < 1e9) return;
      told = bytes;
      say(`written ${(bytes / 1e9).toFixed(0)} of ${(totalBytes / 1e9).toFixed(1)} GB`);
    },
  });
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ model_type: ownModelType(options.kind), ...options }),
  );
  return (performance.now() - began) / 1000;
}
