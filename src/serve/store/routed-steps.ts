/**
 * Recorded routing as steps for policies and simulations.
 * @module
 */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { RoutedStep } from './cache-policy.js';

const expert = z.int().min(-1);

const pathsSchema = z.object({
  layers: z.array(z.object({ name: z.string(), numExperts: z.int().min(1) })).min(1),
  /** `[tokens, layers, topK]` */
  experts: z.array(z.array(z.array(expert))),
});

/** A file of recorded routing that is not one, or is of another model; the message names file and line. */
export class RoutingTraceError extends Error {
  override readonly name = 'RoutingTraceError';
}

/**
 * Reads what `switchyard inspect --routing … --json` prints, one text a line: every token is a step of each layer, as when
 * texts are written token by token.
 *
 * @param numExperts of each sparse layer of the model that it is to be of, in its order.
 * @throws RoutingTraceError naming the first line that is damaged or does not fit.
 */
export async function readRoutedSteps(file: string, numExperts: readonly number[]): Promise<RoutedStep[]> {
  const steps: RoutedStep[] = [];
  let number = 0;
  try {
    for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
      number++;
      if (line.trim() !== '') steps.push(...stepsOf(JSON.parse(line) as unknown, numExperts));
    }
  } catch (error) {
    const where = number === 0 ? file : `${file}, line ${number}`;
    const reason = error instanceof z.ZodError ? describe(error) : (error as Error).message;
    throw new RoutingTraceError(`${where}: ${reason}`, { cause: error });
  }
  if (steps.length === 0) throw new RoutingTraceError(`${file}: there is no routing in it`);
  return steps;
}

function stepsOf(value: unknown, numExperts: readonly number[]): RoutedStep[] {
  const { layers, experts } = pathsSchema.parse(value);
  const found = layers.map((layer) => layer.numExperts);
  if (found.join() !== numExperts.join())
    throw new RangeError(
      `recorded from a model whose layers have ${found.join(', ')} experts; this one's have ${numExperts.join(', ')}`,
    );
  return experts.flatMap((token, at) => {
    if (token.length !== layers.length)
      throw new RangeError(`token ${at} has ${token.length} layers instead of ${layers.length}`);
    return token.flatMap((choices, layer) => {
      const chosen = [...new Set(choices.filter((choice) => choice >= 0))];
      const stray = chosen.find((choice) => choice >= numExperts[layer]);
      if (stray !== undefined)
        throw new RangeError(`token ${at} has expert ${stray} of ${numExperts[layer]} in layer ${layer}`);
      return chosen.length === 0 ? [] : [{ layer, experts: chosen }];
    });
  });
}

function describe({ issues: [{ path, message }] }: z.ZodError): string {
  return `${path.map(String).join('.') || 'the line'}: ${message}`;
}
