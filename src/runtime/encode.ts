/**
 * Encodes an ONNX graph from plain data to the bytes of an ONNX model, by way of the protobuf library.
 * @module
 */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type AttributeProtoSchema,
  type GraphProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type TypeProtoSchema,
  type ValueInfoProtoSchema,
} from 'onnx-buf';
import type { DType, OnnxAttribute, OnnxConstant, OnnxGraph, OnnxNode, TensorType } from '../graph/index.js';

/** Operator set that our lowerings are written against. */
export const OPSET = 21;
/** Version of the file format that carries it. */
const IR_VERSION = 10n;

const dataTypes: Readonly<Record<OnnxConstant['dtype'], DataType>> = {
  float32: DataType.FLOAT,
  float64: DataType.DOUBLE,
  int32: DataType.INT32,
  int64: DataType.INT64,
  bool: DataType.BOOL,
  uint8: DataType.UINT8,
};

/** Where the numbers of a constant lie in a file beside the model. */
export interface ExternalData {
  /** Name of the file. */
  readonly location: string;
  /** First byte. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** Options of {@link encodeModel}. */
export interface EncodeOptions {
  /** Adds an empty sequence as first output, which only `UncopiedSession` knows how to use. */
  readonly marker?: boolean;
  /** Inputs that become constants whose numbers lie in another file, by name. */
  readonly external?: ReadonlyMap<string, ExternalData>;
}

/** Name of the first output of a model encoded with `marker`: an empty sequence. */
export const MARKER = 'marker';

/** Bytes of an ONNX model that any ONNX Runtime with the contributed operators can open. */
export function encodeModel(
  graph: OnnxGraph,
  { marker = false, external = new Map() }: EncodeOptions = {},
): Uint8Array {
  const encoded = encodeGraph(graph, external);
  const model = create(ModelProtoSchema, {
    irVersion: IR_VERSION,
    producerName: 'switchyard',
    opsetImport: [
      { domain: '', version: BigInt(OPSET) },
      { domain: 'com.microsoft', version: 1n },
    ],
    graph: marker ? withMarker(encoded) : encoded,
  });
  return toBinary(ModelProtoSchema, model);
}

function encodeGraph(graph: OnnxGraph, external: ReadonlyMap<string, ExternalData> = new Map()): GraphInit {
  const outside = graph.inputs.flatMap((value) => {
    const place = external.get(value.name);
    return place ? [encodeExternal(value, place)] : [];
  });
  return {
    name: graph.name,
    input: graph.inputs.filter(({ name }) => !external.has(name)).map(encodeValue),
    output: graph.outputs.map(encodeValue),
    node: graph.nodes.map(encodeNode),
    initializer: [
      ...[...graph.constants].map(([name, constant]) => encodeConstant(name, constant)),
      ...outside,
    ],
  };
}

type GraphInit = Exclude<MessageInitShape<typeof GraphProtoSchema>, { $typeName: string }>;

function withMarker(graph: GraphInit): GraphInit {
  const element: MessageInitShape<typeof TypeProtoSchema> = {
    value: { case: 'tensorType', value: { elemType: DataType.FLOAT } },
  };
  return {
    ...graph,
    output: [
      { name: MARKER, type: { value: { case: 'sequenceType', value: { elemType: element } } } },
      ...(graph.output ?? []),
    ],
    node: [...(graph.node ?? []), { name: MARKER, opType: 'SequenceEmpty', output: [MARKER] }],
  };
}

function encodeValue({
  name,
  dtype,
  shape,
}: TensorType & { name: string }): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = shape.map((size) => ({
    value:
      typeof size === 'number'
        ? ({ case: 'dimValue', value: BigInt(size) } as const)
        : ({ case: 'dimParam', value: size } as const),
  }));
  return {
    name,
    type: { value: { case: 'tensorType', value: { elemType: dataTypes[dtype], shape: { dim } } } },
  };
}

function encodeNode(node: OnnxNode, index: number): MessageInitShape<typeof NodeProtoSchema> {
  return {
    name: `${node.type}_${index}`,
    opType: node.type,
    domain: node.domain,
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: Object.entries(node.attributes).map(([name, value]) => encodeAttribute(name, value)),
  };
}

function encodeAttribute(name: string, value: OnnxAttribute): MessageInitShape<typeof AttributeProtoSchema> {
  if (typeof value === 'number') return { name, type: AttributeType.INT, i: BigInt(value) };
  if (typeof value === 'string') {
    if (value.startsWith('dtype:')) {
      return { name, type: AttributeType.INT, i: BigInt(dataTypes[value.slice('dtype:'.length) as DType]) };
    }
    return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  }
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  if ('graph' in value) return { name, type: AttributeType.GRAPH, g: encodeGraph(value.graph) };
  return { name, type: AttributeType.INTS, ints: value.map((item) => BigInt(item)) };
}

function encodeConstant(
  name: string,
  { dtype, shape, data }: OnnxConstant,
): MessageInitShape<typeof TensorProtoSchema> {
  return {
    name,
    dims: shape.map((size) => BigInt(size)),
    dataType: dataTypes[dtype],
    rawData: rawBytes(dtype, data),
  };
}

function encodeExternal(
  { name, dtype, shape }: OnnxGraph['inputs'][number],
  { location, offset, length }: ExternalData,
): MessageInitShape<typeof TensorProtoSchema> {
  return {
    name,
    dims: shape.map((size) => BigInt(size)),
    dataType: dataTypes[dtype],
    dataLocation: DataLocation.EXTERNAL,
    externalData: [
      { key: 'location', value: location },
      { key: 'offset', value: String(offset) },
      { key: 'length', value: String(length) },
    ],
  };
}

/** ONNX stores raw data in little-endian order, which every machine that Node supports uses. */
function rawBytes(dtype: OnnxConstant['dtype'], data: OnnxConstant['data']): Uint8Array<ArrayBuffer> {
  // Packed weights are megabytes: they are not taken through an array of numbers.
  if ((dtype === 'float32' && data instanceof Float32Array) || data instanceof Uint8Array) {
    return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  }
  const numbers = Array.from(data);
  const array =
    dtype === 'int64'
      ? BigInt64Array.from(numbers, (value) => BigInt(value))
      : dtype === 'float32'
        ? Float32Array.from(numbers)
        : dtype === 'float64'
          ? Float64Array.from(numbers)
          : dtype === 'int32'
            ? Int32Array.from(numbers)
            : Uint8Array.from(numbers);
  return new Uint8Array(array.buffer);
}
