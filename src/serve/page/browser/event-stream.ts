/** A stream of events, read by `fetch`: an EventSource cannot bring a token. */

/** The server does not let one watch without a right token. */
export class TokenWanted extends Error {}

/** So long nothing has come: the connection is lost, since there is an event each second. */
const SILENT_MS = 10_000;

/**
 * The data of one event after the other, until the stream ends or `signal` says so.
 * @throws TokenWanted; Error with what the server says, or that the connection is lost.
 */
export async function* eventsOf(
  url: string,
  token: string | null,
  silentMs: number = SILENT_MS,
): AsyncGenerator<string, void> {
  const giveUp = new AbortController();
  const fallSilent = () => giveUp.abort(new Error(`nothing has come for ${silentMs / 1000} s`));
  let timer = setTimeout(fallSilent, silentMs);
  try {
    const headers = { accept: 'text/event-stream', ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(url, { headers, signal: giveUp.signal });
    if (response.status === 401) throw new TokenWanted('this server wants a token');
    if (!response.ok || response.body === null) throw new Error(await saidBy(response));
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(fallSilent, silentMs);
      text += decoder.decode(value, { stream: true });
      const events = text.split('\n\n');
      text = events.pop() ?? '';
      for (const event of events) {
        const data = dataOf(event);
        if (data !== '') yield data;
      }
    }
  } finally {
    clearTimeout(timer);
    giveUp.abort();
  }
}

/** Lines of data of an event; remarks and other fields are left aside. */
function dataOf(event: string): string {
  return event
    .split('\n')
    .filter((line) => line.startsWith('data:'))
    .map((line) => line.slice('data:'.length).trimStart())
    .join('\n');
}

/** What an error says. */
async function saidBy(response: Response): Promise<string> {
  try {
    const { error } = (await response.json()) as { readonly error: string };
    return error;
  } catch {
    return `the server answered with ${response.status}`;
  }
}
