import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { mkdir, mkdtemp, open, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  ModelProtoSchema,
  SparseTensorProtoSchema,
  TensorProto_DataLocation as DataLocation,
  type ModelProto,
  type TensorProto,
} from 'onnx-buf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { add, input, multiply, scan } from '../../graph/index.js';
import { encodeModel, lower } from '../../runtime/index.js';
import { checkOnnx, OnnxError } from './index.js';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-check-'));
  path = join(folder, 'model.onnx');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** y = x · w + b over four numbers, with w and b outside at the offset given. */
async function sound(offset = 64): Promise<Uint8Array> {
  const [x, w, b] = ['x', 'w', 'b'].map((name) => input(name, 'float32', [4]));
  const external = new Map([
    ['w', { location: 'weights.data', offset, length: 16 }],
    ['b', { location: 'weights.data', offset: offset + 16, length: 16 }],
  ]);
  const data = await open(join(folder, 'weights.data'), 'w');
  await data.write(Float32Array.of(1, 2, 3, 4, 10, 20, 30, 40), 0, 32, offset);
  await data.close();
  return encodeModel(lower({ y: add(multiply(x, w), b) }).graph, { external });
}

/** A model changed as protobuf sees it. */
async function changed(change: (model: ModelProto) => void): Promise<Uint8Array> {
  const model = fromBinary(ModelProtoSchema, await sound());
  change(model);
  return toBinary(ModelProtoSchema, model);
}

/** The constant `w` changed. */
const constant = (change: (tensor: TensorProto) => void) => (): Promise<Uint8Array> =>
  changed((model) => change(model.graph!.initializer.find(({ name }) => name === 'w')!));

/** Where `w` is said to lie. */
const place = (key: string, value: string) =>
  constant(({ externalData }) => {
    const entry = externalData.find((each) => each.key === key)!;
    entry.value = value;
  });

/** A graph in an attribute of a node in a graph, and so on. */
const deep = (depth: number): Uint8Array =>
  nested([7, ...Array.from({ length: depth }, () => [1, 5, 6]).flat()], new Uint8Array(0));

/** A field of the model by number, wire type and bytes. */
const field = (number: number, wireType: number, ...bytes: number[]): Uint8Array =>
  Uint8Array.of(number * 8 + wireType, ...bytes);

/** Bytes as the field of a message that is the field of another, by the numbers from the outermost in. */
function nested(numbers: readonly number[], content: Uint8Array): Uint8Array {
  return numbers.reduceRight<Uint8Array>((inner, number) => {
    const length: number[] = [];
    for (let rest = inner.length; ; rest >>>= 7) {
      length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
      if (rest <= 0x7f) break;
    }
    return Buffer.concat([field(number, 2, ...length), inner]);
  }, content);
}

