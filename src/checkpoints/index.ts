/**
 * Weights at rest: safetensors, files that appear whole or not at all, JSON that loses nothing.
 * @module
 */
export { createSynced, replaceFile, syncFolder, temporaryName } from './atomic-file.js';
export { createFolder, FolderError } from './atomic-folder.js';
export { digestFile, HashingWriter, type FileDigest } from './hashing-file.js';
export { encodeJson, type JsonObject, type JsonValue } from './json.js';
export * from './compressed/index.js';
export * from './convert/index.js';
export * from './hugging-face/index.js';
export * from './model-folder/index.js';
export * from './onnx/index.js';
export * from './safetensors/index.js';
export { explain, systemCode } from './system-error.js';
export * from './tensors/index.js';
