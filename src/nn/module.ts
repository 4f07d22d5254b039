/**
 * The module tree: parameters with stable dotted names, found by walking properties.
 * @module
 */
import { input, type DType, type Tensor } from '../graph/index.js';
import type { Initializer } from './initializers.js';

/** A trainable tensor: its static shape, how it starts, and (once its tree is named) its leaf in the graph. */
export class Parameter {
  private leaf: Tensor | undefined;

  /** Whether it gets gradients. State that changes by a rule of its own (a router's bias) does not. */
  readonly trainable: boolean;
  /** Name of the random stream that it starts from; its own dotted name when absent. Equal names start equal. */
  stream: string | undefined;

  /** @param decays whether weight decay applies; by default to matrices, not to biases and the weights of norms. */
  constructor(
    readonly shape: readonly number[],
    readonly initializer: Initializer,
    readonly decays: boolean = shape.length >= 2,
    { trainable = true }: { readonly trainable?: boolean } = {},
  ) {
    this.trainable = trainable;
    if (!shape.every((size) => Number.isInteger(size) && size > 0)) {
      throw new RangeError(`a parameter cannot have the shape [${shape.join(', ')}]`);
    }
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }

  /**
   * The leaf that stands for this parameter wherever it is used.
   * @throws Error before {@link nameParameters} has run on the tree.
   */
  get tensor(): Tensor {
    if (!this.leaf) throw new Error('a parameter is used before its module tree was named (nameParameters)');
    return this.leaf;
  }

  /** Used by {@link nameParameters}. */
  place(name: string, dtype: DType): void {
    this.leaf = input(name, dtype, this.shape);
  }
}

/** How a parameter follows training by a rule instead of a gradient, or beside one: once per update, after the optimiser. */
export interface StateUpdate {
  readonly parameter: Parameter;
  /** What one batch showed: any static shape. Averaged over the batches of an update, and over layers that share. */
  readonly observation: Tensor;
  /** Changes the parameter in place. */
  readonly apply: (state: Float32Array, observation: Float32Array) => void;
}

/** Base of everything that owns parameters. Children are found by property, so a property's name is part of the API. */
export abstract class Module {
  /**
   * All parameters below this module by dotted path (`blocks.0.attention.query.weight`), in order of construction.
   * A parameter that is reachable by several paths appears once, under the first.
   */
  parameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    walk(this, '', new Set(), (path, part) => part instanceof Parameter && found.set(path, part));
    return found;
  }

  /** All modules below this one by dotted path, in order of construction; those that are shared once, under the first. */
  submodules(): Map<string, Module> {
    const found = new Map<string, Module>();
    walk(
      this,
      '',
      new Set(),
      (path, part) => part instanceof Module && part !== this && found.set(path, part),
    );
    return found;
  }
}

/** Visits parameters and modules before what is in them. */
function walk(
  value: unknown,
  path: string,
  seen: Set<object>,
  visit: (path: string, part: Module | Parameter) => void,
): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  if (value instanceof Parameter) {
    seen.add(value);
    visit(path, value);
  } else if (value instanceof Module || Array.isArray(value)) {
    seen.add(value);
    if (value instanceof Module) visit(path, value);
    for (const [key, child] of Object.entries(value)) {
      walk(child, path === '' ? key : `${path}.${key}`, seen, visit);
    }
  }
}

/**
 * Gives every parameter of a tree its leaf tensor, named by its path. Call it once on the root, before tracing;
 * calling it again with `float64` re-traces the same model in double precision.
 *
 * @returns the parameters by name.
 */
export function nameParameters(root: Module, dtype: DType = 'float32'): Map<string, Parameter> {
  const parameters = root.parameters();
  for (const [name, parameter] of parameters) parameter.place(name, dtype);
  return parameters;
}
