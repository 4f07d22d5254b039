/**
 * The rate at which threads of this machine read memory: each joins the bits of its own large array by WebAssembly SIMD,
 * eight registers at once, which costs a core next to nothing.
 *
 *   node bench/read-rate.mjs [--threads 2] [--megabytes 768]
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { compileFunctions, FlatMemory, instructions } from '../dist/runtime/index.js';

const SELF = new URL(import.meta.url);

/** Bytes a second of `threads` threads together, the best of `rounds`. Arrays must be larger than every cache. */
export async function measureReadRate({ threads, megabytes = 768, rounds = 10 }) {
  const workers = Array.from(
    { length: threads },
    () => new Worker(SELF, { workerData: { readRate: { megabytes, rounds } } }),
  );
  const answers = () =>
    Promise.all(
      workers.map(
        (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)),
      ),
    );
  await answers();
  const done = answers();
  for (const worker of workers) worker.postMessage('go');
  const times = await done;
  await Promise.all(workers.map((worker) => worker.terminate()));
  const bytes = megabytes * 2 ** 20;
  return Math.max(
    ...times[0].map((_, round) => times.reduce((sum, ms) => sum + (1000 * bytes) / ms[round], 0)),
  );
}

/** Reads all of a memory's bytes from `start` to `end`, both multiples of 256. */
function compileReader(memory) {
  const { get, set, load, or, until, advance, anyTrue } = instructions;
  const registers = [2, 3, 4, 5, 6, 7, 8, 9];
  const reads = Array.from({ length: 16 }, (_, i) => {
    const register = registers[i % registers.length];
    return [...get(register), ...get(0), ...load(16 * i), ...or, ...set(register)];
  }).flat();
  const join = registers.slice(1).flatMap((register) => [...get(register), ...or]);
  const body = [...until(0, 1, [...reads, ...advance(0, 256)]), ...get(registers[0]), ...join, ...anyTrue];
  return compileFunctions(
    { read: { parameters: ['i32', 'i32'], results: ['i32'], locals: registers.map(() => 'v128'), body } },
    memory,
  ).read;
}

if (!isMainThread && workerData?.readRate) {
  const { megabytes, rounds } = workerData.readRate;
  const floats = (megabytes * 2 ** 20) / 4;
  const { memory } = FlatMemory.reserve(floats);
  const bytes = 4 * floats;
  new Float32Array(memory.buffer, 0, floats).fill(0.5);
  const read = compileReader(memory);
  for (let i = 0; i < 20; i++) read(0, bytes >> 4); // until the optimising compiler has it
  parentPort.once('message', () => {
    const times = Array.from({ length: rounds }, () => {
      const began = performance.now();
      read(0, bytes);
      return performance.now() - began;
    });
    parentPort.postMessage(times);
  });
  parentPort.postMessage('ready');
} else if (process.argv[1] === SELF.pathname) {
  const { argument } = await import('./config.mjs');
  const threads = Number(argument('threads', '2'));
  const rate = await measureReadRate({ threads, megabytes: Number(argument('megabytes', '768')) });
  console.log(JSON.stringify({ threads, gigabytesPerSecond: rate / 1e9 }));
}
