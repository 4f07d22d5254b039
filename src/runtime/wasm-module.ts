/**
 * Writes small WebAssembly modules: the few instructions that our kernels need, as bytes.
 * @module
 */
import { webAssembly, type WasmMemory } from './web-assembly.js';

/** Types of parameters, results and locals. */
export const wasmTypes = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;

/** One of {@link wasmTypes}. */
export type WasmType = keyof typeof wasmTypes;

/** A function of a module. Locals are numbered after the parameters, in their order. */
export interface WasmFunction {
  readonly parameters: readonly WasmType[];
  readonly results?: readonly WasmType[];
  readonly locals?: readonly WasmType[];
  /** Instructions, one after the other. */
  readonly body: readonly number[];
}

/** SIMD opcodes: behind a prefix, and longer than a byte from 0x80 on. */
const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];
const memoryAccess = (opcode: number, alignment: number, offset: number): number[] => [
  ...simd(opcode),
  alignment,
  ...unsigned(offset),
];

/** Instructions by the names of the specification, operands before them on the stack. */
export const instructions = {
  get: (local: number): number[] => [0x20, ...unsigned(local)],
  set: (local: number): number[] => [0x21, ...unsigned(local)],
  /** Sets and leaves the value on the stack. */
  tee: (local: number): number[] => [0x22, ...unsigned(local)],
  i32: (value: number): number[] => [0x41, ...signed(value)],
  f32: (value: number): number[] => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)],
  f64: (value: number): number[] => [0x44, ...new Uint8Array(Float64Array.of(value).buffer)],
  i32Add: [0x6a],
  i32Mul: [0x6c],
  i32EqualsZero: [0x45],
  f64Equal: [0x61],
  f64LessEqual: [0x65],
  f64Add: [0xa0],
  f64Min: [0xa4],
  return: [0x0f],
  /** Runs `body` if the number on the stack is not 0. */
  if: (body: readonly number[]): number[] => [0x04, 0x40, ...body, 0x0b],
  /** Repeats `body` until local `at`, unsigned, has reached local `end`. */
  until: (at: number, end: number, body: readonly number[]): number[] => [
    ...[0x02, 0x40, 0x03, 0x40],
    ...[0x20, ...unsigned(at), 0x20, ...unsigned(end), 0x4f, 0x0d, 0x01],
    ...[...body, 0x0c, 0x00, 0x0b, 0x0b],
  ],
  /** `at += bytes` */
  advance: (local: number, bytes: number): number[] => [
    ...[0x20, ...unsigned(local), 0x41, ...signed(bytes), 0x6a],
    ...[0x21, ...unsigned(local)],
  ],
  load: (offset = 0): number[] => memoryAccess(0x00, 4, offset),
  /** The lower half of a register; the upper becomes 0. */
  loadHalf: (offset = 0): number[] => memoryAccess(0x5d, 3, offset),
  store: (offset = 0): number[] => memoryAccess(0x0b, 4, offset),
  anyTrue: simd(0x53),
  and: simd(0x4e),
  or: simd(0x50),
  /** The first operand where the bits of the third are set, the second elsewhere. */
  select: simd(0x52),
  shuffle: (bytes: readonly number[]): number[] => [...simd(0x0d), ...bytes],
  i32x4Splat: simd(0x11),
  /** By the number on the stack. */
  i32x4ShiftLeft: simd(0xab),
  /** The four lower 16-bit numbers, and the four upper ones, unsigned. */
  i32x4ExtendLow: simd(0xa9),
  i32x4ExtendHigh: simd(0xaa),
  f32x4Splat: simd(0x13),
  f32x4GreaterEqual: simd(0x46),
  f32x4Sqrt: simd(0xe3),
  f32x4Add: simd(0xe4),
  f32x4Subtract: simd(0xe5),
  f32x4Multiply: simd(0xe6),
  f32x4Divide: simd(0xe7),
  /** The two lower numbers of four, in double precision. */
  f64x2Promote: simd(0x5f),
  f64x2Splat: simd(0x14),
  f64x2Lane: (lane: number): number[] => [...simd(0x21), lane],
  f64x2Equal: simd(0x47),
  f64x2Less: simd(0x49),
  f64x2LessEqual: simd(0x4b),
  f64x2Add: simd(0xf0),
  f64x2Subtract: simd(0xf1),
  f64x2Multiply: simd(0xf2),
  /** `b < a ? b : a`: what is not a number in b never wins. */
  f64x2PMin: simd(0xf6),
  /** `a < b ? b : a` */
  f64x2PMax: simd(0xf7),
};

/** Makes functions over `memory`, by name. */
export function compileFunctions<Name extends string>(
  functions: Readonly<Record<Name, WasmFunction>>,
  memory: WasmMemory,
): Record<Name, (...parameters: number[]) => number> {
  const module = new webAssembly.Module(encodeModule(functions));
  return new webAssembly.Instance(module, { env: { memory } }).exports as Record<
    Name,
    (...parameters: number[]) => number
  >;
}

/** A module that exports its functions over imported memory. */
function encodeModule(functions: Readonly<Record<string, WasmFunction>>): Uint8Array<ArrayBuffer> {
  const list = Object.entries(functions);
  const name = (text: string): number[] => vector([...new TextEncoder().encode(text)]);
  const types = (of: readonly WasmType[] = []): number[] => vector(of.map((type) => wasmTypes[type]));
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(
      1,
      list.map(([, { parameters, results }]) => [0x60, ...types(parameters), ...types(results)]),
    ),
    ...section(2, [[...name('env'), ...name('memory'), 0x02, 0x00, 0x00]]),
    ...section(
      3,
      list.map((_, i) => unsigned(i)),
    ),
    ...section(
      7,
      list.map(([exported], i) => [...name(exported), 0x00, ...unsigned(i)]),
    ),
    ...section(
      10,
      list.map(([, { locals = [], body }]) => {
        const groups = locals.map((type) => [1, wasmTypes[type]]);
        const code = [...unsigned(groups.length), ...groups.flat(), ...body, 0x0b];
        return vector(code);
      }),
    ),
  ]);
}

function section(id: number, items: readonly (readonly number[])[]): number[] {
  return [id, ...vector([...unsigned(items.length), ...items.flat()])];
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

/** Signed LEB128. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    const done = value === ((low & 0x40) === 0 ? 0 : -1);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
}
