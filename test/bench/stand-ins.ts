/** Stand-ins for the libraries of peers: modules of their names in plain Python, found before any that is installed. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const NAMES = ['PYTHONPATH', 'STAND_IN', 'PYTHONDONTWRITEBYTECODE'] as const;
const environment = new Map(NAMES.map((name) => [name, process.env[name]]));

/** Why peers cannot be tested; false: they can. */
export const refuseStandIns = spawnSync('python3', ['-c', '']).status === 0 ? false : 'there is no python3';

/** `goesWrong`: words that the stand-ins know, none or several. */
export function standIns(goesWrong = ''): void {
  process.env.PYTHONPATH = fileURLToPath(new URL('./stand-ins', import.meta.url));
  process.env.STAND_IN = goesWrong;
  process.env.PYTHONDONTWRITEBYTECODE = '1';
}

export function noStandIns(): void {
  for (const [name, value] of environment) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}
