/**
 * A compiled program: one long-lived ONNX Runtime session with named feeds and fetches over fixed buffers.
 * @module
 */
import { Tensor as OrtTensor, type InferenceSession } from 'onnxruntime-node';
import { formatShape, sizeOf, type OnnxGraph, type Tensor } from '../graph/index.js';
import { allocate, holds, type TensorData } from './arrays.js';
import { explainDeviceFailure, sessionOptions, type RuntimeOptions } from './device.js';
import { encodeModel } from './encode.js';
import { lower, type Port } from './lower.js';
import { UncopiedSession } from './uncopied-session.js';

/** Numbers by the name of a feed or fetch. */
export type Buffers = Readonly<Record<string, TensorData>>;

/** Result of a run: the fetched numbers, in buffers that the next run overwrites. */
export type Results<Names extends string = string> = Readonly<Record<Names, TensorData>>;

/**
 * A graph ready to run. Feeds and fetches are read and written in place: a buffer bound once is used by every run,
 * so weights that an optimiser changes are never copied and the session is never rebuilt.
 */
export class Program<Names extends string = string> {
  private readonly inputs: Record<string, OrtTensor> = {};
  private readonly outputs: Record<string, OrtTensor | null> = {};
  private readonly results: Record<string, TensorData> = {};
  private readonly missing: Set<string>;
  private running = false;
  /** Run-time sizes of the bound feeds that have one. */
  private readonly sizes = new Map<string, { dim: string; size: number }>();

  private constructor(
    private readonly session: UncopiedSession,
    private readonly feeds: ReadonlyMap<string, Port>,
    private readonly fetches: ReadonlyMap<string, Port>,
    private readonly graph: OnnxGraph,
    /** Programs over this session that have not been released. */
    private readonly holders: Set<object> = new Set(),
  ) {
    holders.add(this);
    this.missing = new Set(feeds.keys());
    for (const [name, port] of fetches) {
      if (port.tensor.shape.every((dim) => typeof dim === 'number')) {
        this.bindOutput(name, allocate(port.tensor.dtype, sizeOf(port.tensor.shape)));
      } else {
        for (const value of port.values) this.outputs[value] = null;
      }
    }
  }

  /** Used by {@link compile}. */
  static async open<Names extends string>(
    outputs: Readonly<Record<Names, Tensor>>,
    options: RuntimeOptions,
  ): Promise<Program<Names>> {
    const { graph, feeds, fetches, float64 } = lower(outputs);
    const settings = sessionOptions(options, float64);
    let session: UncopiedSession;
    try {
      session = await UncopiedSession.open(encodeModel(graph, { marker: true }), settings);
    } catch (error) {
      throw explainDeviceFailure(options.device ?? 'cpu', error);
    }
    const byName = (ports: readonly Port[]): Map<string, Port> =>
      new Map(ports.map((port) => [port.name, port]));
    return new Program<Names>(session, byName(feeds), byName(fetches), graph);
  }

  /**
   * Another program over the same session, with buffers of its own and nothing bound to its feeds.
   * @param feeds what it calls the feeds, by their names here; likewise `outputs`.
   */
  share<Others extends string>(
    feeds: Readonly<Record<string, string>>,
    outputs: Readonly<Record<Names, Others>>,
  ): Program<Others> {
    const renamed = (
      ports: ReadonlyMap<string, Port>,
      names: Readonly<Record<string, string>>,
    ): Map<string, Port> =>
      new Map([...ports].map(([name, port]) => [names[name], { ...port, name: names[name] }]));
    const [own, made] = [renamed(this.feeds, feeds), renamed(this.fetches, outputs)];
    return new Program<Others>(this.session, own, made, this.graph, this.holders);
  }

  /** The ONNX model, for any ONNX Runtime. */
  get bytes(): Uint8Array {
    return encodeModel(this.graph);
  }

  /** Number of ONNX nodes before ONNX Runtime's own optimisation. */
  get nodeCount(): number {
    return this.graph.nodes.length;
  }

  /** Names of the tensors that must be bound or given to {@link run}. */
  get feedNames(): readonly string[] {
    return [...this.feeds.keys()];
  }

  /**
   * Uses these buffers as feeds from now on. Feeds that the program does not have are an error.
   * @throws Error naming the feed, and both sizes or types, if a buffer does not fit.
   */
  bind(buffers: Buffers): this {
    for (const [name, data] of Object.entries(buffers)) {
      const port = this.feeds.get(name);
      if (!port)
        throw new Error(`the program has no feed '${name}'; its feeds are: ${this.feedNames.join(', ')}`);
      this.assign(port, data, this.inputs);
      this.missing.delete(name);
    }
    return this;
  }

  /** {@link bind}, passing over buffers that this program does not use. */
  bindKnown(buffers: Iterable<readonly [string, TensorData]>): this {
    for (const [name, data] of buffers) if (this.feeds.has(name)) this.bind({ [name]: data });
    return this;
  }

