/**
 * One JSON line: milliseconds a token of a GGUF file in llama.cpp through node-llama-cpp, greedy, one text.
 *
 *   node bench/peers/decode/llama.mjs FILE.gguf --llama FOLDER [--tokens 32] [--threads 2]
 *
 * FOLDER is where `npm install --ignore-scripts node-llama-cpp` was run; its prebuilt llama.cpp is used.
 */
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { argument, quantiles } from '../../config.mjs';

const require = createRequire(resolve(argument('llama', '.'), 'package.json'));
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(require.resolve('node-llama-cpp')));
const threads = Number(argument('threads', '2'));
const tokens = Number(argument('tokens', '32'));
const prompt = Number(argument('prompt', '16'));

const llama = await getLlama({
  gpu: false,
  build: 'never',
  maxThreads: threads,
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: process.argv[2], gpuLayers: 0, useMmap: false });
const context = await model.createContext({ contextSize: 512, threads, sequences: 1, flashAttention: true });
const sequence = context.getSequence();
const ids = Array.from({ length: prompt }, (_, i) => (31 * i + 7) % 8192);
const times = [];
let last;
for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
  void token;
  const now = performance.now();
  if (last !== undefined) times.push(now - last);
  last = now;
  if (times.length === tokens) break;
}
console.log(
  JSON.stringify({ ...quantiles(times), release: llama.llamaCppRelease, threads: context.currentThreads }),
);
process.exit();
