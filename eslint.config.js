import tseslint from 'typescript-eslint';

/** The rooms of src/ in their order: a room may import the rooms before it, never those after it. */
const rooms = [
  'graph',
  'runtime',
  'nn',
  'moe',
  'models',
  'data',
  'metrics',
  'decode',
  'checkpoints',
  'train',
  'analyze',
  'compress',
  'serve',
  'report',
  'recipes',
  'compare',
  'cli',
];

const order = rooms.map((room, index) => ({
  files: [`src/${room}/**/*.ts`],
  ignores: ['**/*.test.ts', '**/*.case.ts'],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: rooms.slice(index + 1).map((later) => ({
          regex: `^(\\.\\./)+${later}/`,
          message: `${room}/ stands above ${later}/ and may not import it.`,
        })),
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ['dist', 'coverage', 'docs', 'bench/peers', 'runs', '.cache', '**/*.mjs', 'eslint.config.js'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
  {
    files: ['**/*.test.ts', '**/*.case.ts', 'test/**'],
    rules: {
      // Spies and `expect(object.method)` are the point of a test; assertions there document what is known.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-unnecessary-type-assertion': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
    },
  },
  ...order,
);
