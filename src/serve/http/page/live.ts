/**
 * The live page: follows the server and shows what it does.
 * @module
 */
import { Chart } from './charts.js';
import { byId, bytesText, make, percent, short } from './elements.js';
import { ExpertGrid } from './expert-grid.js';
import { PromptPanel } from './prompt-panel.js';
import { ask, eventsOf, keepKey, KeyNeeded } from './server.js';
import type { ModelInfo, Snapshot, Stats } from './wire.js';

/** Until the server is asked again after it was lost. */
const RETRY_MILLISECONDS = 1500;

const grid = new ExpertGrid();
const panel = new PromptPanel(grid, failed);
const rates = new Chart(byId('chart-tokens'), [{ label: 'tokens/s', color: 'run-0', fill: true }], 1);
const load = new Chart(
  byId('chart-load'),
  [
    { label: 'being written', color: 'run-2', fill: true },
    { label: 'waiting', color: 'run-1' },
  ],
  2,
);
const hits = new Chart(byId('chart-hits'), [{ label: 'hit rate', color: 'run-4', fill: true }], 100, '%');
const reads = new Chart(
  byId('chart-reads'),
  [
    { label: 'MB/s read', color: 'run-5', fill: true },
    { label: '% of time waiting for weights', color: 'run-3' },
  ],
  1,
);
let previous: Snapshot | undefined;

byId<HTMLFormElement>('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  keepKey(byId<HTMLInputElement>('key').value.trim());
  byId('key-form').hidden = true;
  void follow();
});
void follow();

/** Follows the server until it wants a key; whatever else goes wrong is tried again. */
async function follow(): Promise<void> {
  for (;;) {
    try {
      for await (const { name, data } of eventsOf(await ask('/live/events'))) {
        if (name === 'model') showModel(JSON.parse(data) as ModelInfo);
        else showSnapshot(JSON.parse(data) as Snapshot);
      }
      showState('lost');
    } catch (error) {
      showState('lost');
      if (error instanceof KeyNeeded) return failed(error);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
  }
}

function failed(error: unknown): void {
  if (error instanceof KeyNeeded) {
    byId('key-form').hidden = false;
    byId('key').focus();
    return;
  }
  byId('answer-note').textContent = error instanceof Error ? error.message : String(error);
}

function showModel(model: ModelInfo): void {
  byId('model').textContent = model.name;
  document.title = `${model.name} · Switchyard`;
  const chips = [
    ...Object.entries(model.settings).map(
      ([name, value]) => `${name} ${name === 'memoryBudget' ? bytesText(Number(value)) : value}`,
    ),
    ...model.placement.map(({ what, where, bytes }) => `${what}: ${bytesText(bytes)}, ${where}`),
  ];
  byId('settings').replaceChildren(...chips.map((text) => make('li', text)));
  grid.setLayers(model.routedLayers);
  byId('experts-section').hidden = model.routedLayers.length === 0;
  panel.setModel(model);
}

function showState(state: Snapshot['state'] | 'lost'): void {
  const element = byId('state');
  element.textContent = state === 'lost' ? 'the server is away' : state;
  element.dataset['state'] = state;
}

function showSnapshot(snapshot: Snapshot): void {
  showState(snapshot.state);
  const { at, stats } = snapshot;
  if (!stats) return;
  grid.update(stats.experts);
  const before = previous?.stats;
  const seconds = (at - (previous?.at ?? at)) / 1000;
  // Counters begin again where the server did.
  if (before && seconds > 0 && stats.generatedTokens >= before.generatedTokens)
    showRates(at / 1000, seconds, stats, before);
  previous = snapshot;
  const { queued, running, slots, queueLimit, requests } = stats;
  tile('load', `${running} / ${slots}`, `${queued} of ${queueLimit} places in the queue taken`);
  load.add(at / 1000, [running, queued]);
  byId('foot').textContent = [
    `${(requests['completed'] ?? 0).toLocaleString('en')} requests answered`,
    `${stats.generatedTokens.toLocaleString('en')} tokens written`,
    `${bytesText(stats.residentBytes)} of memory in the engine’s process`,
    ...(stats.restarts > 0 ? [`${stats.restarts} restarts`] : []),
  ].join(' · ');
}

function showRates(at: number, seconds: number, stats: Stats, before: Stats): void {
  const grown = (name: string): number => (stats.store[name] ?? 0) - (before.store[name] ?? 0);
  const tokens = (stats.generatedTokens - before.generatedTokens) / seconds;
  tile(
    'tokens',
    `${short(tokens)}`,
    `${short((stats.promptTokens - before.promptTokens) / seconds)} read a second`,
  );
  rates.add(at, [tokens]);
  if (!('accesses' in stats.store)) {
    tile('hits', '100 %', 'all experts are in memory');
    tile('reads', '0 B/s', 'nothing is read');
    return;
  }
  const rate = grown('accesses') > 0 ? grown('hits') / grown('accesses') : undefined;
  const steady = stats.store['hitRate'];
  const all = steady === undefined ? 'still filling memory' : `${percent(steady)} since memory was full`;
  tile('hits', rate === undefined ? '–' : percent(rate), all);
  hits.add(at, [rate === undefined ? null : 100 * rate]);
  const speed = grown('bytesRead') / seconds;
  const stalled = grown('stallMilliseconds') / 1000 / seconds;
  tile('reads', `${bytesText(speed)}/s`, `${percent(Math.min(1, stalled))} of the time waiting for weights`);
  reads.add(at, [speed / 1e6, 100 * Math.min(1, stalled)]);
}

function tile(name: string, value: string, note: string): void {
  byId(`${name}-value`).textContent = value;
  byId(`${name}-note`).textContent = note;
}
