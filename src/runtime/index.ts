/**
 * ONNX lowering, sessions, devices and buffers.
 * @module
 */
export { allocate, holds, type TensorData } from './arrays.js';
export { DeviceError, devices, type Device, type RuntimeOptions } from './device.js';
export { encodeModel, OPSET, type EncodeOptions, type ExternalData } from './encode.js';
export { FlatMemory } from './flat-memory.js';
export type { WasmMemory } from './web-assembly.js';
export { compileElementwise, compileSumOfSquares, type ElementwiseKernel } from './simd.js';
export { compileFunctions, instructions, type WasmFunction } from './wasm-module.js';
export { lower, type LoweredProgram, type Port } from './lower.js';
export { compile, type Buffers, Program, type Results } from './program.js';
export { compileWidening, halfBits, type NarrowFloat, type Widen } from './widen.js';
