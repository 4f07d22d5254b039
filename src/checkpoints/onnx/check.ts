/**
 * Reads an ONNX model back and refuses whatever we would not write.
 * @module
 */
import { fromBinary } from '@bufbuild/protobuf';
import { readFile, stat } from 'node:fs/promises';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { OPSET } from '../../runtime/index.js';
import { quote } from '../safetensors/errors.js';
import { explain } from '../system-error.js';
import { OnnxError } from './errors.js';
import { checkWire } from './wire.js';
import { elementTypes, TensorChecker } from './tensor-checker.js';

/** Operators of these domains are run, up to this version. */
const domains = new Map([
  ['', OPSET],
  ['com.microsoft', 1],
]);

/** An input or output of a model. */
export interface OnnxValue {
  readonly name: string;
  /** As ONNX calls it: `FLOAT`, `INT64`. */
  readonly elementType: string;
  /** Sizes; a name where a size is known only at run time. */
  readonly shape: readonly (number | string)[];
}

/** What a model says of itself. */
export interface OnnxSummary {
  readonly opset: number;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: number;
  /** Constants with their numbers in another file. */
  readonly externalTensors: number;
  /** Bytes of them. */
  readonly externalBytes: number;
}

/**
 * Reads a model and checks all of it but the operators' own rules: known fields, domains and versions; every value made
 * once and before it is read; constants that have as many bytes as their shape says, those outside of the model in a file
 * beside it, and within that file.
 *
 * @throws OnnxError
 */
export async function checkOnnx(path: string): Promise<OnnxSummary> {
  const bytes = await readModel(path);
  checkWire(bytes, path);
  let model: ModelProto;
  try {
    model = fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    throw new OnnxError(path, `is not an ONNX model: ${(error as Error).message}`, { cause: error });
  }
  const checker = new Checker(path, checkVersions(model, path));
  const { graph } = model;
  if (!graph) return checker.fail('has no graph');
  const summary = await checker.graph(graph, undefined);
  return { opset: checker.versions.get('')!, ...summary };
}

async function readModel(path: string): Promise<Uint8Array> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new OnnxError(path, 'is not a regular file');
    // What is larger cannot be one message, and is not read.
    if (found.size >= 2 ** 31)
      throw new OnnxError(path, `has ${found.size} bytes; a model has less than 2^31`);
    return await readFile(path);
  } catch (error) {
    if (error instanceof OnnxError) throw error;
    throw new OnnxError(path, `cannot read: ${explain(error)}`, { cause: error });
  }
}

/** Versions by domain that a model imports, all of them ours. */
function checkVersions(model: ModelProto, path: string): ReadonlyMap<string, number> {
  const fail = (reason: string): never => {
    throw new OnnxError(path, reason);
  };
  if (model.functions.length > 0 || model.trainingInfo.length > 0)
    fail('has functions or training graphs, which are not read');
  const versions = new Map<string, number>();
  for (const { domain, version } of model.opsetImport) {
    const known = domains.get(domain);
    if (known === undefined)
      return fail(`imports the operator domain ${quote(domain)}; known are "" and "com.microsoft"`);
    if (versions.has(domain)) fail(`imports the operator domain ${quote(domain)} twice`);
    if (version < 1n || version > BigInt(known))
      fail(`imports version ${version} of the operator domain ${quote(domain)}; known are 1 to ${known}`);
    versions.set(domain, Number(version));
  }
  if (!versions.has('')) fail('imports no standard operators');
  return versions;
}

/** Values that a graph may read: its own, and those of the graphs around it. */
class Scope {
  private readonly names = new Set<string>();

  constructor(private readonly outer?: Scope) {}

  has(name: string): boolean {
    return this.names.has(name) || this.outer?.has(name) === true;
  }

  /** @returns whether the name was free. */
  add(name: string): boolean {
    if (name === '' || this.has(name)) return false;
    this.names.add(name);
    return true;
  }
}

class Checker {
  private readonly tensors: TensorChecker;

  constructor(
    private readonly path: string,
    readonly versions: ReadonlyMap<string, number>,
  ) {
    this.tensors = new TensorChecker(path);
  }

  fail(reason: string): never {
    throw new OnnxError(this.path, reason);
  }

