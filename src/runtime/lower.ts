/**
 * Turns a symbolic graph into an ONNX graph, still as plain data: names, nodes, constants.
 * @module
 */
import {
  formatShape,
  inputName,
  simplify,
  topologicalOrder,
  type Dim,
  type Lowering,
  type Node,
  type OnnxConstant,
  type OnnxGraph,
  type OnnxNode,
  type Shape,
  type Tensor,
} from '../graph/index.js';

/** One fed or fetched tensor: a single ONNX value, or one per slice of its first axis. */
export interface Port {
  readonly name: string;
  readonly tensor: Tensor;
  /** ONNX values that hold it: one, or `shape[0]` many when it is fed or fetched as views of its first axis. */
  readonly values: readonly string[];
  readonly sliced: boolean;
}

/** The ONNX graph of a program with the mapping from its ports to ONNX values. */
export interface LoweredProgram {
  readonly graph: OnnxGraph;
  readonly feeds: readonly Port[];
  readonly fetches: readonly Port[];
  /** Whether anything is computed in double precision. */
  readonly float64: boolean;
}

/** A fetch whose ONNX names are reserved before lowering, so that its maker writes straight to them. */
interface Fetch {
  readonly name: string;
  readonly tensor: Tensor;
  /** The tensors to fetch: the output itself, or the pieces of a `stack`. */
  readonly pieces: readonly Tensor[];
  readonly values: readonly string[];
}

/**
 * Lowers everything that `outputs` depend on.
 *
 * Two shortcuts save copies of expert banks: an input that is only taken apart by `unstack` is fed part by part, and
 * an output made by `stack` is fetched part by part.
 * @throws Error if two different leaves share a name, or a run-time size has no source.
 */
export function lower(outputs: Readonly<Record<string, Tensor>>): LoweredProgram {
  const named = Object.entries(outputs);
  const simplified = simplify(named.map(([, tensor]) => tensor));
  const builder = new Builder(simplified.canonical);
  const order = builder.orderWithSizes(simplified.order);

  for (const node of order) {
    const name = inputName(node.outputs[0]);
    if (name !== undefined) builder.reserve(name);
  }
  const fetched = named.map(([name, tensor]) => builder.reserveFetch(name, simplified.canonical(tensor)));
  const wanted = fetched.flatMap(({ pieces }) => pieces);
  const used = usedOutputs(order, [...wanted, ...builder.sizeSources], simplified.canonical);
  const slicedFeeds = feedsOnlyUnstacked(order, wanted, simplified.canonical);
  const feeds: Port[] = [];
  const leaves = new Map<string, Tensor>();
  for (const node of order) {
    const tensor = node.outputs[0];
    const name = inputName(tensor);
    if (name === undefined) continue;
    if (leaves.has(name)) throw new Error(`two different inputs of one program are called '${name}'`);
    leaves.set(name, tensor);
    const sliced = slicedFeeds.has(tensor);
    const values = sliced
      ? Array.from({ length: tensor.shape[0] as number }, (_, i) => builder.fresh(`${name}#${i}`))
      : [name];
    feeds.push({ name, tensor, values, sliced });
    if (!sliced) builder.register(tensor, name);
  }
  const slicedValues = new Map(feeds.filter((feed) => feed.sliced).map((feed) => [feed.tensor, feed.values]));
  const toLower = order.filter((node) => {
    const values = node.operator.name === 'unstack' && slicedValues.get(simplified.canonical(node.inputs[0]));
    if (values) node.outputs.forEach((part, i) => builder.register(part, values[i]));
    return !values && inputName(node.outputs[0]) === undefined;
  });
  for (const node of toLower) builder.lowerNode(node, used);
  const fetches = fetched.map((fetch) => builder.fetch(fetch));
  const inputs = feeds.flatMap(({ tensor, values, sliced }) =>
    values.map((name) => ({
      name,
      dtype: tensor.dtype,
      shape: sliced ? tensor.shape.slice(1) : tensor.shape,
    })),
  );
  const results = fetches.flatMap(({ tensor, values, sliced }) =>
    values.map((name) => ({
      name,
      dtype: tensor.dtype,
      shape: sliced ? tensor.shape.slice(1) : tensor.shape,
    })),
  );
  return {
    graph: {
      name: 'switchyard',
      inputs,
      outputs: results,
      nodes: builder.nodes,
      constants: builder.constants,
    },
    feeds,
    fetches,
    float64: order.some(({ outputs: made }) => made.some(({ dtype }) => dtype === 'float64')),
  };
}

/** Tensors that someone reads; a lowering may leave the others out. */
function usedOutputs(
  order: readonly Node[],
  wanted: readonly Tensor[],
  canonical: (tensor: Tensor) => Tensor,
): Set<Tensor> {
  const used = new Set(wanted.map(canonical));
  for (const node of order) for (const tensor of node.inputs) used.add(canonical(tensor));
  return used;
}

