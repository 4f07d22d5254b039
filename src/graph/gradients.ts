/**
 * Reverse-mode differentiation: walks the graph backwards and adds the gradient graph, made of ordinary operators.
 * @module
 */
import { applyOne, type Operator } from './operator.js';
import { add } from './operators/arithmetic.js';
import { fill, zerosLike } from './operators/shape.js';
import { ShapeError, isFloat, sameShape, type Node, type Tensor } from './tensor.js';
import { dependents, topologicalOrder } from './traverse.js';

/** Settings of {@link gradients}. */
export interface GradientOptions {
  /** Gradient that arrives at each output; 1 for a scalar output when absent. */
  readonly seeds?: readonly Tensor[];
  /** Tensors at which the walk stops although something lies behind them (captured values of a scan body). */
  readonly stopAt?: ReadonlySet<Tensor>;
}

/**
 * Gradients of `outputs` (summed) with respect to `sources`, one tensor per source and of its shape and dtype.
 * A source that the outputs do not depend on gets zeros.
 *
 * @param outputs the loss, or several tensors with `seeds`.
 * @param sources leaves or intermediate tensors, all floating point.
 * @throws ShapeError if an output without a seed is not a scalar, a seed does not have its output's type, or an output
 *   or source is not floating point.
 * @throws Error if the path crosses an operator that has no gradient.
 * @example
 * const [weightGradient] = gradients(loss, [weight]);
 */
export function gradients(
  outputs: Tensor | readonly Tensor[],
  sources: readonly Tensor[],
  options: GradientOptions = {},
): Tensor[] {
  const targets = Array.isArray(outputs) ? (outputs as readonly Tensor[]) : [outputs as Tensor];
  for (const source of sources) {
    if (!isFloat(source.dtype)) throw new ShapeError(`gradients: ${source.toString()} is not floating point`);
  }
  const arrived = new Map<Tensor, Tensor>();
  const accumulate = (tensor: Tensor, gradient: Tensor): void => {
    if (!sameShape(tensor.shape, gradient.shape) || tensor.dtype !== gradient.dtype) {
      throw new ShapeError(
        `gradients: ${tensor.node.operator.name} makes ${tensor.toString()} but its gradient is ${gradient.toString()}`,
      );
    }
    const before = arrived.get(tensor);
    arrived.set(tensor, before ? add(before, gradient) : gradient);
  };
  if (options.seeds && options.seeds.length !== targets.length) {
    throw new ShapeError(`gradients: ${options.seeds.length} seeds for ${targets.length} outputs`);
  }
  targets.forEach((target, i) => {
    if (!isFloat(target.dtype)) {
      throw new ShapeError(`gradients: output ${target.toString()} is not floating point`);
    }
    const seed = options.seeds?.[i];
    if (!seed && target.rank !== 0) {
      throw new ShapeError(`gradients: output ${target.toString()} is not a scalar; give its seed`);
    }
    accumulate(target, seed ?? fill(target.dtype, [], 1));
  });

  const order = topologicalOrder(targets, options.stopAt);
  const relevant = dependents(order, new Set(sources));
  for (let i = order.length - 1; i >= 0; i--) {
    const node = order[i];
    if (relevant.has(node)) propagate(node, arrived, accumulate, options.stopAt);
  }
  return sources.map((source) => arrived.get(source) ?? zerosLike(source));
}

function propagate(
  node: Node,
  arrived: ReadonlyMap<Tensor, Tensor>,
  accumulate: (tensor: Tensor, gradient: Tensor) => void,
  stopAt: ReadonlySet<Tensor> | undefined,
): void {
  const outputGradients = node.outputs.map((output) =>
    stopAt?.has(output) ? undefined : arrived.get(output),
  );
  if (outputGradients.every((gradient) => gradient === undefined)) return;
  const { gradient } = node.operator;
  if (!gradient)
    throw new Error(`gradients: operator '${node.operator.name}' has no gradient; use stopGradient`);
  gradient(outputGradients, node).forEach((inputGradient, i) => {
    const tensor = node.inputs[i];
    if (inputGradient && isFloat(tensor.dtype)) accumulate(tensor, inputGradient);
  });
}

const stopGradientOperator: Operator = { name: 'stopGradient', alias: true, gradient: () => [undefined] };

/** The same numbers, treated as a constant by {@link gradients}. */
export function stopGradient(tensor: Tensor): Tensor {
  return applyOne(stopGradientOperator, [tensor], tensor);
}

const customGradientOperator: Operator = {
  name: 'customGradient',
  alias: true,
  gradient: ([outputGradient], node) => {
    const { rule } = node.attributes as { rule: CustomGradient };
    return [undefined, ...rule(outputGradient!)];
  },
};

/** From the gradient of the output to those of the listed inputs. */
export type CustomGradient = (outputGradient: Tensor) => readonly (Tensor | undefined)[];

/**
 * Gives `output` a gradient of your own: `rule` replaces differentiation of everything between `inputs` and `output`.
 *
 * @example
 * // A clipped identity: forward x, backward g limited to ±1.
 * const y = customGradient(x, [x], (g) => [minimum(maximum(g, -1), 1)]);
 */
export function customGradient(output: Tensor, inputs: readonly Tensor[], rule: CustomGradient): Tensor {
  return applyOne(customGradientOperator, [output, ...inputs], output, { rule });
}
