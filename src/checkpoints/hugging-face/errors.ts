/**
 * Why a folder or a model was refused.
 * @module
 */

/** Thrown when a folder does not hold a model that we can open; the message is one line that names the file. */
export class ModelFolderError extends Error {
  override readonly name = 'ModelFolderError';
}

/** Thrown when an architecture has no place for something that a model has; the message names it. */
export class UnfitModelError extends Error {
  override readonly name = 'UnfitModelError';
}
