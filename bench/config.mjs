/** The benchmark's model and data: the same work as the peers in bench/peers. */
import { readFileSync } from 'node:fs';
import { languageModelSchema } from '../dist/models/index.js';

// Every benchmark says what it measures and what it takes in its first comment.
if (process.argv.includes('--help')) {
  const [comment] = /\/\*\*.*?\*\//s.exec(readFileSync(process.argv[1], 'utf8'));
  console.log(comment.replace(/^\/\*\* ?\n?|\s*\*\/$/g, '').replace(/^ \* ?/gm, ''));
  process.exit();
}

/** 16 sequences of 256 tokens, width 256, 4 sparse layers of 16 ReLU experts of width 1024, 8 heads, vocabulary 256. */
export const shape = { batchSize: 16, contextLength: 256 };
export const tokens = shape.batchSize * shape.contextLength;
export const sizes = { hiddenSize: 256, intermediateSize: 1024, numExperts: 16, numLayers: 4 };

export const modelOptions = languageModelSchema.parse({
  vocabSize: 256,
  hiddenSize: sizes.hiddenSize,
  numLayers: sizes.numLayers,
  numHeads: 8,
  intermediateSize: sizes.intermediateSize,
  contextLength: shape.contextLength,
  sparse: { numExperts: sizes.numExperts },
});

/** Random tokens, eight batches in turn. */
export function randomBatches() {
  const arrays = Array.from({ length: 8 }, (_, n) => {
    const ids = Int32Array.from(
      { length: tokens },
      (_, i) => Math.imul(i + n * tokens + 1, 0x9e3779b1) >>> 24,
    );
    return {
      tokens: ids,
      targets: Int32Array.from(ids, (_, i) => ids[(i + 1) % tokens]),
      mask: new Uint8Array(tokens).fill(1),
    };
  });
  let step = 0;
  return { ...shape, next: () => arrays[step++ % arrays.length], state: () => ({}), restore() {} };
}

/** Lowest, median and 90th percentile. */
export function quantiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  return { minMs: at(0), medianMs: at(0.5), p90Ms: at(0.9) };
}

/** Value of `--name` in a command line. */
export function argument(name, fallback) {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
}
