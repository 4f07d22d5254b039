/**
 * Convolutions (cross-correlations, as in every deep-learning library).
 * @module
 */
import { applyOne, type Lowering, type Operator } from '../operator.js';
import { ShapeError, isFloat, sizeOf, type Shape, type Tensor } from '../tensor.js';
import { add } from './arithmetic.js';
import { matmul } from './matmul.js';
import { concat, split, stack } from './joining.js';
import { pad, place, reshape, slice, transpose } from './shape.js';
import { sum } from './reduce.js';

/** Stride, zero padding, dilation and groups; pairs are `[height, width]`. */
export interface Conv2dOptions {
  readonly stride?: readonly [number, number];
  readonly padding?: readonly [number, number];
  readonly dilation?: readonly [number, number];
  readonly groups?: number;
}

type Settings = Required<Conv2dOptions>;

/** The part of the padded input that kernel element (row, column) sees: `[batch, channels, outHeight, outWidth]`. */
function window(
  padded: Tensor,
  output: Shape,
  row: number,
  column: number,
  { stride, dilation }: Settings,
): Tensor {
  const range = (x: Tensor, axis: number, start: number, count: number, step: number): Tensor =>
    slice(x, axis, start, start + (count - 1) * step + 1, step);
  const rows = range(padded, 2, row * dilation[0], output[2] as number, stride[0]);
  return range(rows, 3, column * dilation[1], output[3] as number, stride[1]);
}

function padBoth(x: Tensor, [vertical, horizontal]: readonly [number, number]): Tensor {
  return pad(pad(x, 2, vertical, vertical), 3, horizontal, horizontal);
}

/** Merges the two spatial axes, so that a kernel element is one matrix product. */
function flatten(x: Tensor): Tensor {
  return reshape(x, [...x.shape.slice(0, 2), sizeOf(x.shape.slice(2))]);
}

/** The same convolution out of slices and matmuls: the double-precision path, and the source of the gradient. */
function composed(x: Tensor, weight: Tensor, settings: Settings): Tensor {
  const [outChannels, , height, width] = weight.shape as number[];
  const outputShape = outShape(x.shape, weight.shape, settings);
  const inputs = splitGroups(padBoth(x, settings.padding), 1, settings.groups);
  const weights = splitGroups(weight, 0, settings.groups);
  const groups = inputs.map((part, group) => {
    let total: Tensor | undefined;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const kernel = element(weights[group], row, column);
        const term = matmul(kernel, flatten(window(part, outputShape, row, column, settings)));
        total = total ? add(total, term) : term;
      }
    }
    return total!;
  });
  const joined = concat(groups, 1);
  return reshape(joined, [outputShape[0], outChannels, outputShape[2], outputShape[3]]);
}

function splitGroups(x: Tensor, axis: number, groups: number): readonly Tensor[] {
  return split(x, new Array<number>(groups).fill((x.shape[axis] as number) / groups), axis);
}

function element(weight: Tensor, row: number, column: number): Tensor {
  const cell = slice(slice(weight, 2, row, row + 1), 3, column, column + 1);
  return reshape(cell, weight.shape.slice(0, 2));
}

function lower({ emit, inputs, outputs, node }: Lowering): void {
  const { stride, padding, dilation, groups } = node.attributes as unknown as Settings;
  const pads = [...padding, ...padding];
  emit('Conv', inputs, { strides: stride, pads, dilations: dilation, group: groups }, { outputs });
}

