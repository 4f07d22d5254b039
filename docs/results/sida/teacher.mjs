/**
 * A teacher in memory, run over its validation set with its own routing or another: what the other scripts measure with.
 */
import { join } from 'node:path';
import { openClassification } from '../../../dist/data/index.js';
import { argMax, cast, input } from '../../../dist/graph/index.js';
import { evaluationContext } from '../../../dist/nn/index.js';
import { compile } from '../../../dist/runtime/index.js';
import { loadModel } from '../../../dist/train/index.js';
import { filesOf, tasks } from './tasks.mjs';

/** Opens a teacher with the task that it was trained on. */
export async function openTeacher(task, experts, { data = 'data', out = 'runs/sida', batchSize = 16, seed = 1, id = `${task}-${experts}` } = {}) {
  const files = await filesOf(task, { data, out });
  const { source, label, contextLength } = tasks[task];
  const loaded = await loadModel(join(out, 'teachers', id));
  const config = { kind: 'task', train: files.train, validation: files.validation, source, label };
  const tokenizer = { kind: 'file', path: files.tokenizer };
  const shape = { batchSize, contextLength };
  const open = () => openClassification({ ...config, tokenizer }, { ...shape, seed, cacheFolder: join(out, 'cache') });
  return { ...loaded, task, experts, shape, open };
}

/** Traces a layer with `decide(layerIndex)` in place of its router. */
function withRouting(layer, decide) {
  const own = layer.forward.bind(layer);
  layer.forward = (hidden, context) => {
    const routingOverride = decide(context.layerIndex);
    return own(hidden, routingOverride ? { ...context, routingOverride } : context);
  };
}

/**
 * Compiles a teacher over rows of static size. Outputs: `logits`, `predictions`, and of every sparse layer `probabilities`,
 * `experts` (−1 for padding) and `gates`.
 *
 * @param topK with it, experts and gates `[tokens, topK]` are fed as `experts.LAYER` and `gates.LAYER` and replace routers.
 * @param unmasked padding is read like any other token, as in SiDA's released code.
 */
export async function compileTeacher({ model, weights, shape }, { topK, unmasked = false, threads = 2 } = {}) {
  const { batchSize, contextLength } = shape;
  const tokens = batchSize * contextLength;
  const source = input('source', 'int32', [batchSize, contextLength]);
  const sourceMask = cast(input('sourceMask', 'bool', [batchSize, contextLength]), 'float32');
  const sparse = model.encoder.blocks.flatMap(({ feedForward }, index) => ('router' in feedForward ? [[index, feedForward]] : []));
  if (topK !== undefined)
    for (const [, layer] of sparse)
      withRouting(layer, (index) => ({
        experts: input(`experts.${index}`, 'int32', [tokens, topK]),
        gates: input(`gates.${index}`, 'float32', [tokens, topK]),
      }));
  const { logits, records } = model.forward(unmasked ? { source } : { source, sourceMask }, { ...evaluationContext(), serveAll: true });
  for (const [, layer] of sparse) delete layer.forward;
  const outputs = { logits, predictions: cast(argMax(logits), 'int32') };
  for (const { layerIndex, experts, gates, probabilities } of records) {
    outputs[`experts.${layerIndex}`] = experts;
    outputs[`gates.${layerIndex}`] = gates;
    if (topK === undefined) outputs[`probabilities.${layerIndex}`] = probabilities;
  }
  const program = (await compile(outputs, { threads })).bindKnown(weights);
  const layers = sparse.map(([index]) => index);
  return {
    layers,
    async run({ source: ids, sourceMask: mask }, overrides = {}) {
      program.bindKnown(Object.entries({ source: ids, sourceMask: mask, ...overrides }));
      return program.run();
    },
    release: () => program.release(),
  };
}
