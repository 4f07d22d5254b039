/**
 * ResMoE × SiDA: the model with a centre in every sparse layer, and of every expert only the factors of what it has beside
 * the centre. The centres stay in memory; a read moves the factors, past the page cache.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

const BLOCK = 4096;

/** The rank at which factors of a design matrix store a quarter of its numbers (docs/compression.md). */
function quarterRank({ hiddenSize, intermediateSize }) {
  const width = 2 * hiddenSize;
  return Math.max(1, Math.floor((0.25 * intermediateSize * width) / (intermediateSize + width)));
}

/** Options of the same model with factorised experts. */
export function factorisedOptions(options) {
  const layers = Array.from({ length: options.numEncoderLayers / 2 }, (_, i) => 2 * i + 1);
  const experts = { kind: 'factorised', rank: quarterRank(options), layers };
  return {
    ...options,
    sparse: { ...options.sparse, experts: { ...experts, activation: options.activation } },
  };
}

/**
 * Reads of as many bytes as an expert's factors take, from where the whole expert lies on the disk: numbers are made up here
 * as there, and what is measured is how they move.
 */
export async function residualExperts(checkpoint, layers) {
  const files = new Map();
  let direct = true;
  const handleOf = async (file) => {
    if (!files.has(file)) {
      const opened = open(file, constants.O_RDONLY | constants.O_DIRECT).catch(() => {
        direct = false;
        return open(file);
      });
      files.set(file, opened);
    }
    return files.get(file);
  };
  const wholeBlocks = (bytes) => Math.ceil(bytes / BLOCK) * BLOCK;
  const placed = layers.map(({ parameters }) => {
    let offset = 0;
    return Object.entries(parameters).map(([name, shape]) => {
      const length = shape.reduce((a, b) => a * b, 1);
      offset += length;
      return { name, offset: offset - length, length };
    });
  });
  return {
    layers: layers.map((layer, index) => ({ ...layer, placed: placed[index] })),
    slotBytes: wholeBlocks(Math.max(...layers.map(({ expertBytes }) => expertBytes))),
    get traits() {
      const pageCache = direct ? 'bypassed' : 'used';
      return { description: 'factors beside a centre', pageCache, residentBytes: 0 };
    },
    read: async (layer, expert, { data }) => {
      const { name, expertBytes } = layers[layer];
      const { file, begin } = checkpoint.source.extentOf(`${name}.${expert}.up.weight`);
      const length = wholeBlocks(expertBytes);
      const { bytesRead } = await (
        await handleOf(file)
      ).read(new Uint8Array(data.buffer, data.byteOffset, length), 0, length, begin);
      if (bytesRead < expertBytes) throw new Error(`${file}: too short`);
      return expertBytes;
    },
    close: async () => {
      for (const file of files.values()) await (await file).close();
      await checkpoint.close();
    },
  };
}
