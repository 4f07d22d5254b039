import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { evaluate } from '../../../test/support/evaluate.js';
import { distance } from '../../../test/support/numbers.js';
import { input } from '../../graph/index.js';
import { createModel, type LanguageModel } from '../../models/index.js';
import { evaluationContext, nameParameters, RandomStream, streamKey } from '../../nn/index.js';
import { openCheckpoint } from '../model-folder/index.js';
import { saveSafetensors, type NamedTensor } from '../safetensors/index.js';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-llama2c-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Odd sizes: three query heads share one key head, and the head size is no power of two. */
const sizes = { dim: 18, hidden: 7, layers: 2, heads: 3, keyHeads: 1, vocab: 11, time: 5 };
const headSize = sizes.dim / sizes.heads;

type Weights = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

function randomWeights(tied: boolean): Weights {
  const random = new RandomStream(streamKey(7));
  const { dim, hidden, layers, vocab, keyHeads } = sizes;
  const stacked: [string, ...number[]][] = [
    ['attention_norm', dim],
    ['attention.wq', dim, dim],
    ['attention.wk', keyHeads * headSize, dim],
    ['attention.wv', keyHeads * headSize, dim],
    ['attention.wo', dim, dim],
    ['ffn_norm', dim],
    ['feed_forward.w1', hidden, dim],
    ['feed_forward.w2', dim, hidden],
    ['feed_forward.w3', hidden, dim],
  ];
  const shapes: [string, number[]][] = [
    ['tok_embeddings.weight', [vocab, dim]],
    ...stacked.flatMap(([name, ...shape]) =>
      Array.from({ length: layers }, (_, l): [string, number[]] => [`layers.${l}.${name}.weight`, shape]),
    ),
    ['norm.weight', [dim]],
    ...(tied ? [] : [['output.weight', [vocab, dim]] as [string, number[]]]),
  ];
  return new Map(
    shapes.map(([name, shape]) => {
      const length = shape.reduce((a, b) => a * b, 1);
      return [name, { shape, data: Float32Array.from({ length }, () => 2 * random.uniform() - 1) }];
    }),
  );
}

/** `y = W x` for the rows of W. */
const times = (w: Float32Array, x: readonly number[]): number[] =>
  Array.from({ length: w.length / x.length }, (_, row) =>
    x.reduce((sum, value, column) => sum + w[row * x.length + column] * value, 0),
  );

/** The forward pass of run.c in plain loops: one token after another, pairs of neighbours turned. */
function reference(weights: Weights, tokens: readonly number[]): number[][] {
  const get = (name: string): Float32Array => weights.get(name)!.data;
  const norm = (x: readonly number[], name: string): number[] => {
    const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + 1e-5);
    return x.map((value, i) => value * scale * get(name)[i]);
  };
  const turn = (x: number[], position: number): number[] =>
    x.map((value, i) => {
      const angle = position / 10_000 ** (((i % headSize) - (i % 2)) / headSize);
      return i % 2 === 0
        ? value * Math.cos(angle) - x[i + 1] * Math.sin(angle)
        : value * Math.cos(angle) + x[i - 1] * Math.sin(angle);
    });
  const kept = Array.from({ length: sizes.layers }, () => ({
    keys: [] as number[][],
    values: [] as number[][],
  }));
  return tokens.map((token, position) => {
    let x = Array.from(get('tok_embeddings.weight').subarray(token * sizes.dim, (token + 1) * sizes.dim));
    for (let l = 0; l < sizes.layers; l++) {
      const layer = (name: string): Float32Array => get(`layers.${l}.${name}.weight`);
      const { keys, values } = kept[l];
      const h = norm(x, `layers.${l}.attention_norm.weight`);
      const query = turn(times(layer('attention.wq'), h), position);
      keys.push(turn(times(layer('attention.wk'), h), position));
      values.push(times(layer('attention.wv'), h));
      const attended = Array.from({ length: sizes.heads }, (_, head) => {
        const shared = Math.floor(head / (sizes.heads / sizes.keyHeads)) * headSize;
        const scores = keys.map((key) =>
          Math.exp(
            Array.from({ length: headSize }, (_, i) => query[head * headSize + i] * key[shared + i]).reduce(
              (a, b) => a + b,
            ) / Math.sqrt(headSize),
          ),
        );
        const total = scores.reduce((a, b) => a + b);
        return Array.from({ length: headSize }, (_, i) =>
          values.reduce((sum, value, t) => sum + (scores[t] / total) * value[shared + i], 0),
        );
      }).flat();
      x = times(layer('attention.wo'), attended).map((value, i) => value + x[i]);
      const inner = norm(x, `layers.${l}.ffn_norm.weight`);
      const up = times(layer('feed_forward.w3'), inner);
      const gated = times(layer('feed_forward.w1'), inner).map((g, i) => (g / (1 + Math.exp(-g))) * up[i]);
      x = times(layer('feed_forward.w2'), gated).map((value, i) => value + x[i]);
    }
    const head = weights.get('output.weight') ?? weights.get('tok_embeddings.weight')!;
    return times(head.data, norm(x, 'norm.weight'));
  });
}

