/**
 * One process, one JSON line: tokens a second with the cache, with the whole window computed for every token, and the floor
 * that memory sets: the bytes of the weights that a token needs, at the rate at which this machine reads memory.
 *
 *   node bench/generate.mjs [--tokens 48] [--threads 2] [--layers 4]
 */
import { input, matmul, max } from '../dist/graph/index.js';
import { CachedWriter, Generator, Programs, WindowWriter } from '../dist/decode/index.js';
import { LanguageModel, languageModelSchema, sizeOfModel } from '../dist/models/index.js';
import { nameParameters, RandomStream } from '../dist/nn/index.js';
import { compile } from '../dist/runtime/index.js';
import { argument, quantiles } from './config.mjs';

const threads = Number(argument('threads', '2'));
const tokens = Number(argument('tokens', '48'));
const numLayers = Number(argument('layers', '4'));
const promptLength = 32;
const windowTokens = 4;

/** 8 SwiGLU experts of 1024 × 2048 a layer, 2 a token; about 0.9 GB in 4 layers. */
const model = new LanguageModel(
  languageModelSchema.parse({
    vocabSize: 8192,
    hiddenSize: 1024,
    numLayers,
    numHeads: 16,
    numKeyValueHeads: 4,
    intermediateSize: 2048,
    contextLength: 256,
    activation: 'swiglu',
    sparse: { numExperts: 8, topK: 2 },
  }),
);
const random = new RandomStream(1);
const noise = Float32Array.from({ length: 4096 }, () => 0.06 * (random.uniform() - 0.5));
const weights = new Map(
  [...nameParameters(model)].map(([name, { size, shape }]) => {
    const values = new Float32Array(size);
    for (let at = 0; at < size; at += noise.length) values.set(noise.subarray(0, size - at), at);
    return [name, shape.length === 1 ? values.fill(1) : values];
  }),
);

/** Milliseconds of every token after the first, whose pass reads the prompt and whose programs are compiled before. */
async function measure(writer, count, batch = 1) {
  const generator = new Generator(writer);
  const prompts = Array.from({ length: batch }, (_, text) =>
    Array.from({ length: promptLength }, (__, i) => (31 * i + 977 * text) % 8192),
  );
  const options = { maxTokens: count, temperature: 0, topK: 0, topP: 1, seed: 1 };
  await generator.complete(prompts, { ...options, maxTokens: 2 });
  const times = [];
  let began;
  for await (const { kind, index } of generator.stream(prompts, options)) {
    if (kind !== 'token' || index !== batch - 1) continue;
    const now = performance.now();
    if (began !== undefined) times.push(now - began);
    began = now;
  }
  await generator.release();
  const { minMs, medianMs } = quantiles(times);
  return { minMs, medianMs, tokensPerSecond: (1000 * batch) / medianMs };
}

/** Bytes a second that two operators read of one large array; the better of the two. */
async function memoryRate() {
  const [rows, columns] = [65536, 1024];
  const large = input('large', 'float32', [rows, columns]);
  const row = input('row', 'float32', [1, columns]);
  const programs = [
    await compile({ y: max(large, 1) }, { threads }),
    await compile({ y: matmul(row, large, { transposeB: true }) }, { threads }),
  ];
  const data = new Float32Array(rows * columns).fill(0.5);
  let best = 0;
  for (const program of programs) {
    program.bindKnown([
      ['large', data],
      ['row', new Float32Array(columns)],
    ]);
    for (let i = 0; i < 5; i++) {
      const began = performance.now();
      await program.run();
      best = Math.max(best, (1000 * data.byteLength) / (performance.now() - began));
    }
    await program.release();
  }
  return best;
}

const before = await memoryRate();
const cached = await measure(new CachedWriter(model, new Programs(weights, { threads })), tokens);
const batch = await measure(new CachedWriter(model, new Programs(weights, { threads })), tokens, 8);
const window = await measure(new WindowWriter(model, new Programs(weights, { threads })), windowTokens + 1);
// Others may have been at work: the better of two rates is the memory's own.
const bytesPerSecond = Math.max(before, await memoryRate());
const activeBytes = 4 * sizeOfModel(model).activeParameters;
process.stdout.write(
  `${JSON.stringify({
    threads,
    numLayers,
    parameters: sizeOfModel(model).parameters,
    activeBytes,
    bytesPerSecond,
    floorMs: (1000 * activeBytes) / bytesPerSecond,
    cached,
    batch8: batch,
    window,
    cachedOverFloor: (cached.medianMs * bytesPerSecond) / (1000 * activeBytes),
    windowOverCached: window.medianMs / cached.medianMs,
    rssBytes: process.memoryUsage().rss,
  })}\n`,
);