const refused: readonly (readonly [string, RegExp, () => Uint8Array | Promise<Uint8Array>])[] = [
  ['an empty file', /has no graph|imports no standard operators/, () => new Uint8Array(0)],
  ['text', /is not an ONNX model: ModelProto has no field 7|wire type/, () => Buffer.from('<html></html>')],
  [
    'a graph that ends too early',
    /is not an ONNX model: .*\(byte \d+\)/,
    async () => (await sound()).subarray(0, -9),
  ],
  ['graphs in graphs, 11 deep', /messages lie more than 32 deep/, () => deep(11)],
  ['graphs in graphs, 2,000 deep', /messages lie more than 32 deep/, () => deep(2_000)],
  [
    'a number of eleven bytes',
    /number of more than ten bytes/,
    () => field(1, 0, ...Array<number>(11).fill(0xff)),
  ],
  ['an end inside a number', /ends inside a number/, () => field(1, 0, 0x80)],
  [
    'a length of 2^63',
    /a field of 9223372036854776000 bytes does not fit into the 0 that are left/,
    () => field(7, 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01),
  ],
  ['a length past the end', /a field of 100 bytes does not fit into the 1/, () => field(7, 2, 100, 0)],
  ['an unknown field', /ModelProto has no field 15/, () => field(15, 0, 0)],
  ['a group', /has the wire type 3/, () => field(7, 3, 0)],
  [
    'a million empty messages of two bytes',
    /has more than 1000000 messages/,
    () => Buffer.concat(Array<Uint8Array>(1_000_001).fill(field(8, 2, 0))),
  ],
  [
    'sizes that would become twenty million objects',
    /more than 10000000 values outside of raw data/,
    // A graph with one constant whose sizes are 20 million numbers of one byte.
    () => nested([7, 5, 1], Buffer.alloc(20_000_000)),
  ],
  ['another operator domain', /imports the operator domain "ai\.onnx\.ml"/, () => opset('ai.onnx.ml', 1n)],
  [
    'a later operator set',
    /imports version 99 of the operator domain ""; known are 1 to 21/,
    () => opset('', 99n),
  ],
  ['version 0', /imports version 0 of/, () => opset('', 0n)],
  [
    'a domain twice',
    /imports the operator domain "" twice/,
    () => changed(({ opsetImport }) => opsetImport.push(opsetImport[0])),
  ],
  ['no domain', /imports no standard operators/, () => changed((model) => (model.opsetImport = []))],
  [
    'a node of a domain that is not imported',
    /is of the operator domain "evil", which the model does not import/,
    () => changed(({ graph }) => (graph!.node[0].domain = 'evil')),
  ],
  ['no operator', /has no operator/, () => changed(({ graph }) => (graph!.node[0].opType = ''))],
  [
    'a value that nothing makes',
    /reads "nowhere", which nothing before it makes/,
    () => changed(({ graph }) => (graph!.node[0].input[0] = 'nowhere')),
  ],
  [
    'a value that is read before it is made',
    /which nothing before it makes/,
    () => changed(({ graph }) => graph!.node.reverse()),
  ],
  [
    'a value that is made twice',
    /makes "x", which is taken/,
    () => changed(({ graph }) => (graph!.node[0].output[0] = 'x')),
  ],
  [
    'an output that nothing makes',
    /nothing makes the output "z"/,
    () => changed(({ graph }) => (graph!.output[0].name = 'z')),
  ],
  [
    'a constant twice',
    /the constant "w" is taken/,
    () =>
      changed(({ graph }) => graph!.initializer.push(graph!.initializer.find(({ name }) => name === 'w')!)),
  ],
  [
    'an input twice',
    /the input "x" is taken/,
    () => changed(({ graph }) => graph!.input.push(graph!.input[0])),
  ],
  [
    'an attribute twice',
    /has the attribute "a" twice/,
    () =>
      changed(({ graph }) => {
        const one = create(AttributeProtoSchema, { name: 'a', type: AttributeType.INT });
        graph!.node[0].attribute.push(one, one);
      }),
  ],
  [
    'an attribute of no type',
    /attribute "a" is of a type that is not read: 0/,
    () => changed(({ graph }) => graph!.node[0].attribute.push(create(AttributeProtoSchema, { name: 'a' }))),
  ],
  [
    'an input without a type',
    /input "x" is no tensor/,
    () => changed(({ graph }) => delete (graph!.input[0] as { type?: unknown }).type),
  ],
  [
    'an input of negative size',
    /input "x" has a size that is neither/,
    () => changed((model) => (firstDim(model).value = { case: 'dimValue', value: -1n })),
  ],
  [
    'sparse constants',
    /has sparse or quantised constants/,
    () => changed(({ graph }) => graph!.sparseInitializer.push(create(SparseTensorProtoSchema))),
  ],
  ['an unknown element type', /"w" has the unknown element type 99/, constant((w) => (w.dataType = 99))],
  ['a negative size', /"w" cannot have the shape \[-4\]/, constant((w) => (w.dims = [-4n]))],
  ['sizes that overflow', /"w" cannot have the shape/, constant((w) => (w.dims = [2n ** 40n, 2n ** 40n]))],
  ['numbers one by one', /one by one or in segments/, constant((w) => (w.floatData = [1, 2, 3, 4]))],
  [
    'raw data of another length',
    /has 3 bytes, but FLOAT \[4\] takes 16/,
    constant((w) => {
      w.dataLocation = DataLocation.DEFAULT;
      w.externalData = [];
      w.rawData = new Uint8Array(3);
    }),
  ],
  [
    'both places',
    /lies both in the model and in another file/,
    constant((w) => (w.rawData = new Uint8Array(16))),
  ],
  [
    'a place, but not said so',
    /names another file, but is said to lie in the model/,
    constant((w) => (w.dataLocation = DataLocation.DEFAULT)),
  ],
  ['no file', /names no file/, constant((w) => (w.externalData = []))],
  [
    'an unknown entry',
    /has the unknown entry "checksum"/,
    constant((w) => (w.externalData[0].key = 'checksum')),
  ],
  ['an entry twice', /has the entry "offset" twice/, constant((w) => w.externalData.push(w.externalData[1]))],
  ...[
    '../weights.data',
    '..',
    '.',
    '',
    '/etc/passwd',
    'C:\\weights.data',
    '..\\weights.data',
    'a/../weights.data',
    'deeper/weights.data',
    'file:weights.data',
    'weights.data\0',
    '.weights',
  ].map(
    (name) =>
      [
        `data in ${JSON.stringify(name)}`,
        /"w" lies in ".*", which is not the name of a file beside the model/,
        place('location', name),
      ] as const,
  ),
  ['data in no file', /"none", which cannot be read: there is no such file/, place('location', 'none')],
  ['data in a folder', /"folder", which is not a regular file/, place('location', 'folder')],
  ['data behind a link', /"link", which is not a regular file/, place('location', 'link')],
  ['an offset past the end', /ends at byte 97 of "weights\.data", which has 96/, place('offset', '81')],
  ['an offset far past the end', /ends at byte 9007199254740\d+ of/, place('offset', '9007199254740900')],
  ['a negative offset', /offset must be a whole number of bytes, not "-1"/, place('offset', '-1')],
  ['an offset in words', /offset must be a whole number/, place('offset', '0x40')],
  ['a fractional offset', /offset must be a whole number/, place('offset', '64.5')],
  ['an offset of 2^64', /offset must be a whole number/, place('offset', '18446744073709551616')],
  [
    'a length that is not that of the shape',
    /has 12 bytes in .*, but its shape takes 16/,
    place('length', '12'),
  ],
];

