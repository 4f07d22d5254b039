/**
 * `manifest.json` of a checkpoint: what the other files must be.
 * @module
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { encodeJson } from '../checkpoints/index.js';

/** Files of a checkpoint besides the manifest, in the order in which they are written. */
export const checkpointFiles = ['model.safetensors', 'optimizer.safetensors', 'state.json'] as const;

/** One of {@link checkpointFiles}. */
export type CheckpointFile = (typeof checkpointFiles)[number];

/** Name of the manifest. */
export const MANIFEST = 'manifest.json';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits');
const digestSchema = z.strictObject({ bytes: z.int().nonnegative(), sha256 });
const bodySchema = z.strictObject({
  format: z.literal('switchyard-checkpoint'),
  version: z.literal(1),
  step: z.int().nonnegative(),
  metrics: z.record(z.string(), z.number()).optional(),
  files: z.strictObject({
    'model.safetensors': digestSchema,
    'optimizer.safetensors': digestSchema,
    'state.json': digestSchema,
  }),
});

/** What a manifest says. `metrics` is optional: figures that retention can choose the best checkpoint by. */
export type Manifest = Omit<z.output<typeof bodySchema>, 'format' | 'version'>;

/** Text of a manifest. It ends with the hash of its own content, so that a flipped bit shows here as well. */
export function encodeManifest({ step, metrics, files }: Manifest): string {
  const body = {
    format: 'switchyard-checkpoint',
    version: 1,
    step,
    ...(metrics && Object.keys(metrics).length > 0 ? { metrics } : {}),
    files: Object.fromEntries(checkpointFiles.map((name) => [name, pick(files[name])])),
  };
  return `${encodeJson({ ...body, sha256: hashOf(body) }, 2)}\n`;
}

/**
 * Reads the text of a manifest.
 * @throws Error that says what is wrong with it.
 */
export function parseManifest(text: string): Manifest {
  const json = JSON.parse(text) as { version?: unknown };
  if (typeof json?.version === 'number' && json.version > 1)
    throw new Error(`it has version ${json.version}; this release reads version 1`);
  const parsed = bodySchema.extend({ sha256 }).safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new Error(`${issue.path.join('.') || 'the file'}: ${issue.message}`);
  }
  const { step, metrics, files } = parsed.data;
  const manifest = { step, files, ...(metrics ? { metrics } : {}) };
  // Equal text leaves nothing that a flipped bit could hide in, not even white space or the hash.
  if (encodeManifest(manifest) !== text) throw new Error('it does not match its own hash');
  return manifest;
}

function pick({ bytes, sha256: hash }: { bytes: number; sha256: string }): { bytes: number; sha256: string } {
  return { bytes, sha256: hash };
}

function hashOf(body: object): string {
  return createHash('sha256').update(encodeJson(body)).digest('hex');
}