function feedsOnlyUnstacked(
  order: readonly Node[],
  wanted: readonly Tensor[],
  canonical: (tensor: Tensor) => Tensor,
): Set<Tensor> {
  const unstacked = new Set<Tensor>();
  const whole = new Set(wanted.map(canonical));
  for (const node of order) {
    for (const original of node.inputs) {
      const tensor = canonical(original);
      if (inputName(tensor) === undefined) continue;
      (node.operator.name === 'unstack' ? unstacked : whole).add(tensor);
    }
  }
  for (const tensor of whole) unstacked.delete(tensor);
  return unstacked;
}

/** Collects ONNX nodes and keeps the names of values. One builder serves one (sub)graph. */
class Builder {
  readonly nodes: OnnxNode[] = [];
  readonly constants = new Map<string, OnnxConstant>();
  /** Tensors on which a run-time size is measured. */
  readonly sizeSources = new Set<Tensor>();
  private readonly names = new Map<Tensor, string>();
  private readonly fetchNames = new Map<Tensor, string>();
  private readonly taken: Set<string>;
  private readonly sizeNames = new Map<string, string>();
  private readonly carriers = new Map<string, { value: string; axis: number }>();
  private readonly constantNames = new Map<string, string>();

  constructor(
    private readonly canonical: (tensor: Tensor) => Tensor,
    private readonly outer?: Builder,
  ) {
    // Names of a Scan body live in one scope with those outside it.
    this.taken = outer?.taken ?? new Set();
  }

  /** Kept nodes in an order in which the carriers of run-time sizes come before the nodes that measure them. */
  orderWithSizes(kept: readonly Node[], stopAt: ReadonlySet<Tensor> = new Set()): Node[] {
    const makers = new Map<Dim, Tensor>();
    // Leaves first: a source that depends on nothing cannot make the order cyclic.
    const isLeaf = (node: Node): boolean => node.inputs.length === 0;
    for (const node of [...kept.filter(isLeaf), ...kept.filter((node) => !isLeaf(node))]) {
      const measured = new Set(node.operator.dims?.(node));
      for (const tensor of node.outputs) {
        for (const dim of tensor.shape) {
          if (typeof dim === 'string' && !measured.has(dim) && !makers.has(dim)) makers.set(dim, tensor);
        }
      }
    }
    const keptSet = new Set(kept);
    const outputs = kept.flatMap((node) => node.outputs);
    const order = topologicalOrder(outputs, stopAt, (node) => {
      const sources = (node.operator.dims?.(node) ?? []).flatMap((dim) => {
        const maker = makers.get(dim);
        return maker && maker.node !== node ? [maker] : [];
      });
      for (const source of sources) this.sizeSources.add(source);
      return [...node.inputs.map((tensor) => this.canonical(tensor)), ...sources];
    });
    return order.filter((node) => keptSet.has(node));
  }

  /** Keeps a public name from being given to anything else. */
  reserve(name: string): void {
    this.taken.add(name);
  }

  register(tensor: Tensor, name: string): void {
    this.names.set(tensor, name);
    this.taken.add(name);
    tensor.shape.forEach((dim, axis) => {
      if (typeof dim === 'string' && !this.carriers.has(dim)) this.carriers.set(dim, { value: name, axis });
    });
  }

  lowerNode(node: Node, used: ReadonlySet<Tensor>): void {
    const { operator } = node;
    // ONNX Runtime computes dead nodes too, such as the Concat of a stack that is fetched piece by piece.
    if (!node.outputs.some((tensor) => used.has(tensor))) return;
    if (!operator.lower) throw new Error(`operator '${operator.name}' cannot be lowered`);
    const outputs = node.outputs.map((tensor) =>
      used.has(tensor) ? (this.fetchNames.get(tensor) ?? this.fresh(operator.name)) : '',
    );
    const lowering: Lowering = {
      inputs: node.inputs.map((tensor) => this.nameOf(tensor)),
      outputs,
      node,
      emit: (type, inputs, attributes = {}, options = {}) => {
        const results = options.outputs ?? [this.fresh(type)];
        this.nodes.push({ type, domain: options.domain ?? '', inputs, outputs: results, attributes });
        return results[0];
      },
      constant: (dtype, shape, data) => this.constant(dtype, shape, data),
      shapeVector: (shape) => this.shapeVector(shape),
      subgraph: (body) => this.subgraph(body),
    };
    operator.lower(lowering);
    node.outputs.forEach((tensor, i) => {
      if (outputs[i] !== '') this.register(tensor, outputs[i]);
    });
  }