const convOperator: Operator = {
  name: 'conv2d',
  lower,
  gradient: ([gradient], { inputs: [x, weight], attributes }) => {
    const settings = attributes as unknown as Settings;
    const { stride, padding, dilation, groups } = settings;
    const [, , height, width] = weight.shape as number[];
    const padded = padBoth(x, padding);
    const inputs = splitGroups(padded, 1, groups);
    const outputs = splitGroups(gradient!, 1, groups);
    const weights = splitGroups(weight, 0, groups);
    const parts = inputs.map((part, group) => {
      const g = flatten(outputs[group]);
      let forInput: Tensor | undefined;
      const forWeight: Tensor[] = [];
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const seen = flatten(window(part, gradient!.shape, row, column, settings));
          forWeight.push(sum(matmul(g, seen, { transposeB: true }), 0));
          const spread = reshape(matmul(element(weights[group], row, column), g, { transposeA: true }), [
            ...part.shape.slice(0, 2),
            ...gradient!.shape.slice(2),
          ]);
          const placed = place(
            place(spread, 3, column * dilation[1], stride[1], part.shape[3] as number),
            2,
            row * dilation[0],
            stride[0],
            part.shape[2] as number,
          );
          forInput = forInput ? add(forInput, placed) : placed;
        }
      }
      const kernel = transpose(stack(forWeight), [1, 2, 0]);
      return { forInput: forInput!, forWeight: reshape(kernel, weights[group].shape) };
    });
    const inputGradient = concat(
      parts.map((part) => part.forInput),
      1,
    );
    const cropped = slice(
      slice(inputGradient, 2, padding[0], padding[0] + (x.shape[2] as number)),
      3,
      padding[1],
      padding[1] + (x.shape[3] as number),
    );
    return [
      cropped,
      concat(
        parts.map((part) => part.forWeight),
        0,
      ),
    ];
  },
};

function outShape(x: Shape, weight: Shape, { stride, padding, dilation }: Settings): number[] {
  const spatial = [0, 1].map((i) => {
    const reach = dilation[i] * ((weight[i + 2] as number) - 1) + 1;
    return Math.floor(((x[i + 2] as number) + 2 * padding[i] - reach) / stride[i]) + 1;
  });
  return [x[0] as number, weight[0] as number, ...spatial];
}

/**
 * Two-dimensional convolution.
 *
 * @param x `[batch, channels, height, width]`
 * @param weight `[outChannels, channels / groups, kernelHeight, kernelWidth]`
 * @returns `[batch, outChannels, outHeight, outWidth]`
 * @throws ShapeError if channels, groups or sizes do not fit; all sizes must be static.
 */
export function conv2d(x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const { stride = [1, 1], padding = [0, 0], dilation = [1, 1], groups = 1 } = options;
  const settings: Settings = { stride, padding, dilation, groups };
  const fail = (why: string): never => {
    throw new ShapeError(`conv2d: ${x.toString()} and weight ${weight.toString()} ${why}`);
  };
  if (x.rank !== 4 || weight.rank !== 4 || x.dtype !== weight.dtype || !isFloat(x.dtype))
    fail('must be 4-D floats');
  if ([...x.shape, ...weight.shape].some((dim) => typeof dim !== 'number')) fail('must have static sizes');
  const atLeast = (least: number, values: readonly number[]): boolean =>
    values.every((value) => Number.isInteger(value) && value >= least);
  if (!atLeast(1, [...stride, ...dilation, groups]) || !atLeast(0, padding))
    fail('need whole strides, dilations and groups ≥ 1 and padding ≥ 0');
  const [outChannels, inChannels] = weight.shape as number[];
  if (x.shape[1] !== inChannels * groups || outChannels % groups !== 0) fail(`do not fit ${groups} group(s)`);
  const shape = outShape(x.shape, weight.shape, settings);
  if (shape.some((size) => size < 1)) fail('leave no output: the kernel is larger than the padded input');
  if (x.dtype === 'float64') return composed(x, weight, settings);
  return applyOne(convOperator, [x, weight], { dtype: x.dtype, shape }, { ...settings });
}

/**
 * One-dimensional convolution.
 *
 * @param x `[batch, channels, time]`
 * @param weight `[outChannels, channels / groups, kernel]`
 * @returns `[batch, outChannels, outTime]`
 * @throws ShapeError as {@link conv2d}.
 */
export function conv1d(
  x: Tensor,
  weight: Tensor,
  options: { stride?: number; padding?: number; dilation?: number; groups?: number } = {},
): Tensor {
  if (x.rank !== 3 || weight.rank !== 3) {
    throw new ShapeError(`conv1d: ${x.toString()} and weight ${weight.toString()} must be 3-D`);
  }
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const flat = (t: Tensor): Tensor => reshape(t, [t.shape[0], t.shape[1], 1, t.shape[2]]);
  const result = conv2d(flat(x), flat(weight), {
    stride: [1, stride],
    padding: [0, padding],
    dilation: [1, dilation],
    groups,
  });
  return reshape(result, [result.shape[0], result.shape[1], result.shape[3]]);
}
