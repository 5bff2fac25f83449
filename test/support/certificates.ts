/** Certificates for tests, made by openssl when a test runs. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-certificates-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** A certificate and its key, as files and as text. */
export interface Certified {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
let made = 0;

/** A file that only its owner may read. */
export function secretFile(text: string): string {
  const file = join(folder, `secret-${made++}`);
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

function certified(name: string): Certified {
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  chmodSync(keyFile, 0o600);
  return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** One who signs. */
export function authority(name = `authority-${made++}`): Certified {
  const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.crt`)];
  openssl('req', '-x509', ...NEW_KEY, ...files, '-days', '365', '-subj', `/CN=${name}`);
  return certified(name);
}

/** What `by` signs, for localhost. It expires in so many days: -1, yesterday. */
export function signed(by: Certified, { days = 365, name = `signed-${made++}` } = {}): Certified {
  const [request, extensions] = [join(folder, `${name}.csr`), join(folder, `${name}.ext`)];
  openssl(
    'req',
    '-new',
    ...NEW_KEY,
    '-keyout',
    join(folder, `${name}.key`),
    '-out',
    request,
    '-subj',
    `/CN=${name}`,
  );
  writeFileSync(extensions, 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const authority = ['-CA', by.certFile, '-CAkey', by.keyFile, '-CAcreateserial'];
  const out = ['-days', String(days), '-extfile', extensions, '-out', join(folder, `${name}.crt`)];
  openssl('x509', '-req', '-in', request, ...authority, ...out);
  return certified(name);
}
