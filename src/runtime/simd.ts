/**
 * Compiles elementwise arithmetic over flat float32 vectors to WebAssembly SIMD: one loop that loads each vector once,
 * computes in registers and stores once, which is all that memory allows. ONNX Runtime would run one pass per operator.
 * @module
 */
import { constantValue, inputName, topologicalOrder, type Node, type Tensor } from '../graph/index.js';
import { webAssembly, type WasmMemory } from './web-assembly.js';

/** Bytes of one SIMD register: four float32. */
const REGISTER = 16;

const I32 = 0x7f;
const F32 = 0x7d;
const F64 = 0x7c;
const V128 = 0x7b;

/** SIMD opcodes behind the 0xfd prefix, by the graph's operator. */
const ARITHMETIC: Readonly<Record<string, number>> = {
  sqrt: 0xe3,
  add: 0xe4,
  subtract: 0xe5,
  multiply: 0xe6,
  divide: 0xe7,
};
const LOAD = 0x00;
const STORE = 0x0b;
const SPLAT = 0x13;

/** An elementwise pass over vectors of one memory. */
export interface ElementwiseKernel {
  /**
   * Computes elements `start` … `end` − 1, both multiples of 4, in place.
   * @param vectors arrays in the memory that the kernel was made for, by the name of their input.
   * @param scalars by the name of their input.
   */
  run(
    vectors: Readonly<Record<string, Float32Array>>,
    scalars: Readonly<Record<string, number>>,
    start: number,
    end: number,
  ): void;
}

/**
 * Compiles a graph of additions, subtractions, products, quotients and square roots.
 *
 * @param outputs new values, by the name of the vector input that they replace.
 * @param memory where all vectors lie.
 * @throws Error if the graph uses another operator.
 */
export function compileElementwise(
  outputs: Readonly<Record<string, Tensor>>,
  memory: WasmMemory,
): ElementwiseKernel {
  const nodes = topologicalOrder(Object.values(outputs));
  const inputs = nodes.flatMap((node) => (inputName(node.outputs[0]) === undefined ? [] : [node.outputs[0]]));
  const vectors = inputs.filter((tensor) => tensor.rank === 1);
  const scalars = inputs.filter((tensor) => tensor.rank === 0);
  const parameters = [I32, I32, ...vectors.map(() => I32), ...scalars.map(() => F32)];
  const bytes = encodeModule(parameters, [], encodeFunction(nodes, vectors, scalars, outputs));
  const compute = instantiate(bytes, memory);
  return {
    run: (arrays, values, start, end) => {
      const bases = vectors.map((tensor) => arrays[inputName(tensor)!].byteOffset);
      const numbers = scalars.map((tensor) => values[inputName(tensor)!]);
      compute(start * 4, end * 4, ...bases, ...numbers);
    },
  };
}

/** `for (i = start; i < end; i += 16) { loads; arithmetic; stores }`, with every scalar spread over a register before. */
function encodeFunction(
  nodes: readonly Node[],
  vectors: readonly Tensor[],
  scalars: readonly Tensor[],
  outputs: Readonly<Record<string, Tensor>>,
): number[] {
  const firstRegister = 2 + vectors.length + scalars.length;
  const registers = new Map(nodes.map((node, i) => [node, firstRegister + i]));
  const get = (local: number): number[] => [0x20, ...unsigned(local)];
  const set = (local: number): number[] => [0x21, ...unsigned(local)];
  const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];
  const address = (base: number): number[] => [...get(base), ...get(0), 0x6a];
  const baseOf = new Map(vectors.map((tensor, i) => [tensor.node, 2 + i]));
  const scalarOf = new Map(scalars.map((tensor, i) => [tensor.node, 2 + vectors.length + i]));

  const before: number[] = [];
  const body: number[] = [];
  for (const node of nodes) {
    const register = registers.get(node)!;
    const value = constantValue(node.outputs[0]);
    if (value !== undefined) {
      const single = new Uint8Array(Float32Array.of(value[0]).buffer);
      before.push(0x43, ...single, ...simd(SPLAT), ...set(register));
    } else if (scalarOf.has(node)) {
      before.push(...get(scalarOf.get(node)!), ...simd(SPLAT), ...set(register));
    } else if (baseOf.has(node)) {
      body.push(...address(baseOf.get(node)!), ...simd(LOAD), 0x04, 0x00, ...set(register));
    } else {
      const opcode = ARITHMETIC[node.operator.name];
      if (opcode === undefined)
        throw new Error(`operator '${node.operator.name}' has no elementwise SIMD form`);
      const operands = node.inputs.flatMap((tensor) => get(registers.get(tensor.node)!));
      body.push(...operands, ...simd(opcode), ...set(register));
    }
  }
  for (const [name, tensor] of Object.entries(outputs)) {
    const target = vectors.find((vectorInput) => inputName(vectorInput) === name)!;
    body.push(
      ...address(baseOf.get(target.node)!),
      ...get(registers.get(tensor.node)!),
      ...simd(STORE),
      0x04,
      0x00,
    );
  }
  const loop = [
    ...[0x02, 0x40, 0x03, 0x40],
    ...[...get(0), ...get(1), 0x4f, 0x0d, 0x01],
    ...body,
    ...[...get(0), 0x41, REGISTER, 0x6a, ...set(0)],
    ...[0x0c, 0x00, 0x0b, 0x0b],
  ];
  const code = [0x01, ...unsigned(nodes.length), V128, ...before, ...loop, 0x0b];
  return [...unsigned(code.length), ...code];
}

