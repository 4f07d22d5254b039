/**
 * Options from a configuration, checked as those of a recipe are.
 * @module
 */
import { modelSchema, type ModelOptions } from '../../models/index.js';
import { ModelFolderError } from './errors.js';

/**
 * Checks options and fills their defaults.
 * @param file path for messages.
 * @throws ModelFolderError in one line that names the option.
 */
export function parseOptions(input: unknown, file: string): ModelOptions {
  const parsed = modelSchema.safeParse(input);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = issue.path.join('.');
    throw new ModelFolderError(`${file}: ${path === '' ? '' : `${path}: `}${issue.message}`);
  }
  const { vocabSize } = parsed.data;
  if (vocabSize === undefined) throw new ModelFolderError(`${file}: vocabSize is missing`);
  return { ...parsed.data, vocabSize };
}
