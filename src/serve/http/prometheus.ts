/**
 * Metrics in the text format of Prometheus.
 * @module
 */
import type { EngineState } from '../engine-client.js';
import type { EngineStats, Histogram } from '../engine-stats.js';
import type { HttpMetrics } from './http-metrics.js';

/** What is told beside the counters. */
export interface ServerState {
  readonly state: EngineState;
  readonly draining: boolean;
  /** Empty while it is not known. */
  readonly model: string;
}

/** Counters of the expert store by name, and the rest are gauges. */
const storeCounters: Readonly<Record<string, string>> = {
  accesses: 'Distinct experts that passes needed in their layers.',
  hits: 'Accesses whose weights were in memory when the router had decided.',
  prefetchedHits: 'Hits on weights that were read ahead and not used before.',
  latePrefetches: 'Misses whose weights were being read ahead already.',
  reads: 'Completed reads of experts.',
  prefetchReads: 'Completed reads that were ahead of a decision.',
  failedReads: 'Reads that failed.',
  unusedPrefetches: 'Experts that were read ahead and evicted without a use.',
  bytesRead: 'Bytes that completed reads moved.',
  readMilliseconds: 'Milliseconds of all completed reads together.',
  stallMilliseconds: 'Milliseconds in which somebody waited for weights.',
  evictions: 'Experts that made room for others.',
  tables: 'Passes whose texts a predictor foretold.',
  tableWaits: 'Those that had to wait for it.',
  tableWaitMilliseconds: 'Milliseconds in which they waited.',
};

/** All metrics. Labels are the model, routes and statuses: nothing that clients can make up. */
export function prometheusText(stats: EngineStats, http: HttpMetrics, server: ServerState): string {
  const page = new Page(server.model);
  page.add('up', 'gauge', 'Whether the engine answers.', server.state === 'ready' ? 1 : 0);
  page.add('draining', 'gauge', 'Whether new requests are refused.', server.draining ? 1 : 0);
  page.add('engine_restarts_total', 'counter', 'Restarts of the engine’s process.', stats.restarts);
  page.add('engine_resident_bytes', 'gauge', 'Resident memory of the engine’s process.', stats.residentBytes);
  page.add('queue_length', 'gauge', 'Requests that wait.', stats.queued);
  page.add('queue_limit', 'gauge', 'Requests that may wait.', stats.queueLimit);
  page.add('running_texts', 'gauge', 'Texts that are being written.', stats.running);
  page.add('slots', 'gauge', 'Texts that can be written at once.', stats.slots);
  page.series(
    'requests_total',
    'counter',
    'Requests to the engine by how they ended.',
    Object.entries(stats.requests).map(([outcome, count]) => [{ outcome }, count as number]),
  );
  page.add('prompt_tokens_total', 'counter', 'Tokens read.', stats.promptTokens);
  page.add('generated_tokens_total', 'counter', 'Tokens written.', stats.generatedTokens);
  page.add('passes_total', 'counter', 'Passes through the model.', stats.passes);
  page.histogram('queue_seconds', 'From arrival to the first pass.', stats.queueSeconds);
  page.histogram('time_to_first_token_seconds', 'From arrival to the first token.', stats.firstTokenSeconds);
  page.histogram('inter_token_seconds', 'Between two tokens of a text.', stats.tokenSeconds);
  page.histogram('request_seconds', 'From arrival to the end.', stats.requestSeconds);
  for (const [name, value] of Object.entries(stats.store)) {
    const help = storeCounters[name];
    const metric = `expert_store_${snakeCase(name)}`;
    if (help === undefined) page.add(metric, 'gauge', `Of the expert store: ${name}.`, value);
    else page.add(`${metric}_total`, 'counter', help, value);
  }
  page.add('http_active_requests', 'gauge', 'Requests that are being answered.', http.active);
  page.add('http_live_readers', 'gauge', 'Live pages that are followed.', http.liveReaders);
  page.add('http_abandoned_total', 'counter', 'Streams whose reader left before their end.', http.abandoned);
  page.series(
    'http_responses_total',
    'counter',
    'Answers by route and status.',
    [...http.routes].flatMap(([route, { statuses }]) =>
      [...statuses].map(([status, count]) => [{ route, status: String(status) }, count] as const),
    ),
  );
  page.histograms(
    'http_response_seconds',
    'From the head of a request to the last byte of its answer.',
    [...http.routes].map(([route, counts]) => [{ route }, counts] as const),
  );
  return page.text;
}

type Labels = Readonly<Record<string, string>>;

class Page {
  private readonly lines: string[] = [];

  constructor(private readonly model: string) {}

  get text(): string {
    return `${this.lines.join('\n')}\n`;
  }

  add(name: string, type: 'counter' | 'gauge', help: string, value: number): void {
    this.series(name, type, help, [[{}, value]]);
  }

  series(
    name: string,
    type: 'counter' | 'gauge',
    help: string,
    samples: readonly (readonly [Labels, number])[],
  ): void {
    this.head(name, type, help);
    for (const [labels, value] of samples) this.sample(name, labels, value);
  }

  histogram(name: string, help: string, histogram: Histogram): void {
    this.histograms(name, help, [[{}, histogram]]);
  }

  histograms(name: string, help: string, samples: readonly (readonly [Labels, Histogram])[]): void {
    this.head(name, 'histogram', help);
    for (const [labels, { bounds, counts, sum, count }] of samples) {
      let below = 0;
      for (const [bucket, bound] of [...bounds, Infinity].entries()) {
        below += counts[bucket];
        const le = bound === Infinity ? '+Inf' : String(bound);
        this.sample(`${name}_bucket`, { ...labels, le }, below);
      }
      this.sample(`${name}_sum`, labels, sum);
      this.sample(`${name}_count`, labels, count);
    }
  }

  private head(name: string, type: string, help: string): void {
    this.lines.push(`# HELP switchyard_${name} ${help}`, `# TYPE switchyard_${name} ${type}`);
  }

  private sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.entries({ model: this.model, ...labels }).map(
      ([label, text]) => `${label}="${text.replaceAll(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`,
    );
    this.lines.push(`switchyard_${name}{${pairs.join(',')}} ${value}`);
  }
}

function snakeCase(name: string): string {
  return name
    .replaceAll(/[^A-Za-z0-9]+/g, '_')
    .replaceAll(/(?<=[a-z0-9])[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
