import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** Tests that need an installed Chromium: `npm run test:browser`. */
export default defineConfig({
  root: fileURLToPath(new URL('../../', import.meta.url)),
  test: {
    include: ['test/browser/**/*.browser.ts'],
    pool: 'forks',
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
