import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { numbersOf } from '../../../test/support/compressed-layer.js';
import { withJob, writeFolder } from '../../../test/support/compression.js';
import { temporaryFolder } from '../../../test/support/tiny-training.js';
import {
  architectures,
  ConfigReader,
  encodeFloats,
  openCheckpoint,
  readFloats,
  type NamedTensor,
} from '../../checkpoints/index.js';
import { compressFolder } from './compress-folder.js';
import { verifyFolder } from './verify.js';

let root: string;
beforeEach(async () => {
  root = await temporaryFolder();
});
afterEach(() => rm(root, { recursive: true, force: true }));

const decoder = {
  vocab_size: 11,
  hidden_size: 8,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 16,
};
const configs: readonly (readonly [string, object])[] = [
  ['mixtral', { ...decoder, intermediate_size: 12, num_local_experts: 12, num_experts_per_tok: 2 }],
  [
    'olmoe',
    { ...decoder, intermediate_size: 6, num_key_value_heads: 2, num_experts: 3, num_experts_per_tok: 2 },
  ],
  [
    'qwen2_moe',
    {
      ...decoder,
      intermediate_size: 12,
      moe_intermediate_size: 6,
      shared_expert_intermediate_size: 4,
      num_experts: 4,
      num_experts_per_tok: 2,
      mlp_only_layers: [1],
    },
  ],
  [
    'switch_transformers',
    {
      vocab_size: 11,
      d_model: 8,
      d_kv: 4,
      d_ff: 12,
      num_layers: 4,
      num_decoder_layers: 4,
      num_heads: 2,
      num_experts: 3,
      num_sparse_encoder_layers: 2,
      num_sparse_decoder_layers: 2,
      feed_forward_proj: 'relu',
      pad_token_id: 0,
      eos_token_id: 1,
      decoder_start_token_id: 0,
    },
  ],
];

test.each(
  configs.flatMap(([type, config]) =>
    (['perExpert', 'fused'] as const).flatMap((layout) =>
      (['F32', 'BF16'] as const).map((dtype) => [type, layout, dtype, config] as const),
    ),
  ),
)('%s, experts %s, %s: every tensor comes back under its name', async (type, layout, dtype, config) => {
  const architecture = architectures.find(({ modelType }) => modelType === type)!;
  const described = { ...config, model_type: type };
  const options = architecture.readConfig(new ConfigReader(described as never, 'config.json'));
  const random = numbersOf(7);
  const mapping = architecture.tensors(options, { layout, present: new Set() });
  const tensors = mapping.map(({ tensor, shape }): NamedTensor => {
    const length = shape.reduce((a, b) => a * b, 1);
    const data = encodeFloats(dtype, Float32Array.from({ length }, random));
    return { name: tensor, dtype, shape, data };
  });
  const folder = join(root, 'model');
  await writeFolder(folder, described, tensors);
  const out = join(root, 'small');
  await withJob(
    folder,
    out,
    async (job, { source }) => {
      const { layers } = await compressFolder(job);
      // The last of each stack: one, or one of the encoder and one of the decoder.
      expect(layers.map(({ name }) => name)).toEqual(
        type === 'switch_transformers' ? ['encoder.blocks.3', 'decoder.blocks.3'] : ['blocks.2'],
      );
      const { equal, restored } = await verifyFolder(source, out);
      expect(equal + restored).toBe(tensors.length);
      const small = await openCheckpoint(out);
      // Everything kept: what is left is rounding, of the centre and of what is beside it.
      const tolerance = dtype === 'F32' ? 1e-6 : 2 ** -7;
      let compared = 0;
      for (const name of source.tensors.keys()) {
        const [before, after] = [await readFloats(source, name), await readFloats(small.source, name)];
        const worst = before.reduce((most, value, i) => Math.max(most, Math.abs(value - after[i])), 0);
        expect(worst, name).toBeLessThanOrEqual(tolerance);
        compared += before.length;
      }
      expect(compared).toBeGreaterThan(1000);
      await small.close();
    },
    // The mean leaves neurons where they are, so that numbers can be compared.
    { ratio: 1, layers: 'last:1', options: { centre: { kind: 'mean' } } },
  );
});
