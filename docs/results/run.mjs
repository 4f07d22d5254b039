/**
 * Trains recipes over seeds and keeps what came out: one JSON file a run, one table and one figure for all.
 * A run whose file exists is not repeated.
 *
 *   npm run build
 *   node docs/results/run.mjs --name tiny-shakespeare --recipes shakespeare-dense,shakespeare-switch \
 *     --seeds 1,2,3 --set data.path=data/tinyshakespeare
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LanguageModel, sizeOfModel } from '../../dist/models/index.js';
import { loadRecipe, parseRecipe, trainRecipe, versions } from '../../dist/recipes/index.js';
import { readMetrics } from '../../dist/train/index.js';
import { drawCurves } from './draw.mjs';

const all = (name) => process.argv.flatMap((word, i) => (word === `--${name}` ? [process.argv[i + 1]] : []));
const [name] = all('name');
const recipes = all('recipes')[0].split(',');
const seeds = all('seeds')[0].split(',').map(Number);
const overrides = all('set');
/** A recipe called `demo:dense` is the recipe `demo` without sparse layers. */
const load = (title, seed) => {
  const [base, variant] = title.split(':');
  const recipe = loadRecipe(base, [...overrides, `seed=${seed}`]);
  return variant === 'dense' ? parseRecipe({ ...recipe, model: { ...recipe.model, sparse: null } }, title) : recipe;
};
const folder = fileURLToPath(new URL(`./${name}/`, import.meta.url));
mkdirSync(folder, { recursive: true });

const runs = [];
for (const seed of seeds) {
  for (const title of recipes) {
    const file = `${folder}${title.replace(':', '-')}-seed${seed}.json`;
    if (!existsSync(file)) {
      const recipe = load(title, seed);
      const run = `runs/results/${name}/${title.replace(':', '-')}-seed${seed}`;
      rmSync(run, { recursive: true, force: true });
      const began = performance.now();
      const result = await trainRecipe(recipe, { folder: run });
      const metrics = readMetrics(`${run}/metrics.jsonl`);
      const { parameters, activeParameters } = sizeOfModel(
        new LanguageModel(JSON.parse(readFileSync(`${run}/model/config.json`, 'utf8'))),
      );
      const record = {
        recipe: title,
        seed,
        overrides,
        versions: versions(),
        parameters,
        activeParameters,
        seconds: Math.round((performance.now() - began) / 1000),
        final: result.evaluation,
        evaluations: metrics.filter((line) => line.validation).map(({ step, validation }) => ({ step, ...validation })),
        training: metrics
          .filter((line) => line.taskLoss !== undefined && line.step % 20 === 0)
          .map(({ step, taskLoss }) => ({ step, taskLoss: Number(taskLoss.toFixed(4)) })),
      };
      writeFileSync(file, `${JSON.stringify(record)}\n`);
      console.log(`${title} seed ${seed}: ${result.evaluation.loss.toFixed(4)} in ${record.seconds} s`);
    }
    runs.push(JSON.parse(readFileSync(file, 'utf8')));
  }
}

const statistics = (values) => {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1));
  return `${mean.toFixed(4)} ± ${spread.toFixed(4)}`;
};
const rows = recipes.map((title) => {
  const mine = runs.filter((run) => run.recipe === title);
  const best = mine.map((run) => Math.min(...run.evaluations.map(({ loss }) => loss)));
  return [
    title,
    mine[0].parameters,
    mine[0].activeParameters,
    mine.map((run) => run.final.loss.toFixed(4)).join(', '),
    statistics(mine.map((run) => run.final.loss)),
    statistics(mine.map((run) => run.final.bitsPerByte)),
    statistics(best),
  ];
});
const table = [
  `| recipe | parameters | active | final validation loss, seeds ${seeds.join(', ')} | mean ± sd | bits per byte | lowest on the way |`,
  '| --- | ---: | ---: | --- | --- | --- | --- |',
  ...rows.map((row) => `| ${row.join(' | ')} |`),
].join('\n');
writeFileSync(`${folder}table.md`, `${table}\n`);
writeFileSync(`${folder}curves.svg`, drawCurves(name, recipes, runs));
console.log(table);
