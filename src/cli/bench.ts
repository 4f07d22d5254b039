/**
 * `switchyard bench`
 * @module
 */
import { Command } from 'commander';
import { measureServer, readApiKeys, type LoadReport, type Percentiles } from '../serve/index.js';
import { numberIn } from './options.js';

interface BenchFlags {
  readonly concurrency: number;
  readonly requests: number;
  readonly warmUp: number;
  readonly promptTokens: number;
  readonly tokens: number;
  readonly seed: number;
  readonly keys?: string;
  readonly json?: boolean;
}

/** Measures what runs already. */
export function benchCommand(): Command {
  return new Command('bench').description('measure speed').addCommand(benchServeCommand());
}

function benchServeCommand(): Command {
  return new Command('serve')
    .description(
      'load a server with streamed completions: tokens a second, time to the first token and between tokens',
    )
    .argument('[url]', "a server of OpenAI's API", 'http://127.0.0.1:8080')
    .option('-c, --concurrency <count>', 'requests at once', numberIn(1, 4096, true), 8)
    .option('-r, --requests <count>', 'requests that count', numberIn(1, 1e7, true), 64)
    .option('--warm-up <count>', 'requests before them', numberIn(0, 1e6, true), 4)
    .option('--prompt-tokens <count>', 'tokens of a prompt, drawn at random', numberIn(1, 1e6, true), 32)
    .option('-n, --tokens <count>', 'tokens that each request adds', numberIn(1, 1e6, true), 32)
    .option('--seed <number>', 'of the prompts', numberIn(0, Number.MAX_SAFE_INTEGER, true), 1)
    .option(
      '--keys <file>',
      'a file whose first line is the API key; or the environment variable SWITCHYARD_API_KEYS',
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  switchyard bench serve --concurrency 16 --requests 200 --prompt-tokens 64 --tokens 64
  switchyard bench serve http://127.0.0.1:9000 --json > load.json`,
    )
    .action(async (url: string, { keys, json, ...load }: BenchFlags) => {
      const [apiKey] = readApiKeys(keys);
      const onRequest = process.stderr.isTTY
        ? (done: number, total: number) => void process.stderr.write(`\r${done} / ${total} requests`)
        : undefined;
      const report = await measureServer({
        ...load,
        url: url.replace(/\/+(v1\/?)?$/, ''),
        ...(apiKey !== undefined && { apiKey }),
        ...(onRequest && { onRequest }),
      });
      if (onRequest) process.stderr.write('\n');
      process.stdout.write(json ? `${JSON.stringify(report)}\n` : table(report));
      if (report.completed === 0)
        throw new Error(`no request was answered: ${Object.keys(report.failures).join('; ')}`);
    });
}

function table(report: LoadReport): string {
  const { model, concurrency, completed, failed, failures, seconds } = report;
  const lines = [
    `${model}: ${completed} requests, ${concurrency} at once, in ${seconds.toFixed(1)} s${failed > 0 ? `; ${failed} failed` : ''}`,
    ...Object.entries(failures).map(([why, count]) => `  ${count} × ${why}`),
    '',
    `written     ${report.tokensPerSecond.toFixed(1)} tokens/s`,
    `read        ${report.promptTokensPerSecond.toFixed(1)} tokens/s`,
    `requests    ${report.requestsPerSecond.toFixed(2)} /s`,
    '',
    `${'milliseconds'.padEnd(18)}${['p50', 'p90', 'p99', 'mean', 'max'].map((name) => name.padStart(10)).join('')}`,
    row('first token', report.firstTokenMilliseconds),
    row('between tokens', report.interTokenMilliseconds),
    row('request', report.requestMilliseconds),
  ];
  return `${lines.join('\n')}\n`;
}

function row(name: string, percentiles: Percentiles | null): string {
  const cells = percentiles
    ? [percentiles.p50, percentiles.p90, percentiles.p99, percentiles.mean, percentiles.max].map((value) =>
        value.toFixed(1),
      )
    : ['–'];
  return `${name.padEnd(18)}${cells.map((cell) => cell.padStart(10)).join('')}`;
}
