/**
 * A child process that predicts: a run of ONNX Runtime blocks its thread, and passes must not wait for predictions of later
 * ones.
 * @module
 */
import { env } from 'onnxruntime-node';
import { openPredictorFor } from './open-predictor.js';
import type { PredictedLayer } from './options.js';
import { PredictorProgram, type LayerPrediction } from './predictor-program.js';

/** What the parent sends. */
export type ToPredictor =
  | {
      readonly kind: 'open';
      readonly predictor: string;
      readonly model: string;
      readonly topK?: number;
      readonly threads?: number;
      readonly batchSize?: number;
    }
  | { readonly kind: 'predict'; readonly id: number; readonly rows: readonly Int32Array[] };

/** What the worker sends. */
export type FromPredictor =
  | { readonly kind: 'opened'; readonly layers: readonly PredictedLayer[] }
  | { readonly kind: 'failed'; readonly message: string }
  | {
      readonly kind: 'predicted';
      readonly id: number;
      readonly predictions: readonly LayerPrediction[];
      readonly milliseconds: number;
    }
  | { readonly kind: 'refused'; readonly id: number; readonly message: string };

/** A parent that has gone needs no answer. */
const send = (message: FromPredictor): void =>
  void process.send!(message, undefined, undefined, () => undefined);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

if (process.send) {
  env.logLevel = 'fatal';
  let program: PredictorProgram;
  process.on('message', (message: ToPredictor) => {
    if (message.kind === 'open') void open(message).then((opened) => (program = opened), fail);
    else void predict(program, message);
  });
  // Ctrl-C reaches the whole group: passes that are finished first still ask. It ends with its channel.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
  process.on('disconnect', () => process.exit(0));
  // The parent may have gone before this was listening.
  if (!process.connected) process.exit(0);
}

async function open({
  predictor: folder,
  model,
  topK,
  threads,
  batchSize,
}: Extract<ToPredictor, { kind: 'open' }>): Promise<PredictorProgram> {
  const { predictor, embeddings, options } = await openPredictorFor(folder, model);
  const program = new PredictorProgram(predictor, embeddings, {
    contextLength: options.contextLength,
    ...(topK === undefined ? {} : { topK }),
    ...(batchSize === undefined ? {} : { batchSize }),
    ...(threads === undefined ? {} : { runtime: { threads } }),
  });
  send({ kind: 'opened', layers: program.layers });
  return program;
}

function fail(error: unknown): void {
  process.send!(
    { kind: 'failed', message: messageOf(error) } satisfies FromPredictor,
    undefined,
    undefined,
    () => process.exit(1),
  );
}

async function predict(
  program: PredictorProgram,
  { id, rows }: Extract<ToPredictor, { kind: 'predict' }>,
): Promise<void> {
  const begin = performance.now();
  try {
    const predictions = await program.predict(rows);
    send({ kind: 'predicted', id, predictions, milliseconds: performance.now() - begin });
  } catch (error) {
    send({ kind: 'refused', id, message: messageOf(error) });
  }
}