async function logitsOf(path: string, tokens: readonly number[]): Promise<number[]> {
  const checkpoint = await openCheckpoint(path);
  const model = createModel(checkpoint.options) as LanguageModel;
  const feeds: Record<string, Float32Array | Int32Array> = { tokens: Int32Array.from(tokens) };
  for (const name of nameParameters(model).keys()) feeds[name] = await checkpoint.readParameter(name);
  await checkpoint.close();
  const { logits } = model.forward(
    { tokens: input('tokens', 'int32', [1, tokens.length]) },
    evaluationContext(),
  );
  return Array.from((await evaluate({ logits }, feeds)).logits as Float32Array);
}

function binOf(weights: Weights): Buffer {
  const { dim, hidden, layers, heads, keyHeads, vocab, time } = sizes;
  const isTied = !weights.has('output.weight');
  const header = Int32Array.of(dim, hidden, layers, heads, keyHeads, isTied ? vocab : -vocab, time);
  const angles = new Float32Array((time * headSize) / 2).fill(NaN);
  const data = [...weights].filter(([name]) => name !== 'output.weight').map(([, { data: each }]) => each);
  const last = isTied ? [] : [weights.get('output.weight')!.data];
  const parts = [header, ...data, angles, angles, ...last];
  return Buffer.concat(parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength)));
}

const modelArguments = {
  dim: 18,
  hidden_dim: 7,
  n_layers: 2,
  n_heads: 3,
  n_kv_heads: 1,
  vocab_size: 11,
  max_seq_len: 5,
};

async function writeFolder(name: string, weights: Weights, config: object): Promise<string> {
  const path = mkdtempSync(join(folder, `${name}-`));
  writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  const tensors = [...weights].map(([tensor, { shape, data }]): NamedTensor => {
    return { name: tensor, dtype: 'F32', shape, data };
  });
  await saveSafetensors(join(path, 'weights.safetensors'), tensors);
  return path;
}

const tokens = [1, 7, 3, 3, 10];

describe.each([true, false])('a model of llama2.c, classifier tied: %s', (tied) => {
  const weights = randomWeights(tied);
  const expected = reference(weights, tokens).flat();

  it('as a .bin file computes what run.c computes', async () => {
    const path = join(folder, `tied-${tied}.bin`);
    writeFileSync(path, binOf(weights));
    expect(distance(await logitsOf(path, tokens), expected)).toBeLessThan(2e-5);
  });

  it('as safetensors with its names, too', async () => {
    const path = await writeFolder('own-names', weights, { ...modelArguments, tie_word_embeddings: tied });
    expect(distance(await logitsOf(path, tokens), expected)).toBeLessThan(2e-5);
  });
});

describe('refused in one line', () => {
  const weights = randomWeights(true);
  const bin = binOf(weights);

  it.each<[string, (path: string) => void, RegExp]>([
    ['cut', (path) => truncateSync(path, bin.length - 4), /has \d+ bytes, this file \d+$/],
    ['longer', (path) => writeFileSync(path, Buffer.concat([bin, bin])), /has \d+ bytes, this file \d+$/],
    ['empty', (path) => truncateSync(path, 0), /no model of llama2\.c: its header is 0, 0/],
    ['other bytes', (path) => writeFileSync(path, Buffer.alloc(500, 255)), /no model of llama2\.c/],
  ])('a .bin file that is %s', async (name, change, message) => {
    const path = join(folder, `${name}.bin`);
    writeFileSync(path, bin);
    change(path);
    const error = await openCheckpoint(path).catch((reason: Error) => reason);
    expect((error as Error).name).toBe('ModelFolderError');
    expect((error as Error).message).toMatch(message);
  });

  it.each<[string, object, string]>([
    ['an unknown key', { attention: 'sliding' }, 'llama2.c has no "attention" (here "sliding")'],
    ['odd heads', { n_heads: 2, n_kv_heads: 1 }, 'dim 18 does not give 2 heads (n_heads) of even size'],
    ['another width', { hidden_dim: 8 }, 'is [7, 18] instead of [8, 18]'],
  ])('a folder with %s', async (_, change, message) => {
    const path = await writeFolder('refused', weights, { ...modelArguments, ...change });
    await expect(openCheckpoint(path)).rejects.toThrow(message);
  });
});
