/**
 * A differentiable loop over time: the engine's only control flow (LSTM, CTC).
 * @module
 */
import { gradients } from '../gradients.js';
import { input } from '../leaf.js';
import { apply, type Operator } from '../operator.js';
import { ShapeError, isFloat, sameShape, type Node, type Tensor } from '../tensor.js';
import { dependents, topologicalOrder } from '../traverse.js';
import { add } from './arithmetic.js';
import { fill, zerosLike } from './shape.js';

/** The loop body, traced once: placeholders in, results out, and the outer tensors it reads. */
interface Body {
  readonly carryIn: readonly Tensor[];
  readonly stepIn: readonly Tensor[];
  readonly carryOut: readonly Tensor[];
  readonly stepOut: readonly Tensor[];
  readonly captured: readonly Tensor[];
}

interface Settings extends Record<string, unknown> {
  readonly body: Body;
  readonly reverse: boolean;
}

const scanOperator: Operator = {
  name: 'scan',
  unique: true,
  dims: ({ attributes }) => {
    const { carryIn, stepIn, carryOut, stepOut, captured } = (attributes as Settings).body;
    const given = new Set([...carryIn, ...stepIn, ...captured]);
    return topologicalOrder([...carryOut, ...stepOut], given).flatMap(
      (node) => node.operator.dims?.(node) ?? [],
    );
  },
  lower: ({ emit, subgraph, inputs, outputs, node }) => {
    const { body, reverse } = node.attributes as Settings;
    const carries = body.carryIn.length;
    const steps = body.stepIn.length;
    const outer = new Map(body.captured.map((tensor, i) => [tensor, inputs[carries + steps + i]]));
    const readsHistory = outputs.slice(outputs.length - carries).some((name) => name !== '');
    const history = readsHistory ? body.carryIn : [];
    const graph = subgraph({
      name: 'scan',
      inputs: [...body.carryIn, ...body.stepIn],
      outputs: [...body.carryOut, ...body.stepOut, ...history],
      outer,
    });
    const named = outputs
      .slice(0, carries + body.stepOut.length + history.length)
      .map((name, i) => name || `${outputs.find((other) => other !== '')!}/unused${i}`);
    const direction = Number(reverse);
    emit(
      'Scan',
      inputs.slice(0, carries + steps),
      {
        body: { graph },
        num_scan_inputs: steps,
        scan_input_directions: new Array<number>(steps).fill(direction),
        scan_output_directions: new Array<number>(named.length - carries).fill(direction),
      },
      { outputs: named },
    );
  },
  gradient: differentiate,
};

/** The backward loop: runs in the other direction, recomputes each step from its saved carry, and adds up captures. */
function differentiate(outputGradients: readonly (Tensor | undefined)[], node: Node): (Tensor | undefined)[] {
  const { body, reverse } = node.attributes as Settings;
  const carries = body.carryIn.length;
  const steps = body.stepIn.length;
  const history = node.outputs.slice(node.outputs.length - carries);
  const stepInputs = node.inputs.slice(carries, carries + steps);
  const captured = body.captured.filter((tensor) => isFloat(tensor.dtype));
  const floatCarry = body.carryIn
    .map((tensor, i) => [tensor, i] as const)
    .filter(([tensor]) => isFloat(tensor.dtype));
  // The saved carries are outputs too: second derivatives reach the first backward loop through them.
  const differentiated = [...body.stepOut, ...body.carryIn]
    .map((tensor, i) => [tensor, outputGradients[carries + i]] as const)
    .filter(([tensor, gradient]) => isFloat(tensor.dtype) && gradient !== undefined);

  const carryGradient = floatCarry.map(([tensor, i]) =>
    input(`carryGradient${i}`, tensor.dtype, tensor.shape),
  );
  const outGradient = differentiated.map(([tensor], i) =>
    input(`stepGradient${i}`, tensor.dtype, tensor.shape),
  );
  const captureSum = captured.map((tensor, i) => input(`captureGradient${i}`, tensor.dtype, tensor.shape));
  const sources = [
    ...floatCarry.map(([tensor]) => tensor),
    ...body.stepIn.filter((t) => isFloat(t.dtype)),
    ...captured,
  ];
  const stepGradients = gradients(
    [...floatCarry.map(([, i]) => body.carryOut[i]), ...differentiated.map(([tensor]) => tensor)],
    sources,
    {
      seeds: [...carryGradient, ...outGradient],
      stopAt: new Set([...body.carryIn, ...body.stepIn, ...body.captured]),
    },
  );
  const forStep = stepGradients.slice(floatCarry.length, sources.length - captured.length);
  const forCapture = stepGradients.slice(sources.length - captured.length);

  const backward = closeOver({
    carryIn: [...carryGradient, ...captureSum],
    stepIn: [...body.carryIn, ...body.stepIn, ...outGradient],
    carryOut: [
      ...stepGradients.slice(0, floatCarry.length),
      ...forCapture.map((g, i) => add(captureSum[i], g)),
    ],
    stepOut: forStep,
  });
  const arriving = (index: number): Tensor => outputGradients[index] ?? zerosLike(node.outputs[index]);
  const results = applyScan(
    backward,
    [...floatCarry.map(([, i]) => arriving(i)), ...captured.map((tensor) => zerosLike(tensor))],
    [...history, ...stepInputs, ...differentiated.map(([, gradient]) => gradient!)],
    !reverse,
  );

  const result: (Tensor | undefined)[] = node.inputs.map(() => undefined);
  floatCarry.forEach(([, i], at) => (result[i] = results[at]));
  captured.forEach((tensor, i) => {
    result[carries + steps + body.captured.indexOf(tensor)] = results[floatCarry.length + i];
  });
  let at = floatCarry.length + captured.length;
  body.stepIn.forEach((tensor, i) => {
    if (isFloat(tensor.dtype)) result[carries + i] = results[at++];
  });
  return result;
}

