/**
 * The Switch (top-1) feed-forward layer in TensorFlow.js, in the ways that its WASM backend can run.
 *
 * Every variant takes `(x, router, w1s, w2s)`: x `[tokens, width]`, router `[width, experts]`, and one pair of
 * matrices `[width, ff]`, `[ff, width]` per expert; it returns the scalar
 * `sum(y * upstream) + balanceWeight * balance`, so that `tf.grads` gives the layer's whole backward pass.
 *
 * - `loop`: dropless; tokens sorted by expert, one matrix product per expert, gradients of the products written
 *   by hand with explicit transposes, because the backend hands only untransposed products to XNNPACK.
 * - `loop-autograd`: the same with the library's own gradient of `matMul`.
 * - `padded`: capacity 1.25; buffers `[experts, capacity, width]` and batched products, the library's gradients.
 */
import * as tf from '@tensorflow/tfjs';

/** Gather of rows whose gradient is another gather (the backend has no kernel for the segment sum that it needs). */
function permute(x, order, inverse) {
  return tf.customGrad((input, save) => {
    // What the gradient reads must be saved: other tensors of the forward pass are freed before it runs.
    save([inverse]);
    return { value: tf.gather(input, order), gradFunc: (dy, [back]) => tf.gather(dy, back) };
  })(x);
}

/** As `permute`, for an index that repeats only where `gradMask` `[rows of x, 1]` is zero. */
function maskedGather(x, index, inverse, gradMask) {
  return tf.customGrad((input, save) => {
    save([inverse, gradMask]);
    return {
      value: tf.gather(input, index),
      gradFunc: (dy, [back, mask]) => tf.mul(tf.gather(dy, back), mask),
    };
  })(x);
}

/** Matrix product whose backward products are untransposed ones of explicitly transposed operands. */
const matMulFastGradient = tf.customGrad((a, b, save) => {
  save([a, b]);
  return {
    value: tf.matMul(a, b),
    gradFunc: (dy, [left, right]) => [tf.matMul(dy, tf.transpose(right)), tf.matMul(tf.transpose(left), dy)],
  };
});

/** Router of Switch Transformers: raw top-1 probability as gate, and the balance loss of its section 2.2. */
function route(x, router, product) {
  const experts = router.shape[1];
  const probs = tf.softmax(product(x, router));
  const expert = tf.argMax(probs, 1);
  // The backend's oneHot writes integer bits whatever dtype is asked of it, so it is cast afterwards.
  const oneHot = tf.cast(tf.oneHot(expert, experts), 'float32');
  const gate = tf.sum(tf.mul(probs, oneHot), 1, true);
  const balance = tf.mul(tf.sum(tf.mul(tf.mean(oneHot, 0), tf.mean(probs, 0))), experts);
  const choice = expert.dataSync();
  const counts = new Int32Array(experts);
  for (const e of choice) counts[e]++;
  return { gate, balance, choice, counts };
}

/** Stable counting sort of tokens by expert: `order[position] = token` and its inverse. */
function sortByExpert(choice, counts) {
  const next = new Int32Array(counts.length);
  for (let e = 1; e < counts.length; e++) next[e] = next[e - 1] + counts[e - 1];
  const order = new Int32Array(choice.length);
  const inverse = new Int32Array(choice.length);
  for (let token = 0; token < choice.length; token++) {
    const position = next[choice[token]]++;
    order[position] = token;
    inverse[token] = position;
  }
  return { order, inverse };
}

function objective(y, balance, upstream, balanceWeight) {
  return tf.add(tf.sum(tf.mul(y, upstream)), tf.mul(balance, balanceWeight));
}

function loop(product, { x, router, w1s, w2s, upstream, balanceWeight }) {
  const { gate, balance, choice, counts } = route(x, router, product);
  const idle = counts.indexOf(0);
  if (idle >= 0) {
    throw new Error(
      `moe-variants.mjs: expert ${idle} received no token, and tf.grads refuses inputs that the result does not ` +
        'depend on. Use another seed or more tokens.',
    );
  }
  const { order, inverse } = sortByExpert(choice, counts);
  const toRows = tf.tensor1d(order, 'int32');
  const toTokens = tf.tensor1d(inverse, 'int32');
  const parts = tf.split(permute(x, toRows, toTokens), Array.from(counts), 0);
  const out = parts.map((part, e) => product(tf.relu(product(part, w1s[e])), w2s[e]));
  const y = tf.mul(permute(tf.concat(out, 0), toTokens, toRows), gate);
  return objective(y, balance, upstream, balanceWeight);
}