  /**
   * Writes an output into this buffer from now on.
   * @throws Error if there is no such output or the buffer does not fit.
   */
  bindOutput(name: string, data: TensorData): this {
    const port = this.fetches.get(name);
    if (!port) throw new Error(`the program has no output '${name}'`);
    this.assign(port, data, this.outputs);
    this.results[name] = data;
    return this;
  }

  /**
   * Runs once. The thread is blocked until the run is over.
   *
   * @param feeds buffers for this and later runs.
   * @returns every output. The arrays belong to the program and are overwritten by the next run.
   * @throws Error naming the feeds that have never been given, or two that disagree about a run-time size; or if the
   *   run before is not over, because both would share their buffers.
   */
  async run(feeds: Buffers = {}): Promise<Results<Names>> {
    if (this.running) throw new Error('the program is already running: await its run before the next');
    this.bind(feeds);
    if (this.missing.size > 0) throw new Error(`feeds not given: ${[...this.missing].join(', ')}`);
    this.checkSizes();
    this.running = true;
    const fetched = await this.session.run(this.inputs, this.outputs).finally(() => (this.running = false));
    for (const [name, port] of this.fetches) {
      if (this.outputs[port.values[0]] === null) this.results[name] = collect(port, fetched);
    }
    return this.results as Results<Names>;
  }

  /**
   * Frees the session, once all programs over it are released. Long-lived processes should open few sessions: ONNX Runtime
   * keeps some memory of each.
   */
  async release(): Promise<void> {
    this.holders.delete(this);
    if (this.holders.size === 0) await this.session.release();
  }

  /** ONNX Runtime would stretch a size of 1 silently. */
  private checkSizes(): void {
    const first = new Map<string, string>();
    for (const [feed, { dim, size }] of this.sizes) {
      const other = first.get(dim) ?? feed;
      first.set(dim, other);
      const expected = this.sizes.get(other)!.size;
      if (size !== expected) {
        throw new Error(`'${dim}' is ${expected} in feed '${other}' but ${size} in feed '${feed}'`);
      }
    }
  }

  private assign(port: Port, data: TensorData, target: Record<string, OrtTensor | null>): void {
    const { tensor, name, values, sliced } = port;
    if (!holds(tensor.dtype, data)) {
      throw new Error(`'${name}' is ${tensor.toString()} but was given a ${data.constructor.name}`);
    }
    const dims = tensor.shape.map((dim) => (typeof dim === 'number' ? dim : -1));
    const known = dims.reduce((product, dim) => (dim < 0 ? product : product * dim), 1);
    const unknown = dims.filter((dim) => dim < 0).length;
    if (unknown > 1)
      throw new Error(`'${name}' is ${formatShape(tensor.shape)}: bind at most one run-time size`);
    if (unknown === 0 ? data.length !== known : known === 0 || data.length % known !== 0) {
      throw new Error(`'${name}' is ${tensor.toString()} but was given ${data.length} numbers`);
    }
    const shape = dims.map((dim) => (dim < 0 ? data.length / known : dim));
    const open = dims.findIndex((dim) => dim < 0);
    if (open >= 0 && target === this.inputs) {
      this.sizes.set(name, { dim: tensor.shape[open] as string, size: shape[open] });
    }
    if (!sliced) {
      target[values[0]] = new OrtTensor(tensor.dtype, data as Float32Array, shape);
      return;
    }
    const size = data.length / values.length;
    values.forEach((value, i) => {
      const view = data.subarray(i * size, (i + 1) * size);
      target[value] = new OrtTensor(tensor.dtype, view as Float32Array, shape.slice(1));
    });
  }
}

function collect(port: Port, fetched: InferenceSession.OnnxValueMapType): TensorData {
  const parts = port.values.map((value) => fetched[value].data as TensorData);
  if (parts.length === 1) return parts[0];
  const joined = allocate(
    port.tensor.dtype,
    parts.reduce((length, part) => length + part.length, 0),
  );
  let at = 0;
  for (const part of parts) {
    joined.set(part as never, at);
    at += part.length;
  }
  return joined;
}

/**
 * Compiles a graph to a program.
 *
 * @param outputs tensors to compute, by the name under which {@link Program.run} returns them. Everything they
 *   depend on that was made by `input` becomes a feed of that name.
 * @throws DeviceError if the device is not available.
 * @example
 * const x = input('x', 'float32', [2, 3]);
 * const program = await compile({ y: softmax(x) });
 * const { y } = await program.run({ x: new Float32Array(6) });
 */
export async function compile<Names extends string>(
  outputs: Readonly<Record<Names, Tensor>>,
  options: RuntimeOptions = {},
): Promise<Program<Names>> {
  return Program.open(outputs, options);
}
