/**
 * Finds the architecture of Hugging Face that a model of ours is.
 * @module
 */
import type { ModelOptions } from '../../models/index.js';
import type { Architecture } from '../hugging-face/architecture.js';
import { ConfigReader } from '../hugging-face/config-reader.js';
import { ModelFolderError, UnfitModelError } from '../hugging-face/errors.js';
import { architectures } from '../hugging-face/index.js';
import type { JsonObject } from '../json.js';
import { canonicalOptions } from './canonical.js';

/** An architecture with the configuration of a model. */
export interface Fit {
  readonly architecture: Architecture;
  readonly config: JsonObject;
}

/** Options that are of training alone: a checkpoint that is only run computes the same whatever they are. */
const ofTraining =
  /initialization|dropout|coefficient|jitter|noise|exploration|balanceForm|entropyOf|updateSpeed|router\.group$/i;

/**
 * The architecture that has exactly such models.
 *
 * @param modelType the one to try; all when absent, in their order.
 * @param location of the model, for messages.
 * @throws ModelFolderError in one line that says for each what it lacks.
 */
export function fitArchitecture(options: ModelOptions, modelType: string | undefined, location: string): Fit {
  const candidates = architectures.filter((each) => modelType === undefined || each.modelType === modelType);
  if (candidates.length === 0) {
    const known = architectures.map((each) => each.modelType).join(', ');
    throw new ModelFolderError(`there is no architecture ${JSON.stringify(modelType)}; known are ${known}`);
  }
  const reasons: string[] = [];
  for (const architecture of candidates) {
    const found = tryArchitecture(architecture, options);
    if (typeof found !== 'string') return found;
    reasons.push(`${architecture.modelType}: ${found}`);
  }
  throw new ModelFolderError(`${location} is no model of Hugging Face: ${reasons.join('; ')}`);
}

/** The fit, or why there is none. */
function tryArchitecture(architecture: Architecture, options: ModelOptions): Fit | string {
  try {
    const config = architecture.writeConfig(options);
    const read = architecture.readConfig(new ConfigReader(config, 'its configuration'));
    const [lost] = differences(canonicalOptions(options), canonicalOptions(read), '');
    if (lost !== undefined) return lost;
    architecture.tensors(options, { layout: 'perExpert', present: new Set() });
    return { architecture, config };
  } catch (error) {
    const isRefusal =
      error instanceof UnfitModelError || error instanceof ModelFolderError || error instanceof RangeError;
    if (!isRefusal) throw error;
    return error.message;
  }
}

/** Where reading back what was written gives something else. */
function differences(wanted: unknown, read: unknown, path: string): string[] {
  if (ofTraining.test(path)) return [];
  const isTree = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null;
  if (isTree(wanted) && isTree(read)) {
    const keys = new Set([...Object.keys(wanted), ...Object.keys(read)]);
    return [...keys].flatMap((key) =>
      differences(wanted[key], read[key], path === '' ? key : `${path}.${key}`),
    );
  }
  // Which tokens begin and end a text is the tokenizer's where the model does not say.
  if (wanted === read || (wanted === undefined && path.endsWith('TokenId'))) return [];
  return [`it has ${shown(path, read)}, not ${shown(path, wanted)}`];
}

function shown(path: string, value: unknown): string {
  return value === undefined ? `no ${path}` : `${path} ${JSON.stringify(value)}`;
}
