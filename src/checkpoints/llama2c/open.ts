/**
 * Finds checkpoints of llama2.c.
 * @module
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { ConfigReader } from '../hugging-face/config-reader.js';
import { ModelFolderError } from '../hugging-face/errors.js';
import type { JsonObject } from '../json.js';
import { SafetensorsFile } from '../safetensors/index.js';
import type { TensorSource } from '../tensors/index.js';
import { LlamaNames } from './as-llama.js';
import { openLlama2cFile } from './bin-file.js';

/** A checkpoint of llama2.c as one of Hugging Face's Llama. */
export interface Llama2cCheckpoint {
  /** Where the configuration stands, for messages. */
  readonly configFile: string;
  /** With `model_type` `llama`. */
  readonly config: JsonObject;
  readonly source: TensorSource;
  /** `tok<vocab_size>.bin` or `tokenizer.bin` beside the weights, where there is one. */
  readonly tokenizerFile: string | undefined;
}

/**
 * Opens a checkpoint of llama2.c: a `.bin` file, or a folder whose `config.json` has the keys of its `ModelArgs` (`dim`,
 * `n_layers`, …) beside one `.safetensors` file with the names of its `model.py`.
 *
 * @returns undefined where the path is something else.
 * @throws ModelFolderError or SafetensorsError in one line.
 */
export async function openLlama2c(path: string): Promise<Llama2cCheckpoint | undefined> {
  if (extname(path) === '.bin') {
    const { config, source } = await openLlama2cFile(path);
    return present(path, config, source, dirname(path));
  }
  const configFile = join(path, 'config.json');
  const config = await readArguments(configFile);
  if (!config) return undefined;
  const weights = (await readdir(path)).filter((name) => extname(name) === '.safetensors');
  if (weights.length !== 1)
    throw new ModelFolderError(
      `${path}: a model of llama2.c has one .safetensors file, not ${weights.length}; or name its .bin file`,
    );
  return present(configFile, config, await SafetensorsFile.open(join(path, weights[0])), path);
}

/** Undefined unless it is the configuration of llama2.c; what is wrong otherwise is said by others. */
async function readArguments(file: string): Promise<JsonObject | undefined> {
  try {
    if (!(await stat(file)).isFile()) return undefined;
    const value = JSON.parse(await readFile(file, 'utf8')) as JsonObject | null;
    const isOurs = value && !('model_type' in value) && 'dim' in value && 'n_layers' in value;
    return isOurs ? value : undefined;
  } catch {
    return undefined;
  }
}

async function present(
  configFile: string,
  config: JsonObject,
  source: TensorSource,
  folder: string,
): Promise<Llama2cCheckpoint> {
  try {
    const reader = new ConfigReader(config, configFile);
    const [hiddenSize, numHeads] = [reader.size('dim'), reader.size('n_heads')];
    const vocabSize = reader.size('vocab_size');
    if (hiddenSize % (2 * numHeads) !== 0)
      reader.refuse(`dim ${hiddenSize} does not give ${numHeads} heads (n_heads) of even size`);
    const llama = {
      model_type: 'llama',
      vocab_size: vocabSize,
      hidden_size: hiddenSize,
      intermediate_size: reader.size('hidden_dim'),
      num_hidden_layers: reader.size('n_layers'),
      num_attention_heads: numHeads,
      num_key_value_heads: reader.size('n_kv_heads', numHeads),
      max_position_embeddings: reader.size('max_seq_len'),
      rms_norm_eps: reader.number('norm_eps', 1e-5),
      rope_theta: reader.number('rope_theta', 10_000),
      tie_word_embeddings: reader.boolean('tie_word_embeddings', true),
    };
    // How hidden_dim came about, and what only training used.
    reader.ignore('multiple_of', 'dropout');
    reader.finish('llama2.c');
    const tokenizerFile = [`tok${vocabSize}.bin`, 'tokenizer.bin']
      .map((name) => join(folder, name))
      .find((each) => existsSync(each));
    return {
      configFile,
      config: llama,
      source: new LlamaNames(source, hiddenSize / numHeads),
      tokenizerFile,
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}
