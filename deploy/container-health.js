// Whether the server in this container is alive: exits with 0, or 1. It speaks TLS where the server does; PORT, 8000.
import { get } from 'node:http';
import { get as getSecurely } from 'node:https';

const PATIENCE_MS = 2000;
const target = {
  host: '127.0.0.1',
  port: Number(process.env.PORT ?? 8000),
  path: '/v2/health/live',
  timeout: PATIENCE_MS,
};

/** Of the server itself, on this machine: its certificate is for the names that others use. */
const ways = [() => get(target), () => getSecurely({ ...target, rejectUnauthorized: false })];

function isAlive(ask) {
  return new Promise((resolve) => {
    const asked = ask();
    asked.once('response', (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.once('timeout', () => asked.destroy());
    asked.once('error', () => resolve(false));
    asked.once('close', () => resolve(false));
  });
}

let alive = false;
for (const way of ways) alive ||= await isAlive(way);
process.exit(alive ? 0 : 1);
