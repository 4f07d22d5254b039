/**
 * Times the MoE layer, forward and backward, in TensorFlow.js with its WASM backend; prints JSON or lines.
 *
 * The backend runs on one thread in Node: it switches its threads off there (tensorflow/tfjs#3830), and forced on they
 * fail to start, because its workers come from a `blob:` URL that `worker_threads` does not take.
 *
 *   node bench/peers/tfjs/moe-layer.mjs --variant loop --warmup 2 --repeats 10 --json
 */
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import { parseArgs } from 'node:util';
import { VARIANTS, lossAndGradients, lossOnly, makeInputs } from './moe-variants.mjs';

const FASTEST = 'loop';
const SIZES = { tokens: 4096, width: 256, ff: 1024, experts: 16 };

function options() {
  const { values } = parseArgs({
    options: {
      variant: { type: 'string', default: FASTEST },
      warmup: { type: 'string', default: '2' },
      repeats: { type: 'string', default: '10' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  });
  if (!Object.hasOwn(VARIANTS, values.variant)) {
    throw new Error(`--variant must be one of ${Object.keys(VARIANTS).join(', ')}, not '${values.variant}'`);
  }
  const whole = (name, least) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least) {
      throw new Error(`--${name} must be a whole number of at least ${least}, not '${values[name]}'`);
    }
    return value;
  };
  return {
    variant: values.variant,
    warmup: whole('warmup', 1),
    repeats: whole('repeats', 1),
    seed: whole('seed', 0),
    json: values.json,
  };
}

const milliseconds = (work) => {
  const start = performance.now();
  work();
  return performance.now() - start;
};

/** Quantile by the nearest rank; the median of an even count is the mean of its middle two. */
function quantile(values, fraction) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = fraction * (sorted.length - 1);
  if (fraction === 0.5) return (sorted[Math.floor(place)] + sorted[Math.ceil(place)]) / 2;
  return sorted[Math.round(place)];
}

/** The best GFLOP/s of one matrix product over some runs. */
function bestRate(rows, inner, columns, runs) {
  const a = tf.randomNormal([rows, inner], 0, 1, 'float32', 1);
  const b = tf.randomNormal([inner, columns], 0, 1, 'float32', 2);
  let best = Infinity;
  for (let i = 0; i < runs; i++) {
    best = Math.min(
      best,
      milliseconds(() => tf.matMul(a, b).dispose()),
    );
  }
  tf.dispose([a, b]);
  return Number(((2 * rows * inner * columns) / best / 1e6).toFixed(1));
}

function phases(variant, inputs) {
  // TensorFlow.js runs both passes in one call; the forward time is taken in a call of its own.
  const forward = milliseconds(() => lossOnly(variant, inputs).dispose());
  let results;
  const total = milliseconds(() => {
    results = lossAndGradients(variant, inputs);
  });
  tf.dispose([results.value, ...results.grads]);
  return { forward, total };
}

async function main() {
  const args = options();
  if (!(await tf.setBackend('wasm'))) throw new Error('the WASM backend of TensorFlow.js did not start');
  await tf.ready();
  const inputs = makeInputs({ ...SIZES, seed: args.seed });
  for (let i = 0; i < args.warmup; i++) phases(args.variant, inputs);
  const timed = Array.from({ length: args.repeats }, () => phases(args.variant, inputs));
  const totals = timed.map((each) => each.total);
  const median = quantile(totals, 0.5);
  const forward = quantile(
    timed.map((each) => each.forward),
    0.5,
  );
  const result = {
    peer: 'tfjs-wasm',
    what: 'layer',
    variant: args.variant,
    threads: 1,
    simd: await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT'),
    warmup: args.warmup,
    repeats: args.repeats,
    medianMs: Number(median.toFixed(3)),
    minMs: Number(Math.min(...totals).toFixed(3)),
    p90Ms: Number(quantile(totals, 0.9).toFixed(3)),
    tokensPerSecond: Math.round((SIZES.tokens / median) * 1000),
    forwardMs: Number(forward.toFixed(3)),
    backwardMs: Number((median - forward).toFixed(3)),
    optimizerMs: null,
    matmulGflops: {
      oneExpert: bestRate(SIZES.tokens / SIZES.experts, SIZES.width, SIZES.ff, 20),
      expertShape: bestRate(SIZES.ff, SIZES.width, SIZES.ff, 20),
      square2048: bestRate(2048, 2048, 2048, 2),
    },
    tfjsVersion: tf.version['tfjs-core'],
    nodeVersion: process.version,
  };
  if (args.json) console.log(JSON.stringify(result));
  else for (const [key, value] of Object.entries(result)) console.log(key.padEnd(20), value);
}

try {
  await main();
} catch (error) {
  console.error(`moe-layer.mjs: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
