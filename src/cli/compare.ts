/**
 * `switchyard compare`
 * @module
 */
import { Command, InvalidArgumentError } from 'commander';
import { join } from 'node:path';
import {
  compare,
  formatSpread,
  loadGrid,
  matchMeasures,
  percent,
  planGrid,
  runSettings,
  runStates,
  selectRuns,
  trainedEvaluation,
  type CompareListener,
  type Comparison,
  type MatchMeasure,
  type Plan,
  type RunState,
} from '../compare/index.js';
import { collect, numberIn } from './options.js';
import { formatCount, formatDuration, Progress } from './progress.js';
import { trainingProgress } from './training-progress.js';

interface CompareFlags {
  readonly seeds?: number[];
  readonly out?: string;
  readonly match?: MatchMeasure;
  readonly processes: number;
  readonly only?: string[];
  readonly force?: boolean;
  readonly keep?: boolean;
  readonly dryRun?: boolean;
  readonly cache: string;
  readonly json?: boolean;
}

/** Trains a grid of recipes over seeds and tabulates what came out. */
export function compareCommand(): Command {
  return new Command('compare')
    .description('train variants of a recipe over several seeds, at equal size, and tabulate mean and spread')
    .argument('<grid>', 'path of a grid: a base recipe, variants of it, seeds')
    .option(
      '--seeds <list>',
      "perform the runs of these seeds alone, such as 1,2; others than the grid's are added to it",
      seedList,
    )
    .option(
      '-o, --out <folder>',
      'where records, table and figure go (default: docs/results/<name of the grid>)',
    )
    .option(
      '--match <measure>',
      `hold equal to the baseline: ${matchMeasures.join(', ')}`,
      oneOf(matchMeasures),
    )
    .option(
      '--processes <count>',
      'runs at once, each with its share of the cores',
      numberIn(1, 1024, true),
      1,
    )
    .option('--only <variant>', 'perform the runs of this variant alone; can be given again', collect)
    .option('--force', 'repeat runs whose record or unfinished run is of another recipe')
    .option('--keep', 'keep the trained models in runs/compare')
    .option('--dry-run', 'show sizes, matching and which runs are to be done; train nothing')
    .option('--cache <folder>', 'where tokenizers and tokenised text are kept', '.cache')
    .option('--json', 'print one JSON object at the end')
    .addHelpText(
      'after',
      `
A run that has a record is not repeated; an interrupted one goes on where it stopped.

Examples:
  switchyard compare docs/results/demo/grid.json --dry-run
  switchyard compare grid.json --only switch --seeds 1
  switchyard compare grid.json --match flops --processes 2`,
    )
    .action(async (path: string, flags: CompareFlags) => {
      const grid = loadGrid(path);
      const plan = await planGrid(grid, {
        cacheFolder: flags.cache,
        ...(flags.seeds === undefined ? {} : { seeds: flags.seeds }),
        ...(flags.match === undefined ? {} : { measure: flags.match }),
      });
      const selected = selectRuns(plan, { only: flags.only, seeds: flags.seeds });
      const { processes, cache: cacheFolder, keep = false, force = false } = flags;
      const out = flags.out ?? join('docs', 'results', grid.name);
      const options = { out, processes, cacheFolder, keep, force, selected };
      if (flags.dryRun) {
        const states = await runStates(selected, runSettings(options));
        process.stdout.write(
          flags.json ? `${JSON.stringify(dryRunJson(plan, states))}\n` : dryRunText(plan, states),
        );
        return;
      }
      const progress = new Progress(process.stderr);
      const command = commandLine(path, grid.seeds, flags);
      const result = await compare(plan, { ...options, command, listener: listen(progress) });
      progress.clear();
      process.stdout.write(
        flags.json ? `${JSON.stringify({ out, ...result })}\n` : report(result, out, command),
      );
      const { failures } = result;
      if (failures.length > 0) {
        const which = failures.map(({ run, message }) => `${run}: ${message}`).join('\n  ');
        throw new Error(`${failures.length} of ${selected.length} runs failed:\n  ${which}`);
      }
    });
}

function listen(progress: Progress): CompareListener {
  return {
    onStart: ({ id, recipe }, index, total) =>
      trainingProgress(progress, recipe.train.steps, `${index}/${total} ${id}`),
    onRecord: ({ id }, { evaluations, seconds, tokensPerSecond }, left) => {
      const { loss } = Object.values(evaluations)[0].validation;
      const rest = left > 0 ? `; ${formatDuration(left)} left for the grid` : '';
      progress.line(
        `${id}  recorded: loss ${loss.toFixed(4)}, ${formatDuration(seconds ?? NaN)} at ${formatCount(tokensPerSecond ?? NaN)} tokens/s${rest}`,
      );
    },
    onFailure: ({ id }, message) => progress.line(`${id}  failed: ${message}`),
    onNote: (message) => progress.line(message),
    onInterrupt: () => progress.line('finishing the step and saving; a second signal ends at once'),
  };
}

