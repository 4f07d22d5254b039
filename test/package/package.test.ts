import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, { types: string; default: string } | string>;
  bin: Record<string, string>;
};
const scratch = mkdtempSync(join(tmpdir(), 'switchyard-package-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** npm puts settings of the running script into the environment; a user's shell has none of them. */
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));

function npm(folder: string, ...parameters: string[]): string {
  return execFileSync('npm', parameters, { cwd: folder, encoding: 'utf8', env: environment, stdio: 'pipe' });
}

test('the tarball holds the built rooms, the recipes and nothing of the tests', () => {
  const [{ files }] = JSON.parse(npm(root, 'pack', '--dry-run', '--json', '--ignore-scripts')) as [
    { files: { path: string }[] },
  ];
  const paths = files.map(({ path }) => path);
  for (const target of Object.values(manifest.exports)) {
    const wanted = typeof target === 'string' ? [target] : [target.types, target.default];
    for (const path of wanted) expect(paths).toContain(path.replace(/^\.\//, ''));
  }
  expect(paths).toContain(manifest.bin['switchyard']);
  expect(paths).toContain('recipes/demo.json');
  expect(paths).toContain('recipes/paper/switch-base-8.json');
  expect(paths).toContain('LICENSE');
  expect(paths.filter((path) => /\.(test|case)\.|^src\/|^test\/|^bench\//.test(path))).toEqual([]);
});

test('every room is exported, and every export exists', () => {
  const rooms = readdirSync(join(root, 'src'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(root, 'src', entry.name, 'index.ts')))
    .map((entry) => `./${entry.name}`);
  expect(Object.keys(manifest.exports).sort()).toEqual([...rooms, './package.json'].sort());
});

test('every room can be imported from the build by its public name, without a sound', () => {
  const rooms = Object.keys(manifest.exports).filter((name) => name !== './package.json');
  const script = rooms.map((room) => `await import('switchyard-moe/${room.slice(2)}');`).join('\n');
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
  });
  expect(output).toBe('');
});

// Needs the package registry and copies 290 MB.
test.runIf(process.env['SWITCHYARD_LONG'])(
  'the packed tarball installs in an empty folder without install scripts, and its command trains',
  () => {
    const [{ filename }] = JSON.parse(
      npm(root, 'pack', '--json', '--ignore-scripts', '--pack-destination', scratch),
    ) as [{ filename: string }];
    writeFileSync(join(scratch, 'package.json'), '{"private": true, "type": "module"}');
    npm(scratch, 'install', '--ignore-scripts', '--no-audit', '--no-fund', join(scratch, filename));
    const settings = [
      'train.steps=3',
      'train.batchSize=2',
      'model.contextLength=32',
      'data.validationLines=16',
    ];
    const output = execFileSync(
      join(scratch, 'node_modules/.bin/switchyard'),
      ['train', 'demo', '--json', ...settings.flatMap((setting) => ['--set', setting])],
      { cwd: scratch, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    );
    expect(JSON.parse(output)).toMatchObject({ outcome: 'finished', step: 3 });
  },
  600_000,
);
