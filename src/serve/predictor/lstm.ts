/**
 * A uni-directional LSTM layer on the differentiable scan.
 * @module
 */
import {
  add,
  concat,
  customGradient,
  fill,
  matmul,
  multiply,
  reshape,
  scan,
  sigmoid,
  slice,
  split,
  stopGradient,
  subtract,
  tanh,
  type Tensor,
} from '../../graph/index.js';
import { applyWeight, Module, Parameter, uniform } from '../../nn/index.js';

/**
 * `i, f, g, o = W x + U h + b`; `c ← σ(f) c + σ(i) tanh(g)`; `h ← σ(o) tanh(c)`, from zeros. Weights lie and start as
 * PyTorch's do (gates in the order i, f, g, o, uniform in ±1/√hiddenSize), with one bias instead of two that are added.
 */
export class Lstm extends Module {
  /** `[4 · hiddenSize, inSize]` */
  readonly input: Parameter;
  /** `[4 · hiddenSize, hiddenSize]` */
  readonly recurrent: Parameter;
  readonly bias: Parameter;

  constructor(
    inSize: number,
    readonly hiddenSize: number,
  ) {
    super();
    const start = uniform(1 / Math.sqrt(hiddenSize));
    this.input = new Parameter([4 * hiddenSize, inSize], start);
    this.recurrent = new Parameter([4 * hiddenSize, hiddenSize], start);
    this.bias = new Parameter([4 * hiddenSize], start);
  }

  /** `[time, batch, inSize]` → `[time, batch, hiddenSize]` */
  forward(x: Tensor): Tensor {
    return recur(add(applyWeight(x, this.input.tensor), this.bias.tensor), this.recurrent.tensor);
  }

  /**
   * One step: `[batch, inSize]` and the state before → the state after. The output is the new `hidden`.
   */
  step(x: Tensor, { hidden, cell }: LstmState): LstmState {
    const projected = add(applyWeight(x, this.input.tensor), this.bias.tensor);
    const gates = gatesOf(projected, hidden, this.recurrent.tensor);
    return nextState(gates, cell);
  }
}

/** What an LSTM remembers, each `[batch, hiddenSize]`. */
export interface LstmState {
  readonly hidden: Tensor;
  readonly cell: Tensor;
}

/** Input, forget, candidate and output gates. */
type Gates = readonly [input: Tensor, forget: Tensor, candidate: Tensor, output: Tensor];

function gatesOf(projected: Tensor, hidden: Tensor, recurrent: Tensor): Gates {
  const size = recurrent.shape[1] as number;
  const sums = add(projected, matmul(hidden, recurrent, { transposeB: true }));
  const [i, f, g, o] = split(sums, [size, size, size, size], -1);
  return [sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)];
}

function nextState([i, f, g, o]: Gates, cell: Tensor): LstmState {
  const next = add(multiply(f, cell), multiply(i, g));
  return { hidden: multiply(o, tanh(next)), cell: next };
}

/**
 * The recurrence over `[time, batch, 4 · hiddenSize]`. Its gradient keeps out of the backward loop what needs no order:
 * slopes are computed over all steps at once, and the recurrent weight's gradient is one product over all steps, where
 * differentiating the loop would add up a whole matrix at every step.
 */
function recur(projected: Tensor, recurrent: Tensor): Tensor {
  const [time, batch] = projected.shape as [number, number];
  const size = recurrent.shape[1] as number;
  const { dtype } = projected;
  const weight = stopGradient(recurrent);
  const zero = fill(dtype, [batch, size], 0);
  const { outputs } = scan(
    ([hidden, cell], [x]) => {
      const gates = gatesOf(x, hidden, weight);
      const next = nextState(gates, cell);
      return { carry: [next.hidden, next.cell], outputs: [next.hidden, next.cell, ...gates] };
    },
    [zero, zero],
    [stopGradient(projected)],
  );
  const [states, cells, i, f, g, o] = outputs;
  const shifted = (x: Tensor): Tensor => {
    const first = fill(dtype, [1, batch, size], 0);
    return time === 1 ? first : concat([first, slice(x, 0, 0, time - 1)], 0);
  };
  return customGradient(states, [projected, recurrent], (gradient) => {
    const squashed = tanh(cells);
    const ofSigmoid = (y: Tensor): Tensor => multiply(y, subtract(1, y));
    const slopes = [
      multiply(g, ofSigmoid(i)),
      multiply(shifted(cells), ofSigmoid(f)),
      multiply(i, subtract(1, multiply(g, g))),
      multiply(squashed, ofSigmoid(o)),
      multiply(o, subtract(1, multiply(squashed, squashed))),
    ];
    const backward = scan(
      ([onHidden, onCell], [arriving, forget, ofI, ofF, ofG, ofO, ofCell]) => {
        const hidden = add(onHidden, arriving);
        const cell = add(onCell, multiply(hidden, ofCell));
        const sums = concat(
          [multiply(cell, ofI), multiply(cell, ofF), multiply(cell, ofG), multiply(hidden, ofO)],
          1,
        );
        return { carry: [matmul(sums, weight), multiply(cell, forget)], outputs: [sums] };
      },
      [zero, zero],
      [gradient, f, ...slopes],
      { reverse: true },
    );
    const [sums] = backward.outputs;
    const rows = [time * batch, -1];
    const onWeight = matmul(reshape(sums, rows), reshape(shifted(states), rows), { transposeA: true });
    return [sums, onWeight];
  });
}