const opset = (domain: string, version: bigint): Promise<Uint8Array> =>
  changed(({ opsetImport }) => {
    opsetImport[0].domain = domain;
    opsetImport[0].version = version;
  });

function firstDim({ graph }: ModelProto): { value: object } {
  const { value } = graph!.input[0].type!.value as { value: { shape: { dim: { value: object }[] } } };
  return value.shape.dim[0];
}

describe('21 refused in one line', () => {
  it.each(refused)('%s', async (_, message, bytes) => {
    await writeFile(path, await bytes());
    await mkdir(join(folder, 'folder'), { recursive: true });
    await symlink('weights.data', join(folder, 'link')).catch(() => undefined);
    const before = process.memoryUsage();
    const error = await checkOnnx(path).catch((e: unknown) => e);
    const after = process.memoryUsage();
    expect(error).toBeInstanceOf(OnnxError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message.startsWith(`${path}: `)).toBe(true);
    expect((error as Error).message).not.toMatch(/[\n\r\0]/);
    expect(after.heapUsed - before.heapUsed).toBeLessThan(100e6);
  });

  it('what is no file, or too large to be a model', async () => {
    await expect(checkOnnx(join(folder, 'none'))).rejects.toThrow('cannot read: there is no such file');
    await expect(checkOnnx(folder)).rejects.toThrow('is not a regular file');
    const large = join(folder, 'large.onnx');
    await writeFile(large, '');
    await truncate(large, 2 ** 31);
    await expect(checkOnnx(large)).rejects.toThrow('has 2147483648 bytes; a model has less than 2^31');
  });
});

describe('accepted', () => {
  it('a sound model, with its inputs, outputs and what lies outside', async () => {
    await writeFile(path, await sound());
    const value = (name: string) => ({ name, elementType: 'FLOAT', shape: [4] });
    expect(await checkOnnx(path)).toEqual({
      opset: 21,
      inputs: [value('x')],
      outputs: [expect.objectContaining({ elementType: 'FLOAT', shape: [4] })],
      nodes: 2,
      externalTensors: 2,
      externalBytes: 32,
    });
  });

  it('graphs in graphs, which read values around them', async () => {
    const w = input('w', 'float32', [2]);
    const { carry } = scan(
      ([state], [row]) => ({ carry: [add(multiply(state, w), row)], outputs: [] }),
      [input('start', 'float32', [2])],
      [input('rows', 'float32', ['time', 2])],
    );
    await writeFile(path, encodeModel(lower({ y: carry[0] }).graph));
    const { nodes, inputs } = await checkOnnx(path);
    expect(nodes).toBeGreaterThan(2);
    expect(inputs.find(({ name }) => name === 'rows')!.shape).toEqual(['time', 2]);
  });

  it('weights that lie behind 4 GiB, here and on ONNX Runtime (16)', async () => {
    await writeFile(path, await sound(5 * 2 ** 30));
    expect(await checkOnnx(path)).toMatchObject({ externalBytes: 32 });
    const session = await InferenceSession.create(path, { logSeverityLevel: 3 });
    const x = new Tensor('float32', Float32Array.of(1, 1, 1, 2), [4]);
    const results = await session.run({ x });
    expect([...(results[session.outputNames[0]].data as Float32Array)]).toEqual([11, 22, 33, 48]);
    await session.release();
    await rm(join(folder, 'weights.data'));
  });
});
