/**
 * Public data sets that can be downloaded by name.
 * @module
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fetchDataset, type FetchProgress } from './fetch-dataset.js';

/** Where a data set lies and what its bytes are. */
export interface Dataset {
  readonly description: string;
  readonly url: string;
  /** Name of the file on disk. */
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** The known data sets. An entry is added only with a size and a hash that were checked. */
export const datasets = {
  tinyshakespeare: {
    description:
      '40,000 lines of Shakespeare (1.1 MB), the character-level benchmark of char-rnn and nanoGPT',
    url: 'https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b/data/tinyshakespeare/input.txt',
    file: 'input.txt',
    bytes: 1_115_394,
    sha256: '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed',
  },
} as const satisfies Record<string, Dataset>;

/** Name of a known data set. */
export type DatasetName = keyof typeof datasets;

const defaultFolder = 'data';

/** Where a data set is kept: `<folder>/<name>/<file>`. */
export function datasetPath(name: DatasetName, folder: string = defaultFolder): string {
  return join(folder, name, datasets[name].file);
}

/**
 * The path of a data set that was downloaded before.
 * @throws Error that says how to download it, if it is not there or not whole.
 */
export function findDataset(name: DatasetName, folder?: string): string {
  const path = datasetPath(name, folder);
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  const { bytes } = datasets[name];
  if (size === bytes) return path;
  const why = size === undefined ? `${path} does not exist` : `${path} has ${size} bytes instead of ${bytes}`;
  throw new Error(`data set ${name} is not on this machine (${why}): run \`switchyard data fetch ${name}\``);
}

/**
 * Downloads a data set by name, unless it is there, and returns its path.
 * @throws RangeError that lists the known names; otherwise as {@link fetchDataset}.
 */
export async function fetchDatasetByName(
  name: string,
  options: {
    readonly folder?: string;
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: FetchProgress) => void;
  } = {},
): Promise<string> {
  if (!Object.hasOwn(datasets, name)) {
    throw new RangeError(`there is no data set "${name}"; known are: ${Object.keys(datasets).join(', ')}`);
  }
  const { url, bytes, sha256 } = datasets[name as DatasetName];
  const target = datasetPath(name as DatasetName, options.folder);
  await fetchDataset({
    url,
    bytes,
    sha256,
    target,
    ...(options.signal && { signal: options.signal }),
    ...(options.onProgress && { onProgress: options.onProgress }),
  });
  return target;
}
