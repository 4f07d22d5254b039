/**
 * `switchyard serve`
 * @module
 */
import { Command, Option } from 'commander';
import {
  API_KEYS_VARIABLE,
  ChildEngine,
  defaultHttpSettings,
  defaultLimits,
  formatBytes,
  HttpServer,
  readApiKeys,
  servingModes,
  type ModelInfo,
  type PolicyName,
  type ServingMode,
} from '../serve/index.js';
import type { ExpertForm } from '../train/index.js';
import {
  bytesOption,
  collect,
  expertsOption,
  numberIn,
  policyOption,
  routingTraceOption,
} from './options.js';

interface ServeFlags {
  readonly name?: string;
  readonly host: string;
  readonly port: number;
  readonly keys?: string;
  readonly public?: boolean;
  readonly origin?: string[];
  readonly hostName?: string[];
  readonly routing: boolean;
  readonly page: boolean;
  readonly slots: number;
  readonly queue: number;
  readonly timeLimit: number;
  readonly grace: number;
  readonly memoryBudget?: number;
  readonly policy?: PolicyName;
  readonly routingTrace?: string;
  readonly mode?: ServingMode;
  readonly predictor?: string;
  readonly guesses?: number;
  readonly expertBits?: '4' | '8';
  readonly experts?: ExpertForm;
  readonly cacheMemory?: number;
  readonly threads?: number;
  readonly log: boolean;
}

/** Answers requests over HTTP, as OpenAI's API does. */
export function serveCommand(): Command {
  const { host, port } = defaultHttpSettings;
  const { slots, queueLimit, timeLimitMilliseconds } = defaultLimits;
  return new Command('serve')
    .description("answer requests over HTTP with OpenAI's API, many at once")
    .argument('<model>', 'a run folder or model folder')
    .option('--name <name>', "the model's name in requests (default: the folder's)")
    .option(
      '--memory-budget <size>',
      'for everything, such as 2GB (default: all experts are in memory)',
      bytesOption,
    )
    .addOption(policyOption().default('lfu'))
    .addOption(routingTraceOption())
    .addOption(
      new Option(
        '--mode <mode>',
        'read experts when they are chosen (none), ahead as well (prefetch, the default under a budget), or let predictions choose them (sida)',
      ).choices(servingModes),
    )
    .option(
      '--predictor <folder>',
      'of `switchyard predictor train`; prefetch looks ahead with the routers without',
    )
    .option(
      '--guesses <count>',
      "experts that the predictor names for a token of each layer (default: the router's number)",
      numberIn(1, 1024, true),
    )
    .addOption(expertsOption())
    .addOption(new Option('--expert-bits <bits>', 'round experts as they arrive').choices(['4', '8']))
    .option('--host <address>', 'address to listen on', host)
    .option('--port <number>', 'port to listen on; 0 takes one that is free', numberIn(0, 65_535, true), port)
    .option('--keys <file>', `API keys, one a line; also from the environment variable ${API_KEYS_VARIABLE}`)
    .option('--public', 'listen beyond this machine without keys')
    .option('--origin <origin>', 'let pages of this origin read answers; can be given again', collect)
    .option('--host-name <name>', 'a name by which the server is called; can be given again', collect)
    .option('--no-routing', 'never tell the experts of tokens')
    .option('--no-page', 'leave out the live page at /')
    .option('--slots <count>', 'texts that are written at once', numberIn(1, 1024, true), slots)
    .option('--queue <count>', 'requests that wait for a slot', numberIn(0, 1e6, true), queueLimit)
    .option(
      '--time-limit <seconds>',
      'of a request, from its arrival',
      numberIn(0.001, 86_400),
      timeLimitMilliseconds / 1000,
    )
    .option(
      '--grace <seconds>',
      'that requests have to be finished when the server ends',
      numberIn(0, 86_400),
      30,
    )
    .option(
      '--cache-memory <size>',
      'for keys and values of all texts, of the budget (default: an eighth of it, at most 1 GiB)',
      bytesOption,
    )
    .option('--threads <count>', 'threads of a pass (default: one a core)', numberIn(1, 1024, true))
    .option('--no-log', 'write no line for each request')
    .addHelpText(
      'after',
      `
The first SIGTERM or Ctrl-C finishes the requests at work, the second ends at once.

Examples:
  switchyard serve runs/demo/switch
  switchyard serve OLMoE-1B-7B --memory-budget 8GB --port 9000 --slots 4
  ${API_KEYS_VARIABLE}=… switchyard serve models/chat --host 0.0.0.0 --host-name ai.example.org
  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "Once", "max_tokens": 20}'`,
    )
    .action(serve);
}

async function serve(path: string, flags: ServeFlags): Promise<void> {
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const apiKeys = readApiKeys(flags.keys);
  const {
    slots,
    name,
    threads,
    memoryBudget,
    policy,
    routingTrace,
    mode,
    predictor,
    guesses,
    experts,
    expertBits,
  } = flags;
  const engine = await ChildEngine.start(
    {
      ...{ path, name, threads, memoryBudget, policy, routingTrace, mode, predictor, guesses, experts },
      expertBits: expertBits && (Number(expertBits) as 4 | 8),
    },
    {
      limits: {
        slots,
        queueLimit: flags.queue,
        timeLimitMilliseconds: 1000 * flags.timeLimit,
        ...(flags.cacheMemory !== undefined && { cacheBytes: flags.cacheMemory }),
      },
      onLog: say,
    },
  );
  // Whatever ends this process, its engine's goes with it.
  process.on('exit', () => engine.pid !== undefined && process.kill(engine.pid, 'SIGKILL'));
  let server: HttpServer;
  try {
    server = await HttpServer.start(engine, {
      host: flags.host,
      port: flags.port,
      apiKeys,
      allowPublic: flags.public ?? false,
      allowedOrigins: flags.origin ?? [],
      allowedHosts: flags.hostName ?? [],
      routedExperts: flags.routing,
      livePage: flags.page,
      requestMilliseconds: 1000 * flags.timeLimit,
      ...(flags.log && { log: say }),
    });
  } catch (error) {
    await engine.stop({ graceMilliseconds: 0 });
    throw error;
  }
  for (const line of describe(engine.model)) say(line);
  process.stdout.write(`listening on ${server.url}\n`);
  await signalled();
  say('finishing the requests at work; once more ends at once');
  await server.stop({ graceMilliseconds: 1000 * flags.grace });
}

/** Resolves at the first signal to end; the second ends. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let isEnding = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (isEnding) process.exit(1);
        isEnding = true;
        resolve();
      });
    }
  });
}

/** Where the model is, and how it is served. */
function* describe({ name, kind, contextLength, placement, settings }: ModelInfo): Iterable<string> {
  yield `${name}: ${kind}, ${contextLength} tokens`;
  for (const { what, where, bytes } of placement) yield `  ${what}: ${where}, ${formatBytes(bytes)}`;
  for (const [setting, value] of Object.entries(settings)) yield `  ${setting}: ${String(value)}`;
}
