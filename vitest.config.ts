import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**'],
    // Native sessions and worker threads do not mix (microsoft/onnxruntime#24486): one process per file.
    pool: 'forks',
    testTimeout: 60_000,
    coverage: {
      provider: 'v8',
      include: ['src/graph/**', 'src/moe/**', 'src/train/**'],
      exclude: ['**/*.test.ts', '**/*.case.ts'],
    },
  },
});
