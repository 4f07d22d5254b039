/**
 * Counters of an engine that was started several times.
 * @module
 */
import type { EngineStats, Histogram, RequestCounts } from '../engine-stats.js';

/** What was counted before and now; what is the case, and the store's counters, of now. */
export function sumStats(before: EngineStats, now: EngineStats): EngineStats {
  return {
    ...now,
    requests: sumCounts(before.requests, now.requests),
    promptTokens: before.promptTokens + now.promptTokens,
    generatedTokens: before.generatedTokens + now.generatedTokens,
    passes: before.passes + now.passes,
    queueSeconds: sumHistograms(before.queueSeconds, now.queueSeconds),
    firstTokenSeconds: sumHistograms(before.firstTokenSeconds, now.firstTokenSeconds),
    tokenSeconds: sumHistograms(before.tokenSeconds, now.tokenSeconds),
    requestSeconds: sumHistograms(before.requestSeconds, now.requestSeconds),
  };
}

function sumCounts(before: RequestCounts, now: RequestCounts): RequestCounts {
  return {
    completed: before.completed + now.completed,
    cancelled: before.cancelled + now.cancelled,
    timedOut: before.timedOut + now.timedOut,
    refused: before.refused + now.refused,
    failed: before.failed + now.failed,
  };
}

function sumHistograms(before: Histogram, now: Histogram): Histogram {
  return {
    bounds: now.bounds,
    counts: now.counts.map((count, bucket) => count + before.counts[bucket]),
    sum: before.sum + now.sum,
    count: before.count + now.count,
  };
}