/**
 * Compiles the sum of squares of a vector, added up in double precision: always in the same order.
 * @param memory where the vectors lie.
 */
export function compileSumOfSquares(memory: WasmMemory): (data: Float32Array) => number {
  const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];
  const [promoteLow, addDouble, multiplyDouble, shuffle, extractDouble] = [0x5f, 0xf0, 0xf2, 0x0d, 0x21];
  // Bytes 8 … 15 first, so that promotion sees the upper two numbers.
  const upperHalf = [...simd(shuffle), ...Array.from({ length: 16 }, (_, i) => (i + 8) % 16)];
  const [at, end, loaded, total, wide] = [0, 1, 2, 3, 4];
  const get = (local: number): number[] => [0x20, local];
  const set = (local: number): number[] => [0x21, local];
  const accumulate = [
    ...[...simd(promoteLow), ...set(wide), ...get(wide), ...get(wide), ...simd(multiplyDouble)],
    ...[...get(total), ...simd(addDouble), ...set(total)],
  ];
  const code = [
    ...[0x01, 0x03, V128],
    ...[0x02, 0x40, 0x03, 0x40, ...get(at), ...get(end), 0x4f, 0x0d, 0x01],
    ...[...get(at), ...simd(LOAD), 0x04, 0x00, ...set(loaded)],
    ...[...get(loaded), ...accumulate],
    ...[...get(loaded), ...get(loaded), ...upperHalf, ...accumulate],
    ...[...get(at), 0x41, REGISTER, 0x6a, ...set(at), 0x0c, 0x00, 0x0b, 0x0b],
    ...[...get(total), ...simd(extractDouble), 0, ...get(total), ...simd(extractDouble), 1, 0xa0, 0x0b],
  ];
  const bytes = encodeModule([I32, I32], [F64], [...unsigned(code.length), ...code]);
  const compute = instantiate(bytes, memory) as (start: number, end: number) => number;
  return (data) => compute(data.byteOffset, data.byteOffset + data.byteLength);
}

function instantiate(
  bytes: Uint8Array<ArrayBuffer>,
  memory: WasmMemory,
): (...parameters: number[]) => unknown {
  const instance = new webAssembly.Instance(new webAssembly.Module(bytes), { env: { memory } });
  return instance.exports['run'] as (...parameters: number[]) => unknown;
}

/** A module with one exported function, `run`, over imported memory. */
function encodeModule(
  parameters: readonly number[],
  results: readonly number[],
  code: readonly number[],
): Uint8Array<ArrayBuffer> {
  const name = (text: string): number[] => vector([...new TextEncoder().encode(text)]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, [[0x60, ...vector(parameters), ...vector(results)]]),
    ...section(2, [[...name('env'), ...name('memory'), 0x02, 0x00, 0x00]]),
    ...section(3, [[0x00]]),
    ...section(7, [[...name('run'), 0x00, 0x00]]),
    ...section(10, [code]),
  ]);
}

function section(id: number, items: readonly (readonly number[])[]): number[] {
  const content = [...unsigned(items.length), ...items.flat()];
  return [id, ...unsigned(content.length), ...content];
}

/** A length followed by as many bytes. */
function vector(bytes: readonly number[]): number[] {
  return [...unsigned(bytes.length), ...bytes];
}

/** Unsigned LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  do {
    const low = value & 0x7f;
    value >>>= 7;
    bytes.push(value === 0 ? low : low | 0x80);
  } while (value !== 0);
  return bytes;
}