function applyScan(
  body: Body,
  carry: readonly Tensor[],
  steps: readonly Tensor[],
  reverse: boolean,
): readonly Tensor[] {
  const length = steps[0].shape[0];
  const perStep = [...body.stepOut, ...body.carryIn];
  const types = [
    ...carry,
    ...perStep.map((tensor) => ({ dtype: tensor.dtype, shape: [length, ...tensor.shape] })),
  ];
  return apply(scanOperator, [...carry, ...steps, ...body.captured], types, { body, reverse });
}

/** What one step returns. */
export interface ScanStep {
  readonly carry: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

/**
 * Runs `body` once per element of the first axis of `steps`, handing `carry` from one step to the next. Tensors of
 * the surrounding graph may be used inside; their gradients are added up over the steps.
 *
 * @param body traced once with symbolic tensors: the carry, and one slice of each of `steps`.
 * @param carry start values.
 * @param steps tensors `[length, ...]` with one common length, at least one of them. A run-time length must not be 0.
 * @param options `reverse`: from the last element to the first; outputs keep the order of the inputs.
 * @returns the last carry, and each step's outputs stacked as `[length, ...]`.
 * @throws ShapeError if lengths differ or the body changes a carry's shape or dtype.
 * @example
 * // Running product.
 * const { outputs } = scan(([p], [x]) => { const q = multiply(p!, x!); return { carry: [q], outputs: [q] }; }, [one], [xs]);
 */
export function scan(
  body: (carry: readonly Tensor[], steps: readonly Tensor[]) => ScanStep,
  carry: readonly Tensor[],
  steps: readonly Tensor[],
  { reverse = false }: { reverse?: boolean } = {},
): ScanStep {
  if (carry.length === 0 || steps.length === 0)
    throw new ShapeError('scan: needs a carry and something to loop over');
  const length = steps[0].shape[0];
  for (const tensor of steps) {
    if (tensor.rank === 0 || tensor.shape[0] !== length) {
      throw new ShapeError(
        `scan: ${steps[0].toString()} and ${tensor.toString()} differ in their first axis`,
      );
    }
  }
  const carryIn = carry.map((tensor, i) => input(`carry${i}`, tensor.dtype, tensor.shape));
  const stepIn = steps.map((tensor, i) => input(`step${i}`, tensor.dtype, tensor.shape.slice(1)));
  const { carry: carryOut, outputs: stepOut } = body(carryIn, stepIn);
  if (carryOut.length !== carry.length) {
    throw new ShapeError(`scan: starts with ${carry.length} carries but a step makes ${carryOut.length}`);
  }
  carryIn.forEach((before, i) => {
    const after = carryOut[i];
    if (after.dtype !== before.dtype || !sameShape(after.shape, before.shape)) {
      throw new ShapeError(
        `scan: carry ${i} starts as ${before.toString()} but a step makes ${after.toString()}`,
      );
    }
  });
  if (length === 0) {
    // ONNX Runtime's Scan refuses to run zero times.
    return { carry, outputs: stepOut.map(({ dtype, shape }) => fill(dtype, [0, ...shape], 0)) };
  }
  const results = applyScan(closeOver({ carryIn, stepIn, carryOut, stepOut }), carry, steps, reverse);
  return {
    carry: results.slice(0, carry.length),
    outputs: results.slice(carry.length, carry.length + stepOut.length),
  };
}

/** Adds the tensors from outside that the body reads: the edges from nodes that do not depend on a placeholder. */
function closeOver(body: Omit<Body, 'captured'>): Body {
  const outputs = [...body.carryOut, ...body.stepOut];
  const placeholders = [...body.carryIn, ...body.stepIn];
  const order = topologicalOrder(outputs);
  const inside = dependents(order, new Set(placeholders));
  for (const placeholder of placeholders) inside.add(placeholder.node);
  const captured = new Set<Tensor>();
  const note = (tensor: Tensor): void => {
    const local = tensor.node.operator.name === 'constant' || tensor.node.operator.name === 'fill';
    if (!inside.has(tensor.node) && !local) captured.add(tensor);
  };
  outputs.forEach(note);
  for (const node of order) if (inside.has(node)) node.inputs.forEach(note);
  return { ...body, captured: [...captured] };
}
