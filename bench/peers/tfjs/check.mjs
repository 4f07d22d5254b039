/**
 * Checks that every TensorFlow.js variant computes the layer it claims, gradients included; exits with 1 if not.
 *
 * The reference sends every token through every expert and masks, with nothing but the library's own gradients, on
 * its plain JavaScript backend.
 *
 *   node bench/peers/tfjs/check.mjs
 */
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import { VARIANTS, lossAndGradients, makeInputs } from './moe-variants.mjs';

const TOLERANCE = 1e-4;
const EXPERTS = 4;

/** Tensors belong to the backend that made them, so each backend makes the same ones anew from the seed. */
const inputsHere = () =>
  makeInputs({ tokens: 96, width: 16, ff: 24, experts: EXPERTS, seed: 3, capacityFactor: EXPERTS });

function reference() {
  const inputs = inputsHere();
  const leaves = [inputs.x, inputs.router, ...inputs.w1s, ...inputs.w2s];
  const { value, grads } = tf.valueAndGrads((x, router, ...weights) => {
    const probs = tf.softmax(tf.matMul(x, router));
    const oneHot = tf.oneHot(tf.argMax(probs, 1), EXPERTS, 1, 0, 'float32');
    const chosen = tf.mul(probs, oneHot);
    let y = tf.zerosLike(x);
    for (let e = 0; e < EXPERTS; e++) {
      const out = tf.matMul(tf.relu(tf.matMul(x, weights[e])), weights[EXPERTS + e]);
      y = tf.add(y, tf.mul(out, tf.slice(chosen, [0, e], [-1, 1])));
    }
    const balance = tf.mul(tf.sum(tf.mul(tf.mean(oneHot, 0), tf.mean(probs, 0))), EXPERTS);
    return tf.add(tf.sum(tf.mul(y, inputs.upstream)), tf.mul(balance, inputs.balanceWeight));
  })(leaves);
  return [value, ...grads].map((tensor) => tensor.dataSync());
}

await tf.setBackend('cpu');
const want = reference();
await tf.setBackend('wasm');
for (const variant of Object.keys(VARIANTS)) {
  const { value, grads } = lossAndGradients(variant, inputsHere());
  const errors = [value, ...grads].map((tensor, i) => {
    const got = tensor.dataSync();
    const distance = Math.hypot(...got.map((each, j) => each - want[i][j]));
    return distance / Math.hypot(...want[i]);
  });
  const worst = Math.max(...errors);
  const agrees = worst <= TOLERANCE;
  console.log(
    `${variant.padEnd(16)} largest relative error ${worst.toExponential(1)}${agrees ? '' : '  DIFFERS'}`,
  );
  if (!agrees) process.exitCode = 1;
}