  async graph(graph: GraphProto, outer: Scope | undefined): Promise<Omit<OnnxSummary, 'opset'>> {
    const what = `graph ${quote(graph.name)}`;
    if (graph.sparseInitializer.length > 0 || graph.quantizationAnnotation.length > 0)
      this.fail(`${what} has sparse or quantised constants, which are not read`);
    const scope = new Scope(outer);
    const inputs = graph.input.map((value) => this.value(value, `${what}: input`));
    for (const { name } of inputs)
      if (!scope.add(name)) this.fail(`${what}: the input ${quote(name)} is taken`);
    let [externalTensors, externalBytes] = [0, 0];
    for (const tensor of graph.initializer) {
      if (!scope.add(tensor.name)) this.fail(`${what}: the constant ${quote(tensor.name)} is taken`);
      const bytes = await this.tensors.check(tensor);
      if (bytes !== undefined) {
        externalTensors++;
        externalBytes += bytes;
      }
    }
    let nodes = 0;
    for (const node of graph.node) nodes += await this.node(node, scope);
    const outputs = graph.output.map((value) => this.value(value, `${what}: output`));
    for (const { name } of outputs)
      if (!scope.has(name)) this.fail(`${what}: nothing makes the output ${quote(name)}`);
    return { inputs, outputs, nodes, externalTensors, externalBytes };
  }

  /** @returns the number of nodes, with those of its graphs. */
  private async node(node: NodeProto, scope: Scope): Promise<number> {
    const what = `node ${quote(node.name)} (${quote(node.opType)})`;
    if (!this.versions.has(node.domain))
      this.fail(`${what} is of the operator domain ${quote(node.domain)}, which the model does not import`);
    if (node.opType === '') this.fail(`${what} has no operator`);
    for (const name of node.input)
      if (name !== '' && !scope.has(name))
        this.fail(`${what} reads ${quote(name)}, which nothing before it makes`);
    let nodes = 1;
    const seen = new Set<string>();
    for (const attribute of node.attribute) {
      if (seen.has(attribute.name)) this.fail(`${what} has the attribute ${quote(attribute.name)} twice`);
      seen.add(attribute.name);
      nodes += await this.attribute(attribute, `${what}: attribute ${quote(attribute.name)}`, scope);
    }
    for (const name of node.output)
      if (name !== '' && !scope.add(name)) this.fail(`${what} makes ${quote(name)}, which is taken`);
    return nodes;
  }

  private async attribute(attribute: AttributeProto, what: string, scope: Scope): Promise<number> {
    switch (attribute.type) {
      case AttributeType.INT:
      case AttributeType.INTS:
      case AttributeType.FLOAT:
      case AttributeType.FLOATS:
      case AttributeType.STRING:
      case AttributeType.STRINGS:
        return 0;
      case AttributeType.TENSOR:
        if (!attribute.t) return this.fail(`${what} has no tensor`);
        if ((await this.tensors.check(attribute.t)) !== undefined)
          this.fail(`${what} has its numbers in another file`);
        return 0;
      case AttributeType.GRAPH:
        if (!attribute.g) return this.fail(`${what} has no graph`);
        return (await this.graph(attribute.g, scope)).nodes;
      default:
        return this.fail(`${what} is of a type that is not read: ${attribute.type}`);
    }
  }

  private value({ name, type }: ValueInfoProto, what: string): OnnxValue {
    if (type?.value.case !== 'tensorType') return this.fail(`${what} ${quote(name)} is no tensor`);
    const { elemType, shape } = type.value.value;
    const element = elementTypes.get(elemType);
    if (!element) return this.fail(`${what} ${quote(name)} has the unknown element type ${elemType}`);
    if (!shape) return this.fail(`${what} ${quote(name)} has no shape`);
    const sizes = shape.dim.map(({ value }) => {
      if (value.case === 'dimParam') return value.value;
      if (value.case !== 'dimValue' || value.value < 0n || value.value > Number.MAX_SAFE_INTEGER)
        return this.fail(`${what} ${quote(name)} has a size that is neither a name nor a whole number`);
      return Number(value.value);
    });
    return { name, elementType: element.name, shape: sizes };
  }
}
