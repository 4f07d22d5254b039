// Makes a sparse checkpoint of float32 zeros with one mark a tensor, and converts it to bfloat16 tensor by tensor.
// node convert.mjs FOLDER TENSORS ROWS: tensors of ROWS × 1024 numbers in shards of four; tells bytes and memory.
import { openSync, closeSync, ftruncateSync, mkdirSync, writeSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeFloats, openTensors, readFloats, saveTensors } from '../../dist/checkpoints/index.js';

const [folder, count, rows] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const [source, target] = [join(folder, 'source'), join(folder, 'target')];
const width = 1024;
const bytes = 4 * rows * width;
const names = Array.from({ length: count }, (_, i) => `blocks.${i}.weight`);

/** A file of which only the header and a number in the middle of each tensor are on the disk. */
function makeShard(file, tensors) {
  const entries = tensors.map((name, i) => {
    return [name, { dtype: 'F32', shape: [rows, width], data_offsets: [i * bytes, (i + 1) * bytes] }];
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(json.length));
  const handle = openSync(file, 'w');
  writeSync(handle, Buffer.concat([head, json]));
  ftruncateSync(handle, head.length + json.length + tensors.length * bytes);
  tensors.forEach((name, i) => {
    const middle = head.length + json.length + i * bytes + bytes / 2;
    writeSync(handle, Float32Array.of(1 + names.indexOf(name)), 0, 4, middle);
  });
  closeSync(handle);
}

mkdirSync(source);
mkdirSync(target);
const shardOf = {};
for (let first = 0; first < count; first += 4) {
  const shard = `model-${first}.safetensors`;
  const tensors = names.slice(first, first + 4);
  makeShard(join(source, shard), tensors);
  for (const name of tensors) shardOf[name] = shard;
}
const index = { metadata: { total_size: count * bytes }, weight_map: shardOf };
writeFileSync(join(source, 'model.safetensors.index.json'), JSON.stringify(index));

const startRss = process.memoryUsage.rss();
const opened = await openTensors(source);
const planned = [...opened.tensors.values()].map(({ name, shape }) => ({
  ...{ name, shape, dtype: 'BF16' },
  data: async () => encodeFloats('BF16', await readFloats(opened, name)),
}));
await saveTensors(target, planned, { maxShardBytes: 2 * count * (bytes / 8) });
await opened.close();

const converted = await openTensors(target);
for (const [i, name] of names.entries()) {
  const row = await readFloats(converted, name, { rows: [rows / 2, rows / 2 + 1] });
  if (row[0] !== 1 + i || row.slice(1).some((value) => value !== 0))
    throw new Error(`${name} is not what it was`);
}
await converted.close();
console.log(
  JSON.stringify({
    bytes: count * bytes,
    largestTensor: bytes,
    // Kilobytes, the most there ever was.
    peakGrowth: process.resourceUsage().maxRSS * 1024 - startRss,
    peak: process.resourceUsage().maxRSS * 1024,
  }),
);
