/**
 * Models as ONNX with weights in a file of their own, and a strict check of such files.
 * @module
 */
export { checkOnnx, type OnnxSummary, type OnnxValue } from './check.js';
export { OnnxError } from './errors.js';
export { exportOnnx, type ExportedOnnx, type ExportOnnxOptions, type ExportSource } from './export.js';