function report({ rows, recorded, skipped, interrupted }: Comparison, out: string, command: string): string {
  const width = Math.max(7, ...rows.map(({ variant, evaluation }) => variant.length + evaluation.length + 1));
  const lines = rows.map(({ variant, evaluation, leaking, loss, difference, seeds }) => {
    const name = evaluation === trainedEvaluation ? variant : `${variant} ${evaluation}`;
    const pair = difference ? `  ${formatSpread(difference, 4, true)} to the baseline` : '';
    const some = `${seeds.length} seed${seeds.length === 1 ? '' : 's'}`;
    return `${name.padEnd(width)}  loss ${formatSpread(loss, 4)}${pair}  (${some})${leaking ? '  sees later tokens' : ''}\n`;
  });
  const counts = `${recorded} run${recorded === 1 ? '' : 's'} recorded, ${skipped} had a record`;
  const where = rows.length === 0 ? '' : `; the table is ${join(out, 'table.md')}`;
  const stopped = interrupted ? `stopped; continue with: ${command}\n` : '';
  return `${lines.join('')}${counts}${where}\n${stopped}`;
}

function stateOf({ record, differences }: RunState): 'recorded' | 'other recipe' | 'to do' {
  return differences.length > 0 ? 'other recipe' : record ? 'recorded' : 'to do';
}

function dryRunText(plan: Plan, states: readonly RunState[]): string {
  const width = Math.max(...plan.variants.map(({ name }) => name.length));
  const variants = plan.variants.map(({ name, size, match, leaks, evaluations }) => {
    const sizes = Object.entries(match?.sizes ?? {}).map(([path, value]) => `${path} = ${value}`);
    const near = match
      ? `  ${percent(match.difference)} from ${match.target}${sizes.length > 0 ? ` with ${sizes.join(', ')}` : ''}`
      : '';
    const seen =
      leaks.length > 0 ? `  sees later tokens; also ${evaluations.map((one) => one.name).join(', ')}` : '';
    return `${name.padEnd(width)}  ${size.parameters} parameters, ${size.activeParameters} active, ${formatCount(size.forwardFlopsPerToken)} FLOPs/token${near}${seen}\n`;
  });
  const runs = states.map((state) => {
    const why = state.differences.length > 0 ? `: ${state.differences.join('; ')}` : '';
    return `${state.run.id.padEnd(width + 6)}  ${stateOf(state)}${why}\n`;
  });
  return `${variants.join('')}\n${runs.join('')}`;
}

function dryRunJson(plan: Plan, states: readonly RunState[]): unknown {
  return {
    baseline: plan.baseline,
    match: plan.measure ?? null,
    variants: plan.variants.map(({ name, size, match, leaks, evaluations }) => ({
      name,
      ...size,
      match: match ?? null,
      leaks,
      evaluations: evaluations.map((one) => one.name),
    })),
    runs: states.map((state) => ({
      run: state.run.id,
      state: stateOf(state),
      differences: state.differences,
    })),
  };
}

/** The command without what only says how to run it. */
function commandLine(
  path: string,
  known: readonly number[],
  { seeds = [], match, out }: CompareFlags,
): string {
  const further = seeds.filter((seed) => !known.includes(seed));
  return [
    `switchyard compare ${path}`,
    ...(further.length === 0 ? [] : [`--seeds ${[...known, ...further].join(',')}`]),
    ...(match === undefined ? [] : [`--match ${match}`]),
    ...(out === undefined ? [] : [`--out ${out}`]),
  ].join(' ');
}

function seedList(text: string): number[] {
  const seeds = text.split(',').map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : NaN));
  if (seeds.some((seed) => !Number.isSafeInteger(seed)) || new Set(seeds).size < seeds.length)
    throw new InvalidArgumentError(
      `expected different whole numbers with commas, such as 1,2,3, not '${text}'`,
    );
  return seeds;
}

function oneOf<const Choices extends readonly string[]>(choices: Choices): (text: string) => Choices[number] {
  return (text) => {
    if (!choices.includes(text))
      throw new InvalidArgumentError(`expected one of ${choices.join(', ')}, not '${text}'`);
    return text;
  };
}
