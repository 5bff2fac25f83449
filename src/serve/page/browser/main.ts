/** The script of the server's page: it watches the server, and shows what it is told. */
import type { Html } from '../../../report/html.ts';
import type { LiveEvent, LiveModel } from '../live-event.ts';
import { document, element, location, sessionStorage } from './dom.ts';
import { eventsOf, TokenWanted } from './event-stream.ts';
import { History } from './history.ts';
import {
  busyChart,
  hotChart,
  hotTables,
  latencyChart,
  modelFacts,
  modelOptions,
  modelsTable,
  outcomesTable,
  phasesChart,
  queueChart,
  requestsChart,
  serverFacts,
  tiles,
} from './view.ts';

/** Beside the page, wherever a proxy has it. */
const EVENTS = 'v2/events';
const TOKEN = 'hotrow-token';
/** After a connection was lost. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

const history = new History();
/** What each element shows. */
const shown = new Map<string, string>();
let last: LiveEvent | undefined;
let pauseMs = FIRST_PAUSE_MS;

/** Elements that show what they showed are left alone: what is selected in them stays. */
function show(id: string, content: Html): void {
  const text = String(content);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  element(id).innerHTML = text;
}

function tell(text: string, state: 'live' | 'lost' | 'waiting'): void {
  const status = element('status');
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = state;
}

/** The model that was chosen, or the first. */
function chosen({ models }: LiveEvent): LiveModel | undefined {
  return models.find(({ name }) => `#${encodeURIComponent(name)}` === location.hash) ?? models[0];
}

function render(event: LiveEvent): void {
  const { models } = event;
  element('live').hidden = false;
  element('choice').hidden = models.length < 2;
  show('model', modelOptions(models));
  show('models', modelsTable(event));
  show('server-facts', serverFacts(event));
  const model = chosen(event);
  element('title').textContent = model?.name ?? 'No model';
  document.title = `${model?.name ?? 'No model'} – Hotrow on ${location.host}`;
  if (model === undefined) return;
  element('model').value = model.name;
  const moments = history.of(model.name);
  show('tiles', tiles(model));
  show('requests', requestsChart(moments));
  show('latency', latencyChart(moments));
  show('queue', queueChart(moments));
  show('busy', busyChart(moments));
  show('phases', phasesChart(model));
  show('hot', hotChart(moments));
  element('fit').textContent = model.fit.text;
  element('fit').dataset.verdict = model.fit.verdict;
  show('tables', hotTables(model));
  show('outcomes', outcomesTable(model));
  show('facts', modelFacts(model));
}

/** Watches until the connection ends. */
async function watch(): Promise<void> {
  for await (const data of eventsOf(EVENTS, sessionStorage.getItem(TOKEN))) {
    last = JSON.parse(data) as LiveEvent;
    history.add(last);
    pauseMs = FIRST_PAUSE_MS;
    element('ask').hidden = true;
    const { isDraining, version } = last.server;
    tell(
      isDraining ? 'The server is shutting down.' : `Live, from ${location.host}, Hotrow ${version}`,
      'live',
    );
    render(last);
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Resolves when somebody has given a token. */
function askForToken(): Promise<void> {
  const isWrong = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  tell(isWrong ? 'The server does not know that token.' : 'The server wants a token.', 'waiting');
  element('ask').hidden = false;
  element('token').focus();
  return new Promise((resolve) => {
    given = resolve;
  });
}
let given: () => void = () => {};

element('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, element('token').value.trim());
  element('token').value = '';
  given();
});

element('model').addEventListener('change', () => {
  location.hash = encodeURIComponent(element('model').value);
  if (last !== undefined) render(last);
});

async function run(): Promise<void> {
  for (;;) {
    try {
      await watch();
      tell('The connection has ended. Trying again …', 'lost');
    } catch (error) {
      if (error instanceof TokenWanted) {
        await askForToken();
        continue;
      }
      const { message } = error as Error;
      tell(`No connection: ${message}. Trying again …`, 'lost');
    }
    await pause(pauseMs);
    pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pauseMs);
  }
}

run();
