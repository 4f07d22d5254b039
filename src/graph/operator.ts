/**
 * What an operator is: a shape rule, a lowering to ONNX described as plain data, and a vector–Jacobian product,
 * side by side. Operators live in `operators/`, grouped by what they do.
 * @module
 */
import {
  Tensor,
  type Attributes,
  type DType,
  type Dim,
  type Node,
  type Shape,
  type TensorType,
} from './tensor.js';

/** Constant numbers inside a lowered graph. */
export interface OnnxConstant {
  /** `uint8` for packed weights, which no tensor of ours holds. */
  readonly dtype: DType | 'uint8';
  readonly shape: readonly number[];
  readonly data: readonly number[] | Float32Array | Float64Array | Int32Array | Uint8Array;
}

/** One ONNX node as plain data; `runtime/` encodes it. */
export interface OnnxNode {
  readonly type: string;
  /** Empty for standard ONNX, `com.microsoft` for ONNX Runtime's contributed operators. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

/** ONNX attribute values: integers and strings as themselves, floats wrapped, subgraphs for `Scan`. */
export type OnnxAttribute =
  number | string | readonly number[] | { readonly float: number } | { readonly graph: OnnxGraph };

/** A graph as plain data: nodes in execution order, with constants and typed inputs and outputs. */
export interface OnnxGraph {
  readonly name: string;
  readonly inputs: readonly (TensorType & { readonly name: string })[];
  readonly outputs: readonly (TensorType & { readonly name: string })[];
  readonly nodes: readonly OnnxNode[];
  readonly constants: ReadonlyMap<string, OnnxConstant>;
}

/** What an operator's lowering may use. Values are referred to by their ONNX names. */
export interface Lowering {
  /** Names of the node's inputs. */
  readonly inputs: readonly string[];
  /** Names the lowering must produce; an empty string marks an output that nobody reads. */
  readonly outputs: readonly string[];
  /** Symbolic side of the same node. */
  readonly node: Node;
  /** Adds an ONNX node. Without `outputs`, one fresh name is made and returned. */
  readonly emit: (
    type: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, OnnxAttribute>>,
    options?: { outputs?: readonly string[]; domain?: string },
  ) => string;
  /** Adds a constant and returns its name; equal small constants are shared. */
  readonly constant: (
    dtype: OnnxConstant['dtype'],
    shape: readonly number[],
    data: OnnxConstant['data'],
  ) => string;
  /** Name of an int64 vector that holds `shape`, constant where it is static and measured where it is not. */
  readonly shapeVector: (shape: Shape) => string;
  /** Lowers a nested graph (the body of `scan`). Tensors of the enclosing graph may be referred to by `outer`. */
  readonly subgraph: (body: {
    name: string;
    inputs: readonly Tensor[];
    outputs: readonly Tensor[];
    outer: ReadonlyMap<Tensor, string>;
  }) => OnnxGraph;
}

/** A kind of operation. */
export interface Operator {
  readonly name: string;
  /** Writes the ONNX nodes of one application. Absent on leaves, and on aliases. */
  readonly lower?: (lowering: Lowering) => void;
  /**
   * Gradients of the inputs from those of the outputs (`undefined` where none arrives); `undefined` marks an
   * input that gets none. Absent where nothing is differentiable.
   */
  readonly gradient?: (
    outputGradients: readonly (Tensor | undefined)[],
    node: Node,
  ) => readonly (Tensor | undefined)[];
  /** Run-time sizes that the lowering measures; the tensors that carry them are lowered first. */
  readonly dims?: (node: Node) => readonly Dim[];
  /** The output is the first input under another name (`stopGradient`); removed before lowering. */
  readonly alias?: boolean;
  /** Nodes of this kind are never merged with equal ones (leaves). */
  readonly unique?: boolean;
}

/** Applies an operator: makes the node and its output tensors. Operators call it after their shape rule. */
export function apply(
  operator: Operator,
  inputs: readonly Tensor[],
  outputTypes: readonly TensorType[],
  attributes: Attributes = {},
): readonly Tensor[] {
  const outputs: Tensor[] = [];
  const node: Node = { operator, inputs, attributes, outputs };
  outputTypes.forEach((type, index) => outputs.push(new Tensor(node, index, type.dtype, type.shape)));
  return outputs;
}

/** {@link apply} for operators with one output. */
export function applyOne(
  operator: Operator,
  inputs: readonly Tensor[],
  outputType: TensorType,
  attributes: Attributes = {},
): Tensor {
  return apply(operator, inputs, [outputType], attributes)[0];
}
