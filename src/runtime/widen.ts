/**
 * Turns 16-bit floats into float32, eight at a time, at the speed of memory.
 * @module
 */
import { compileFunctions, instructions, type WasmFunction } from './wasm-module.js';
import type { WasmMemory } from './web-assembly.js';

/** 16-bit types that can be widened. */
export type NarrowFloat = 'BF16' | 'F16';

/**
 * `widen(from, to, count)`: the float32 values of `count` numbers, exactly, NaNs with their payloads and subnormals
 * included. Bytes of the memory: `from` a multiple of 2, `to` of 4. The target may overlap the source if it begins at
 * least `2 · count` bytes before it.
 */
export type Widen = (from: number, to: number, count: number) => void;

/** Makes functions that widen numbers within a memory. */
export function compileWidening(memory: WasmMemory): Readonly<Record<NarrowFloat, Widen>> {
  const functions = compileFunctions(
    { brain: eightAtATime(brainHalves), half: eightAtATime(halfHalves) },
    memory,
  );
  const complete =
    (eight: (...parameters: number[]) => number, one: (bits: number) => number): Widen =>
    (from, to, count) => {
      const whole = count - (count % 8);
      eight(from, from + 2 * whole, to);
      const source = new Uint16Array(memory.buffer, from + 2 * whole, count - whole);
      const target = new Uint32Array(memory.buffer, to + 4 * whole, count - whole);
      for (let i = 0; i < source.length; i++) target[i] = one(source[i]);
    };
  return {
    BF16: complete(functions.brain, (bits) => bits << 16),
    F16: complete(functions.half, halfBits),
  };
}

/** Bits of the float32 that a binary16 is. */
export function halfBits(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
  if (magnitude >= 0x400) return sign | ((magnitude << 13) + 0x38000000);
  scratch[0] = magnitude * 2 ** -24;
  return sign | new Int32Array(scratch.buffer)[0];
}

const scratch = new Float32Array(1);

const [from, end, to, loaded, low, sign, value] = [0, 1, 2, 3, 4, 5, 6];

/** Loads eight numbers into `loaded`, stores what `halves` makes of them as two registers of four. */
function eightAtATime(halves: (upper: boolean) => number[]): WasmFunction {
  const { get, set, load, store, until, advance } = instructions;
  const body = [
    ...[...get(from), ...load(), ...set(loaded)],
    ...[...get(to), ...halves(false), ...store()],
    ...[...get(to), ...halves(true), ...store(16)],
    ...[...advance(from, 16), ...advance(to, 32)],
  ];
  return {
    parameters: ['i32', 'i32', 'i32'],
    locals: ['v128', 'v128', 'v128', 'v128'],
    body: until(from, end, body),
  };
}

/** Four numbers, each in the upper half of 32 bits: that is what bfloat16 is. */
function brainHalves(upper: boolean): number[] {
  const { get, shuffle, i32x4Splat, i32 } = instructions;
  const lanes = [0, 1, 2, 3].flatMap((lane) => {
    const byte = 2 * (lane + (upper ? 4 : 0));
    return [16, 16, byte, byte + 1];
  });
  return [...get(loaded), ...i32(0), ...i32x4Splat, ...shuffle(lanes)];
}

/**
 * Exponent and fraction of a binary16 in the places of a float32 are its value over 2¹¹²; what is then not below 65,536 was
 * an infinity or no number and gets the largest exponent.
 */
function halfHalves(upper: boolean): number[] {
  const { get, set, i32, i32x4Splat, i32x4ShiftLeft, i32x4ExtendLow, i32x4ExtendHigh, and, or } =
    instructions;
  const { f32, f32x4Splat, f32x4Multiply, f32x4GreaterEqual } = instructions;
  const bits = (mask: number): number[] => [...i32(mask), ...i32x4Splat];
  return [
    ...[...get(loaded), ...(upper ? i32x4ExtendHigh : i32x4ExtendLow), ...set(low)],
    ...[...get(low), ...bits(0x8000), ...and, ...i32(16), ...i32x4ShiftLeft, ...set(sign)],
    ...[...get(low), ...bits(0x7fff), ...and, ...i32(13), ...i32x4ShiftLeft],
    ...[...f32(2 ** 112), ...f32x4Splat, ...f32x4Multiply, ...set(value)],
    ...[...get(value), ...f32(65_536), ...f32x4Splat, ...f32x4GreaterEqual, ...bits(0x7f800000), ...and],
    ...[...get(value), ...or, ...get(sign), ...or],
  ];
}
