/**
 * Compiles elementwise arithmetic over flat float32 vectors to WebAssembly SIMD: one loop that loads each vector once,
 * computes in registers and stores once, which is all that memory allows. ONNX Runtime would run one pass per operator.
 * @module
 */
import { constantValue, inputName, topologicalOrder, type Node, type Tensor } from '../graph/index.js';
import { compileFunctions, instructions, type WasmFunction } from './wasm-module.js';
import type { WasmMemory } from './web-assembly.js';

/** Bytes of one SIMD register: four float32. */
const REGISTER = 16;

/** Instructions by the graph's operator. */
const ARITHMETIC: Readonly<Record<string, readonly number[]>> = {
  sqrt: instructions.f32x4Sqrt,
  add: instructions.f32x4Add,
  subtract: instructions.f32x4Subtract,
  multiply: instructions.f32x4Multiply,
  divide: instructions.f32x4Divide,
};

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
  const { run: compute } = compileFunctions(
    { run: elementwiseFunction(nodes, vectors, scalars, outputs) },
    memory,
  );
  return {
    run: (arrays, values, start, end) => {
      const bases = vectors.map((tensor) => arrays[inputName(tensor)!].byteOffset);
      const numbers = scalars.map((tensor) => values[inputName(tensor)!]);
      compute(start * 4, end * 4, ...bases, ...numbers);
    },
  };
}

/** `for (i = start; i < end; i += 16) { loads; arithmetic; stores }`, with every scalar spread over a register before. */
function elementwiseFunction(
  nodes: readonly Node[],
  vectors: readonly Tensor[],
  scalars: readonly Tensor[],
  outputs: Readonly<Record<string, Tensor>>,
): WasmFunction {
  const { get, set, load, store, f32, f32x4Splat, i32Add, until, advance } = instructions;
  const [at, end] = [0, 1];
  const firstRegister = 2 + vectors.length + scalars.length;
  const registers = new Map(nodes.map((node, i) => [node, firstRegister + i]));
  const address = (base: number): number[] => [...get(base), ...get(at), ...i32Add];
  const baseOf = new Map(vectors.map((tensor, i) => [tensor.node, 2 + i]));
  const scalarOf = new Map(scalars.map((tensor, i) => [tensor.node, 2 + vectors.length + i]));

  const before: number[] = [];
  const body: number[] = [];
  for (const node of nodes) {
    const register = registers.get(node)!;
    const value = constantValue(node.outputs[0]);
    if (value !== undefined) {
      before.push(...f32(value[0]), ...f32x4Splat, ...set(register));
    } else if (scalarOf.has(node)) {
      before.push(...get(scalarOf.get(node)!), ...f32x4Splat, ...set(register));
    } else if (baseOf.has(node)) {
      body.push(...address(baseOf.get(node)!), ...load(), ...set(register));
    } else {
      const instruction = ARITHMETIC[node.operator.name];
      if (instruction === undefined)
        throw new Error(`operator '${node.operator.name}' has no elementwise SIMD form`);
      const operands = node.inputs.flatMap((tensor) => get(registers.get(tensor.node)!));
      body.push(...operands, ...instruction, ...set(register));
    }
  }
  for (const [name, tensor] of Object.entries(outputs)) {
    const target = vectors.find((vectorInput) => inputName(vectorInput) === name)!;
    body.push(...address(baseOf.get(target.node)!), ...get(registers.get(tensor.node)!), ...store());
  }
  return {
    parameters: ['i32', 'i32', ...vectors.map(() => 'i32' as const), ...scalars.map(() => 'f32' as const)],
    locals: nodes.map(() => 'v128'),
    body: [...before, ...until(at, end, [...body, ...advance(at, REGISTER)])],
  };
}

/**
 * Compiles the sum of squares of a vector, added up in double precision: always in the same order.
 * @param memory where the vectors lie.
 */
export function compileSumOfSquares(memory: WasmMemory): (data: Float32Array) => number {
  const {
    get,
    set,
    load,
    until,
    advance,
    shuffle,
    f64x2Promote,
    f64x2Multiply,
    f64x2Add,
    f64x2Lane,
    f64Add,
  } = instructions;
  // Bytes 8 … 15 first, so that promotion sees the upper two numbers.
  const upperHalf = shuffle(Array.from({ length: 16 }, (_, i) => (i + 8) % 16));
  const [at, end, loaded, total, wide] = [0, 1, 2, 3, 4];
  const accumulate = [
    ...[...f64x2Promote, ...set(wide), ...get(wide), ...get(wide), ...f64x2Multiply],
    ...[...get(total), ...f64x2Add, ...set(total)],
  ];
  const body = [
    ...until(at, end, [
      ...[...get(at), ...load(), ...set(loaded)],
      ...[...get(loaded), ...accumulate],
      ...[...get(loaded), ...get(loaded), ...upperHalf, ...accumulate],
      ...advance(at, REGISTER),
    ]),
    ...[...get(total), ...f64x2Lane(0), ...get(total), ...f64x2Lane(1), ...f64Add],
  ];
  const { run } = compileFunctions(
    { run: { parameters: ['i32', 'i32'], results: ['f64'], locals: ['v128', 'v128', 'v128'], body } },
    memory,
  );
  return (data) => run(data.byteOffset, data.byteOffset + data.byteLength);
}