  /** Chooses the ONNX names of a fetch. The first fetch of a tensor decides what its maker calls it. */
  reserveFetch(name: string, tensor: Tensor): Fetch {
    const { node } = tensor;
    const pieces = node.operator.name === 'stack' ? node.inputs.map(this.canonical) : [tensor];
    const values = pieces.map((_, i) => this.fresh(`${name}@${i}`));
    pieces.forEach((piece, i) => {
      if (!this.fetchNames.has(piece)) this.fetchNames.set(piece, values[i]);
    });
    return { name, tensor, pieces, values };
  }

  /** Completes a fetch after lowering: feeds, and tensors that are fetched twice, are copied to its names. */
  fetch({ name, tensor, pieces, values }: Fetch): Port {
    pieces.forEach((piece, i) => {
      const value = this.nameOf(piece);
      if (value !== values[i]) this.identity(value, values[i]);
    });
    return { name, tensor, values, sliced: tensor.node.operator.name === 'stack' };
  }

  private identity(value: string, name: string): void {
    this.nodes.push({ type: 'Identity', domain: '', inputs: [value], outputs: [name], attributes: {} });
  }

  private nameOf(original: Tensor): string {
    const tensor = this.canonical(original);
    const name = this.names.get(tensor);
    if (name === undefined)
      throw new Error(`${tensor.node.operator.name} ${tensor.toString()} was not lowered`);
    return name;
  }

  /** A name that nothing else has. */
  fresh(base: string): string {
    let name = base;
    for (let i = this.taken.size; this.taken.has(name); i++) name = `${base}_${i}`;
    this.taken.add(name);
    return name;
  }

  private constant(
    dtype: OnnxConstant['dtype'],
    shape: readonly number[],
    data: OnnxConstant['data'],
  ): string {
    const key =
      data.length <= 16
        ? `${dtype}${formatShape(shape)}${Array.from(data, (v) => (Object.is(v, -0) ? '-0' : v)).join(',')}`
        : '';
    const known = key === '' ? undefined : this.constantNames.get(key);
    if (known !== undefined) return known;
    const name = this.fresh('constant');
    this.constants.set(name, { dtype, shape, data });
    if (key !== '') this.constantNames.set(key, name);
    return name;
  }

  private shapeVector(shape: Shape): string {
    if (shape.every((dim) => typeof dim === 'number')) return this.constant('int64', [shape.length], shape);
    const parts = shape.map((dim) =>
      typeof dim === 'number' ? this.constant('int64', [1], [dim]) : this.size(dim),
    );
    if (parts.length === 1) return parts[0];
    const name = this.fresh('shape');
    this.nodes.push({ type: 'Concat', domain: '', inputs: parts, outputs: [name], attributes: { axis: 0 } });
    return name;
  }

  /** Name of an int64 vector of length 1 with a run-time size. */
  private size(dim: string): string {
    const known = this.lookUp((builder) => builder.sizeNames.get(dim));
    if (known !== undefined) return known;
    const carrier = this.lookUp((builder) => builder.carriers.get(dim));
    if (!carrier)
      throw new Error(
        `nothing that this program computes carries the run-time size '${dim}'; fetch a tensor that does, such as the loss`,
      );
    const name = this.fresh('size');
    const attributes = { start: carrier.axis, end: carrier.axis + 1 };
    this.nodes.push({ type: 'Shape', domain: '', inputs: [carrier.value], outputs: [name], attributes });
    this.sizeNames.set(dim, name);
    return name;
  }

  /** Asks this builder, then those of the enclosing graphs. */
  private lookUp<T>(find: (builder: Builder) => T | undefined): T | undefined {
    return find(this) ?? this.outer?.lookUp(find);
  }

  private subgraph(body: Parameters<Lowering['subgraph']>[0]): OnnxGraph {
    const given = new Set([...body.inputs, ...body.outer.keys()]);
    const simplified = simplify(body.outputs, given);
    const inner = new Builder(simplified.canonical, this);
    const order = inner.orderWithSizes(
      simplified.order.filter((node) => !given.has(node.outputs[0])),
      given,
    );
    const used = usedOutputs(order, [...body.outputs, ...inner.sizeSources], simplified.canonical);
    for (const [tensor, name] of body.outer) inner.register(tensor, name);
    const inputs = body.inputs.map((tensor) => {
      const name = inner.fresh('in');
      inner.register(tensor, name);
      return { name, dtype: tensor.dtype, shape: tensor.shape };
    });
    for (const node of order) inner.lowerNode(node, used);
    const outputs = body.outputs.map((tensor) => {
      const name = inner.fresh('out');
      inner.identity(inner.nameOf(tensor), name);
      return { name, dtype: tensor.dtype, shape: tensor.shape };
    });
    return { name: body.name, inputs, outputs, nodes: inner.nodes, constants: inner.constants };
  }
}
