// Exports models for check.py to open with transformers: every golden checkpoint by way of our own layout, with both
// layouts of experts, and models that began here.
// npm run build && node test/golden/exports/make.mjs FOLDER
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exportHuggingFace, importCheckpoint, saveSafetensors } from '../../../dist/checkpoints/index.js';
import { input } from '../../../dist/graph/index.js';
import { createModel, modelSchema } from '../../../dist/models/index.js';
import { evaluationContext, nameParameters, ParameterArena } from '../../../dist/nn/index.js';
import { compile } from '../../../dist/runtime/index.js';

const out = process.argv[2];
const golden = join(import.meta.dirname, '..');
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const ours = join(out, 'ours');

async function exportBoth(source, name, expected) {
  const layouts =
    readdirSync(source).includes('config.json') && name.includes('llama')
      ? ['perExpert']
      : ['perExpert', 'fused'];
  for (const layout of name.startsWith('t5') || name.startsWith('switch') ? ['perExpert'] : layouts) {
    const folder = join(out, `${name} ${layout}`);
    await exportHuggingFace(source, folder, { layout });
    cpSync(expected, join(folder, 'expected.safetensors'));
  }
}

for (const group of ['decoders', 't5', 'switch_transformers']) {
  for (const { name, ...entry } of readdirSync(join(golden, group), { withFileTypes: true })) {
    const source = join(golden, group, name);
    if (name.endsWith('.json')) continue;
    await importCheckpoint(source, ours);
    await exportBoth(
      ours,
      group === 'decoders' ? name : `${group}-${name}`,
      join(source, 'expected.safetensors'),
    );
    rmSync(ours, { recursive: true });
  }
}

const models = JSON.parse(readFileSync(new URL('models.json', import.meta.url), 'utf8'));
for (const [name, settings] of Object.entries(models)) {
  const options = modelSchema.parse(settings);
  const model = createModel(options);
  const parameters = nameParameters(model);
  const { views } = ParameterArena.allocate(parameters, 1).initialize(parameters, 1);
  mkdirSync(ours);
  const config = { model_type: 'switchyard_language_model', ...options };
  writeFileSync(join(ours, 'config.json'), JSON.stringify(config));
  const tensors = [...views].map(([key, data]) => ({
    name: key,
    dtype: 'F32',
    shape: parameters.get(key).shape,
    data,
  }));
  await saveSafetensors(join(ours, 'model.safetensors'), tensors);
  const shape = [2, 13];
  const tokens = Int32Array.from({ length: 26 }, (_, i) => (i * i + 5 * i + 1) % options.vocabSize);
  const { logits } = model.forward({ tokens: input('tokens', 'int32', shape) }, evaluationContext());
  const program = await compile({ logits });
  program.bindKnown([...views, ['tokens', tokens]]);
  const data = Float32Array.from((await program.run()).logits);
  await program.release();
  await saveSafetensors(join(out, 'expected.safetensors'), [
    { name: 'tokens', dtype: 'I32', shape, data: tokens },
    { name: 'mask', dtype: 'F32', shape, data: new Float32Array(26).fill(1) },
    { name: 'logits', dtype: 'F32', shape: [...shape, options.vocabSize], data },
  ]);
  await exportBoth(ours, `ours, as ${name}`, join(out, 'expected.safetensors'));
  rmSync(ours, { recursive: true });
}
rmSync(join(out, 'expected.safetensors'));
