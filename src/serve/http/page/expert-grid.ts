/**
 * Every expert of every layer as a cell: where it is, how often it was needed, and which ones a token used.
 * @module
 */
import { byId, make, percent, themeColor } from './elements.js';
import type { ExpertPlace, LayerInfo, Routing, Stats } from './wire.js';

type Experts = NonNullable<Stats['experts']>[number];

const LABEL = 64;
const TOP = 20;
const GAP = 2;
const words: Readonly<Record<ExpertPlace, string>> = {
  cold: 'on disk',
  reading: 'being read',
  ready: 'in memory',
  pinned: 'in use',
};

/** Draws on a canvas; the same numbers stand in a table beside it. */
export class ExpertGrid {
  private readonly canvas = byId<HTMLCanvasElement>('grid');
  private readonly told = byId('grid-told');
  private readonly table = byId<HTMLTableElement>('grid-table');
  private layers: readonly LayerInfo[] = [];
  private experts: readonly Experts[] = [];
  /** Accesses that the last look saw come. */
  private fresh: readonly (readonly number[])[] = [];
  private routing: Routing | undefined;

  constructor() {
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement!);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
    this.canvas.addEventListener('pointermove', (event) => this.tell(event.offsetX, event.offsetY));
    this.canvas.addEventListener('pointerleave', () => this.told.replaceChildren());
    byId('grid-details').addEventListener('toggle', () => this.fillTable());
  }

  /** Layers of another model. */
  setLayers(layers: readonly LayerInfo[]): void {
    this.layers = layers;
    this.experts = layers.map(({ numExperts }) => ({
      places: new Array<ExpertPlace>(numExperts).fill('ready'),
      accesses: new Array<number>(numExperts).fill(0),
    }));
    this.fresh = [];
    this.draw();
  }

  /** Where experts are now. Without it all are in memory. */
  update(experts: Stats['experts']): void {
    if (!experts) return;
    this.fresh = experts.map(({ accesses }, layer) =>
      accesses.map((count, expert) => count - (this.experts[layer]?.accesses[expert] ?? 0)),
    );
    this.experts = experts;
    this.draw();
    this.fillTable();
  }

  /** Shows only the experts of a token, or all again. */
  highlight(routing: Routing | undefined): void {
    this.routing = routing;
    this.draw();
  }

  private get size(): { readonly cell: number; readonly row: number; readonly width: number } {
    const most = Math.max(1, ...this.layers.map(({ numExperts }) => numExperts));
    const width = this.canvas.parentElement!.clientWidth;
    const cell = Math.max(5, Math.min(26, (width - LABEL) / most));
    return { cell, row: Math.max(14, Math.min(26, cell)), width: Math.max(width, LABEL + cell * most) };
  }

  private draw(): void {
    const { cell, row, width } = this.size;
    const height = TOP + row * this.layers.length + 2;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext('2d')!;
    pen.scale(ratio, ratio);
    pen.font = '11px system-ui, sans-serif';
    pen.textBaseline = 'middle';
    const colors = this.colors();
    this.drawAxis(pen, cell, colors.quiet);
    for (const [layer, { name }] of this.layers.entries()) {
      const y = TOP + layer * row;
      pen.globalAlpha = 1;
      pen.fillStyle = colors.quiet;
      pen.textAlign = 'right';
      pen.fillText(name, LABEL - 10, y + row / 2, LABEL - 12);
      this.drawLayer(pen, layer, y, { cell, row, colors });
    }
    this.describe();
  }

  private drawAxis(pen: CanvasRenderingContext2D, cell: number, color: string): void {
    const most = Math.max(0, ...this.layers.map(({ numExperts }) => numExperts));
    const step = [1, 2, 4, 8, 16, 32, 64].find((step) => step * cell >= 28) ?? 64;
    pen.fillStyle = color;
    pen.textAlign = 'center';
    for (let expert = 0; expert < most; expert += step)
      pen.fillText(String(expert), LABEL + (expert + 0.5) * cell, 8);
  }

  private drawLayer(
    pen: CanvasRenderingContext2D,
    layer: number,
    y: number,
    { cell, row, colors }: { cell: number; row: number; colors: Colors },
  ): void {
    const { places, accesses } = this.experts[layer] ?? { places: [], accesses: [] };
    const most = Math.max(1, ...accesses);
    const chosen = this.routing && new Set(this.routing[layer]);
    const gap = cell < 8 ? 1 : GAP;
    for (const [expert, place] of places.entries()) {
      const [x, side, high] = [LABEL + expert * cell, cell - gap, row - gap];
      pen.globalAlpha = chosen && !chosen.has(expert) ? 0.22 : 1;
      pen.fillStyle = colors.cold;
      box(pen, x, y, side, high);
      pen.fill();
      if (place === 'reading') {
        pen.fillStyle = colors.reading;
        box(pen, x, y + high / 2, side, high / 2);
        pen.fill();
      } else if (place !== 'cold') {
        pen.globalAlpha *= 0.35 + (0.65 * accesses[expert]) / most;
        pen.fillStyle = colors.memory;
        box(pen, x, y, side, high);
        pen.fill();
      }
      pen.globalAlpha = chosen && !chosen.has(expert) ? 0.22 : 1;
      if (place === 'pinned' || (this.fresh[layer]?.[expert] ?? 0) > 0) {
        pen.fillStyle = colors.used;
        pen.fillRect(x, y + high - 3, side, 3);
      }
      if (chosen?.has(expert)) {
        pen.strokeStyle = colors.chosen;
        pen.lineWidth = 2;
        box(pen, x + 1, y + 1, side - 2, high - 2);
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
  }

  private colors(): Colors {
    return {
      quiet: themeColor('quiet'),
      cold: themeColor('cell'),
      reading: themeColor('reading'),
      memory: themeColor('memory'),
      used: themeColor('used'),
      chosen: themeColor('chosen'),
    };
  }

  private tell(x: number, y: number): void {
    const { cell, row } = this.size;
    const [layer, expert] = [Math.floor((y - TOP) / row), Math.floor((x - LABEL) / cell)];
    const experts = this.experts.at(layer < 0 ? Infinity : layer);
    const place = expert < 0 ? undefined : experts?.places.at(expert);
    if (!experts || !place) return this.told.replaceChildren();
    const total = experts.accesses.reduce((a, b) => a + b, 0);
    const count = experts.accesses[expert];
    const share = total > 0 ? `, ${percent(count / total)} of its layer’s` : '';
    this.told.textContent = `layer ${this.layers[layer].name}, expert ${expert}: ${words[place]}, needed ${count.toLocaleString('en')} times${share}`;
  }

  private describe(): void {
    const places = this.experts.flatMap(({ places }) => places);
    const inMemory = places.filter((place) => place === 'ready' || place === 'pinned').length;
    this.canvas.setAttribute('aria-label', `${inMemory} of ${places.length} experts are in memory`);
    byId('grid-count').textContent = `${inMemory} of ${places.length} in memory`;
  }

  private fillTable(): void {
    if (!byId<HTMLDetailsElement>('grid-details').open) return;
    const rows = this.experts.map(({ places, accesses }, layer) => {
      const count = (wanted: ExpertPlace): string =>
        String(places.filter((place) => place === wanted).length);
      const busiest = accesses
        .map((count, expert) => [count, expert])
        .sort(([a], [b]) => b - a)
        .slice(0, 4);
      const row = make('tr');
      const head = make('th', this.layers[layer]?.name ?? String(layer));
      head.scope = 'row';
      const cells = [count('cold'), count('reading'), count('ready'), count('pinned')];
      row.append(
        head,
        ...[...cells, busiest.map(([, expert]) => expert).join(', ')].map((text) => make('td', text)),
      );
      return row;
    });
    this.table.tBodies[0].replaceChildren(...rows);
  }
}

type Colors = Readonly<Record<'quiet' | 'cold' | 'reading' | 'memory' | 'used' | 'chosen', string>>;

function box(pen: CanvasRenderingContext2D, x: number, y: number, width: number, height: number): void {
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(3, width / 3));
}