function padded({ x, router, w1s, w2s, upstream, balanceWeight, capacityFactor }) {
  const [tokens, width] = x.shape;
  const experts = router.shape[1];
  const { gate, balance, choice, counts } = route(x, router, tf.matMul);
  const { order, inverse } = sortByExpert(choice, counts);
  const capacity = Math.ceil((tokens / experts) * capacityFactor);
  const tokenOfSlot = new Int32Array(experts * capacity);
  const slotUsed = new Float32Array(experts * capacity);
  const slotOfToken = new Int32Array(tokens);
  const kept = new Float32Array(tokens);
  for (let e = 0, start = 0; e < experts; start += counts[e++]) {
    for (let lane = 0; lane < Math.min(capacity, counts[e]); lane++) {
      tokenOfSlot[e * capacity + lane] = order[start + lane];
      slotUsed[e * capacity + lane] = 1;
    }
    for (let i = start; i < start + counts[e]; i++) {
      const lane = inverse[order[i]] - start;
      slotOfToken[order[i]] = e * capacity + Math.min(lane, capacity - 1);
      kept[order[i]] = lane < capacity ? 1 : 0;
    }
  }
  const toSlots = tf.tensor1d(tokenOfSlot, 'int32');
  const toTokens = tf.tensor1d(slotOfToken, 'int32');
  const keep = tf.tensor2d(kept, [tokens, 1]);
  const rows = maskedGather(x, toSlots, toTokens, keep).reshape([experts, capacity, width]);
  const hidden = tf.relu(tf.matMul(rows, tf.stack(w1s)));
  const out = tf.matMul(hidden, tf.stack(w2s)).reshape([experts * capacity, width]);
  const used = tf.tensor2d(slotUsed, [experts * capacity, 1]);
  const y = tf.mul(maskedGather(out, toTokens, toSlots, used), tf.mul(gate, keep));
  return objective(y, balance, upstream, balanceWeight);
}

/** Name -> function of one object `{ x, router, w1s, w2s, upstream, balanceWeight, capacityFactor }`. */
export const VARIANTS = {
  loop: (inputs) => loop(matMulFastGradient, inputs),
  'loop-autograd': (inputs) => loop(tf.matMul, inputs),
  padded,
};

/** Deterministic standard normal values (mulberry32 and Box-Muller). */
export function normals(count, seed, scale = 1) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    values[i] = scale * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }
  return values;
}

/** Tensors of one layer with weights at scale 1 / sqrt(fan in). */
export function makeInputs({ tokens, width, ff, experts, seed, capacityFactor = 1.25 }) {
  const matrix = (rows, columns, offset, scale) =>
    tf.tensor2d(normals(rows * columns, seed * 1000 + offset, scale), [rows, columns]);
  const each = (make) => Array.from({ length: experts }, (_, e) => make(e));
  return {
    x: matrix(tokens, width, 1, 1),
    upstream: matrix(tokens, width, 2, 1 / tokens),
    router: matrix(width, experts, 3, width ** -0.5),
    w1s: each((e) => matrix(width, ff, 10 + 2 * e, width ** -0.5)),
    w2s: each((e) => matrix(ff, width, 11 + 2 * e, ff ** -0.5)),
    balanceWeight: 0.01,
    capacityFactor,
  };
}

/** Loss and gradients `[x, router, ...w1s, ...w2s]` of a variant. The caller disposes of them. */
export function lossAndGradients(variant, inputs) {
  const experts = inputs.w1s.length;
  const leaves = [inputs.x, inputs.router, ...inputs.w1s, ...inputs.w2s];
  return tf.valueAndGrads((x, router, ...weights) =>
    VARIANTS[variant]({
      ...inputs,
      x,
      router,
      w1s: weights.slice(0, experts),
      w2s: weights.slice(experts),
    }),
  )(leaves);
}

/** The objective alone, for the time of the forward pass. */
export function lossOnly(variant, inputs) {
  return tf.tidy(() => VARIANTS[variant](inputs));
}
